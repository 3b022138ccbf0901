package events

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/subject"
	"crossbill/events/vault"
)

// Erasure says where the log has a subject's erasure.
type Erasure struct {
	Position Position
	At       time.Time
	Already  bool // it was erased before
}

// Erase destroys the keys of a subject and records that, in one transaction. Other nodes read the subject's texts for
// [vault.KeepFor] longer at most; read models show the erasure when they are rebuilt. No event changes, and so no proof.
// Erasing a subject again makes sure that its keys are gone and changes nothing else.
//
// A subject of which the vault knows nothing is a NotFound error, unless unknown is set: then the erasure is recorded all
// the same, so that no backup brings back a key. Other errors: Invalid for wrong fields, and those of [Log.Append].
func (l *Log) Erase(ctx context.Context, c subject.Erase, unknown bool) (Erasure, error) {
	const op = "events.Erase"
	stream := subject.Stream(c.Subject)
	state, _, err := Load(ctx, l, stream, subject.Evolve)
	if err != nil {
		return Erasure{}, err
	}
	decided, err := subject.Decide(state, c)
	if err != nil {
		return Erasure{}, err
	}
	if len(decided) > 0 {
		ask := func(ctx context.Context, tx pgx.Tx) error {
			if unknown {
				return vault.Bar(ctx, tx, c.Subject, domain.Instant(c.At))
			}
			known, err := vault.Destroy(ctx, tx, c.Subject, domain.Instant(c.At))
			if err == nil && !known {
				return domain.Errorf(domain.NotFound, op, "the key vault knows no subject %q", c.Subject).
					WithHint("a subject is <organisation>/<principal>, as in api_key.issued; if its key was lost, erase it with --unknown")
			}
			return err
		}
		_, err = l.Append(ctx, Append{Ask: ask, Streams: []StreamAppend{
			{Stream: stream, Expected: NoStream, Events: []NewEvent{{Event: decided[0], Metadata: Metadata{Actor: c.By}}}},
		}})
		if err != nil && domain.CodeOf(err) != domain.Conflict { // somebody else has just erased it
			return Erasure{}, err
		}
	}
	page, err := l.ReadStream(ctx, stream, 0, 1)
	if err != nil {
		return Erasure{}, err
	}
	if len(page) == 0 {
		return Erasure{}, domain.Errorf(domain.Internal, op, "the erasure is not in the log")
	}
	erasure := Erasure{Position: page[0].Position, At: page[0].RecordedAt, Already: len(decided) == 0}
	if err := vault.DestroyAgain(ctx, l.pool, c.Subject, domain.Instant(c.At)); err != nil {
		return erasure, err
	}
	if l.options.Vault != nil {
		l.options.Vault.Forget(c.Subject)
	}
	if err := vault.Vacuum(ctx, l.pool); err != nil {
		l.options.Logger.Warn("events: the table of keys could not be vacuumed; autovacuum will", "error", err)
	}
	return erasure, nil
}
