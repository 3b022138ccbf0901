package billingrun

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"crossbill/domain"
)

func period(from, to int) PeriodClosed {
	day := func(n int) time.Time { return time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC) }
	return PeriodClosed{
		ConnectionID: domain.DeriveID(domain.PrefixConnection, day(1), "c"), PeriodStart: day(from), PeriodEnd: day(to), UsageVersion: 7,
		InvoiceID: domain.DeriveID(domain.PrefixInvoice, day(1), "i"), SettlementID: domain.DeriveID(domain.PrefixSettlement, day(1), "s"),
		RunID: domain.DeriveID(domain.PrefixBillingRun, day(1), "r"), At: day(28),
	}
}

func TestAPeriodIsClosedOnce(t *testing.T) {
	t.Parallel()
	other := domain.DeriveID(domain.PrefixInvoice, time.Unix(0, 0), "other")
	tests := []struct {
		name   string
		from   int
		to     int
		change func(*PeriodClosed)
		code   domain.Code
		events int
	}{
		{"before", 5, 10, nil, "", 1},
		{"after", 20, 25, nil, "", 1},
		{"the same again", 10, 20, nil, "", 0},
		{"the same for another invoice", 10, 20, func(p *PeriodClosed) { p.InvoiceID = other }, domain.Conflict, 0},
		{"overlapping the start", 9, 11, nil, domain.Conflict, 0},
		{"overlapping the end", 19, 21, nil, domain.Conflict, 0},
		{"inside", 12, 13, nil, domain.Conflict, 0},
		{"around", 1, 28, nil, domain.Conflict, 0},
		{"empty", 5, 5, nil, domain.Invalid, 0},
		{"no connection", 5, 6, func(p *PeriodClosed) { p.ConnectionID = "" }, domain.Invalid, 0},
		{"no settlement", 5, 6, func(p *PeriodClosed) { p.SettlementID = "set_x" }, domain.Invalid, 0},
		{"negative version", 5, 6, func(p *PeriodClosed) { p.UsageVersion = -1 }, domain.Invalid, 0},
	}
	before := EvolvePeriod(PeriodState{}, period(10, 20))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := period(test.from, test.to)
			if test.change != nil {
				test.change(&p)
			}
			got, err := DecidePeriod(before, ClosePeriod{p})
			if domain.CodeOf(err) != test.code || len(got) != test.events {
				t.Fatalf("%d events and the error %v; want %d and %q", len(got), err, test.events, test.code)
			}
			after := before
			for _, e := range got {
				after = EvolvePeriod(after, e)
			}
			if len(after.Closed) != 1+test.events || len(before.Closed) != 1 {
				t.Errorf("%d periods are closed, %d before", len(after.Closed), len(before.Closed))
			}
		})
	}
}

// adjustment is of the closed period from 10 to 20, by the nth invoice, up to a version of the readings.
func adjustment(n int, version int64) PeriodAdjusted {
	a := PeriodAdjusted(period(10, 20))
	a.UsageVersion, a.InvoiceID = version, domain.DeriveID(domain.PrefixInvoice, a.PeriodStart, strconv.Itoa(n))
	return a
}

func TestAdjustments(t *testing.T) {
	t.Parallel()
	closed := EvolvePeriod(PeriodState{}, period(10, 20)) // up to version 7
	once := EvolvePeriod(closed, adjustment(1, 9))
	for _, test := range []struct {
		name   string
		state  PeriodState
		change func(*PeriodAdjusted)
		code   domain.Code
		events int
	}{
		{"the first", closed, nil, "", 1},
		{"of the fee alone", closed, func(a *PeriodAdjusted) { a.SettlementID = "" }, "", 1},
		{"the second", once, func(a *PeriodAdjusted) { *a = adjustment(2, 12) }, "", 1},
		{"the same again", once, nil, "", 0},
		{"billed already", once, func(a *PeriodAdjusted) { *a = adjustment(2, 9) }, domain.Conflict, 0},
		{"billed with the period", closed, func(a *PeriodAdjusted) { a.UsageVersion = 7 }, domain.Conflict, 0},
		{"a part of the period", closed, func(a *PeriodAdjusted) { a.PeriodEnd = a.PeriodEnd.Add(-time.Hour) }, domain.Conflict, 0},
		{"a period that is open", PeriodState{}, nil, domain.Conflict, 0},
		{"no invoice", closed, func(a *PeriodAdjusted) { a.InvoiceID = "" }, domain.Invalid, 0},
		{"another's settlement", closed, func(a *PeriodAdjusted) { a.SettlementID = "inv_x" }, domain.Invalid, 0},
		{"at no time", closed, func(a *PeriodAdjusted) { a.At = time.Time{} }, domain.Invalid, 0},
	} {
		a := adjustment(1, 9)
		if test.change != nil {
			test.change(&a)
		}
		got, err := DecideAdjustment(test.state, AdjustPeriod{a})
		if domain.CodeOf(err) != test.code || len(got) != test.events {
			t.Errorf("%s: %d events and the error %v; want %d and %q", test.name, len(got), err, test.events, test.code)
		}
	}
	twice := EvolvePeriod(once, adjustment(2, 12))
	version, by := twice.Billed(twice.Closed[0])
	if want := []string{period(10, 20).InvoiceID, adjustment(1, 0).InvoiceID, adjustment(2, 0).InvoiceID}; version != 12 || !slices.Equal(by, want) {
		t.Errorf("billed up to %d by %v", version, by)
	}
	if version, _ := once.Billed(once.Closed[0]); version != 9 || len(once.Adjustments) != 1 {
		t.Errorf("an earlier state is billed up to %d", version)
	}
}

// TestReopening: a void invoice takes back what it closed and adjusted, the last first, and what comes in its place says so.
func TestReopening(t *testing.T) {
	t.Parallel()
	closed := EvolvePeriod(PeriodState{}, period(10, 20))
	adjusted := EvolvePeriod(closed, adjustment(1, 9))
	void := func(s PeriodState, invoiceID string, events int, code domain.Code) PeriodState {
		t.Helper()
		got, err := DecideReopening(s, Reopen{InvoiceID: invoiceID, At: period(1, 2).At})
		if domain.CodeOf(err) != code || len(got) != events {
			t.Fatalf("%d events and the error %v; want %d and %q", len(got), err, events, code)
		}
		for _, e := range got {
			s = EvolvePeriod(s, e)
		}
		return s
	}
	first, second := period(10, 20).InvoiceID, adjustment(1, 9).InvoiceID
	void(adjusted, "inv_other", 0, "")
	void(adjusted, first, 0, domain.Conflict) // the adjustment rests on it
	without := void(adjusted, second, 1, "")
	if version, by := without.Billed(without.Closed[0]); version != 7 || len(by) != 1 || len(adjusted.Adjustments) != 1 {
		t.Errorf("without the adjustment it is billed up to %d by %v", version, by)
	}
	open := void(without, first, 1, "")
	if _, overlaps := open.Overlapping(period(10, 20).PeriodStart, period(10, 20).PeriodEnd); overlaps || len(open.Closed) != 0 || len(without.Closed) != 1 {
		t.Errorf("it is still closed: %+v", open.Closed)
	}
	void(open, first, 0, "") // again

	span := [2]time.Time{period(10, 20).PeriodStart, period(10, 20).PeriodEnd}
	newest, ok := open.Replaces(span)
	if !ok || newest.InvoiceID != first {
		t.Errorf("in place of %+v (%t)", newest, ok)
	}
	if _, ok := open.Replaces([2]time.Time{span[0], span[0].Add(time.Hour)}); ok {
		t.Error("another period replaces it")
	}
	again := period(10, 20)
	again.InvoiceID = adjustment(5, 0).InvoiceID
	decided, err := DecidePeriod(open, ClosePeriod{again})
	if err != nil || len(decided) != 1 {
		t.Fatalf("%d events (%v)", len(decided), err)
	}
	if replaced := EvolvePeriod(open, decided[0]); len(replaced.Reopened) != 0 || len(replaced.Closed) != 1 || len(open.Reopened) != 2 {
		t.Errorf("billed again it is %+v", replaced)
	}

	// One invoice that closed a period and adjusted another takes back both.
	both := period(20, 25)
	both.InvoiceID = second
	void(EvolvePeriod(adjusted, both), second, 2, "")
}
