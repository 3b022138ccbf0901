package billing

import (
	"cmp"
	"context"
	"slices"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
)

// settle makes the settlements of invoices: for each provider and currency, in that order, every passthrough line of
// its services as it stands on the customer's invoice. Nothing is computed but the sums, and the provider's own tax.
func settle(ctx context.Context, b *book, invoices []invoice.Issued) ([]settlement.Issued, error) {
	type payee struct {
		provider string
		currency domain.Currency
	}
	lines := make(map[payee][]settlement.Line)
	for _, i := range invoices {
		for _, l := range i.Lines {
			if l.Kind == invoice.LinePassthrough {
				to := payee{l.ProviderID, i.Currency}
				line := settlement.Line{
					ItemID: l.ItemID, InvoiceID: i.InvoiceID, ConnectionID: l.ConnectionID, ChargeID: l.ChargeID,
					Description: l.Description, Amount: l.Amount, InvoiceLine: l.Number,
				}
				if l.Adjusts != nil {
					line.Adjusts = &l.Adjusts.PeriodStart
				}
				lines[to] = append(lines[to], line)
			}
		}
	}
	payees := make([]payee, 0, len(lines))
	for to := range lines {
		payees = append(payees, to)
	}
	slices.SortFunc(payees, func(a, b payee) int {
		return cmp.Or(cmp.Compare(a.provider, b.provider), cmp.Compare(a.currency, b.currency))
	})
	var all []settlement.Issued
	for _, to := range payees {
		terms, err := b.provider(ctx, to.provider)
		if err != nil {
			return nil, err
		}
		for rest := lines[to]; len(rest) > 0; {
			s := settlement.Issued{
				ProviderID: to.provider, PeriodStart: invoices[0].PeriodStart, PeriodEnd: invoices[0].PeriodEnd, Currency: to.currency,
				LogPosition: invoices[0].LogPosition, RunID: invoices[0].RunID, At: invoices[0].At,
				ProviderAccountID: terms.AccountID, ProviderAccountVersion: terms.AccountVersion, IssuerVersion: terms.IssuerVersion,
			}
			if s.Lines, s.Total, rest, err = fill(rest, to.currency); err != nil {
				return nil, err
			}
			if t := terms.Treatment; t != nil {
				for n := range s.Lines {
					s.Lines[n].TaxCategory = t.Category
				}
				taxed, err := t.Of(s.Total)
				if err != nil {
					return nil, err
				}
				s.Taxes, s.Tax = []tax.Subtotal{taxed}, taxed.Tax
			}
			s.SettlementID = domain.DeriveID(domain.PrefixSettlement, s.PeriodStart, s.RunID, s.ProviderID, s.Lines[0].ItemID)
			all = append(all, s)
		}
	}
	return all, nil
}

// fill takes as many lines as fit into one settlement. It keeps a connection's lines together, so that one settlement
// can be named for each.
func fill(lines []settlement.Line, currency domain.Currency) (taken []settlement.Line, total domain.Money, rest []settlement.Line, err error) {
	total = domain.Money{Currency: currency}
	n, bytes := 0, 0
	for ; n < len(lines); n++ {
		size, err := sizeOf(lines[n])
		if err != nil {
			return nil, total, nil, err
		}
		if bytes += size; n > 0 && bytes > maxDocumentBytes && lines[n].ConnectionID != lines[n-1].ConnectionID {
			break
		}
		if total, err = total.Add(lines[n].Amount); err != nil {
			return nil, total, nil, err
		}
	}
	return lines[:n], total, lines[n:], nil
}
