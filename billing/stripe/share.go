package stripe

import (
	"math/big"
	"slices"

	"crossbill/domain"
	"crossbill/domain/payment"
	"crossbill/domain/settlement"
)

// sharesOf divides what a provider is owed by a settlement among the invoices that bring it in, in minor units. The shares
// add up to [settlement.State.Owed], if that is not negative, and none is negative:
//
//   - an invoice brings in its lines, and of the tax on top, which was worked on the sum of all invoices' lines, the part
//     that its lines make of those of the same category, rounded so that the parts add up;
//   - what was credited is off the share of the invoice that it is about;
//   - what an invoice takes off (adjustments can be negative) is set off against the others, in the order of their ids, so
//     that the same books give the same shares whoever pays first.
func sharesOf(s settlement.State) map[string]int64 {
	invoiceOf := make(map[string]string, len(s.Lines))
	shares := make(map[string]int64)
	type part struct {
		invoice string
		net     int64
	}
	byCategory := make(map[string][]part)
	for _, l := range s.Lines {
		invoiceOf[l.ItemID] = l.InvoiceID
		shares[l.InvoiceID] += l.Amount.Minor
		parts := byCategory[l.TaxCategory]
		if n := len(parts); n > 0 && parts[n-1].invoice == l.InvoiceID {
			parts[n-1].net += l.Amount.Minor
		} else {
			parts = append(parts, part{l.InvoiceID, l.Amount.Minor})
		}
		byCategory[l.TaxCategory] = parts
	}
	for _, t := range s.Taxes {
		var net, given int64
		parts := byCategory[t.Category]
		for n, p := range parts {
			net += p.net
			upTo := t.Tax.Minor
			if n < len(parts)-1 && t.Taxable.Minor != 0 {
				upTo = proportion(t.Tax.Minor, net, t.Taxable.Minor)
			}
			shares[p.invoice] += upTo - given
			given = upTo
		}
	}
	for _, c := range s.Credits {
		about := c.InvoiceID
		if about == "" {
			about = invoiceOf[c.Lines[0].ItemID] // a credit note is about one invoice
		}
		shares[about] -= c.Total.Minor + c.Tax.Minor
	}
	ids := make([]string, 0, len(shares))
	var missing int64
	for id, share := range shares {
		ids = append(ids, id)
		if share < 0 {
			missing -= share
			shares[id] = 0
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		off := min(missing, shares[id])
		shares[id] -= off
		missing -= off
	}
	return shares
}

// proportion returns a × b / c, cut toward zero; c is not 0.
func proportion(a, b, c int64) int64 {
	product := new(big.Int).Mul(big.NewInt(a), big.NewInt(b))
	return product.Quo(product, big.NewInt(c)).Int64()
}

// payable returns what of a share can be moved to the provider: all of it if the payment that brought it in stands, and the
// same part of it as of the payment if some of that was lost in a dispute.
func payable(share int64, paying payment.State) domain.Money {
	m := domain.Money{Currency: paying.Amount.Currency}
	if paying.State == payment.StateReceived {
		m.Minor = proportion(share, paying.Amount.Minor-paying.Lost().Minor, paying.Amount.Minor)
	}
	return m
}
