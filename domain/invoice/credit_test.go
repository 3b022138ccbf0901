package invoice

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

// TestCredit holds credits to what is left of each line and of the whole.
func TestCredit(t *testing.T) {
	t.Parallel()
	issued, note := domain.Event(exampleA()), scenario.ID(domain.PrefixCreditNote, 1)
	adjusted := exampleA()
	adjusted.Lines[1].Amount, adjusted.Total = usd(-100), usd(28840)
	credit := func(n int, total int64, lines ...CreditedLine) Credit {
		return Credit{CreditNoteID: scenario.ID(domain.PrefixCreditNote, n), Number: "CN-1", Lines: lines, Total: usd(total), At: april}
	}
	half := Credited{InvoiceID: invoiceID, CreditNoteID: note, Number: "CN-1", Lines: []CreditedLine{{1, usd(13549)}, {3, usd(406)}}, Total: usd(13955), At: april}
	paid := Paid{InvoiceID: invoiceID, Reference: "bank-7", At: april, Amount: usd(63286)}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "example C", Given: []domain.Event{issued}, When: credit(1, 13955, half.Lines...), Then: []domain.Event{half}},
		{Name: "again", Given: []domain.Event{issued, half}, When: credit(1, 13955, half.Lines...)},
		{Name: "of what is paid", Given: []domain.Event{issued, paid}, When: credit(1, 13955, half.Lines...), Then: []domain.Event{half}},
		{Name: "of what is void", Given: []domain.Event{issued, Voided{invoiceID, "x", april}}, When: credit(1, 13955, half.Lines...), Code: domain.Conflict},
		{Name: "of nothing", When: credit(1, 1, CreditedLine{1, usd(1)}), Code: domain.NotFound},
		{Name: "a cent too much", Given: []domain.Event{issued, half}, When: credit(2, 13549, CreditedLine{1, usd(13549)}), Code: domain.Invalid, Fields: []string{"/lines/0/amount"}},
		{Name: "less than nothing", Given: []domain.Event{issued}, When: credit(2, 1, CreditedLine{1, usd(-1)}), Code: domain.Invalid, Fields: []string{"/lines/0/amount"}},
		{Name: "a line twice", Given: []domain.Event{issued}, When: credit(2, 2, CreditedLine{1, usd(1)}, CreditedLine{1, usd(1)}), Code: domain.Invalid, Fields: []string{"/lines/1/line"}},
		{Name: "no such line", Given: []domain.Event{issued}, When: credit(2, 1, CreditedLine{4, usd(1)}), Code: domain.Invalid, Fields: []string{"/lines/0/line"}},
		{Name: "more than the whole", Given: []domain.Event{issued, half}, When: credit(2, 63286, CreditedLine{2, usd(1)}), Code: domain.Invalid, Fields: []string{"/total"}},
		{Name: "a negative line", Given: []domain.Event{adjusted}, When: credit(1, 26997, CreditedLine{1, usd(27097)}, CreditedLine{2, usd(-100)}),
			Then: []domain.Event{Credited{InvoiceID: invoiceID, CreditNoteID: note, Number: "CN-1", Lines: []CreditedLine{{1, usd(27097)}, {2, usd(-100)}}, Total: usd(26997), At: april}}},
		{Name: "a negative line, turned", Given: []domain.Event{adjusted}, When: credit(1, 1, CreditedLine{2, usd(1)}), Code: domain.Invalid, Fields: []string{"/lines/0/amount"}},
		{Name: "void what is credited", Given: []domain.Event{issued, half}, When: Void{"x", april}, Code: domain.Conflict},
		{Name: "pay the rest", Given: []domain.Event{issued, half}, When: Pay{Reference: "bank-7", At: april},
			Then: []domain.Event{Paid{InvoiceID: invoiceID, Reference: "bank-7", At: april, Amount: usd(63286 - 13955)}}},
	})
}
