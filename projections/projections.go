// Package projections turns the log into tables that people and programs look things up in, and runs everything else
// that follows the log event by event.
//
// A projection's checkpoint moves in the transaction that writes its tables, so that each event takes effect there
// exactly once, whatever is killed when; past events without effect it moves later. Nothing in the tables is truth: a projection may be emptied and run again from
// the start. The package never appends to the log. Start reading at [Projection], then [Runner.Run] in runner.go; the
// read models stand in files named after them, listed in models.go, and are made anew by [Rebuild].
package projections

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events"
)

// Projection follows the log under a name of its own.
type Projection struct {
	// Name is what its checkpoint is kept under. It stays the same for as long as the projection's tables do.
	Name string
	// Apply writes what the events come to, in tx, which also moves the checkpoint: both happen or neither does. The
	// events follow on those of the last call that succeeded, without a gap. It may insert River jobs in tx. It must not
	// end tx, nor have effects outside it: after an error, or a crash, it is called again with the same events, perhaps
	// fewer of them at once. If it does not use tx, none is begun, and the checkpoint moves a little later: events that
	// come to nothing may be shown to it once more.
	Apply func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error
	// Tables are all that Apply writes and all that it reads, if that is so: then [Rebuild] can make them anew. Its SQL
	// names them without a schema. It stays empty for a projection that has other effects, such as jobs: what was started
	// once must not be started again.
	Tables []string
}

// call makes of a panic an error: one projection's defect must not stop the others.
func (p Projection) call(ctx context.Context, tx pgx.Tx, page []events.Recorded) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = domain.Errorf(domain.Internal, "projections.Apply", "the projection %s panicked: %v", p.Name, r)
		}
	}()
	if err := p.Apply(ctx, tx, page); err != nil {
		return fmt.Errorf("events %d to %d: %w", page[0].Position, page[len(page)-1].Position, err)
	}
	return nil
}
