package proof

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/tile"
)

// session reads tiles for proofs against the head of one moment. Tiles that were held against its root are kept for the
// next proof. It is not safe for concurrent use.
type session struct {
	prover *Prover
	ctx    context.Context
	head   events.Head
	hashes tlog.HashReader // only gives what hashes to the head's root
	proven map[tlog.Tile][]byte
}

// session makes sure that every tile of the present head is there.
func (p *Prover) session(ctx context.Context) (*session, error) {
	head, err := p.Head(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := p.seal(ctx, head.Position); err != nil {
		return nil, err
	}
	s := &session{prover: p, ctx: ctx, head: head, proven: make(map[tlog.Tile][]byte)}
	checked := tlog.TileHashReader(tlog.Tree{N: int64(head.Position), Hash: tlog.Hash(head.Root)}, tileReader{s})
	s.hashes = tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return s.read(checked, indexes) })
	return s, nil
}

// read returns hashes of the tree. Those in tiles that are proven already are not proven again, which is most of the work
// of many proofs; all others the checked reader reads.
func (s *session) read(checked tlog.HashReader, indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		t := tlog.TileForIndex(tile.Height, x)
		t.W = int(min(tile.Width, int64(s.head.Position)>>(tile.Height*t.L)-t.N*tile.Width)) // as wide as the log has it
		data, ok := s.proven[t]
		if !ok {
			return checked.ReadHashes(indexes)
		}
		var err error
		if hashes[i], err = tlog.HashFromTile(t, data, x); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// Head returns the head row's position and root, as they are. Its errors are those of [Prover.Inclusion].
func (p *Prover) Head(ctx context.Context) (events.Head, error) {
	var h events.Head
	var root []byte
	err := p.pool.QueryRow(ctx, `SELECT position, root FROM log_head WHERE log = 'main'`).Scan(&h.Position, &root)
	if err != nil {
		return h, unreadable(ctx, err)
	}
	if len(root) != len(h.Root) {
		return h, damaged("the head's root has %d bytes", len(root))
	}
	h.Root = Hash(root)
	return h, nil
}

// root returns the root of the log at an earlier size.
func (s *session) root(size events.Position) (Hash, error) {
	switch size {
	case 0:
		return rootOfNothing, nil
	case s.head.Position:
		return s.head.Root, nil
	}
	h, err := tlog.TreeHash(int64(size), s.hashes)
	if err != nil {
		return Hash{}, s.failed(err)
	}
	return Hash(h), nil
}

// Tile returns a tile's hashes, held against the head's root. It returns a NotFound error for a tile that the log does
// not have yet, or not that wide; else its errors are those of [Prover.Inclusion].
func (p *Prover) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	s, err := p.session(ctx)
	if err != nil {
		return nil, err
	}
	hashes := int64(s.head.Position) >> (tile.Height * max(t.L, 0)) // that the level has
	if t.L < 0 || t.N < 0 || t.N > hashes/tile.Width || hashes-t.N*tile.Width < int64(t.W) {
		return nil, domain.Errorf(domain.NotFound, "proof.Tile", "a log of %d events has no %s", s.head.Position, tile.Path(t.L, t.N, t.W)).
			WithHint("ask for the tiles of a checkpoint's size")
	}
	data, err := tlog.ReadTileData(t, s.hashes)
	if err != nil {
		return nil, s.failed(err)
	}
	return data, nil
}

// tileReader gives package tlog the tiles of a session. What it gives is not believed before it hashes to the root.
type tileReader struct{ s *session }

func (r tileReader) Height() int { return tile.Height }

// SaveTiles is told which tiles are proven.
func (r tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		r.s.proven[t] = data[i]
	}
}

// ReadTiles reads the complete tiles in one statement, and each of the incomplete ones, of which a tree has at most one
// a level, in another.
func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	var complete []int
	for i, t := range tiles {
		if data[i] = r.s.proven[t]; data[i] != nil {
			continue
		}
		if t.W == tile.Width {
			complete = append(complete, i)
			continue
		}
		var err error
		if data[i], err = r.s.incomplete(t); err != nil {
			return nil, err
		}
	}
	if len(complete) == 0 {
		return data, nil
	}
	return data, r.s.complete(tiles, complete, data)
}

// complete reads the tiles at the given places.
func (s *session) complete(tiles []tlog.Tile, places []int, data [][]byte) error {
	var levels []int16
	var indexes []int64
	place := make(map[[2]int64]int)
	for _, i := range places {
		levels, indexes = append(levels, int16(tiles[i].L)), append(indexes, tiles[i].N)
		place[[2]int64{int64(tiles[i].L), tiles[i].N}] = i
	}
	rows, err := s.prover.pool.Query(s.ctx, `
		SELECT t.level, t.index, t.root, t.hashes
		  FROM unnest($1::smallint[], $2::bigint[]) AS wanted (level, index)
		  JOIN log_tiles t ON t.level = wanted.level AND t.index = wanted.index -- primary key
	`, levels, indexes)
	if err != nil {
		return unreadable(s.ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var level, index int64
		var root, hashes []byte
		if err := rows.Scan(&level, &index, &root, &hashes); err != nil {
			return unreadable(s.ctx, err)
		}
		name := tile.Path(int(level), index, tile.Width)
		if len(hashes) != tile.Bytes {
			return damaged("the tile %s has %d bytes", name, len(hashes))
		}
		if made := tile.Root(hashes); string(made[:]) != string(root) {
			return damaged("the tile %s does not hash to its root", name)
		}
		data[place[[2]int64{level, index}]] = hashes
	}
	if err := rows.Err(); err != nil {
		return unreadable(s.ctx, err)
	}
	for _, i := range places {
		if data[i] == nil {
			return damaged("the tile %s is missing", tile.Path(tiles[i].L, tiles[i].N, tile.Width))
		}
	}
	return nil
}

// incomplete makes the first part of a tile from what is below it: leaf hashes, or the roots of the tiles of the level below.
func (s *session) incomplete(t tlog.Tile) ([]byte, error) {
	first := t.N * tile.Width
	if t.L == 0 {
		return s.prover.records.Leaves(s.ctx, events.Position(first+1), events.Position(first+int64(t.W)))
	}
	return s.prover.roots(s.ctx, t.L-1, first, t.W)
}

// roots returns the roots of count complete tiles of a level.
func (p *Prover) roots(ctx context.Context, level int, first int64, count int) ([]byte, error) {
	rows, err := p.pool.Query(ctx, `
		SELECT index, root FROM log_tiles WHERE level = $1 AND index >= $2 AND index < $3 ORDER BY index -- primary key
	`, level, first, first+int64(count))
	if err != nil {
		return nil, unreadable(ctx, err)
	}
	defer rows.Close()
	hashes := make([]byte, 0, count*tlog.HashSize)
	next := first
	for ; rows.Next(); next++ {
		var index int64
		var root []byte
		if err := rows.Scan(&index, &root); err != nil {
			return nil, unreadable(ctx, err)
		}
		if index != next || len(root) != tlog.HashSize {
			break
		}
		hashes = append(hashes, root...)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, unreadable(ctx, err)
	}
	if next < first+int64(count) {
		return nil, damaged("the tile %s is missing or has no root", tile.Path(level, next, tile.Width))
	}
	return hashes, nil
}

// failed says what went wrong with a proof. What is stored is at fault: the inputs were looked at before.
func (s *session) failed(err error) error {
	var e *domain.Error
	if s.ctx.Err() != nil || errors.As(err, &e) && e.Code == domain.Unavailable {
		return err
	}
	if errors.As(err, &e) && e.Code == domain.Conflict { // the records: an event is missing
		return &domain.Error{Code: domain.Internal, Op: "proof", Message: e.Message, Hint: hintVerify, Err: err}
	}
	if errors.As(err, &e) && e.Code == domain.Internal {
		return err
	}
	return damaged("the tiles do not hash to the log's root at %d events: %w", s.head.Position, err)
}

const hintVerify = "crossbill log verify names what is wrong"

func damaged(format string, args ...any) *domain.Error {
	return domain.Errorf(domain.Internal, "proof", "nothing can be proven: %w", fmt.Errorf(format, args...)).WithHint(hintVerify)
}

func unreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return domain.Errorf(domain.Unavailable, "proof", "the log can't be read: %w", err)
}
