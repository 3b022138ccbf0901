package events

import (
	"bytes"
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events/tile"
)

// tileCheck makes every tile again from the leaves that go by and holds the table log_tiles against them. Tiles are made
// after their events, so that the last ones of a level may be missing; but none before one that is there.
//
// A tile that differs is not wrong for that: the leaf may be. Which one it is the roots tell, when they are known.
type tileCheck struct {
	pool    *pgxpool.Pool
	levels  []tileLevel
	page    map[int64]storedTile // the tiles of level 0 that were read ahead
	wrong   *domain.Error        // about the first tile that differs from the leaves
	suspect Position             // the first event whose leaf differs from a tile that is whole in itself
	agreed  Position             // up to where the leaves are those in the tiles
}

// tileLevel is a level of the tree while its next tile fills.
type tileLevel struct {
	hashes  []byte
	index   int64 // of that tile
	missing *int64
}

type storedTile struct{ root, hashes []byte }

// prefetch reads the tiles of level 0 over the positions from first to last.
func (c *tileCheck) prefetch(ctx context.Context, first, last Position) error {
	c.page = make(map[int64]storedTile)
	rows, err := c.pool.Query(ctx, `
		SELECT index, root, hashes FROM log_tiles WHERE level = 0 AND index >= $1 AND index <= $2 -- primary key
	`, int64(first-1)/tile.Width, int64(last-1)/tile.Width)
	if err != nil {
		return unreadable(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var index int64
		var t storedTile
		if err := rows.Scan(&index, &t.root, &t.hashes); err != nil {
			return unreadable(ctx, err)
		}
		c.page[index] = t
	}
	if err := rows.Err(); err != nil {
		return unreadable(ctx, err)
	}
	return nil
}

// add takes the next hash of a level.
func (c *tileCheck) add(ctx context.Context, level int, hash [32]byte) error {
	if level == len(c.levels) {
		c.levels = append(c.levels, tileLevel{})
	}
	l := &c.levels[level]
	l.hashes = append(l.hashes, hash[:]...)
	if len(l.hashes) < tile.Bytes {
		return nil
	}
	root := tile.Root(l.hashes)
	if err := c.compare(ctx, level, root); err != nil {
		return err
	}
	l = &c.levels[level]
	l.hashes = l.hashes[:0]
	l.index++
	return c.add(ctx, level+1, root)
}

// compare holds the stored tile against the one that is complete now.
func (c *tileCheck) compare(ctx context.Context, level int, root [32]byte) error {
	l := &c.levels[level]
	stored, there, err := c.stored(ctx, level, l.index)
	if err != nil {
		return err
	}
	if there && l.missing != nil && c.made(ctx, level, *l.missing) {
		l.missing = nil
	}
	name := tile.Path(level, l.index, tile.Width)
	switch {
	case !there:
		if l.missing == nil {
			index := l.index
			l.missing = &index
		}
		return nil
	case l.missing != nil:
		c.blame(brokenTile("the tile %s is missing", tile.Path(level, *l.missing, tile.Width)))
	case len(stored.hashes) != tile.Bytes:
		c.blame(brokenTile("the tile %s has %d bytes, not %d", name, len(stored.hashes), tile.Bytes))
	case !bytes.Equal(stored.hashes, l.hashes):
		at := firstDifference(stored.hashes, l.hashes) / 32
		first := Position((l.index*tile.Width+int64(at))<<(tile.Height*level)) + 1
		last := first + 1<<(tile.Height*level) - 1
		if level == 0 {
			if made := tile.Root(stored.hashes); bytes.Equal(made[:], stored.root) && c.suspect == 0 {
				c.suspect = first
			}
		}
		c.blame(brokenTile("the tile %s is not that of the events: its hash %d, over the positions %d to %d, is another", name, at, first, last))
	case !bytes.Equal(stored.root, root[:]):
		c.blame(brokenTile("the tile %s has the right hashes and a root that is not theirs", name))
	case level == 0 && c.wrong == nil:
		c.agreed = Position((l.index + 1) * tile.Width)
	}
	return nil
}

func (c *tileCheck) stored(ctx context.Context, level int, index int64) (t storedTile, there bool, err error) {
	if level == 0 {
		t, there = c.page[index]
		return t, there, nil
	}
	rows, err := c.pool.Query(ctx, `SELECT root, hashes FROM log_tiles WHERE level = $1 AND index = $2`, level, index) // primary key
	if err != nil {
		return t, false, unreadable(ctx, err)
	}
	defer rows.Close()
	if rows.Next() {
		there, err = true, rows.Scan(&t.root, &t.hashes)
	}
	if rows.Close(); err == nil {
		err = rows.Err()
	}
	if err != nil {
		return t, false, unreadable(ctx, err)
	}
	return t, there, nil
}

// made reports whether a tile that was missing is there now: tiles are made while the log is verified.
func (c *tileCheck) made(ctx context.Context, level int, index int64) bool {
	var there bool
	err := c.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM log_tiles WHERE level = $1 AND index = $2)`, level, index).Scan(&there) // primary key
	return err == nil && there
}

func (c *tileCheck) blame(err *domain.Error) {
	if c.wrong == nil {
		c.wrong = err
	}
}

// finish says what is wrong with the tiles, now that the leaves are known to be right.
func (c *tileCheck) finish(ctx context.Context) error {
	if c.wrong != nil {
		return c.wrong
	}
	var level int
	var index int64
	rows, err := c.pool.Query(ctx, `
		SELECT level, index FROM log_tiles
		 WHERE index < 0 OR level < 0 OR level > $1
		    OR index >= (SELECT position FROM log_head WHERE log = 'main') >> (8 * (least(level, $1) + 1))
		 ORDER BY level, index LIMIT 1
	`, tile.MaxComplete)
	if err != nil {
		return unreadable(ctx, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return unreadable(ctx, err)
		}
		return nil
	}
	if err := rows.Scan(&level, &index); err != nil {
		return unreadable(ctx, err)
	}
	return brokenTile("there is a tile of level %d and index %d, which a log of so few events does not have", level, index)
}

func brokenTile(format string, args ...any) *domain.Error {
	return broken(format, args...).
		WithHint("the events are those that were recorded; the tiles are made from them: empty the table log_tiles (TRUNCATE) and they are made again")
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
