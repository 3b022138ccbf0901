package projections

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events"
)

// excerptBytes is how much of a differing row is shown, from a little before the difference.
const excerptBytes = 160

// Verified is what a verification found the same.
type Verified struct {
	Position events.Position // of the log that the tables are derived from
	Tables   []TableDigest
}

// TableDigest stands for all rows of a table. It is the same on every machine whose log is the same: SHA-256 over the
// rows in the order of the primary key, each as PostgreSQL writes it as text, after its length in eight bytes.
type TableDigest struct {
	Table  string
	Rows   int64
	SHA256 [sha256.Size]byte
}

// Verify builds a projection's tables beside those in use, up to where these are, and compares them byte by byte. The
// projection runs on meanwhile, and nothing is changed.
//
// Its errors are those of [Rebuild], and Conflict for the first row that is not what the log makes it.
func Verify(ctx context.Context, p Projection, o RebuildOptions) (Verified, error) {
	const op = "projections.Verify"
	b, err := openBuild(ctx, p, o)
	if err != nil {
		return Verified{}, failed(op, p, err)
	}
	defer b.close(ctx)
	if err := b.catchUp(ctx, b.checkpoint); err != nil {
		return Verified{}, failed(op, p, err)
	}
	v, err := b.compare(ctx)
	if err != nil {
		return Verified{}, failed(op, p, err)
	}
	return v, nil
}

// asText begins a transaction in which every value has one text, whatever the session's settings are.
const asText = `; set local timezone = 'UTC'; set local datestyle = 'ISO'; set local intervalstyle = 'postgres';
	set local bytea_output = 'hex'; set local extra_float_digits = 1`

// compare takes a snapshot of the tables in use, which tells their position too, and brings the build there.
func (b *build) compare(ctx context.Context) (Verified, error) {
	live, err := b.Pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: "begin isolation level repeatable read, read only" + asText})
	if err != nil {
		return Verified{}, err
	}
	defer live.Rollback(context.WithoutCancel(ctx))
	at, err := checkpointOf(ctx, live, b.projection.Name)
	if err != nil {
		return Verified{}, err
	}
	if at < b.position {
		return Verified{}, domain.Errorf(domain.Conflict, "projections.Verify", "the checkpoint of %s went back from %d to %d", b.projection.Name, b.position, at).
			WithHint("try again")
	}
	if err := b.buildTo(ctx, at); err != nil {
		return Verified{}, err
	}
	built, err := b.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: "begin read only" + asText})
	if err != nil {
		return Verified{}, err
	}
	defer built.Rollback(context.WithoutCancel(ctx))
	v := Verified{Position: at}
	for i, table := range b.tables {
		order, err := keyOf(ctx, built, b.schema+"."+table)
		if err != nil {
			return Verified{}, err
		}
		c := comparison{table: b.projection.Tables[i], position: at, digest: sha256.New()}
		reading, stop := context.WithCancel(ctx)
		defer stop()
		if c.want, err = built.Query(reading, `SELECT r::text FROM `+b.schema+`.`+table+` AS r ORDER BY `+order); err != nil {
			return Verified{}, err
		}
		if c.got, err = live.Query(reading, `SELECT r::text FROM `+b.live+`.`+table+` AS r ORDER BY `+order); err != nil {
			return Verified{}, err
		}
		if err := c.run(); err != nil {
			stop() // or the rest would be read to its end
			return Verified{}, err
		}
		v.Tables = append(v.Tables, TableDigest{Table: c.table, Rows: c.rows, SHA256: [sha256.Size]byte(c.digest.Sum(nil))})
	}
	return v, nil
}

// keyOf returns what orders a table's rows: its primary key, or the rows themselves.
func keyOf(ctx context.Context, tx pgx.Tx, table string) (order string, err error) {
	err = tx.QueryRow(ctx, `
		SELECT coalesce(string_agg('r.' || quote_ident(attname), ', ' ORDER BY n), 'r::text COLLATE "C"')
		  FROM pg_index, unnest(indkey::smallint[]) WITH ORDINALITY AS k (attnum, n)
		  JOIN pg_attribute AS a USING (attnum)
		 WHERE indrelid = $1::text::regclass AND attrelid = indrelid AND indisprimary
	`, table).Scan(&order)
	return order, err
}

// comparison goes through one table on both sides at once, so that no more than a row of each is in memory.
type comparison struct {
	table     string
	position  events.Position
	want, got pgx.Rows // one column of text
	rows      int64
	digest    hash.Hash
}

// run returns a Conflict error for the first row that differs.
func (c *comparison) run() error {
	for {
		want, more := next(c.want)
		got, moreGot := next(c.got)
		if !more && !moreGot {
			break
		}
		c.rows++
		if more != moreGot || !bytes.Equal(want, got) {
			if c.want.Err() == nil && c.got.Err() == nil {
				return c.differ(want, got, more, moreGot)
			}
			break
		}
		c.digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(want))))
		c.digest.Write(want)
	}
	if err := c.want.Err(); err != nil {
		return err
	}
	return c.got.Err()
}

// next returns a row's text, until the next call.
func next(rows pgx.Rows) (text []byte, ok bool) {
	if !rows.Next() {
		return nil, false
	}
	return rows.RawValues()[0], true
}

func (c *comparison) differ(want, got []byte, isWanted, isThere bool) error {
	var what string
	switch at := commonPrefix(want, got); {
	case !isThere:
		what = fmt.Sprintf("it ends before row %d, and the log makes %s of that", c.rows, excerpt(want, 0))
	case !isWanted:
		what = fmt.Sprintf("it has a row %d, %s, and the log makes %d rows", c.rows, excerpt(got, 0), c.rows-1)
	default:
		what = fmt.Sprintf("row %d differs from byte %d on: it is %s, and the log makes it %s", c.rows, at, excerpt(got, at), excerpt(want, at))
	}
	return domain.Errorf(domain.Conflict, "projections.Verify", "%s is not what the log up to position %d makes it: %s", c.table, c.position, what).
		WithHint("rebuild the projection from the log; if it differs again, the table is written to from elsewhere")
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// excerpt shows a row around one of its bytes.
func excerpt(row []byte, at int) string {
	from := max(0, at-excerptBytes/2)
	to := min(len(row), from+excerptBytes)
	before, after := "", ""
	if from > 0 {
		before = "…"
	}
	if to < len(row) {
		after = "…"
	}
	return fmt.Sprintf("%s%q%s", before, row[from:to], after)
}
