package proof_test

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/proof"
	"crossbill/events/tile"
)

// rootOf is RFC 6962 section 2.1 word for word, to hold both libraries against.
func rootOf(leaves [][32]byte) [32]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	left, right := rootOf(leaves[:k]), rootOf(leaves[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

// pathOf is RFC 6962 section 2.1.1, PATH(m, D[n]).
func pathOf(m int, leaves [][32]byte) [][32]byte {
	if len(leaves) == 1 {
		return nil
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	if m < k {
		return append(pathOf(m, leaves[:k]), rootOf(leaves[k:]))
	}
	return append(pathOf(m-k, leaves[k:]), rootOf(leaves[:k]))
}

// growthOf is RFC 6962 section 2.1.2, SUBPROOF(m, D[n], b).
func growthOf(m int, leaves [][32]byte, known bool) [][32]byte {
	if m == len(leaves) {
		if known {
			return nil
		}
		return [][32]byte{rootOf(leaves)}
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	if m <= k {
		return append(growthOf(m, leaves[:k], known), rootOf(leaves[k:]))
	}
	return append(growthOf(m-k, leaves[k:], false), rootOf(leaves[:k]))
}

// TestProofsAreRFC6962 holds proofs at many sizes, around tile boundaries and at random, against the RFC's definitions.
func TestProofsAreRFC6962(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1400)
	leaves := b.leaves()
	sizes := []int{1, 2, 3, 255, 256, 257, 511, 512, 513, 1024, 1280, 1399, 1400}
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		sizes = append(sizes, 1+random.IntN(len(leaves)))
	}
	for _, size := range sizes {
		for _, position := range []int{1, size, 1 + random.IntN(size), min(size, 256), min(size, 257)} {
			i, err := b.prover.Inclusion(t.Context(), events.Position(position), events.Position(size))
			must(t, err)
			if i.Leaf != leaves[position-1] || i.Root != rootOf(leaves[:size]) || !slices.Equal(i.Hashes, pathOf(position-1, leaves[:size])) {
				t.Errorf("position %d at size %d: %+v", position, size, i)
			}
			must(t, i.Check())
		}
		from := 1 + random.IntN(size)
		c, err := b.prover.Consistency(t.Context(), events.Position(from), events.Position(size))
		must(t, err)
		if c.FromRoot != rootOf(leaves[:from]) || c.ToRoot != rootOf(leaves[:size]) || !slices.Equal(c.Hashes, growthOf(from, leaves[:size], true)) {
			t.Errorf("from %d to %d: %+v", from, size, c)
		}
		must(t, c.Check())
	}
	now, err := b.prover.Inclusion(t.Context(), 7, 0)
	must(t, err)
	head, err := b.log.Head(t.Context())
	must(t, err)
	if now.Size != head.Position || now.Root != head.Root {
		t.Errorf("size 0 is %d", now.Size)
	}
	nothing, err := b.prover.Consistency(t.Context(), 0, 0)
	must(t, err)
	if nothing.FromRoot != rootOf(nil) || nothing.ToRoot != head.Root || len(nothing.Hashes) != 0 {
		t.Errorf("from nothing: %+v", nothing)
	}
}

func TestWhatCantBeProven(t *testing.T) {
	t.Parallel()
	b := newBench(t, 300)
	for _, c := range []struct {
		position, size events.Position
		code           domain.Code
	}{
		{0, 0, domain.NotFound}, {-1, 0, domain.NotFound}, {301, 0, domain.NotFound}, {1, 301, domain.NotFound},
		{1, -1, domain.NotFound}, {300, 299, domain.Invalid}, {1 << 62, 1 << 62, domain.NotFound},
	} {
		_, err := b.prover.Inclusion(t.Context(), c.position, c.size)
		requireCode(t, err, c.code)
	}
	for _, c := range []struct {
		from, to events.Position
		code     domain.Code
	}{
		{-1, 0, domain.NotFound}, {301, 0, domain.NotFound}, {1, 301, domain.NotFound}, {1, -1, domain.NotFound}, {200, 100, domain.Invalid},
	} {
		_, err := b.prover.Consistency(t.Context(), c.from, c.to)
		requireCode(t, err, c.code)
	}
	empty := newBench(t, 0)
	_, err := empty.prover.Inclusion(t.Context(), 1, 0)
	requireCode(t, err, domain.NotFound)
	if c, err := empty.prover.Consistency(t.Context(), 0, 0); err != nil || c.ToRoot != rootOf(nil) {
		t.Errorf("of nothing: %+v, %v", c, err)
	}
}

// TestChecksRefuse changes one thing in a proof at a time.
func TestChecksRefuse(t *testing.T) {
	t.Parallel()
	b := newBench(t, 700)
	sound, err := b.prover.Inclusion(t.Context(), 300, 600)
	must(t, err)
	for name, change := range map[string]func(*proof.Inclusion){
		"position":  func(i *proof.Inclusion) { i.Position++ },
		"no event":  func(i *proof.Inclusion) { i.Position = 0 },
		"size":      func(i *proof.Inclusion) { i.Size = 1 << 20 },
		"leaf":      func(i *proof.Inclusion) { i.Leaf[0] ^= 1 },
		"root":      func(i *proof.Inclusion) { i.Root[31] ^= 128 },
		"a hash":    func(i *proof.Inclusion) { i.Hashes[3][7] ^= 16 },
		"one less":  func(i *proof.Inclusion) { i.Hashes = i.Hashes[1:] },
		"one more":  func(i *proof.Inclusion) { i.Hashes = append(i.Hashes, i.Hashes[0]) },
		"swapped":   func(i *proof.Inclusion) { i.Hashes[0], i.Hashes[1] = i.Hashes[1], i.Hashes[0] },
		"no hashes": func(i *proof.Inclusion) { i.Hashes = nil },
	} {
		i := sound
		i.Hashes = slices.Clone(sound.Hashes)
		change(&i)
		if err := i.Check(); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("inclusion, %s: %v", name, err)
		}
	}
	grown, err := b.prover.Consistency(t.Context(), 300, 600)
	must(t, err)
	for name, change := range map[string]func(*proof.Consistency){
		"from":      func(c *proof.Consistency) { c.From = 305 },
		"to":        func(c *proof.Consistency) { c.To = 1 << 20 },
		"backwards": func(c *proof.Consistency) { c.From, c.To = c.To, c.From },
		"from root": func(c *proof.Consistency) { c.FromRoot[0] ^= 1 },
		"to root":   func(c *proof.Consistency) { c.ToRoot[0] ^= 1 },
		"a hash":    func(c *proof.Consistency) { c.Hashes[1][7] ^= 16 },
		"one less":  func(c *proof.Consistency) { c.Hashes = c.Hashes[1:] },
		"nothing":   func(c *proof.Consistency) { c.From, c.Hashes = 0, nil },
	} {
		c := grown
		c.Hashes = slices.Clone(grown.Hashes)
		change(&c)
		if err := c.Check(); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("consistency, %s: %v", name, err)
		}
	}
}

// TestTiles makes tiles in steps with a log that grows, from two provers at once, and holds each against the leaves.
func TestTiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	for range 4 {
		b.grow(777)
		done := make(chan error)
		for range 2 {
			go func() {
				_, err := proof.NewProver(b.pool, events.RecordsIn(b.pool)).Inclusion(context.Background(), 1, 0)
				done <- err
			}()
		}
		must(t, <-done)
		must(t, <-done)
	}
	leaves := b.leaves() // 3108: 12 complete tiles
	for _, c := range []struct {
		level, width int
		index        int64
		there        bool
	}{
		{0, 256, 0, true}, {0, 256, 11, true}, {0, 255, 11, true}, {0, 1, 11, true}, {0, 36, 12, true}, {0, 35, 12, true},
		{0, 37, 12, false}, {0, 256, 12, false}, {0, 1, 13, false}, {1, 12, 0, true}, {1, 1, 0, true}, {1, 13, 0, false},
		{1, 256, 0, false}, {2, 1, 0, false}, {0, 256, 1 << 50, false}, {0, 1, 1 << 56, false}, {1, 1, 1 << 56, false}, {7, 1, 0, false},
	} {
		data, err := b.prover.Tile(t.Context(), tlog.Tile{H: tile.Height, L: c.level, N: c.index, W: c.width})
		if !c.there {
			requireCode(t, err, domain.NotFound)
			continue
		}
		must(t, err)
		span := 1 << (tile.Height * c.level)
		var want []byte
		for i := range c.width {
			first := (int(c.index)*tile.Width + i) * span
			root := rootOf(leaves[first : first+span])
			want = append(want, root[:]...)
		}
		if string(data) != string(want) {
			t.Errorf("level %d, index %d, width %d: another tile", c.level, c.index, c.width)
		}
	}
	var tiles int
	must(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM log_tiles`).Scan(&tiles))
	if tiles != 12 {
		t.Errorf("%d tiles are kept", tiles)
	}
}

// TestTilesOfHigherLevels makes a log of 66 000 events, whose first tile of level 1 is complete.
func TestTilesOfHigherLevels(t *testing.T) {
	t.Parallel()
	b := newBench(t, 66_000)
	leaves := b.leaves()
	for _, position := range []int{1, 65_536, 65_537, 66_000} {
		i, err := b.prover.Inclusion(t.Context(), events.Position(position), 0)
		must(t, err)
		if !slices.Equal(i.Hashes, pathOf(position-1, leaves)) {
			t.Errorf("position %d: %+v", position, i)
		}
	}
	for _, x := range []tlog.Tile{{H: 8, L: 1, N: 0, W: 256}, {H: 8, L: 2, N: 0, W: 1}} {
		data, err := b.prover.Tile(t.Context(), x)
		must(t, err)
		if root := rootOf(leaves[:65_536]); x.L == 2 && string(data) != string(root[:]) || x.L == 1 && tile.Root(data) != root {
			t.Errorf("%s is another", tile.Path(x.L, x.N, x.W))
		}
	}
	if _, err := events.Verify(t.Context(), b.pool, nil, ""); err != nil {
		t.Error(err)
	}
	b.exec(`UPDATE log_tiles SET index = -7 WHERE level = 0 AND index = 7`)
	if _, err := b.prover.Inclusion(t.Context(), 7*256+1, 0); domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), "tile/0/007 is missing") {
		t.Errorf("a tile taken from under a complete one: %v", err)
	}
	if _, err := b.prover.Inclusion(t.Context(), 6*256+1, 0); err != nil {
		t.Errorf("a proof that does not need it: %v", err)
	}
	b.exec(`UPDATE log_tiles SET index = 7 WHERE level = 0 AND index = -7`)
	b.exec(`UPDATE log_tiles SET hashes = set_bit(hashes, 77777 % 65536, 1 - get_bit(hashes, 77777 % 65536)) WHERE level = 1`)
	_, err := events.Verify(t.Context(), b.pool, nil, "")
	if domain.CodeOf(err) != domain.Conflict || !strings.Contains(err.Error(), "tile/1/000") {
		t.Errorf("a changed tile of level 1: %v", err)
	}
	b.exec(`DELETE FROM log_tiles WHERE level = 1`)
	b.exec(`DELETE FROM log_tiles WHERE index = 255`)
	if _, err := events.Verify(t.Context(), b.pool, nil, ""); domain.CodeOf(err) != domain.Conflict || !strings.Contains(err.Error(), "tile/0/255") {
		t.Errorf("a tile taken from among others: %v", err)
	}
	b.exec(`TRUNCATE log_tiles; UPDATE log_head SET log = log`)
	if _, err := b.prover.Inclusion(t.Context(), 1, 0); err != nil {
		t.Error(err)
	}
	if _, err := events.Verify(t.Context(), b.pool, nil, ""); err != nil {
		t.Error(err)
	}
}

// TestDamageIsNotProvenWith changes what proofs are made from. No proof may come of it, not even of something else.
func TestDamageIsNotProvenWith(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, want string }{
		"hashes":            {`UPDATE log_tiles SET hashes = set_bit(hashes, 9, 1 - get_bit(hashes, 9)) WHERE level = 0 AND index = 0`, "tile/0/000"},
		"root":              {`UPDATE log_tiles SET root = set_bit(root, 9, 1 - get_bit(root, 9)) WHERE level = 0 AND index = 0`, "do"},
		"forged":            {`UPDATE log_tiles SET (root, hashes) = (SELECT root, hashes FROM log_tiles WHERE level = 0 AND index = 1) WHERE level = 0 AND index = 0`, "do not hash"},
		"short":             {`UPDATE log_tiles SET hashes = substring(hashes FROM 2) WHERE level = 0 AND index = 0`, "tile/0/000"},
		"missing":           {`DELETE FROM log_tiles WHERE level = 0 AND index = 0`, "tile/0/000"},
		"leaf at the end":   {`UPDATE events SET leaf_hash = set_bit(leaf_hash, 9, 1 - get_bit(leaf_hash, 9)) WHERE position = 590`, "do not hash"},
		"event at the end":  {`DELETE FROM events WHERE position = 590`, "position 590"},
		"head root":         {`UPDATE log_head SET root = set_bit(root, 9, 1 - get_bit(root, 9))`, "do not hash"},
		"head of one fewer": {`UPDATE log_head SET position = position - 1`, "do not hash"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 600)
			_, err := b.prover.Inclusion(t.Context(), 10, 0)
			must(t, err)
			b.exec(c.sql)
			_, err = b.prover.Inclusion(t.Context(), 10, 0)
			requireCode(t, err, domain.Internal)
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "log verify") {
				t.Errorf("error %v, want %q", err, c.want)
			}
			_, err = b.prover.Consistency(t.Context(), 10, 500)
			requireCode(t, err, domain.Internal)
			_, err = b.prover.Tile(t.Context(), tlog.Tile{H: 8, L: 0, N: 0, W: 3})
			requireCode(t, err, domain.Internal)
		})
	}
}

// TestFollow has two nodes follow a log that grows, and expects its tiles without any proof being asked for.
func TestFollow(t *testing.T) {
	t.Parallel()
	b := newBench(t, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- b.prover.Follow(ctx, b.log, nil) }()
	}
	for _, want := range []int{1, 11} {
		b.grow(256*want + 10)
		until := time.Now().Add(20 * time.Second)
		for tiles := 0; tiles < want; time.Sleep(10 * time.Millisecond) {
			must(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM log_tiles`).Scan(&tiles))
			if time.Now().After(until) {
				t.Fatalf("%d tiles, want %d", tiles, want)
			}
		}
	}
	cancel()
	for range 2 {
		if err := <-ended; err != context.Canceled {
			t.Errorf("ended with %v", err)
		}
	}
}

// statements counts what is sent to the database.
type statements struct{ n *int }

func (s statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	*s.n++
	return ctx
}
func (s statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestProofsReadLittle counts statements and rows of tiles: they must not grow with the log but by its levels.
func TestProofsReadLittle(t *testing.T) {
	t.Parallel()
	const levels = 2 // of a log of 30 000 events
	b := newBench(t, 30_000)
	_, err := b.prover.Inclusion(t.Context(), 1, 0) // makes the tiles
	must(t, err)
	config := b.pool.Config()
	n := 0
	config.ConnConfig.Tracer = statements{&n}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	defer pool.Close()
	prover := proof.NewProver(pool, events.RecordsIn(pool))
	for _, prove := range []func() error{
		func() error { _, err := prover.Inclusion(t.Context(), 12_345, 0); return err },
		func() error { _, err := prover.Inclusion(t.Context(), 12_345, 23_456); return err },
		func() error { _, err := prover.Consistency(t.Context(), 12_345, 23_456); return err },
	} {
		n = 0
		must(t, prove())
		if most := 4 + 3*levels; n < 3 || n > most { // head and how far there are tiles; then by level, for each thing to prove
			t.Errorf("%d statements, want at most %d", n, most)
		}
	}
}
