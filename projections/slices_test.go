package projections_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/projections"
)

// recordMixed appends n appends of events of three types, each seen by none, one or two of four organisations, and returns
// who sees which position, and of what type it is.
func (b *bench) recordMixed(n int, random *rand.Rand) {
	b.Helper()
	facts := []domain.Event{organisation.Registered{At: day}, apikey.Revoked{At: day}, port.Registered{At: day}}
	for i := range n {
		var parties []string
		for range random.IntN(3) {
			parties = append(parties, fmt.Sprintf("org_%d", random.IntN(4)))
		}
		fact := facts[random.IntN(3)]
		a := events.StreamAppend{Stream: fmt.Sprintf("test-%d", i), Expected: events.Any}
		for range 1 + random.IntN(5) {
			a.Events = append(a.Events, events.NewEvent{Event: fact, Metadata: events.Metadata{Parties: parties}})
		}
		if _, err := b.log.Append(b.Context(), events.Append{Streams: []events.StreamAppend{a}}); err != nil {
			b.Error(err)
			return
		}
	}
}

// expected reads a slice from the log itself.
func (b *bench) expected(organisation string, types []string, after events.Position) (positions []events.Position) {
	b.Helper()
	for _, e := range b.after(after) {
		if (organisation == "" || slices.Contains(e.Metadata.Parties, organisation)) && (types == nil || slices.Contains(types, e.Type)) {
			positions = append(positions, e.Position)
		}
	}
	return positions
}

func slicesModel() projections.Projection {
	for _, p := range projections.All() {
		if p.Name == projections.SlicesModel {
			return p
		}
	}
	panic("there is no such model")
}

// TestSlice compares slices with the log, for every organisation, type, place and size of page, however many events were
// applied at once.
func TestSlice(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.recordMixed(60, rand.New(rand.NewPCG(1, 2)))
	all := b.after(0)
	b.exec(`INSERT INTO subscriptions (name) VALUES ($1)`, projections.SlicesModel)
	var want string
	for _, size := range []int{1, 3, 10, len(all)} {
		b.exec(`TRUNCATE read_event_slices, read_event_heads`)
		for rest := all; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			b.apply(slicesModel(), rest[:min(size, len(rest))])
		}
		if got := b.dump(); want == "" {
			want = got
		} else if got != want {
			t.Errorf("batches of %d made other runs:\n%s", size, firstDifference(want, got))
		}
	}
	head := all[len(all)-1].Position
	b.exec(`UPDATE subscriptions SET position = $1`, head)
	viewers := map[string]projections.Viewer{"": projections.Operator()}
	for i := range 5 { // of the last nothing is to be seen
		viewers[fmt.Sprintf("org_%d", i)] = projections.Party(fmt.Sprintf("org_%d", i))
	}
	tried := 0
	for organisation, viewer := range viewers {
		for _, types := range [][]string{nil, {"port.registered"}, {"api_key.revoked", "port.registered"}, {"no.such"}} {
			for _, limit := range []int{1, 2, 7, 1000} {
				for start := events.Position(0); start <= head+2; start += 1 + head/20 {
					got, known, err := b.q.Slice(t.Context(), viewer, types, start, limit)
					if err != nil {
						t.Fatal(err)
					}
					want := b.expected(organisation, types, start)
					atEnd := len(want) < limit
					want = want[:min(limit, len(want))]
					wantKnown := max(head, start)
					if !atEnd {
						wantKnown = want[limit-1]
					}
					if !slices.Equal(got, want) || known != wantKnown {
						t.Fatalf("%q %v past %d, %d at most: %v up to %d, want %v up to %d", organisation, types, start, limit, got, known, want, wantKnown)
					}
					tried++
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d slices were tried", tried)
	}
	if _, _, err := b.q.Slice(t.Context(), projections.Viewer{}, nil, 0, 1); domain.CodeOf(err) != domain.Internal {
		t.Errorf("nobody is asking, and gets %v", err)
	}
}

// TestSlice_Follows reads slices while several writers append and the read model follows: nothing is left out and nothing
// comes twice.
func TestSlice_Follows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var writing sync.WaitGroup
	for w := range 4 {
		writing.Go(func() { b.recordMixed(60, rand.New(rand.NewPCG(uint64(w), 7))) })
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	projected := make(chan struct{})
	go func() { // it lags: it runs in bursts
		defer close(projected)
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
			}
			b.project(slicesModel())
		}
	}()
	types := []string{"port.registered"}
	var got []events.Position
	after := events.Position(0)
	for ended := false; ; {
		page, known, err := b.q.ReadSlice(t.Context(), b.log, projections.Party("org_1"), types, after, 5)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			got = append(got, e.Position)
		}
		if len(page) == 0 && ended {
			break
		}
		after = known
		select {
		case <-projected:
			ended = true
		default:
		}
	}
	if want := b.expected("org_1", types, 0); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the slice was read as\n%v, and is\n%v", got, want)
	}
}

// TestSlice_Archived reads a slice whose events are in archives, on the edge of them, and in the table.
func TestSlice_Archived(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, sql := range []string{ // no event is there yet
		`CREATE OR REPLACE FUNCTION events_partition_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 8::bigint'`,
		`DROP TABLE events_p00000`,
		`SELECT make_events_partition(0)`,
	} {
		b.exec(sql)
	}
	b.recordMixed(30, rand.New(rand.NewPCG(3, 4)))
	b.project(slicesModel())
	want := b.expected("org_2", nil, 0)
	dir := t.TempDir()
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	log, err := events.Open(t.Context(), b.pool, codec, events.Options{ArchiveDir: dir}) // before there are archives
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	done, err := events.Archive(t.Context(), b.pool, events.ArchiveOptions{Dir: dir})
	if err != nil || len(done) < 3 {
		t.Fatalf("archived %d partitions, %v", len(done), err)
	}
	for range 2 {
		var got []events.Position
		page, _, err := b.q.ReadSlice(t.Context(), log, projections.Party("org_2"), nil, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			got = append(got, e.Position)
		}
		if !slices.Equal(got, want) {
			t.Errorf("read %v, want %v", got, want)
		}
	}
	if _, err := log.ReadAt(t.Context(), []events.Position{1, 1 << 40}); err != nil {
		t.Error(err) // the first is returned, the error comes with the next call
	}
	if _, err := log.ReadAt(t.Context(), []events.Position{1 << 40}); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a position that is not there: %v", err)
	}
	for _, stream := range []string{"test-0", "test-5", "no-such"} {
		page, err := log.ReadStream(t.Context(), stream, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for at := events.Position(0); at < 40; at++ {
			version, err := log.VersionAt(t.Context(), stream, at)
			if err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			for _, e := range page {
				if e.Position <= at {
					want = e.Version
				}
			}
			if version != want {
				t.Errorf("%s at %d has version %d, want %d", stream, at, version, want)
			}
		}
	}
}
