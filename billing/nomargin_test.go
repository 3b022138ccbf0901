package billing

import (
	"slices"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
)

// TestCheckNoMargin breaks balanced books in every way that the check is to see.
func TestCheckNoMargin(t *testing.T) {
	t.Parallel()
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	balanced := func() ([]invoice.Issued, []settlement.Issued) {
		line := func(number int, item, kind, provider string, minor int64) invoice.Line {
			return invoice.Line{Number: number, ItemID: item, Kind: kind, ProviderID: provider, ConnectionID: "con", ChargeID: "port", Amount: usd(minor)}
		}
		settled := func(item, inv string, minor int64) settlement.Line {
			return settlement.Line{ItemID: item, InvoiceID: inv, ConnectionID: "con", ChargeID: "port", Amount: usd(minor)}
		}
		return []invoice.Issued{
				{InvoiceID: "inv1", Currency: "USD", Passthrough: usd(300), Fee: usd(9), Total: usd(309), Lines: []invoice.Line{
					line(1, "a", invoice.LinePassthrough, "p", 100), line(2, "b", invoice.LinePassthrough, "q", 200), line(3, "f", invoice.LineFee, "p", 9),
				}},
				{InvoiceID: "inv2", Currency: "USD", Passthrough: usd(400), Fee: usd(0), Total: usd(400), Lines: []invoice.Line{line(1, "c", invoice.LinePassthrough, "p", 400)}},
			}, []settlement.Issued{
				{SettlementID: "set1", ProviderID: "p", Currency: "USD", Total: usd(500), Lines: []settlement.Line{settled("a", "inv1", 100), settled("c", "inv2", 400)}},
				{SettlementID: "set2", ProviderID: "q", Currency: "USD", Total: usd(200), Lines: []settlement.Line{settled("b", "inv1", 200)}},
			}
	}
	tests := []struct {
		name, says string
		change     func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued)
	}{
		{"a margin of a cent", "0.01 USD more", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			i[1].Lines[0].Amount, i[1].Passthrough, i[1].Total = usd(401), usd(401), usd(401)
			return i, s
		}},
		{"a provider's money at another", "settled as", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			s[1].ProviderID = "p"
			return i, s
		}},
		{"the fee as a provider's", "is on no invoice", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			s[1].Lines = append(s[1].Lines, settlement.Line{ItemID: "f", InvoiceID: "inv1", Amount: usd(9)})
			s[1].Total = usd(209)
			return i, s
		}},
		{"equal sums of other items", "settled as", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			s[0].Lines[0].Amount, s[0].Lines[1].Amount = usd(400), usd(100)
			return i, s
		}},
		{"a line settled twice", "settled twice", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			s[1].Lines = append(s[1].Lines, s[0].Lines[0])
			s[1].Total = usd(300)
			return i, s
		}},
		{"a line billed twice", "billed twice", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			return append(i, i[1]), s
		}},
		{"a provider left out", "is on no settlement", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			return i, s[:1]
		}},
		{"a settlement's wrong total", "the total of set1", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			s[0].Total = usd(499)
			return i, s
		}},
		{"an invoice's wrong total", "the totals of inv1", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			i[0].Total = usd(310)
			return i, s
		}},
		{"a fee inside the passthrough", "the totals of inv1", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			i[0].Passthrough, i[0].Fee = usd(309), usd(0)
			return i, s
		}},
		{"another currency", "cannot add", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			s[0].Lines[0].Amount = domain.Money{Minor: 100, Currency: "EUR"}
			return i, s
		}},
		{"a line of no kind", "unknown kind", func(i []invoice.Issued, s []settlement.Issued) ([]invoice.Issued, []settlement.Issued) {
			i[0].Lines = slices.Clone(i[0].Lines)
			i[0].Lines[2].Kind = "discount"
			return i, s
		}},
	}
	if err := CheckNoMargin(balanced()); err != nil {
		t.Fatalf("balanced books: %v", err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := CheckNoMargin(test.change(balanced()))
			if domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), test.says) {
				t.Errorf("it says %v, not %q", err, test.says)
			}
		})
	}
}
