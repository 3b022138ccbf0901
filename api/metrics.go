package api

import (
	"context"
	"time"

	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/budget"
	"crossbill/projections"
)

// maxMetricMonths is how many months one question about recurring revenue or margin can be about.
const maxMetricMonths = 36

// monthsBetween returns the first and the last month that are asked for: the present one and the eleven before it if none is.
func monthsBetween(op string, from, to *Month, now time.Time, most int) (first, last billing.Period, err error) {
	if last, _, err = monthUntil(to, now); err != nil {
		return first, last, err
	}
	first = billing.MonthOf(last.From.AddDate(0, -11, 0))
	if from != nil {
		if first, err = billing.ParseMonth(*from); err != nil {
			return first, last, err
		}
	}
	if first.From.After(last.From) || first.From.AddDate(0, most, 0).Before(last.To) {
		return first, last, domain.Errorf(domain.Invalid, op, "from_month must not be after to_month, nor more than %d months before it", most)
	}
	return first, last, nil
}

// GetRecurringRevenue says how monthly recurring revenue moved: the platform's to operators, a provider's own to it.
func (s *Server) GetRecurringRevenue(ctx context.Context, req GetRecurringRevenueRequestObject) (GetRecurringRevenueResponseObject, error) {
	now := s.now()
	first, last, err := monthsBetween("api.GetRecurringRevenue", req.Params.FromMonth, req.Params.ToMonth, now, maxMetricMonths)
	if err != nil {
		return nil, err
	}
	answer := RecurringRevenue{Of: RecurringRevenueOfProviderPrices, FromMonth: budget.MonthOf(first.From), ToMonth: budget.MonthOf(last.From), Months: []RecurringMonth{}}
	ends := []time.Time{first.From}
	for end := first.To; !end.After(last.To); end = end.AddDate(0, 1, 0) {
		ends = append(ends, earlier(end, now)) // of the present month: as it stands, without what is scheduled
	}
	var months []projections.RecurringMonth
	if caller := callerFrom(ctx); caller.Operator() {
		answer.Of = RecurringRevenueOfPlatformFees
		months, err = s.Platform.RecurringRevenue(ctx, "", ends)
	} else {
		months, err = s.Queries.RecurringRevenue(ctx, caller.OrganisationID, ends)
	}
	if err != nil {
		return nil, err
	}
	for _, m := range months {
		shown := RecurringMonth{
			Month: budget.MonthOf(first.From.AddDate(0, m.Month, 0)), Start: m.Start, New: m.New, Returned: m.Returned, Expansion: m.Expansion,
			Contraction: m.Contraction, Churn: m.Churn, End: m.End, Customers: m.EndCustomers, NewCustomers: m.NewCustomers,
			ReturnedCustomers: m.ReturnCustomers, ChurnedCustomers: m.ChurnCustomers,
		}
		lost := domain.Money{Minor: m.Start.Minor - m.Contraction.Minor - m.Churn.Minor, Currency: m.Start.Currency}
		kept := domain.Money{Minor: lost.Minor + m.Expansion.Minor, Currency: m.Start.Currency}
		shown.GrossRetention, shown.NetRetention = ratio(lost, m.Start), ratio(kept, m.Start)
		answer.Months = append(answer.Months, shown)
	}
	return GetRecurringRevenue200JSONResponse(answer), nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// ratio returns part ÷ whole, rounded half away from zero to four digits; nil unless whole is above zero.
func ratio(part, whole domain.Money) *domain.Decimal {
	if whole.Minor <= 0 {
		return nil
	}
	const digits = 4
	exact := domain.DecimalFromInt(part.Minor).Quo(domain.DecimalFromInt(whole.Minor))
	rounded := domain.DecimalFromBig(exact.Round(digits)).Quo(domain.DecimalFromInt(10_000))
	return &rounded
}

// GetGrossMargin says what of the platform's fees is left after the cost of payment processing.
func (s *Server) GetGrossMargin(ctx context.Context, req GetGrossMarginRequestObject) (GetGrossMarginResponseObject, error) {
	first, last, err := monthsBetween("api.GetGrossMargin", req.Params.FromMonth, req.Params.ToMonth, s.now(), maxMetricMonths)
	if err != nil {
		return nil, err
	}
	at, err := s.ledgerPosition(ctx, req.Params.AtPosition)
	if err != nil {
		return nil, err
	}
	months, err := s.Platform.GrossMargin(ctx, at, first.From, last.To)
	if err != nil {
		return nil, err
	}
	answer := GrossMargin{Position: int64(at), FromMonth: budget.MonthOf(first.From), ToMonth: budget.MonthOf(last.From), Months: []MarginMonth{}}
	for _, m := range months {
		answer.Months = append(answer.Months, marginView(m))
	}
	return GetGrossMargin200JSONResponse(answer), nil
}

func marginView(m projections.MarginMonth) MarginMonth {
	left := domain.Money{Minor: m.Fees.Minor - m.Cost.Minor, Currency: m.Fees.Currency}
	return MarginMonth{
		Month: m.Month, FeeRevenue: m.Fees, ProcessingCost: m.Cost, GrossMargin: left, GrossMarginRatio: ratio(left, m.Fees), Passthrough: m.Passthrough,
	}
}
