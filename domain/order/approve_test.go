package order

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/listing"
	"crossbill/domain/quote"
)

var (
	bot    = apikey.PrincipalRef{Kind: apikey.KindProgram, ID: "bot"}
	person = apikey.PrincipalRef{Kind: apikey.KindPerson, ID: "ada"}
)

// placedBy is what the bot's order comes to: with a reason to ask, nothing is committed yet.
func placedBy(approval, needed string) Placed {
	e := placed(approval)
	e.PlacedBy, e.ApprovalNeeded = &bot, needed
	if needed == "" {
		e.Commitment = &Commitment{Principal: bot, Month: scenario.Noon.Format("2006-01"), Amount: *usd(63286)}
	}
	return e
}

func TestApproval(t *testing.T) {
	t.Parallel()
	const needed = AboveMonthLimit
	by := func(approval, needed string) Place {
		c := place(approval)
		c.By, c.ApprovalNeeded = bot, needed
		return c
	}
	at := scenario.After(60)
	approve := Approve{By: person, Total: *usd(63286), Deadline: at.Add(time.Hour), At: at}
	decline := Decline{By: person, Reason: "too dear", At: at}
	approved := Approved{orderID, customer, "ada", at.Add(time.Hour), Commitment{person, at.Format("2006-01"), *usd(63286)}, at}
	cancelled := Cancelled{orderID, "too dear", at}
	waiting := placedBy(listing.ApprovalManual, needed)
	given := func(e ...domain.Event) []domain.Event { return append([]domain.Event{waiting}, e...) }
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "nobody need be asked", When: by(listing.ApprovalManual, ""), Then: []domain.Event{placedBy(listing.ApprovalManual, "")}},
		{Name: "a person is asked", When: by(listing.ApprovalManual, needed), Then: []domain.Event{waiting}},
		{Name: "an unknown reason to ask", When: by(listing.ApprovalManual, "412.00 USD is above 400.00 USD"), Code: domain.Invalid, Fields: []string{"/approval_needed"}},

		{Name: "approve", Given: given(), When: approve, Then: []domain.Event{approved}},
		{Name: "approve again", Given: given(approved), When: approve},
		{Name: "approve again, accepted", Given: given(approved, Accepted{orderID, provider, at}), When: approve},
		{Name: "approve what another approved", Given: given(approved), When: Approve{By: apikey.PrincipalRef{Kind: apikey.KindPerson, ID: "bob"}, Total: *usd(1), Deadline: at.Add(1), At: at}, Code: domain.Conflict},
		{Name: "approve what was approved and failed", Given: given(approved, Failed{orderID, "no VLAN", at}), When: approve, Code: domain.Conflict},
		{Name: "approve what needs it not", Given: []domain.Event{placedBy(listing.ApprovalManual, "")}, When: approve, Code: domain.Conflict},
		{Name: "approve what is declined", Given: given(cancelled), When: approve, Code: domain.Conflict},
		{Name: "approve too late", Given: given(), When: Approve{By: person, Total: *usd(1), Deadline: scenario.After(601), At: scenario.After(600)}, Code: domain.Conflict},
		{Name: "approve just in time", Given: given(), When: Approve{By: person, Total: *usd(1), Deadline: scenario.After(601), At: scenario.After(599)},
			Then: []domain.Event{Approved{orderID, customer, "ada", scenario.After(601), Commitment{person, at.Format("2006-01"), *usd(1)}, scenario.After(599)}}},
		{Name: "a program approves", Given: given(), When: Approve{By: bot, Total: *usd(1), Deadline: at.Add(1), At: at}, Code: domain.Forbidden},
		{Name: "the operator approves", Given: given(), When: Approve{By: apikey.PrincipalRef{Kind: apikey.KindOperator, ID: "x"}, At: at}, Code: domain.Forbidden},
		{Name: "approve nothing of it", Given: given(), When: Approve{By: person}, Code: domain.Invalid, Fields: []string{"/at", "/total", "/deadline"}},

		{Name: "decline", Given: given(), When: decline, Then: []domain.Event{cancelled}},
		{Name: "decline again", Given: given(cancelled), When: decline},
		{Name: "decline what is approved", Given: given(approved), When: decline, Code: domain.Conflict},
		{Name: "decline what needs no approval", Given: []domain.Event{placedBy(listing.ApprovalAutomatic, "")}, When: decline, Code: domain.Conflict},
		{Name: "a program declines", Given: given(), When: Decline{By: bot, Reason: "no", At: at}, Code: domain.Forbidden},

		{Name: "the provider is not asked yet", Given: given(), When: Accept{provider, at}, Code: domain.Conflict},
		{Name: "nor may it refuse", Given: given(), When: Reject{"full", at}, Code: domain.Conflict},
		{Name: "nobody answered", Given: given(), When: Fail{"nobody approved", at}, Then: []domain.Event{Failed{orderID, "nobody approved", at}}},
		{Name: "the provider accepts by the later deadline", Given: given(approved), When: Accept{provider, scenario.After(700)}, Then: []domain.Event{Accepted{orderID, provider, scenario.After(700)}}},
	})

	for _, approval := range []string{listing.ApprovalManual, listing.ApprovalAutomatic} {
		want := map[string]string{listing.ApprovalManual: StateAwaitingProvider, listing.ApprovalAutomatic: StateAcknowledged}[approval]
		if s := scenario.Fold(Evolve, placedBy(approval, needed), approved); s.State != want || s.Commitment == nil || s.Commitment.Principal != person {
			t.Errorf("an approved order is %s and holds %+v", s.State, s.Commitment)
		}
		if s := scenario.Fold(Evolve, placedBy(approval, ""), Failed{orderID, "no VLAN", at}); s.Commitment != nil {
			t.Errorf("a failed order holds %+v", s.Commitment)
		}
	}
	dear := place(listing.ApprovalAutomatic)
	dear.By, dear.Quote.OneTime = bot, &quote.OneTime{Total: *usd(14)}
	events, err := Decide(State{}, dear)
	if err != nil || events[0].(Placed).Commitment.Amount != *usd(63300) {
		t.Errorf("with what is charged once an order commits to %+v, %v", events, err)
	}
	// 2026-12-31T23:30 in New York is in the next year's first month.
	late := time.Date(2026, 12, 31, 23, 30, 0, 0, time.FixedZone("", -5*3600))
	if c := CommitmentOf(bot, *usd(1), late); c.Month != "2027-01" {
		t.Errorf("the month is %s", c.Month)
	}
}

func TestApprovalNeeded(t *testing.T) {
	t.Parallel()
	eur := &domain.Money{Minor: 1 << 40, Currency: "EUR"}
	for _, c := range []struct {
		limits       apikey.Limits
		total, spent int64
		want         string
	}{
		{apikey.Limits{}, 1 << 62, 1 << 62, ""},
		{apikey.Limits{PerOrder: usd(100)}, 100, 1 << 40, ""},
		{apikey.Limits{PerOrder: usd(100)}, 101, 0, AboveOrderLimit},
		{apikey.Limits{PerMonth: usd(100)}, 60, 40, ""},
		{apikey.Limits{PerMonth: usd(100)}, 60, 41, AboveMonthLimit},
		{apikey.Limits{PerMonth: usd(0)}, 1, 0, AboveMonthLimit},
		{apikey.Limits{PerMonth: usd(0)}, 0, 0, ""},
		{apikey.Limits{PerMonth: usd(100)}, 1, 1 << 62, AboveMonthLimit},
		{apikey.Limits{PerOrder: usd(100), PerMonth: usd(100)}, 101, 0, AboveOrderLimit},
		{apikey.Limits{PerOrder: eur}, 1, 0, OtherCurrency},
		{apikey.Limits{PerOrder: usd(100), PerMonth: eur}, 1, 0, OtherCurrency},
	} {
		if got := ApprovalNeeded(c.limits, *usd(c.total), c.spent); got != c.want {
			t.Errorf("%d after %d under %+v: %q, want %q", c.total, c.spent, c.limits, got, c.want)
		}
	}
}
