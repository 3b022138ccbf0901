// Package proof proves what is in a log, and checks such proofs where there is no log.
//
// A [Prover] makes RFC 6962 inclusion and consistency proofs from hash tiles (C2SP tlog-tiles), in a number of reads that
// grows with the logarithm of the log. Tiles are derived from the events' leaf hashes, after the events are committed, so
// no append waits for them; whatever is read of them is held against the head's root before anything is proven with it.
// A [Bundle] is a file of events with their proofs and a signed checkpoint: [Verify] needs nothing but the file and a key.
//
// The package never appends, never decodes a payload and never decides who may see an event. Start reading at
// [Prover.Inclusion], then tiles.go.
package proof

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"crossbill/domain"
	"crossbill/events"
)

// Hash is a node of the Merkle tree.
type Hash = [32]byte

// Prover makes proofs from one database. It is safe for concurrent use, and any number of nodes may have one.
type Prover struct {
	pool    *pgxpool.Pool
	records events.Records
}

// NewProver returns a prover over a migrated database, whose events are read from records.
func NewProver(pool *pgxpool.Pool, records events.Records) *Prover { return &Prover{pool, records} }

// Inclusion proves that the event at a position is in the log as it was at a size (RFC 6962 section 2.1.1).
type Inclusion struct {
	Position, Size events.Position
	Leaf, Root     Hash   // of the event, and of the log at that size
	Hashes         []Hash // from the leaf's sibling upwards
}

// Check reports whether the hashes lead from the leaf to the root. It returns an Invalid error if they do not.
func (i Inclusion) Check() error {
	if i.Position < 1 || i.Position > i.Size {
		return domain.Errorf(domain.Invalid, "proof.Inclusion", "there is no position %d in a log of %d events", i.Position, i.Size)
	}
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i.Position-1), uint64(i.Size), i.Leaf[:], nodes(i.Hashes), i.Root[:])
	if err != nil {
		return domain.Errorf(domain.Invalid, "proof.Inclusion", "the event at position %d is not proven to be in the log of %d events with the root %x: %v",
			i.Position, i.Size, i.Root, err)
	}
	return nil
}

// Consistency proves that the log at one size begins with the log as it was at an earlier one (RFC 6962 section 2.1.2).
type Consistency struct {
	From, To         events.Position
	FromRoot, ToRoot Hash
	Hashes           []Hash
}

// Check reports whether the hashes lead to both roots. It returns an Invalid error if they do not.
// A proof from the empty log has no hashes and proves nothing, since every log begins with it.
func (c Consistency) Check() error {
	if c.From < 0 || c.From > c.To {
		return domain.Errorf(domain.Invalid, "proof.Consistency", "a log of %d events can't have grown from %d", c.To, c.From)
	}
	if c.From == 0 && c.FromRoot != rootOfNothing {
		return domain.Errorf(domain.Invalid, "proof.Consistency", "the empty log does not have the root %x", c.FromRoot)
	}
	err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(c.From), uint64(c.To), nodes(c.Hashes), c.FromRoot[:], c.ToRoot[:])
	if err != nil {
		return domain.Errorf(domain.Invalid, "proof.Consistency", "the log of %d events with the root %x is not proven to begin with the %d events of the root %x: %v",
			c.To, c.ToRoot, c.From, c.FromRoot, err)
	}
	return nil
}

var rootOfNothing = Hash(rfc6962.DefaultHasher.EmptyRoot())

func nodes(hashes []Hash) [][]byte {
	s := make([][]byte, len(hashes))
	for i := range hashes {
		s[i] = hashes[i][:]
	}
	return s
}

// Inclusion proves that the event at the position is among the first size events; size 0 takes all there are now.
//
// Errors: NotFound if the log has no such position or size yet; Invalid if the position is past the size; Internal, with
// the tile or position, if what is stored does not hash to the head's root; Unavailable if it can't be read.
func (p *Prover) Inclusion(ctx context.Context, position, size events.Position) (Inclusion, error) {
	s, err := p.session(ctx)
	if err != nil {
		return Inclusion{}, err
	}
	return s.inclusion(position, size)
}

// Consistency proves that the log of the size to begins with the log of the size from; to 0 takes the size it has now.
// Its errors are those of [Prover.Inclusion].
func (p *Prover) Consistency(ctx context.Context, from, to events.Position) (Consistency, error) {
	s, err := p.session(ctx)
	if err != nil {
		return Consistency{}, err
	}
	return s.consistency(from, to)
}

// sized returns the size to prove at, or why there is none.
func (s *session) sized(op string, size events.Position) (events.Position, error) {
	if size == 0 {
		size = s.head.Position
	}
	if size < 0 || size > s.head.Position {
		return 0, domain.Errorf(domain.NotFound, op, "the log has %d events, not %d", s.head.Position, size)
	}
	return size, nil
}

func (s *session) inclusion(position, size events.Position) (Inclusion, error) {
	const op = "proof.Inclusion"
	if position < 1 || position > s.head.Position {
		return Inclusion{}, domain.Errorf(domain.NotFound, op, "the log has %d events and none at position %d", s.head.Position, position)
	}
	size, err := s.sized(op, size)
	if err != nil {
		return Inclusion{}, err
	}
	if position > size {
		return Inclusion{}, domain.Errorf(domain.Invalid, op, "position %d is not among the first %d events", position, size)
	}
	i := Inclusion{Position: position, Size: size}
	if i.Root, err = s.root(size); err != nil {
		return Inclusion{}, err
	}
	leaf, err := s.hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(position-1))})
	if err != nil {
		return Inclusion{}, s.failed(err)
	}
	i.Leaf = Hash(leaf[0])
	path, err := tlog.ProveRecord(int64(size), int64(position-1), s.hashes)
	if err != nil {
		return Inclusion{}, s.failed(err)
	}
	for _, h := range path {
		i.Hashes = append(i.Hashes, Hash(h))
	}
	if err := i.Check(); err != nil { // by another implementation than the one that made it
		return Inclusion{}, s.failed(err)
	}
	return i, nil
}

func (s *session) consistency(from, to events.Position) (Consistency, error) {
	const op = "proof.Consistency"
	to, err := s.sized(op, to)
	if err != nil {
		return Consistency{}, err
	}
	if from < 0 || from > s.head.Position {
		return Consistency{}, domain.Errorf(domain.NotFound, op, "the log has %d events, not %d", s.head.Position, from)
	}
	if from > to {
		return Consistency{}, domain.Errorf(domain.Invalid, op, "a log of %d events can't have grown from %d", to, from)
	}
	c := Consistency{From: from, To: to}
	if c.FromRoot, err = s.root(from); err != nil {
		return Consistency{}, err
	}
	if c.ToRoot, err = s.root(to); err != nil {
		return Consistency{}, err
	}
	if 0 < from && from < to {
		path, err := tlog.ProveTree(int64(to), int64(from), s.hashes)
		if err != nil {
			return Consistency{}, s.failed(err)
		}
		for _, h := range path {
			c.Hashes = append(c.Hashes, Hash(h))
		}
	}
	if err := c.Check(); err != nil {
		return Consistency{}, s.failed(err)
	}
	return c, nil
}
