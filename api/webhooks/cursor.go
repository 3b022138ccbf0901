package webhooks

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events"
)

// cursor is how far a webhook has been sent its slice, as its owner knows it.
type cursor struct {
	webhookID string
	position  events.Position
	attempts  int // that failed for the next event
}

// attempt is one attempt and what came of it.
type attempt struct {
	cursor   cursor
	message  Message
	position events.Position
	number   int
	at       time.Time
	result   Result
}

// errNotOurs says that another process has the webhook, or that somebody has changed where it goes on.
var errNotOurs = errors.New("the webhook is not this process's")

// claim takes at most n webhooks that have something to be sent and are due, those first that have waited longest.
func (d *Dispatcher) claim(ctx context.Context, n int) ([]cursor, error) {
	if n <= 0 {
		return nil, nil
	}
	rows, err := d.Pool.Query(ctx, `
		UPDATE webhook_cursors SET owner = $1, leased_until = now() + $2, served_at = clock_timestamp()
		 WHERE webhook_id IN (
		       SELECT webhook_id FROM webhook_cursors AS c
		        WHERE active AND (next_attempt_at IS NULL OR next_attempt_at <= now()) AND (leased_until IS NULL OR leased_until < now())
		          AND (EXISTS (SELECT FROM read_event_heads AS h -- primary key
		                        WHERE h.organisation_id = c.organisation_id AND h.last_position > c.position AND h.type LIKE ANY (c.patterns))
		            OR EXISTS (SELECT FROM webhook_dead_letters AS l WHERE l.webhook_id = c.webhook_id AND l.replay)) -- primary key
		        ORDER BY served_at NULLS FIRST LIMIT $3 FOR UPDATE SKIP LOCKED)
		RETURNING webhook_id, position, attempts
	`, d.owner, leaseFor, n)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c cursor, err error) {
		return c, row.Scan(&c.webhookID, &c.position, &c.attempts)
	})
}

// moved turns the number of rows that a statement of the owner changed into errNotOurs if it is none.
func (d *Dispatcher) moved(ctx context.Context, sql string, args ...any) error {
	tag, err := d.Pool.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		return errNotOurs
	}
	return err
}

const insertDelivery = `
	INSERT INTO webhook_deliveries (webhook_id, organisation_id, message_id, position, type, attempt, outcome, status_code, error, latency_ms, at)
	SELECT $1, organisation_id, $3, $4, $5, $6, $7, nullif($8::integer, 0), nullif($9, ''), $10, $11 FROM moved`

func (a attempt) args(owner string) []any {
	outcome := "failed"
	if a.result.OK {
		outcome = "delivered"
	}
	return []any{
		a.cursor.webhookID, owner, a.message.ID, int64(a.position), a.message.Type, a.number, outcome, a.result.Status, a.result.Error,
		int(a.result.Latency.Milliseconds()), a.at,
	}
}

// delivered moves the cursor past an event that was delivered, and keeps the lease.
func (d *Dispatcher) delivered(ctx context.Context, c *cursor, a attempt) error {
	err := d.moved(ctx, `
		WITH moved AS (
			UPDATE webhook_cursors SET position = $4, attempts = 0, failing_since = NULL, next_attempt_at = NULL, leased_until = now() + $12
			 WHERE webhook_id = $1 AND owner = $2 RETURNING organisation_id)`+insertDelivery, append(a.args(d.owner), leaseFor)...)
	if err == nil {
		c.position, c.attempts = a.position, 0
	}
	return err
}

// failed notes a failure and when it is tried again, and gives the webhook back. It returns how long all attempts have
// failed.
func (d *Dispatcher) failed(ctx context.Context, c *cursor, a attempt, pause time.Duration) (failing time.Duration, err error) {
	return d.fail(ctx, `
		WITH moved AS (
			UPDATE webhook_cursors SET attempts = attempts + 1, failing_since = coalesce(failing_since, now()), next_attempt_at = now() + $12
			 WHERE webhook_id = $1 AND owner = $2 RETURNING organisation_id, failing_since),
		noted AS (`+insertDelivery+`)
		SELECT now() - failing_since FROM moved`, append(a.args(d.owner), pause))
}

// died makes an event that was tried for the last time a dead letter, and moves the cursor past it.
func (d *Dispatcher) died(ctx context.Context, c *cursor, a attempt) (failing time.Duration, err error) {
	failing, err = d.fail(ctx, `
		WITH moved AS (
			UPDATE webhook_cursors SET position = $4, attempts = 0, failing_since = coalesce(failing_since, now()), next_attempt_at = NULL, leased_until = now() + $12
			 WHERE webhook_id = $1 AND owner = $2 RETURNING organisation_id, failing_since),
		noted AS (`+insertDelivery+`),
		kept AS (
			INSERT INTO webhook_dead_letters (webhook_id, position, organisation_id, message_id, type, attempts, status_code, error, died_at)
			SELECT $1, $4, organisation_id, $3, $5, $6, nullif($8::integer, 0), nullif($9, ''), $11 FROM moved
			ON CONFLICT (webhook_id, position) DO UPDATE SET attempts = EXCLUDED.attempts, status_code = EXCLUDED.status_code,
				error = EXCLUDED.error, died_at = EXCLUDED.died_at, replay = false)
		SELECT now() - failing_since FROM moved`, append(a.args(d.owner), leaseFor))
	if err == nil {
		c.position, c.attempts = a.position, 0
	}
	return failing, err
}

func (d *Dispatcher) fail(ctx context.Context, sql string, args []any) (failing time.Duration, err error) {
	err = d.Pool.QueryRow(ctx, sql, args...).Scan(&failing)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNotOurs
	}
	return failing, err
}

// skip moves the cursor to where the slice is known to have nothing that is wanted.
func (d *Dispatcher) skip(ctx context.Context, c *cursor, to events.Position) error {
	err := d.moved(ctx, `UPDATE webhook_cursors SET position = $3, leased_until = now() + $4 WHERE webhook_id = $1 AND owner = $2`,
		c.webhookID, d.owner, int64(to), leaseFor)
	if err == nil {
		c.position = to
	}
	return err
}

// postpone gives a webhook back for some time, after something went wrong on our side.
func (d *Dispatcher) postpone(ctx context.Context, c cursor, pause time.Duration) error {
	return d.moved(ctx, `
		UPDATE webhook_cursors SET next_attempt_at = now() + $3, owner = NULL, leased_until = NULL WHERE webhook_id = $1 AND owner = $2
	`, c.webhookID, d.owner, pause)
}

// release gives a webhook back, and drops the attempts that are too many to keep.
func (d *Dispatcher) release(ctx context.Context, c cursor) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	_, err := d.Pool.Exec(ctx, `UPDATE webhook_cursors SET owner = NULL, leased_until = NULL WHERE webhook_id = $1 AND owner = $2`, c.webhookID, d.owner)
	if err != nil {
		return err
	}
	_, err = d.Pool.Exec(ctx, `
		DELETE FROM webhook_deliveries
		 WHERE webhook_id = $1
		   AND id <= (SELECT id FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1) -- webhook_deliveries_webhook
	`, c.webhookID, keepNewest)
	return err
}

// replays returns the positions of the dead letters that are to be tried again.
func (d *Dispatcher) replays(ctx context.Context, c cursor) ([]events.Position, error) {
	rows, err := d.Pool.Query(ctx, `
		SELECT position FROM webhook_dead_letters WHERE webhook_id = $1 AND replay ORDER BY position LIMIT $2 -- primary key
	`, c.webhookID, maxReplays)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[events.Position])
}

// replayed notes what came of a dead letter: one that was delivered is none any more.
func (d *Dispatcher) replayed(ctx context.Context, a attempt) error {
	const renew = `
		WITH moved AS (UPDATE webhook_cursors SET leased_until = now() + $12 WHERE webhook_id = $1 AND owner = $2 RETURNING organisation_id),
		letter AS (`
	a.number = 1
	letter := `DELETE FROM webhook_dead_letters WHERE webhook_id = $1 AND position = $4 AND EXISTS (SELECT FROM moved))`
	if !a.result.OK {
		letter = `UPDATE webhook_dead_letters SET replay = false, attempts = attempts + 1, status_code = nullif($8::integer, 0), error = nullif($9, ''), died_at = $11
			WHERE webhook_id = $1 AND position = $4 AND EXISTS (SELECT FROM moved))`
	}
	return d.moved(ctx, renew+letter+insertDelivery, append(a.args(d.owner), leaseFor)...)
}

// MaxWebhooks is how many webhooks an organisation may have.
const MaxWebhooks = 50

// The functions below are for the Ask of the append that changes a webhook: its cursor changes with it or not at all. Each
// takes the webhook from the process that has it, whose next statement then finds that it is not its any more.

// Start makes the cursor of a new webhook. Its function returns a Conflict error if the organisation has too many.
func Start(webhookID, organisationID string, patterns []string, after int64) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		var has int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM webhook_cursors WHERE organisation_id = $1`, organisationID).Scan(&has) // webhook_cursors_organisation
		if err != nil {
			return err
		}
		if has >= MaxWebhooks {
			return domain.Errorf(domain.Conflict, "webhooks.Start", "the organisation has %d webhooks, as many as it may", has).
				WithHint("delete one that is no longer needed, or add types to one")
		}
		_, err = tx.Exec(ctx, `INSERT INTO webhook_cursors (webhook_id, organisation_id, patterns, active, position) VALUES ($1, $2, $3, true, $4)`,
			webhookID, organisationID, likes(patterns), after)
		return err
	}
}

// Retarget has other types sent from where the webhook is, at once.
func Retarget(webhookID string, patterns []string) func(context.Context, pgx.Tx) error {
	return change(`UPDATE webhook_cursors SET patterns = $2, next_attempt_at = NULL, owner = NULL, leased_until = NULL WHERE webhook_id = $1`, webhookID, likes(patterns))
}

// Stop lets nothing more be sent.
func Stop(webhookID string) func(context.Context, pgx.Tx) error {
	return change(`UPDATE webhook_cursors SET active = false, owner = NULL, leased_until = NULL WHERE webhook_id = $1`, webhookID)
}

// Resume lets it go on where it stopped, as if it had never failed.
func Resume(webhookID string) func(context.Context, pgx.Tx) error {
	return change(`UPDATE webhook_cursors SET active = true, attempts = 0, failing_since = NULL, next_attempt_at = NULL, owner = NULL, leased_until = NULL WHERE webhook_id = $1`, webhookID)
}

// Rewind lets it go on after another position.
func Rewind(webhookID string, after int64) func(context.Context, pgx.Tx) error {
	return change(`UPDATE webhook_cursors SET position = $2, attempts = 0, next_attempt_at = NULL, owner = NULL, leased_until = NULL WHERE webhook_id = $1`, webhookID, after)
}

// Replay has one dead letter tried again, at once. Its function returns a NotFound error if there is no such one.
func Replay(webhookID string, position int64) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE webhook_dead_letters SET replay = true WHERE webhook_id = $1 AND position = $2`, webhookID, position) // primary key
		if err == nil && tag.RowsAffected() == 0 {
			err = domain.Errorf(domain.NotFound, "webhooks.Replay", "there is no dead letter at position %d", position)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE webhook_cursors SET next_attempt_at = NULL WHERE webhook_id = $1`, webhookID)
		return err
	}
}

// Forget removes everything about a webhook that is deleted.
func Forget(webhookID string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		for _, table := range []string{"webhook_cursors", "webhook_deliveries", "webhook_dead_letters"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE webhook_id = $1`, webhookID); err != nil {
				return err
			}
		}
		return nil
	}
}

func change(sql string, args ...any) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}
}

// likes turns patterns of event types into LIKE's. In LIKE "_" stands for any character, so what is found may be more: it
// is only who is to be looked after, and what is sent is decided by the patterns themselves.
func likes(patterns []string) []string {
	all := make([]string, len(patterns))
	for i, p := range patterns {
		all[i] = strings.ReplaceAll(p, "*", "%")
	}
	return all
}
