package settlement

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

// TestCredit holds credits to what is left of each item.
func TestCredit(t *testing.T) {
	t.Parallel()
	issued := exampleA()
	credit := func(number string, minor int64) Credited {
		return Credited{SettlementID: issued.SettlementID, Number: number, CreditNoteID: scenario.ID(domain.PrefixCreditNote, int(minor)), Reason: "Outage",
			Lines: []CreditedLine{{"item-port", usd(minor)}}, Total: usd(minor), At: issued.At}
	}
	half := credit("SC-1", 13549)
	void := half
	void.CreditNoteID, void.InvoiceID = "", scenario.ID(domain.PrefixInvoice, 1)
	wrong := func(name string, change func(*Credited), fields ...string) scenario.Case[Command] {
		c := credit("SC-2", 100)
		change(&c)
		return scenario.Case[Command]{Name: name, Given: []domain.Event{issued, half}, When: Credit{c}, Code: domain.Invalid, Fields: fields}
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "example C", Given: []domain.Event{issued}, When: Credit{half}, Then: []domain.Event{half}},
		{Name: "of a void invoice", Given: []domain.Event{issued}, When: Credit{void}, Then: []domain.Event{void}},
		{Name: "again", Given: []domain.Event{issued, half}, When: Credit{half}},
		{Name: "of nothing", When: Credit{half}, Code: domain.NotFound},
		wrong("a cent too much", func(c *Credited) { c.Lines[0].Amount, c.Total = usd(13549), usd(13549) }, "/lines/0/amount"),
		wrong("less than nothing", func(c *Credited) { c.Lines[0].Amount, c.Total = usd(-1), usd(-1) }, "/lines/0/amount"),
		wrong("an item twice", func(c *Credited) { c.Lines = append(c.Lines, c.Lines[0]) }, "/lines/1/item_id"),
		wrong("another's item", func(c *Credited) { c.Lines[0].ItemID = "x"; c.Total = usd(0) }, "/lines/0/item_id"),
		wrong("a wrong total", func(c *Credited) { c.Total.Minor++ }, "/total"),
		wrong("tax of nothing", func(c *Credited) { c.Tax = usd(1) }, "/tax"),
		wrong("for two causes", func(c *Credited) { c.InvoiceID = scenario.ID(domain.PrefixInvoice, 1) }, "/credit_note_id"),
		wrong("without a number", func(c *Credited) { c.Number, c.Reason = "", "" }, "/number", "/reason"),
	})
	s := scenario.Fold(Evolve, domain.Event(issued), half)
	if s.Owed() != usd(61443-13549) {
		t.Errorf("%s is owed", s.Owed())
	}
}
