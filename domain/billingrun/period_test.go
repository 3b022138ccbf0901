package billingrun

import (
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
