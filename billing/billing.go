// Package billing makes invoices and settlements of what the log holds, and nothing of anything else.
//
// The customer pays the provider's own price, and what the platform takes is a line of its own. One rated item becomes
// both the customer's line and the provider's: there is no second price, and every close asserts that the two sides are
// equal to the minor unit ([CheckNoMargin]). An invoice is a function of the log up to a position: computed again
// ([Recompute]), it has the same bytes, and each line can be computed again from its own evidence ([Explain]).
//
// It never reads a clock, never changes what was issued, and never uses a float for money. What it computes is the log's
// alone: a run reads usage from billing/usage, a fold over the log that names every reading it is the sum of, and
// [Recompute] reads the readings themselves. The arithmetic is in billing/rating; money moves in billing/stripe only. Start
// reading at [Run], then [Gather] and [Compute].
package billing

import (
	"context"
	"time"

	"crossbill/billing/rating"
	"crossbill/domain"
	"crossbill/events"
)

// Issuer is whose invoices these are; it names the stream of their numbers.
const Issuer = "crossbill"

// Limits. Those on documents keep each inside one event of the log and each append inside one transaction of it.
const (
	// MaxPeriod is the longest billing period: a recurring amount is for a calendar month.
	MaxPeriod = 31 * 24 * time.Hour

	maxDocumentBytes = events.MaxPayload * 3 / 4       // of an invoice or settlement; a larger one is cut in two
	maxCloseBytes    = events.MaxAppendBytes / 4       // of the invoices of one append, beside which stand their settlements
	maxCloseStreams  = events.MaxStreamsPerAppend - 10 // of one append, beside numbers and the run itself
	maxConnections   = 300                             // on one invoice, so that it fits into one append whatever its size
	maxBatch         = 300                             // connections that are billed together
	maxRunDocuments  = 15_000                          // invoices and settlements that the event of one run names; of more it says how many
	maxRanges        = 32                              // of one stream's events that a line names one by one
	maxRunAttempts   = 64                              // at a run that keeps meeting others
	pageSize         = 2000                            // events read at once
)

// Log is what billing needs of the log; [events.Log] is one.
type Log interface {
	Append(ctx context.Context, a events.Append) (events.Result, error)
	Head(ctx context.Context) (events.Head, error)
	ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]events.Recorded, error)
	Versions(ctx context.Context, streams []string) (map[string]int64, error)
}

var _ Log = (*events.Log)(nil)

// Period is a billing period: [From, To), whole seconds, UTC.
type Period = rating.Interval

// checkPeriod returns an Invalid error, with pointers into the request for a run, for a period that can't be billed at a time.
func checkPeriod(op string, p Period, at time.Time) error {
	var problems domain.Problems
	problems.Time("/period_start", p.From)
	problems.Time("/period_end", p.To)
	problems.Check(p.From.Nanosecond() == 0, "/period_start", "must be a whole second")
	problems.Check(p.To.Nanosecond() == 0, "/period_end", "must be a whole second")
	problems.Check(!p.Empty(), "/period_end", "must be after period_start")
	problems.Check(p.To.Sub(p.From) <= MaxPeriod, "/period_end", "must be at most %d days after period_start", int(MaxPeriod/(24*time.Hour)))
	problems.Check(!p.To.After(at), "/period_end", "must not be in the future: an open period can't be billed")
	return problems.Err(op)
}

// scan calls visit with every event of a stream between two versions, both inclusive, that is not past a position.
// A page may end early, so only an empty one ends the stream. It returns an Internal error for a version that is missing.
func scan(ctx context.Context, log Log, stream string, from, to int64, upTo events.Position, visit func(events.Recorded) error) error {
	for version := from - 1; version < to; {
		page, err := log.ReadStream(ctx, stream, version, int(min(pageSize, to-version)))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, e := range page {
			if e.Position > upTo {
				return nil
			}
			if e.Version != version+1 || e.Event == nil {
				return domain.Errorf(domain.Internal, "billing.scan", "stream %s goes from version %d to %d (%s)", stream, version, e.Version, e.Type).
					WithHint("verify the log")
			}
			if err := visit(e); err != nil {
				return err
			}
			version = e.Version
		}
	}
	return nil
}

// load folds a stream up to a position.
func load[S any](ctx context.Context, log Log, stream string, upTo events.Position, evolve func(S, domain.Event) S) (state S, version int64, err error) {
	err = scan(ctx, log, stream, 1, maxVersion, upTo, func(e events.Recorded) error {
		state, version = evolve(state, e.Event), e.Version
		return nil
	})
	return state, version, err
}

const (
	maxVersion  = 1<<63 - 1
	maxPosition = events.Position(1<<63 - 1)
)
