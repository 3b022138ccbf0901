package billing

import (
	"context"
	"slices"

	"crossbill/billing/rating"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/reading"
	"crossbill/events"
)

// LateReading is a reading, or the part of one, that belongs to a period which was closed without it.
type LateReading struct {
	Position          events.Position // of the reading
	Version           int64           // in its stream
	Closed            billingrun.PeriodClosed
	BytesIn, BytesOut int64 // the part of the reading that falls in what was billable of the period
}

// LateReadings returns the readings of a connection that came after their period was closed. They are in the log, in the
// connection's stream of readings and in its usage, and on no invoice yet: the next run adjusts the period.
func LateReadings(ctx context.Context, log Log, connectionID string) ([]LateReading, error) {
	c, version, err := load(ctx, log, connection.Stream(connectionID), maxPosition, connection.Evolve)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		return nil, domain.Missing("billing.LateReadings", "connection")
	}
	periods, _, err := load(ctx, log, billingrun.PeriodStream(connectionID), maxPosition, billingrun.EvolvePeriod)
	if err != nil || len(periods.Closed) == 0 || c.BillingFrom == nil {
		return nil, err
	}
	billed := make([]int64, len(periods.Closed)) // up to which version each is
	for n, p := range periods.Closed {
		billed[n], _ = periods.Billed(p)
	}
	var late []LateReading
	err = scan(ctx, log, reading.Stream(connectionID), slices.Min(billed)+1, maxVersion, maxPosition, func(e events.Recorded) error {
		r, err := readingOf(e, connectionID)
		if err != nil {
			return err
		}
		for n, p := range periods.Closed {
			billable := rating.BillableIn(Period{From: p.PeriodStart, To: p.PeriodEnd}, *c.BillingFrom, c.BillingTo)
			var usage rating.Usage
			if e.Version > billed[n] && usage.Add(r, billable) {
				late = append(late, LateReading{e.Position, e.Version, p, usage.In().Int64(), usage.Out().Int64()})
			}
		}
		return nil
	})
	return late, err
}
