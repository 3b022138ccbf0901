package billing

import (
	"cmp"
	"slices"

	"crossbill/domain"
	"crossbill/domain/budget"
	"crossbill/domain/invoice"
)

// Sum is what lines of one currency come to, the provider's price and the platform's fee apart.
type Sum struct {
	Key                     string // what they have in common
	Passthrough, Fee, Total domain.Money
}

// SumBy adds up lines by a key and their currency, in that order. Currencies are never added to each other.
// It returns an Internal error for a sum past the range of money.
func SumBy(lines []invoice.Line, key func(invoice.Line) string) ([]Sum, error) {
	type place struct {
		key      string
		currency domain.Currency
	}
	sums := make(map[place]*Sum)
	for _, l := range lines {
		at := place{key(l), l.Amount.Currency}
		s := sums[at]
		if s == nil {
			zero := domain.Money{Currency: at.currency}
			s = &Sum{at.key, zero, zero, zero}
			sums[at] = s
		}
		part := &s.Passthrough
		if l.Kind == invoice.LineFee {
			part = &s.Fee
		}
		var err error
		if *part, err = part.Add(l.Amount); err != nil {
			return nil, err
		}
		if s.Total, err = s.Total.Add(l.Amount); err != nil {
			return nil, err
		}
	}
	all := make([]Sum, 0, len(sums))
	for _, s := range sums {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Sum) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Total.Currency, b.Total.Currency))
	})
	return all, nil
}

// Accounts returns which billing account each connection of the preview is billed to; byDefault is that of those which
// name none.
func (p Preview) Accounts(byDefault string) map[string]string {
	accounts := make(map[string]string, len(p.Connections))
	for _, c := range p.Connections {
		accounts[c.ID] = cmp.Or(c.BillingAccountID, byDefault)
	}
	return accounts
}

// SpentOn returns what a preview's connections come to of what a budget is for, in its currency, fees included. byDefault
// is the organisation's default billing account. It returns an Internal error for a sum past the range of money.
func (p Preview) SpentOn(b budget.State, byDefault string) (domain.Money, error) {
	accounts := p.Accounts(byDefault)
	spent := domain.Money{Currency: b.Terms.Amount.Currency}
	for _, l := range p.Lines {
		switch {
		case l.Amount.Currency != spent.Currency,
			b.Scope.Kind == budget.ScopeConnection && l.ConnectionID != b.Scope.ID,
			b.Scope.Kind == budget.ScopeBillingAccount && accounts[l.ConnectionID] != b.Scope.ID:
			continue
		}
		var err error
		if spent, err = spent.Add(l.Amount); err != nil {
			return spent, err
		}
	}
	return spent, nil
}
