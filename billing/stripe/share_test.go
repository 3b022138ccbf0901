package stripe

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"crossbill/domain"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
)

// settled makes a settlement of lines "invoice category amount", with the tax on each category's sum.
func settled(taxes map[string]int64, lines ...struct {
	invoice, category string
	amount            int64
}) settlement.State {
	issued := settlement.Issued{SettlementID: testID(domain.PrefixSettlement, 1), Currency: "EUR", Total: domain.Money{Currency: "EUR"}, Tax: domain.Money{Currency: "EUR"}}
	sums := make(map[string]int64)
	for n, l := range lines {
		issued.Lines = append(issued.Lines, settlement.Line{ItemID: fmt.Sprint("item", n), InvoiceID: l.invoice, TaxCategory: l.category, Amount: domain.Money{Minor: l.amount, Currency: "EUR"}})
		issued.Total.Minor += l.amount
		sums[l.category] += l.amount
	}
	for category, minor := range taxes {
		issued.Taxes = append(issued.Taxes, tax.Subtotal{Treatment: tax.Treatment{Category: category},
			Taxable: domain.Money{Minor: sums[category], Currency: "EUR"}, Tax: domain.Money{Minor: minor, Currency: "EUR"}})
		issued.Tax.Minor += minor
	}
	return settlement.Evolve(settlement.State{}, issued)
}

type settledLine = struct {
	invoice, category string
	amount            int64
}

func TestSharesOf(t *testing.T) {
	t.Parallel()
	credited := func(s settlement.State, c settlement.Credited) settlement.State { return settlement.Evolve(s, c) }
	eur := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "EUR"} }
	for name, c := range map[string]struct {
		s    settlement.State
		want map[string]int64
	}{
		"nothing": {settled(nil), map[string]int64{}},
		"the tax is divided so that its parts add up": { // 21 % of 100.01 + 100.01 + 100.01 is 63.0063, of one 21.0021
			settled(map[string]int64{"S": 6301}, settledLine{"a", "S", 10001}, settledLine{"b", "S", 10001}, settledLine{"c", "S", 10001}),
			map[string]int64{"a": 10001 + 2100, "b": 10001 + 2100, "c": 10001 + 2101}},
		"each category's by its own lines": {
			settled(map[string]int64{"S": 2100, "AE": 0}, settledLine{"a", "S", 10000}, settledLine{"b", "AE", 5000}, settledLine{"a", "AE", 1}),
			map[string]int64{"a": 12101, "b": 5000}},
		"a negative line within an invoice": {
			settled(map[string]int64{"S": 1680}, settledLine{"a", "S", 10000}, settledLine{"a", "S", -2000}), map[string]int64{"a": 9680}},
		"an invoice that takes off is set off against the first": {
			settled(nil, settledLine{"c", "", -1500}, settledLine{"b", "", 1000}, settledLine{"a", "", 1000}, settledLine{"d", "", 1000}),
			map[string]int64{"a": 0, "b": 500, "c": 0, "d": 1000}},
		"with its part of the tax": { // 21 % of 80.00
			settled(map[string]int64{"S": 1680}, settledLine{"a", "S", 10000}, settledLine{"b", "S", -2000}), map[string]int64{"a": 9680, "b": 0}},
		"lines that come to nothing have their tax on the last": {
			settled(map[string]int64{"S": 0}, settledLine{"a", "S", 1000}, settledLine{"b", "S", -1000}), map[string]int64{"a": 0, "b": 0}},
		"more is taken off than there is": {
			settled(nil, settledLine{"a", "", 1000}, settledLine{"b", "", -3000}), map[string]int64{"a": 0, "b": 0}},
		"a credit is off its own invoice, with its tax": {
			credited(settled(map[string]int64{"S": 4200}, settledLine{"a", "S", 10000}, settledLine{"b", "S", 10000}),
				settlement.Credited{CreditNoteID: "n", Lines: []settlement.CreditedLine{{ItemID: "item1", Amount: eur(5000)}}, Total: eur(5000), Tax: eur(1050)}),
			map[string]int64{"a": 12100, "b": 6050}},
		"a void invoice's is all off": {
			credited(settled(nil, settledLine{"a", "", 700}, settledLine{"b", "", 300}),
				settlement.Credited{InvoiceID: "a", Lines: []settlement.CreditedLine{{ItemID: "item0", Amount: eur(700)}}, Total: eur(700)}),
			map[string]int64{"a": 0, "b": 300}},
	} {
		if got := sharesOf(c.s); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}

// TestSharesAddUp: whatever is in a settlement, its shares add up to what is owed and none is below zero.
func TestSharesAddUp(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var lines []settledLine
		sums := make(map[string]int64)
		for range 1 + random.IntN(8) {
			l := settledLine{string(rune('a' + random.IntN(4))), []string{"S", "Z", "AE"}[random.IntN(3)], random.Int64N(20_000) - 5_000}
			lines = append(lines, l)
			sums[l.category] += l.amount
		}
		taxes := make(map[string]int64)
		for category, sum := range sums {
			if taxes[category] = 0; category == "S" {
				taxes[category] = (sum*21 + 50) / 100
			}
		}
		s := settled(taxes, lines...)
		var sum int64
		for id, share := range sharesOf(s) {
			if share < 0 {
				t.Fatalf("%+v: the share of %s is %d", lines, id, share)
			}
			sum += share
		}
		if want := max(0, s.Owed().Minor); sum != want {
			t.Fatalf("%+v: the shares add up to %d, and %d is owed", lines, sum, want)
		}
	}
}
