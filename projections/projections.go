// Package projections turns the log into tables that people and programs look things up in, and runs everything else
// that follows the log event by event.
//
// A projection's checkpoint moves in the transaction that writes its tables, so that each event takes effect there
// exactly once, whatever is killed when. Nothing in the tables is truth: a projection may be emptied and run again from
// the start. The package never appends to the log. Start reading at [Projection], then [Runner.Run] in runner.go; the
// read models stand in files named after them, listed in models.go.
package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/events"
)

// Projection follows the log under a name of its own.
type Projection struct {
	// Name is what its checkpoint is kept under. It stays the same for as long as the projection's tables do.
	Name string
	// Apply writes what the events come to, in tx, which also moves the checkpoint: both happen or neither does. The
	// events follow on those of the last call that succeeded, without a gap. It may insert River jobs in tx. It must not
	// end tx, nor have effects outside it: after an error, or a crash, it is called again with the same events, perhaps
	// fewer of them at once.
	Apply func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error
}
