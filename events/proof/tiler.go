package proof

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/tile"
)

// Limits of making tiles.
const (
	sealTiles  = 64                     // of level 0 at once: half a megabyte
	tilerPause = 250 * time.Millisecond // between rounds, so that a busy log is tiled in a few large steps
	tilerRetry = 5 * time.Second        // after an error
)

// Log is what a tiler needs of the log.
type Log interface {
	Wait(ctx context.Context, after events.Position) error
	Head(ctx context.Context) (events.Head, error)
}

// Follow makes tiles as the log grows, until ctx ends, whose error it returns. It is not needed: a proof makes the tiles
// that are missing. It is there so that the first proof after a million events does not have to.
//
// Tiles are made beside the log and not by its sequencer: an append would have to wait for them with the head locked, and
// nothing needs them at that moment. Every node may follow. What they write is the same, and only the first write counts.
func (p *Prover) Follow(ctx context.Context, log Log, logger *slog.Logger) error {
	for {
		wait := tilerPause
		sealed, err := p.follow(ctx, log)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			logger.Warn("proof: tiles could not be made; proofs go without, and it is tried again", "error", err)
			wait = tilerRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if err == nil {
			// Until the next tile is complete. An error is the closed log's, and then ctx ends too.
			if err := log.Wait(ctx, sealed+tile.Width-1); err != nil && ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-time.After(tilerRetry):
				}
			}
		}
	}
}

func (p *Prover) follow(ctx context.Context, log Log) (sealed events.Position, err error) {
	head, err := log.Head(ctx)
	if err != nil {
		return 0, err
	}
	return p.seal(ctx, head.Position)
}

// seal makes the tiles that are complete at the size and returns up to where there are tiles.
//
// Each step begins after the last tile that is committed and writes the next ones with all that become complete above
// them, in one statement. So there is never a gap, and two that do it at once write the same.
func (p *Prover) seal(ctx context.Context, size events.Position) (sealed events.Position, err error) {
	want := int64(size) / tile.Width
	for {
		var have int64
		err := p.pool.QueryRow(ctx, `SELECT coalesce(max(index) + 1, 0) FROM log_tiles WHERE level = 0`).Scan(&have) // primary key
		if err != nil {
			return 0, unreadable(ctx, err)
		}
		if have >= want {
			return events.Position(have * tile.Width), nil
		}
		if err := p.sealNext(ctx, have, min(want-have, sealTiles)); err != nil {
			return 0, err
		}
	}
}

// sealNext makes count tiles of level 0 from the index first.
func (p *Prover) sealNext(ctx context.Context, first, count int64) error {
	leaves, err := p.records.Leaves(ctx, events.Position(first*tile.Width+1), events.Position((first+count)*tile.Width))
	if err != nil {
		return err
	}
	var made newTiles
	for i := range count {
		made.add(0, first+i, leaves[i*tile.Bytes:(i+1)*tile.Bytes])
		if err := p.sealAbove(ctx, &made, 0, first+i); err != nil {
			return err
		}
	}
	_, err = p.pool.Exec(ctx, `
		INSERT INTO log_tiles (level, index, root, hashes)
		SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[])
		    ON CONFLICT (level, index) DO NOTHING
	`, made.levels, made.indexes, made.roots, made.hashes)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "25006" { // read_only_sql_transaction
		return domain.Errorf(domain.Unavailable, "proof", "this database is a standby and has no tiles past position %d yet", first*tile.Width).
			WithHint("try again, or ask a node on the primary")
	}
	if err != nil {
		return unreadable(ctx, err)
	}
	return nil
}

// sealAbove makes the tile above, if the given one completes it, and so on.
func (p *Prover) sealAbove(ctx context.Context, made *newTiles, level int, index int64) error {
	if (index+1)%tile.Width != 0 {
		return nil
	}
	above := index / tile.Width
	// The roots of those made just now are not in the table.
	fresh := made.rootsOf(level, above*tile.Width)
	stored, err := p.roots(ctx, level, above*tile.Width, tile.Width-len(fresh)/32)
	if err != nil {
		return err
	}
	made.add(level+1, above, append(stored, fresh...))
	return p.sealAbove(ctx, made, level+1, above)
}

// newTiles are the columns of tiles that are to be written.
type newTiles struct {
	levels        []int16
	indexes       []int64
	roots, hashes [][]byte
}

func (n *newTiles) add(level int, index int64, hashes []byte) {
	root := tile.Root(hashes)
	n.levels, n.indexes = append(n.levels, int16(level)), append(n.indexes, index)
	n.roots, n.hashes = append(n.roots, root[:]), append(n.hashes, hashes)
}

// rootsOf returns the roots of the new tiles of a level from an index on, in order.
func (n *newTiles) rootsOf(level int, from int64) []byte {
	var roots []byte
	for i := range n.levels {
		if int(n.levels[i]) == level && n.indexes[i] >= from {
			roots = append(roots, n.roots[i]...)
		}
	}
	return roots
}
