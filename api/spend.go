package api

import (
	"context"
	"time"

	"crossbill/billing"
	"crossbill/domain/budget"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/projections"
)

// defaultPreview is how many connections one answer is about when nothing is said; the contract says how many it can be.
const defaultPreview = 20

// maxRevenueMonths is how many months of settlements one question can be about.
const maxRevenueMonths = 120

// How a forecast goes on, for its reader.
const (
	forecastRecurring = "as if everything that is in force stays so until the end of the month, prorated by the second; a termination that is scheduled takes effect"
	forecastUsage     = "the bytes metered from the connection's first billed second of the month until as_of, suspensions left out, go on at their mean rate until it ends; allowances, tiers, minimums and percentiles are then applied to the whole month"
)

// spendQuestion is what GetSpend and GetSpendForecast are asked.
type spendQuestion struct {
	month        *Month
	groupBy      string
	connectionID *ConnectionID
	limit        *int
	pageToken    *PageToken
	forecast     bool
}

// GetSpend says what the caller's organisation has spent in a month until now.
func (s *Server) GetSpend(ctx context.Context, req GetSpendRequestObject) (GetSpendResponseObject, error) {
	p := req.Params
	answer, err := s.spend(ctx, spendQuestion{p.Month, string(valueOr(p.GroupBy, "connection")), p.ConnectionId, p.Limit, p.PageToken, false})
	if err != nil {
		return nil, err
	}
	return GetSpend200JSONResponse(answer), nil
}

// GetSpendForecast says what it will have spent at the month's end.
func (s *Server) GetSpendForecast(ctx context.Context, req GetSpendForecastRequestObject) (GetSpendForecastResponseObject, error) {
	p := req.Params
	answer, err := s.spend(ctx, spendQuestion{p.Month, string(valueOr(p.GroupBy, "connection")), p.ConnectionId, p.Limit, p.PageToken, true})
	if err != nil {
		return nil, err
	}
	return GetSpendForecast200JSONResponse(answer), nil
}

func (s *Server) spend(ctx context.Context, q spendQuestion) (Spend, error) {
	customer, now := callerFrom(ctx).OrganisationID, s.now()
	period, at, err := monthUntil(q.month, now)
	if err != nil {
		return Spend{}, err
	}
	var ids []string
	var next string
	if q.connectionID != nil {
		c, _, err := load(ctx, s, "connection", *q.connectionID, connection.Stream(*q.connectionID), connection.Evolve,
			func(c connection.State) []string { return []string{c.CustomerID} })
		if err != nil {
			return Spend{}, err
		}
		ids = []string{c.ID}
	} else if ids, next, err = s.Queries.Billed(ctx, projections.BilledSearch{
		Customer: customer, From: period.From, To: period.To, Limit: valueOr(q.limit, defaultPreview), PageToken: valueOr(q.pageToken, ""),
	}); err != nil {
		return Spend{}, err
	}
	preview, err := billing.PreviewOf(ctx, s.Log, s.usage(), billing.PreviewRequest{Period: period, ConnectionIDs: ids, At: at, Forecast: q.forecast})
	if err != nil {
		return Spend{}, err
	}
	key, err := s.spendKey(ctx, q.groupBy, customer, preview)
	if err != nil {
		return Spend{}, err
	}
	answer := Spend{
		Month: budget.MonthOf(period.From), PeriodStart: period.From, PeriodEnd: period.To, AsOf: preview.At, LogPosition: int64(preview.Position),
		Connections: len(preview.Connections), NextPageToken: optional(next),
	}
	if answer.Groups, err = spendSums(preview.Lines, key); err != nil {
		return Spend{}, err
	}
	if answer.Totals, err = spendSums(preview.Lines, total); err != nil {
		return Spend{}, err
	}
	if q.forecast {
		answer.Forecast = &ForecastMethod{
			Recurring: forecastRecurring, Usage: forecastUsage,
			PastSeconds:   billing.Period{From: period.From, To: preview.At}.Seconds(),
			ComingSeconds: billing.Period{From: preview.At, To: period.To}.Seconds(),
		}
	}
	return answer, nil
}

// monthUntil returns a month, the present one if none is named, and until when it is looked at.
func monthUntil(named *Month, now time.Time) (billing.Period, time.Time, error) {
	period := billing.MonthOf(now)
	if named != nil {
		var err error
		if period, err = billing.ParseMonth(*named); err != nil {
			return period, now, err
		}
	}
	if period.To.Before(now) {
		now = period.To
	}
	return period, now, nil
}

// total is the key of what has nothing but its currency in common.
func total(invoice.Line) string { return "" }

// spendKey returns the key of a line that a caller groups by.
func (s *Server) spendKey(ctx context.Context, by, customer string, preview billing.Preview) (func(invoice.Line) string, error) {
	switch by {
	case "connection":
		return byConnection, nil
	case "provider":
		return func(l invoice.Line) string { return l.ProviderID }, nil
	case "listing":
		return func(l invoice.Line) string { return l.Plan.ListingID }, nil
	case "line_kind":
		return func(l invoice.Line) string { return l.Kind }, nil
	}
	chosen, _, err := s.loadBillingDefault(ctx, customer)
	accounts := preview.Accounts(chosen.BillingAccountID)
	return func(l invoice.Line) string { return accounts[l.ConnectionID] }, err
}

func byConnection(l invoice.Line) string { return l.ConnectionID }

func spendSums(lines []invoice.Line, key func(invoice.Line) string) ([]SpendSum, error) {
	sums, err := billing.SumBy(lines, key)
	if err != nil {
		return nil, err
	}
	shown := make([]SpendSum, 0, len(sums))
	for _, sum := range sums {
		shown = append(shown, SpendSum{Key: sum.Key, Passthrough: sum.Passthrough, Fee: sum.Fee, Total: sum.Total})
	}
	return shown, nil
}

// GetRevenue says what the caller's organisation, a provider, has earned: what is settled, and what is still open.
func (s *Server) GetRevenue(ctx context.Context, req GetRevenueRequestObject) (GetRevenueResponseObject, error) {
	p, provider, now := req.Params, callerFrom(ctx).OrganisationID, s.now()
	first, last, err := monthsBetween("api.GetRevenue", p.FromMonth, p.ToMonth, now, maxRevenueMonths)
	if err != nil {
		return nil, err
	}
	by := string(valueOr(p.GroupBy, projections.RevenueByMonth))
	answer := Revenue{FromMonth: budget.MonthOf(first.From), ToMonth: budget.MonthOf(last.From), Settled: []RevenueSum{}, SettledTotals: []RevenueSum{}}
	if p.PageToken == nil {
		settled, err := s.Queries.Revenue(ctx, provider, by, first.From, last.To)
		if err != nil {
			return nil, err
		}
		if answer.Settled, answer.SettledTotals, err = settledSums(settled); err != nil {
			return nil, err
		}
	}
	open := billing.MonthOf(now)
	ids, next, err := s.Queries.Billed(ctx, projections.BilledSearch{
		Provider: provider, From: open.From, To: open.To, Limit: valueOr(p.Limit, defaultPreview), PageToken: valueOr(p.PageToken, ""),
	})
	if err != nil {
		return nil, err
	}
	if answer.Open, err = s.openRevenue(ctx, open, ids, by, now); err != nil {
		return nil, err
	}
	answer.NextPageToken = optional(next)
	return GetRevenue200JSONResponse(answer), nil
}

func settledSums(settled []projections.RevenueSum) (shown, totals []RevenueSum, err error) {
	shown, totals = []RevenueSum{}, []RevenueSum{}
	lines := make([]invoice.Line, 0, len(settled)) // so that one function adds up money
	for _, sum := range settled {
		shown = append(shown, RevenueSum{Month: optional(sum.Month), Key: sum.Key, Amount: sum.Amount})
		lines = append(lines, invoice.Line{Kind: invoice.LinePassthrough, Amount: sum.Amount})
	}
	sums, err := billing.SumBy(lines, total)
	for _, sum := range sums {
		totals = append(totals, RevenueSum{Amount: sum.Passthrough})
	}
	return shown, totals, err
}

// openRevenue previews a provider's month. The platform's fee is its customers' matter and is not shown.
func (s *Server) openRevenue(ctx context.Context, month billing.Period, ids []string, by string, now time.Time) (OpenRevenue, error) {
	preview, err := billing.PreviewOf(ctx, s.Log, s.usage(), billing.PreviewRequest{Period: month, ConnectionIDs: ids, At: now})
	if err != nil {
		return OpenRevenue{}, err
	}
	open := OpenRevenue{
		Month: budget.MonthOf(month.From), AsOf: preview.At, LogPosition: int64(preview.Position), Connections: len(preview.Connections),
		Groups: []RevenueSum{}, Totals: []RevenueSum{},
	}
	var passthrough []invoice.Line
	for _, l := range preview.Lines {
		if l.Kind == invoice.LinePassthrough {
			passthrough = append(passthrough, l)
		}
	}
	customers := make(map[string]string)
	for _, c := range preview.Connections {
		customers[c.ID] = c.CustomerID
	}
	key := map[string]func(invoice.Line) string{
		projections.RevenueByMonth:      func(invoice.Line) string { return open.Month },
		projections.RevenueByListing:    func(l invoice.Line) string { return l.Plan.ListingID },
		projections.RevenueByCustomer:   func(l invoice.Line) string { return customers[l.ConnectionID] },
		projections.RevenueByConnection: byConnection,
	}[by]
	groups, err := billing.SumBy(passthrough, key)
	if err != nil {
		return OpenRevenue{}, err
	}
	totals, err := billing.SumBy(passthrough, total)
	for _, g := range groups {
		open.Groups = append(open.Groups, RevenueSum{Key: g.Key, Amount: g.Passthrough})
	}
	for _, t := range totals {
		open.Totals = append(open.Totals, RevenueSum{Amount: t.Passthrough})
	}
	return open, err
}
