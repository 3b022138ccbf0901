package proof_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"crossbill/domain"
	"crossbill/events"
)

// A flip changes one bit of one stored value: %[1]d is the position (or the tile's index), %[2]d the bit.
var flipsOfEvents = map[string]struct {
	bits int
	set  string
}{
	"payload":     {80, `payload = set_bit(payload, %[2]d, 1 - get_bit(payload, %[2]d))`},
	"metadata":    {140, `metadata = set_bit(metadata, %[2]d, 1 - get_bit(metadata, %[2]d))`},
	"salt":        {128, `salt = set_bit(salt, %[2]d, 1 - get_bit(salt, %[2]d))`},
	"leaf hash":   {256, `leaf_hash = set_bit(leaf_hash, %[2]d, 1 - get_bit(leaf_hash, %[2]d))`},
	"version":     {63, `version = version # (1::bigint << %[2]d)`},
	"schema":      {31, `schema = schema # (1 << %[2]d)`},
	"event id":    {128, `event_id = encode(set_bit(uuid_send(event_id), %[2]d, 1 - get_bit(uuid_send(event_id), %[2]d)), 'hex')::uuid`},
	"stream":      {48, `stream = convert_from(set_bit(stream::bytea, %[2]d, 1 - get_bit(stream::bytea, %[2]d)), 'UTF8')`},
	"type":        {80, `type = convert_from(set_bit(type::bytea, %[2]d, 1 - get_bit(type::bytea, %[2]d)), 'UTF8')`},
	"recorded at": {63, `recorded_at = recorded_at + ((` + micros + ` # (1::bigint << %[2]d)) - ` + micros + `) * interval '1 microsecond'`},
	"position":    {63, `position = position # (1::bigint << %[2]d)`},
}

// micros is a timestamp as PostgreSQL stores it.
const micros = `(extract(epoch FROM recorded_at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint`

// tryFlip changes a bit, verifies, and puts the row back. It reports false if PostgreSQL does not let the value be: what it
// could not have stored needs no finding.
func (b *bench) tryFlip(table, where, set string) (found error, possible bool) {
	b.t.Helper()
	var kept, partition, row string
	must(b.t, b.pool.QueryRow(b.t.Context(), fmt.Sprintf(`SELECT to_jsonb(x)::text FROM %s x WHERE %s`, table, where)).Scan(&kept))
	err := b.pool.QueryRow(b.t.Context(), fmt.Sprintf(`UPDATE %s SET %s WHERE %s RETURNING tableoid::regclass::text, ctid::text`, table, set, where)).
		Scan(&partition, &row)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code[:2] == "23" || refused.Code[:2] == "22") { // integrity, data
		return nil, false
	}
	must(b.t, err)
	_, found = events.Verify(b.t.Context(), b.pool, nil, "")
	b.exec(fmt.Sprintf(`DELETE FROM %s WHERE ctid = $1::text::tid`, partition), row)
	b.exec(fmt.Sprintf(`INSERT INTO %[1]s SELECT (jsonb_populate_record(NULL::%[1]s, $1::text::jsonb)).*`, table), kept)
	return found, true
}

// flipBench is a log of 600 events with two complete tiles.
func flipBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, 600)
	_, err := b.prover.Inclusion(t.Context(), 1, 0)
	must(t, err)
	b.sound()
	return b
}

func (b *bench) sound() {
	b.t.Helper()
	_, err := events.Verify(b.t.Context(), b.pool, nil, "")
	must(b.t, err)
}

// found asserts that an error is of a damaged log, names what it should, and says what to do.
func (b *bench) found(what string, err error, want string) {
	b.t.Helper()
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != domain.Conflict || e.Hint == "" || !strings.Contains(e.Message, want) {
		b.t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestEveryFlipInAnEvent flips bits in every column of events at the ends of tiles, of the log, and at random.
func TestEveryFlipInAnEvent(t *testing.T) {
	t.Parallel()
	const flips = 12 // of each column and position
	for column, c := range flipsOfEvents {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			b := flipBench(t)
			random := rand.New(rand.NewPCG(7, uint64(len(column))))
			tried := 0
			for _, position := range []int{1, 2, 255, 256, 257, 512, 513, 599, 600, 1 + random.IntN(600), 1 + random.IntN(600)} {
				for range flips {
					bit := random.IntN(c.bits)
					err, possible := b.tryFlip("events", fmt.Sprintf("position = %d", position), fmt.Sprintf(c.set, position, bit))
					if !possible {
						continue
					}
					tried++
					b.found(fmt.Sprintf("bit %d of the %s at position %d", bit, column, position), err, fmt.Sprintf("the event at position %d ", position))
				}
			}
			b.sound()
			if tried < 20 {
				t.Errorf("only %d flips were possible", tried)
			}
		})
	}
}

// TestEveryFlipInATile flips bits in every column of the hash table.
func TestEveryFlipInATile(t *testing.T) {
	t.Parallel()
	b := flipBench(t)
	random := rand.New(rand.NewPCG(7, 7))
	for column, c := range map[string]struct {
		bits int
		set  string
	}{
		"hashes": {65536, `hashes = set_bit(hashes, %[2]d, 1 - get_bit(hashes, %[2]d))`},
		"root":   {256, `root = set_bit(root, %[2]d, 1 - get_bit(root, %[2]d))`},
		"level":  {15, `level = (level::int # (1 << %[2]d))::smallint`},
		"index":  {63, `index = index # (1::bigint << %[2]d)`},
	} {
		for index := range 2 {
			for range 40 {
				bit := random.IntN(c.bits)
				err, possible := b.tryFlip("log_tiles", fmt.Sprintf("level = 0 AND index = %d", index), fmt.Sprintf(c.set, index, bit))
				if !possible {
					continue
				}
				what := fmt.Sprintf("bit %d of the %s of tile %d", bit, column, index)
				b.found(what, err, "tile")
				if column == "hashes" {
					b.found(what, err, fmt.Sprintf("tile/0/%03d is not that of the events: its hash %d, over the positions %[3]d to %[3]d,", index, bit/256, index*256+bit/256+1))
				}
			}
		}
	}
	b.sound()
}

// TestEveryFlipInTheHead flips every bit of the head row.
func TestEveryFlipInTheHead(t *testing.T) {
	t.Parallel()
	b := flipBench(t)
	for column, c := range map[string]struct {
		bits int
		set  string
	}{
		"position":    {63, `position = position # (1::bigint << %[1]d)`},
		"root":        {256, `root = set_bit(root, %[1]d, 1 - get_bit(root, %[1]d))`},
		"frontier":    {4 * 256, `frontier = set_bit(frontier, %[1]d, 1 - get_bit(frontier, %[1]d))`},
		"recorded at": {50, `recorded_at = recorded_at + ((` + micros + ` # (1::bigint << %[1]d)) - ` + micros + `) * interval '1 microsecond'`},
		"log":         {31, `log = convert_from(set_bit(log::bytea, %[1]d, 1 - get_bit(log::bytea, %[1]d)), 'UTF8')`},
	} {
		tried := 0
		for bit := 0; bit < c.bits; bit += 1 + c.bits/200 {
			err, possible := b.tryFlip("log_head", "true", fmt.Sprintf(c.set, bit))
			if possible {
				tried++
				b.found(fmt.Sprintf("bit %d of the head's %s", bit, column), err, "head")
			}
		}
		if tried < 20 {
			t.Errorf("%s: only %d flips were possible", column, tried)
		}
	}
	b.sound()
}

// TestEveryFlipInAStreamsRow flips bits in the table that appends are checked against.
func TestEveryFlipInAStreamsRow(t *testing.T) {
	t.Parallel()
	b := flipBench(t)
	b.grow(10)
	for column, c := range map[string]struct {
		bits int
		set  string
	}{
		"version":  {63, `version = version # (1::bigint << %[1]d)`},
		"position": {63, `position = position # (1::bigint << %[1]d)`},
		"stream":   {48, `stream = convert_from(set_bit(stream::bytea, %[1]d, 1 - get_bit(stream::bytea, %[1]d)), 'UTF8')`},
	} {
		for bit := range c.bits {
			if err, possible := b.tryFlip("streams", "stream = 'note-a'", fmt.Sprintf(c.set, bit)); possible {
				b.found(fmt.Sprintf("bit %d of the %s", bit, column), err, "the table streams")
			}
		}
	}
	b.sound()
}

// TestRewrittenEvents changes events together with their leaf hashes, so that every row agrees with itself. The tile still
// has the old leaf. In the part of the log that has no tile yet it is said where that begins.
func TestRewrittenEvents(t *testing.T) {
	t.Parallel()
	b := flipBench(t)
	for position, want := range map[int]string{1: "the event at position 1 ", 256: "the event at position 256 ", 300: "the event at position 300 ", 512: "the event at position 512 ", 550: ""} {
		var rewritten [32]byte
		must(t, events.RecordsIn(b.pool).Range(t.Context(), events.Position(position), events.Position(position), func(r events.StoredRecord) error {
			r.Payload = []byte(`{"text":"forged"}`)
			rewritten = r.Record.LeafHash()
			return nil
		}))
		err, _ := b.tryFlip("events", fmt.Sprintf("position = %d", position),
			fmt.Sprintf(`payload = '{"text":"forged"}', leaf_hash = '\x%x'`, rewritten))
		if want == "" {
			b.found("an event without a tile", err, "the head row has")
			if !strings.Contains(err.Error(), "up to position 512") {
				t.Errorf("it is not said where to look: %v", err)
			}
			continue
		}
		b.found(fmt.Sprintf("the event at position %d rewritten", position), err, want)
	}
	b.sound()
}

// TestVerifyBesideACheckpoint has a log in which all tables were rewritten to agree, and a checkpoint from before that.
func TestVerifyBesideACheckpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, 600)
	kept := b.checkpoint()
	b.grow(100)
	head, err := events.Verify(t.Context(), b.pool, kept, b.signer.VerifierKey())
	if err != nil || head.Position != 600 {
		t.Fatalf("a log that has grown: %+v, %v", head, err)
	}
	b.exec(`TRUNCATE log_tiles; UPDATE events SET payload = '{"text":"forged"}' WHERE position = 99`)
	b.reseal()
	if _, err := events.Verify(t.Context(), b.pool, nil, ""); err != nil {
		t.Fatalf("the forged log does not agree with itself: %v", err)
	}
	_, err = events.Verify(t.Context(), b.pool, kept, b.signer.VerifierKey())
	b.found("a forged log", err, "the first 600 events hash to")
	_, err = b.prover.Bundle(t.Context(), exportOf(b, kept, 99))
	requireCode(t, err, domain.Conflict)
}
