package billing

import (
	"context"
	"slices"
	"strconv"
	"time"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/billingrun"
	"crossbill/events"
)

// Outages is where it is measured for how much of a month connections could be used; [projections.Queries] is it.
type Outages interface {
	// AvailabilityPosition returns up to where in the log it follows.
	AvailabilityPosition(ctx context.Context) (events.Position, error)
	// DownConnections returns the connections after another that were down in [from, to), in the order of their ids.
	DownConnections(ctx context.Context, from, to time.Time, after string, limit int) ([]string, error)
	Availability(ctx context.Context, connectionID string, month availability.Month, until time.Time) (availability.Report, error)
}

const (
	settlePage = 500                    // connections that are found at once
	settleWait = 30 * time.Second       // for the read model to follow the log
	settlePoll = 100 * time.Millisecond // between two looks whether it does
)

// SettleAvailability says of every connection that was down in a calendar month, under a quote that promises credits, what the
// month came to and what is given back: before it is billed, so that the invoice has it. It is said once: a month that is
// settled or billed already stays as it is, whatever has become known of it since. Of a period that is no calendar month
// nothing is said. It returns how many months it settled; Unavailable if the read model does not follow the log.
func SettleAvailability(ctx context.Context, log Log, outages Outages, period Period, at time.Time, metadata events.Metadata) (settled int, err error) {
	month := availability.Month(period)
	if !month.Calendar() {
		return 0, nil
	}
	upTo, err := followed(ctx, log, outages)
	if err != nil {
		return 0, err
	}
	for after := ""; ; {
		page, err := outages.DownConnections(ctx, period.From, period.To, after, settlePage)
		if err != nil || len(page) == 0 {
			return settled, err
		}
		for _, id := range page {
			s, version, err := settledOf(ctx, log, outages, id, period, upTo)
			if err != nil {
				return settled, err
			}
			if s == nil {
				continue
			}
			s.At = at
			said, err := s.append(ctx, log, version, metadata)
			if err != nil {
				return settled, err
			}
			if said {
				settled++
			}
		}
		after = page[len(page)-1]
	}
}

// followed waits until the read model has come to the end of the log as it is now, and returns that.
func followed(ctx context.Context, log Log, outages Outages) (events.Position, error) {
	head, err := log.Head(ctx)
	if err != nil {
		return 0, err
	}
	for began := time.Now(); ; {
		position, err := outages.AvailabilityPosition(ctx)
		if err != nil || position >= head.Position {
			return head.Position, err
		}
		if time.Since(began) > settleWait {
			return 0, domain.Errorf(domain.Unavailable, "billing.SettleAvailability", "what connections' availability is read from is at %d of %d", position, head.Position).
				WithHint("look at: crossbill projections list")
		}
		select {
		case <-ctx.Done():
			return 0, domain.Errorf(domain.Unavailable, "billing.SettleAvailability", "the caller gave up: %w", ctx.Err())
		case <-time.After(settlePoll):
		}
	}
}

// settling is what is to be said of a month, and whose it is.
type settling struct {
	availability.Settled
	before  availability.Months // what was said before
	parties []string
}

// settledOf returns what is to be said of a connection's month, and the version of the stream that it goes on from; nil if
// nothing is.
func settledOf(ctx context.Context, log Log, outages Outages, id string, period Period, upTo events.Position) (*settling, int64, error) {
	f, err := gather(ctx, log, id, period, upTo, func(*Facts) error { return nil })
	if err != nil || f.Billable.Empty() || !f.promisesCredits() || f.Settled != nil {
		return nil, 0, err
	}
	periods, _, err := load(ctx, log, billingrun.PeriodStream(id), upTo, billingrun.EvolvePeriod)
	if err != nil {
		return nil, 0, err
	}
	if _, billed := periods.Overlapping(period.From, period.To); billed {
		return nil, 0, nil
	}
	report, err := outages.Availability(ctx, id, availability.Month(period), period.To)
	if err != nil || report.Down == 0 {
		return nil, 0, err
	}
	s := &settling{Settled: availability.Settled{
		ConnectionID: id, PeriodStart: period.From, PeriodEnd: period.To, InScope: report.InScope, Down: report.Down, LogPosition: int64(upTo),
	}, parties: []string{f.Connection.CustomerID, f.Connection.ProviderID}}
	slices.Sort(s.parties)
	s.parties = slices.Compact(s.parties)
	for _, stretch := range f.Stretches {
		known := slices.ContainsFunc(s.Credits, func(c availability.Credit) bool { return c.QuoteID == stretch.Quote.QuoteID })
		if due, ok := stretch.Quote.SLA.CreditFor(report.InScope, report.Down); ok && !known {
			s.Credits = append(s.Credits, availability.Credit{QuoteID: stretch.Quote.QuoteID, Below: due.Below, Percent: due.Percent})
		}
	}
	before, version, err := load(ctx, log, availability.Stream(id), maxPosition, availability.EvolveMonths)
	s.before = before
	return s, version, err
}

// append says it, unless somebody else came first.
func (s *settling) append(ctx context.Context, log Log, version int64, metadata events.Metadata) (said bool, err error) {
	decided, err := availability.DecideMonths(s.before, availability.Settle{Settled: s.Settled})
	if err != nil {
		return false, defect(err)
	}
	if len(decided) == 0 {
		return false, nil
	}
	metadata.Parties = s.parties
	a := events.StreamAppend{Stream: availability.Stream(s.ConnectionID), Expected: events.ExpectedVersion(version)}
	if version == 0 {
		a.Expected = events.NoStream
	}
	id := domain.DeriveEventID(decided[0].EventType(), s.ConnectionID, strconv.FormatInt(s.PeriodStart.Unix(), 10))
	a.Events = []events.NewEvent{{ID: id, Event: decided[0], Metadata: metadata}}
	if _, err = log.Append(ctx, events.Append{Streams: []events.StreamAppend{a}}); domain.CodeOf(err) == domain.Conflict {
		return false, nil
	}
	return err == nil, err
}
