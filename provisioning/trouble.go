package provisioning

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/events"
)

// reportWithin bounds the recording of a failure: the job that failed may have used up its own time.
const reportWithin = 5 * time.Second

// stepError is a step that failed, and whose.
type stepError struct {
	orderID, connectionID string
	step                  Step
	err                   error
}

// Error implements error.
func (e *stepError) Error() string { return "step " + string(e.step.Kind) + ": " + e.err.Error() }

// Unwrap returns why.
func (e *stepError) Unwrap() error { return e.err }

// attempt does a step, and turns a panic into an error: it would come again at every attempt, and a person must hear of it.
func (p *Provisioner) attempt(ctx context.Context, s saga, step Step, races int) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p.options.Logger.ErrorContext(ctx, "saga step panicked", "step", step.Kind, "order", s.order.ID, "panic", v, "trace", string(debug.Stack()))
			err = domain.Errorf(domain.Internal, "provisioning.attempt", "panic: %v", v)
		}
	}()
	return p.do(ctx, s, step, races)
}

// report records with the connection that a step of its saga failed, and that a person is needed if it has done so too often.
// Why is kept for operators, beside the log. kept is that the log has it; that it has none to record is no failure.
func (p *Provisioner) report(ctx context.Context, cause error) (kept bool, err error) {
	var failed *stepError
	if !errors.As(cause, &failed) {
		return false, nil // the log itself could not be read
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportWithin)
	defer cancel()
	s, err := p.load(ctx, AdvanceArgs{OrderID: failed.orderID, ConnectionID: failed.connectionID}, nil)
	if err != nil {
		return false, err
	}
	now := p.now()
	if next := Next(s.order, s.connection, now, p.policy); next.Kind != failed.step.Kind || next.Attempt != failed.step.Attempt {
		return false, nil // it was taken nevertheless, or is not to be any more
	}
	attempts := 1
	if t := s.connection.Trouble; t != nil && t.OrderID == s.order.ID && t.Step == string(failed.step.Kind) {
		attempts = t.Attempts + 1
	}
	report := connection.FailStep{OrderID: s.order.ID, Step: string(failed.step.Kind), At: now}
	if attempts < p.policy.StepAttempts {
		report.NextRetryAt = now.Add(p.backOff(attempts))
	}
	decided, err := connection.Decide(s.connection, report)
	if err != nil || len(decided) == 0 {
		return false, err
	}
	_, err = p.appender.Append(ctx, events.Append{
		Streams: []events.StreamAppend{s.streamAppend(connection.Stream(s.connection.ID), s.connectionVersion, decided)},
		Ask:     keepFailure(s.order.ID, failed.err.Error()),
	})
	return err == nil, err
}

// rest ends a trouble whose step is not to be taken any more, when its saga comes to rest.
func (p *Provisioner) rest(ctx context.Context, s saga) error {
	if !s.troubled() || s.waits() {
		return nil
	}
	return p.append(ctx, s, change{})
}

// troubled reports whether the connection's trouble is this saga's.
func (s saga) troubled() bool {
	return s.connection.Trouble != nil && s.connection.Trouble.OrderID == s.order.ID
}

// waits reports whether the saga waits for a person to answer its trouble.
func (s saga) waits() bool {
	return s.connection.Trouble.State == connection.TroubleOperator
}

// recovered decides the end of the saga's trouble, after what else happens to the connection.
func (s saga) recovered(before []domain.Event, now time.Time) ([]domain.Event, error) {
	c := s.connection
	for _, e := range before {
		c = connection.Evolve(c, e)
	}
	return connection.Decide(c, connection.RecoverStep{OrderID: s.order.ID, At: now})
}

// keepFailure keeps for operators why a step failed last.
func keepFailure(orderID, detail string) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO order_obstacles (order_id, detail) VALUES ($1, $2)
			ON CONFLICT (order_id) DO UPDATE SET detail = EXCLUDED.detail`, orderID, short(detail)) // primary key
		if err != nil {
			return fmt.Errorf("why the step failed could not be kept: %w", err)
		}
		return nil
	}
}

func forgetFailure(orderID string) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM order_obstacles WHERE order_id = $1`, orderID) // primary key
		if err != nil {
			return fmt.Errorf("why the step failed could not be forgotten: %w", err)
		}
		return nil
	}
}
