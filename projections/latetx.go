package projections

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lateTx is a transaction that begins when it is first used. Most pages of the log hold nothing for most projections, and a
// transaction for each of these costs more than looking through the page.
type lateTx struct {
	begin func(ctx context.Context) (pgx.Tx, error)
	begun pgx.Tx // nil while it is not used
	err   error  // why it could not begin
}

// tx begins the transaction if it has not begun.
func (t *lateTx) tx(ctx context.Context) (pgx.Tx, error) {
	if t.begun == nil && t.err == nil {
		t.begun, t.err = t.begin(ctx)
	}
	return t.begun, t.err
}

// end takes back what is not committed.
func (t *lateTx) end(ctx context.Context) {
	if t.begun != nil {
		t.begun.Rollback(ctx)
	}
}

func (t *lateTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tx, err := t.tx(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return tx.Exec(ctx, sql, args...)
}

func (t *lateTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	tx, err := t.tx(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Query(ctx, sql, args...)
}

func (t *lateTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	tx, err := t.tx(ctx)
	if err != nil {
		return notBegun{err}
	}
	return tx.QueryRow(ctx, sql, args...)
}

func (t *lateTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	tx, err := t.tx(ctx)
	if err != nil {
		return notBegun{err}
	}
	return tx.SendBatch(ctx, b)
}

func (t *lateTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	tx, err := t.tx(ctx)
	if err != nil {
		return 0, err
	}
	return tx.CopyFrom(ctx, table, columns, rows)
}

func (t *lateTx) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := t.tx(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Begin(ctx)
}

func (t *lateTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	tx, err := t.tx(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Prepare(ctx, name, sql)
}

// LargeObjects and Conn have no error to return: without a transaction the connection is nil.
func (t *lateTx) LargeObjects() pgx.LargeObjects {
	if tx, err := t.tx(context.Background()); err == nil {
		return tx.LargeObjects()
	}
	return pgx.LargeObjects{}
}

func (t *lateTx) Conn() *pgx.Conn {
	if tx, err := t.tx(context.Background()); err == nil {
		return tx.Conn()
	}
	return nil
}

// errNotYours says that a projection tried to end its transaction, which its runner ends.
var errNotYours = errors.New("projections: the transaction is the runner's to end")

func (t *lateTx) Commit(context.Context) error   { return errNotYours }
func (t *lateTx) Rollback(context.Context) error { return errNotYours }

// notBegun is what a transaction that could not begin answers.
type notBegun struct{ err error }

func (n notBegun) Scan(...any) error                { return n.err }
func (n notBegun) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, n.err }
func (n notBegun) Query() (pgx.Rows, error)         { return nil, n.err }
func (n notBegun) QueryRow() pgx.Row                { return n }
func (n notBegun) Tx() pgx.Tx                       { return nil }
func (n notBegun) Close() error                     { return n.err }
