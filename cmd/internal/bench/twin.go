package bench

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Columns are those of the table events, in its order.
const Columns = `position, version, recorded_at, event_id, schema, stream, type, salt, leaf_hash, metadata, payload`

// Twin is a database with the tables of a log, into which the log's rows are written plainly.
type Twin struct {
	Conn     *pgx.Conn
	Position int64 // of the last row that was taken over
}

// OpenTwin makes one, with no rows.
func (s *Server) OpenTwin(ctx context.Context, name string) (*Twin, error) {
	pool, err := s.Database(ctx, name)
	if err != nil {
		return nil, err
	}
	pool.Close()
	conn, err := pgx.Connect(ctx, s.URLFor(name))
	return &Twin{Conn: conn}, err
}

// Close closes its connection.
func (t *Twin) Close(ctx context.Context) { t.Conn.Close(context.WithoutCancel(ctx)) }

// CopyNew takes over the rows that are new in the log and returns the rows per second of writing them with COPY, a thousand
// in a transaction. The bytes are PostgreSQL's own, made before the clock starts, so that it pays for nothing but sending
// and storing them.
func (t *Twin) CopyNew(ctx context.Context, log *pgxpool.Pool) (float64, error) {
	const each = 1000
	var head int64
	if err := log.QueryRow(ctx, `SELECT position FROM log_head`).Scan(&head); err != nil {
		return 0, err
	}
	from, err := log.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer from.Release()
	var chunks [][]byte
	first := t.Position
	for ; t.Position < head; t.Position = min(t.Position+each, head) {
		var rows bytes.Buffer
		_, err := from.Conn().PgConn().CopyTo(ctx, &rows, fmt.Sprintf(
			`COPY (SELECT %s FROM events WHERE position > %d AND position <= %d ORDER BY position) TO STDOUT (FORMAT binary)`,
			Columns, t.Position, t.Position+each))
		if err != nil {
			return 0, err
		}
		chunks = append(chunks, rows.Bytes())
	}
	begun := time.Now()
	for _, rows := range chunks {
		if _, err := t.Conn.PgConn().CopyFrom(ctx, bytes.NewReader(rows), `COPY events (`+Columns+`) FROM STDIN (FORMAT binary)`); err != nil {
			return 0, err
		}
	}
	return PerSecond(int(head-first), begun), nil
}

// RequireSame makes sure that both have written the same.
func (t *Twin) RequireSame(ctx context.Context, log *pgxpool.Pool) error {
	const query = `SELECT count(*)::text || ' ' || md5(string_agg(leaf_hash, '' ORDER BY position)) FROM events`
	var ours, its string
	if err := log.QueryRow(ctx, query).Scan(&ours); err != nil {
		return err
	}
	if err := t.Conn.QueryRow(ctx, query).Scan(&its); err != nil {
		return err
	}
	if ours != its {
		return fmt.Errorf("the log has written %s and its twin %s: what was measured is not the same", ours, its)
	}
	return nil
}
