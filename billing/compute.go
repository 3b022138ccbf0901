package billing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/tax"
)

// Compute makes the content of an invoice of facts: one customer, one billing account, one currency, one period, one position. It has no
// identity yet: id, number, run and time are empty. The order of the facts does not matter.
//
// It returns an Internal error for facts that can't stand on one invoice.
func Compute(facts []Facts) (invoice.Issued, error) {
	const op = "billing.Compute"
	if len(facts) == 0 {
		return invoice.Issued{}, domain.Errorf(domain.Internal, op, "there is nothing to bill")
	}
	facts = slices.SortedFunc(slices.Values(facts), byConnection)
	first := facts[0]
	currency := first.Terms.invoiced(first.Currency())
	zero := domain.Money{Currency: currency}
	i := invoice.Issued{
		CustomerID: first.Connection.CustomerID, PeriodStart: first.Period.From, PeriodEnd: first.Period.To, Currency: currency,
		Passthrough: zero, Fee: zero, Total: zero, LogPosition: int64(first.Position), BillingAccountID: first.account(),
		BillingAccountVersion: first.Terms.AccountVersion, IssuerVersion: first.Terms.IssuerVersion, PurchaseOrder: first.Terms.PurchaseOrder,
	}
	used, tiered := freeBefore(facts)
	if tiered {
		before := used // which goes on from there
		i.FreeBefore = &before
	}
	for n, f := range facts {
		if !sameInvoice(first, f) || !f.Period.Equal(first.Period) ||
			f.Position != first.Position || n > 0 && f.Connection.ID == facts[n-1].Connection.ID {
			return invoice.Issued{}, domain.Errorf(domain.Internal, op, "%s and %s can't be on one invoice", first.Connection.ID, f.Connection.ID)
		}
		lines, err := f.lines(used)
		if err != nil {
			return invoice.Issued{}, err
		}
		if used, err = useOf(used, lines); err != nil {
			return invoice.Issued{}, err
		}
		for _, l := range lines {
			l.Number = len(i.Lines) + 1
			if t := first.Terms.Treatment; t != nil {
				l.TaxCategory = t.Category
			}
			i.Lines = append(i.Lines, l)
			sum := &i.Passthrough
			if l.Kind == invoice.LineFee {
				sum = &i.Fee
			}
			if *sum, err = sum.Add(l.Amount); err != nil {
				return invoice.Issued{}, err
			}
		}
	}
	var err error
	if i.Total, err = i.Passthrough.Add(i.Fee); err != nil || first.Terms.Treatment == nil {
		return i, err
	}
	taxed, err := first.Terms.Treatment.Of(i.Total) // every line is of the one supply
	if err != nil {
		return i, err
	}
	i.Taxes, i.Tax = []tax.Subtotal{taxed}, taxed.Tax
	i.Total, err = i.Total.Add(taxed.Tax)
	return i, err
}

// freeBefore returns what was used of the customer's free tier before the invoice of facts, and whether it has one.
func freeBefore(facts []Facts) (used pricing.FreeUse, tiered bool) {
	for n := range facts {
		if facts[n].hasFreeTier() {
			used = facts[n].FreeBefore
			used.Passthrough.Currency = facts[n].Currency()
			return used, true
		}
	}
	return used, false
}

// useOf adds what one connection's lines use of the free tier.
func useOf(used pricing.FreeUse, lines []invoice.Line) (_ pricing.FreeUse, err error) {
	for _, l := range lines {
		switch {
		case l.Adjusts != nil: // the free tier of a closed month is used up as it was
		case l.Kind == invoice.LineFee: // each connection has one
			used.Connections++
		default:
			amount, err := inPlanCurrency(l)
			if err != nil {
				return used, err
			}
			if used, err = used.Add(0, amount); err != nil {
				return used, err
			}
		}
	}
	return used, nil
}

// inPlanCurrency returns what a line comes to in the currency of the plan, rounded once.
func inPlanCurrency(l invoice.Line) (domain.Money, error) {
	if l.Converted == nil {
		return l.Amount, nil
	}
	exact, err := domain.ParseDecimal(strings.TrimSuffix(l.Converted.Amount, "…"))
	if err != nil {
		return domain.Money{}, domain.Errorf(domain.Internal, "billing.inPlanCurrency", "line %d: %w", l.Number, err)
	}
	return domain.RoundMoney(exact, l.Converted.Currency)
}

func byConnection(a, b Facts) int { return cmp.Compare(a.Connection.ID, b.Connection.ID) }

// lines returns the connection's lines: the passthrough lines, then the fee, then what adjusts closed periods.
func (f *Facts) lines(used pricing.FreeUse) ([]invoice.Line, error) {
	var lines []invoice.Line
	if !f.Billable.Empty() {
		rated, err := f.rated(used)
		if err != nil {
			return nil, err
		}
		for _, r := range rated {
			lines = append(lines, r.line)
		}
	}
	for _, a := range f.Adjustments {
		lines = append(lines, a.lines...)
	}
	return lines, nil
}

// ratedLine is a line with its exact amount in the invoice's currency, which the line shows cut where it has no end.
type ratedLine struct {
	line  invoice.Line
	exact domain.Decimal
}

// rated returns the lines of the period itself: the passthrough lines, then the fee.
func (f *Facts) rated(used pricing.FreeUse) ([]ratedLine, error) {
	items, fee, err := f.rateItems(used)
	if err != nil {
		return nil, err
	}
	lines := make([]ratedLine, 0, len(items)+1)
	for _, i := range append(items, fee) {
		l, err := f.line(i)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// line makes a line of an item. A price in another currency than the invoice's is converted as it is exactly, and rounded then.
func (f *Facts) line(i item) (ratedLine, error) {
	steps := make([]string, len(i.Steps))
	for n, s := range i.Steps {
		steps[n] = shortened(s, invoice.MaxStep)
	}
	kind, from := invoice.LinePassthrough, i.stretch
	if i.stretch == nil {
		kind, from = invoice.LineFee, f.last()
	}
	l := invoice.Line{
		ItemID: i.ID, Kind: kind, ProviderID: f.Connection.ProviderID, ConnectionID: f.Connection.ID,
		ChargeID: i.ChargeID, Description: i.Description, Quantity: i.Quantity.String(), Unit: i.Unit,
		Exact: i.Exact.String(), Amount: i.Amount, Steps: steps,
		Plan:    invoice.PlanRef{ListingID: from.Quote.ListingID, Version: from.Quote.ListingVersion},
		QuoteID: from.Quote.QuoteID, Evidence: f.evidenceOf(i), Part: i.Part,
	}
	if i.stretch != nil && len(f.Stretches) > 1 {
		l.From, l.To = &i.stretch.From, &i.stretch.To
	}
	if f.rate == nil {
		return ratedLine{l, i.Exact}, nil
	}
	to := f.Terms.invoiced(f.Currency())
	exact := f.rate.Convert(i.Exact)
	l.Converted = &invoice.Conversion{Amount: i.Exact.String(), Currency: f.Currency(), Rate: f.rate.Rate, RateVersion: f.rate.Version.Version}
	l.Exact = exact.String()
	l.Steps = append(l.Steps, fmt.Sprintf("%s %s × %s = %s %s (%s)", i.Exact, f.Currency(), f.rate.Rate, exact, to, f.rate.Source))
	amount, err := domain.RoundMoney(exact, to)
	l.Amount = amount
	return ratedLine{l, exact}, err
}

// shortened cuts a step that a plan with very many tiers makes too long for a line. Only what people read is cut.
func shortened(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-1]) + "…"
}

// draft is an invoice without its numbers, and how many bytes it has in the log.
type draft struct {
	invoice.Issued
	bytes int
}

// drafts makes one invoice per customer, currency and billing account, in that order, or more where one would not fit into an event.
func drafts(facts []Facts) ([]draft, error) {
	facts = slices.SortedFunc(slices.Values(facts), func(a, b Facts) int {
		return cmp.Or(cmp.Compare(a.Connection.CustomerID, b.Connection.CustomerID),
			cmp.Compare(a.Currency(), b.Currency()), cmp.Compare(a.account(), b.account()), byConnection(a, b))
	})
	var all []draft
	for len(facts) > 0 {
		n := 1
		for n < len(facts) && n < maxConnections && sameInvoice(facts[0], facts[n]) {
			n++
		}
		d, n, err := fit(facts[:n])
		if err != nil {
			return nil, err
		}
		if d.FreeBefore != nil { // another invoice of the same customer goes on from there
			used, err := useOf(*d.FreeBefore, d.Lines)
			if err != nil {
				return nil, err
			}
			for k := n; k < len(facts) && sameCustomer(facts[0], facts[k]); k++ {
				facts[k].FreeBefore = used
			}
		}
		all, facts = append(all, d), facts[n:]
	}
	return all, nil
}

// fit makes an invoice of the first of some facts, as many as fit, and returns how many they are.
func fit(facts []Facts) (d draft, n int, err error) {
	for n = len(facts); ; n = max(1, min(n-1, n*maxDocumentBytes/d.bytes)) {
		if d.Issued, err = Compute(facts[:n]); err != nil {
			return d, n, err
		}
		if d.bytes, err = sizeOf(d.Issued); err != nil || d.bytes <= maxDocumentBytes || n == 1 {
			return d, n, err
		}
	}
}

func sameInvoice(a, b Facts) bool {
	return sameCustomer(a, b) && a.account() == b.account()
}

// sameCustomer reports whether two share a free tier of the fee.
func sameCustomer(a, b Facts) bool {
	return a.Connection.CustomerID == b.Connection.CustomerID && a.Currency() == b.Currency()
}

// sizeOf returns how many bytes a value has in the log.
func sizeOf(v any) (int, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, domain.Errorf(domain.Internal, "billing.sizeOf", "%T has no JSON: %w", v, err)
	}
	return len(b), nil
}
