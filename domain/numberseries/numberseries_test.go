package numberseries

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestTake(t *testing.T) {
	t.Parallel()
	first := Taken{CreditNotes, 1, "crn_1"}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Take]{
		{Name: "first", When: Take{CreditNotes, "crn_1"}, Then: []domain.Event{first}},
		{Name: "next", Given: []domain.Event{first}, When: Take{CreditNotes, "crn_2"}, Then: []domain.Event{Taken{CreditNotes, 2, "crn_2"}}},
		{Name: "again", Given: []domain.Event{first}, When: Take{CreditNotes, "crn_1"}},
		{Name: "of no series", When: Take{"invoice", "inv_1"}, Code: domain.Invalid, Fields: []string{"/series"}},
		{Name: "of nothing", When: Take{Series: SelfCredits}, Code: domain.Invalid, Fields: []string{"/document_id"}},
	})
}

func TestFormat(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 31, 23, 30, 0, 0, time.FixedZone("", -3600)) // 2027 in UTC
	for series, want := range map[string]string{CreditNotes: "CN-2027-000007", SelfBilled: "ST-2027-000007", SelfCredits: "SC-2027-000007"} {
		if got := Format(series, at, 7); got != want {
			t.Errorf("%s: %s, want %s", series, got, want)
		}
	}
	if got := Format(CreditNotes, at, 1_234_567); got != "CN-2027-1234567" {
		t.Errorf("a long number is %s", got)
	}
	if got := Stream("crossbill", CreditNotes); got != "number_series-crossbill.credit_note" {
		t.Errorf("the stream is %s", got)
	}
}
