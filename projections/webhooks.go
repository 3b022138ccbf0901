package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// WebhookProgress is how far a webhook has been sent, as package api/webhooks keeps it.
type WebhookProgress struct {
	WebhookID     string
	Position      int64
	Attempts      int        // that failed for the next event
	FailingSince  *time.Time // nil: the last attempt succeeded
	NextAttemptAt *time.Time // nil: as soon as there is something
	DeadLetters   int
}

// WebhooksOf returns the progress of an organisation's webhooks, the newest webhook first.
func (q Queries) WebhooksOf(ctx context.Context, organisationID string) ([]WebhookProgress, error) {
	return q.webhooks(ctx, "projections.WebhooksOf", `organisation_id = $1`, organisationID) // webhook_cursors_organisation
}

// Webhook returns the progress of one webhook; of one that is not there, none at all.
func (q Queries) Webhook(ctx context.Context, id string) (WebhookProgress, error) {
	found, err := q.webhooks(ctx, "projections.Webhook", `webhook_id = $1`, id) // primary key
	if err != nil || len(found) == 0 {
		return WebhookProgress{WebhookID: id}, err
	}
	return found[0], nil
}

func (q Queries) webhooks(ctx context.Context, op, where, id string) ([]WebhookProgress, error) {
	rows, err := q.DB.Query(ctx, `
		SELECT webhook_id, position, attempts, failing_since, next_attempt_at,
		       (SELECT count(*) FROM webhook_dead_letters AS l WHERE l.webhook_id = c.webhook_id) -- primary key
		  FROM webhook_cursors AS c WHERE `+where+` ORDER BY webhook_id DESC`, id)
	if err != nil {
		return nil, unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p WebhookProgress, err error) {
		err = row.Scan(&p.WebhookID, &p.Position, &p.Attempts, &p.FailingSince, &p.NextAttemptAt, &p.DeadLetters)
		return p, err
	})
	return found, unavailable(op, err)
}

// WebhookAttempt is one attempt to deliver an event, or with a zero ID the last of one that was given up.
type WebhookAttempt struct {
	ID         int64
	MessageID  string
	Position   int64
	Type       string
	Attempt    int
	Outcome    string
	StatusCode *int
	Error      *string
	LatencyMS  int
	At         time.Time
	Replaying  bool
}

// WebhookDeliveries returns a page of a webhook's attempts, the newest first, and the token of the next page. It returns
// an Invalid error for a limit or a token that is none.
func (q Queries) WebhookDeliveries(ctx context.Context, webhookID string, limit int, token string) ([]WebhookAttempt, string, error) {
	const op = "projections.WebhookDeliveries"
	p, err := listOf("webhook_deliveries", webhookID).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	return q.attempts(ctx, op, p, func(a WebhookAttempt) int64 { return a.ID }, `
		SELECT id, message_id, position, type, attempt, outcome, status_code, error, latency_ms, at, false
		  FROM webhook_deliveries WHERE webhook_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3 -- webhook_deliveries_webhook`,
		webhookID, p.place, p.ask())
}

// WebhookDeadLetters returns a page of the events that could not be delivered, in the log's order, and the token of the
// next page. Its errors are those of WebhookDeliveries.
func (q Queries) WebhookDeadLetters(ctx context.Context, webhookID string, limit int, token string) ([]WebhookAttempt, string, error) {
	const op = "projections.WebhookDeadLetters"
	p, err := listOf("webhook_dead_letters", webhookID).pageOf(op, limit, token, 0)
	if err != nil {
		return nil, "", err
	}
	return q.attempts(ctx, op, p, func(a WebhookAttempt) int64 { return a.Position }, `
		SELECT 0::bigint, message_id, position, type, attempts, 'failed', status_code, error, 0, died_at, replay
		  FROM webhook_dead_letters WHERE webhook_id = $1 AND position > $2 ORDER BY position LIMIT $3 -- primary key`,
		webhookID, p.place, p.ask())
}

func (q Queries) attempts(ctx context.Context, op string, p page, place func(WebhookAttempt) int64, sql string, args ...any) ([]WebhookAttempt, string, error) {
	rows, err := q.DB.Query(ctx, sql, args...)
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a WebhookAttempt, err error) {
		err = row.Scan(&a.ID, &a.MessageID, &a.Position, &a.Type, &a.Attempt, &a.Outcome, &a.StatusCode, &a.Error, &a.LatencyMS, &a.At, &a.Replaying)
		a.At = a.At.UTC()
		return a, err
	})
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, next := cut(p, found, place)
	return found, next, nil
}
