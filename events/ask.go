package events

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// maxAskLosts is how often the connection may be lost while an append's Ask runs before that is taken for the Ask's own
// doing. The first time it may have been the server's.
const maxAskLosts = 2

// What ends the savepoint of an Ask, for the next one or for the rest of the transaction: every round trip to the server
// is one that all appends wait for.
const (
	askEnded  = "release savepoint ask; "
	asksEnded = askEnded + "set local statement_timeout = 0"
)

// ask runs an append's Ask in a savepoint, which stays until [askEnded]. It returns the refusal, if any, with the savepoint's
// effects undone, or an error if the transaction is lost. before is what is to be done before.
func ask(ctx context.Context, conn *pgx.Conn, p *pending, before string) (refusal, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: fmt.Sprintf("%ssavepoint ask; set local statement_timeout = %d", before, AskTimeout.Milliseconds())})
	if err != nil {
		return nil, fmt.Errorf("set a savepoint: %w", err)
	}
	refusal = runAsk(ctx, p, askTx{tx})
	if conn.PgConn().IsBusy() && !conn.IsClosed() {
		p.finish(Result{}, domain.Errorf(domain.Internal, "events.Append", "the append's ask function left a query open; nothing was appended"))
		conn.Close(ctx) // its transaction can't go on; the other appends get another
		return nil, errors.New("an ask function left a query open")
	}
	if conn.IsClosed() {
		p.askLosts++
		if p.askLosts == maxAskLosts {
			p.finish(Result{}, domain.Errorf(domain.Unavailable, "events.Append", "the connection was lost while the append's ask function ran; nothing was appended: %w", refusal))
		}
		return nil, fmt.Errorf("the connection was lost in an ask function: %w", refusal)
	}
	if refusal == nil && conn.PgConn().TxStatus() == 'E' {
		refusal = domain.Errorf(domain.Internal, "events.Append", "the append's ask function passed over an error of PostgreSQL")
	}
	if refusal == nil {
		return nil, nil
	}
	if _, err := conn.Exec(ctx, "rollback to savepoint ask"); err != nil {
		return nil, err
	}
	if !errors.As(refusal, new(*domain.Error)) {
		refusal = domain.Errorf(domain.Internal, "events.Append", "the append's ask function failed: %w", refusal)
	}
	return refusal, nil
}

// runAsk makes of a panic an error: the append is at fault, not the log.
func runAsk(ctx context.Context, p *pending, tx pgx.Tx) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*AskTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it panicked: %v", r)
		}
	}()
	return p.ask(ctx, tx)
}

// askTx is the flush's transaction, which is not an Ask's to end.
type askTx struct{ pgx.Tx }

var errNotYours = errors.New("an ask function can't end the transaction it runs in; return an error to undo it")

func (askTx) Commit(context.Context) error   { return errNotYours }
func (askTx) Rollback(context.Context) error { return errNotYours }
