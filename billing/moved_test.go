package billing

import (
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/events"
)

// TestMovedConnection moves example A's connection to another edge node in the middle of a day. What the two nodes counted is
// taken from both, from the one that it left also after it has left, and from no third; it is billed once, as if nothing had
// moved.
func TestMovedConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := exampleA()
	node := func(name string) string { return id(domain.PrefixEdgeNode, name) }
	build := func(name string, tag int) connection.Build {
		return connection.Build{EdgeNodeID: node(name), EdgeASN: 64500, Tag: tag, A: connection.Attachment{VLAN: 100}, Z: connection.Attachment{VLAN: 200}}
	}
	moved := date(2026, 3, 20).Add(12*time.Hour + 30*time.Minute)
	old, other := build("edge", 1), build("other", 7)
	sold, quoted := a.events()
	sold = slices.Insert(sold, 1, domain.Event(connection.Allocated{
		ConnectionID: a.id(), EdgeNodeID: old.EdgeNodeID, EdgeASN: old.EdgeASN, Tag: old.Tag, A: old.A, Z: old.Z, At: a.from.Add(-time.Hour)}))
	sold = append(sold,
		connection.MoveRequested{ConnectionID: a.id(), Reason: "maintenance", At: moved.Add(-time.Hour)},
		connection.RebuildStarted{ConnectionID: a.id(), Build: other, Reason: "maintenance", Deadline: moved.Add(time.Hour), At: moved.Add(-time.Hour)},
		connection.Rebuilt{ConnectionID: a.id(), EdgeNodeID: other.EdgeNodeID, At: moved})
	w.append(events.Append{Streams: []events.StreamAppend{stream(quote.Stream(id(domain.PrefixQuote, a.name)), quoted...), stream(connection.Stream(a.id()), sold...)}})
	state, _, err := load(t.Context(), w, connection.Stream(a.id()), maxPosition, connection.Evolve)
	must(t, err)
	if state.EdgeNodeID != other.EdgeNodeID {
		t.Fatalf("it is on %s", state.EdgeNodeID)
	}

	var all []reading.Recorded
	rest := int64(12_345_678_901_234) // example A's bytes
	for from := a.from; from.Before(march.To); from = from.Add(30 * time.Minute) {
		r := w.reading(a.id(), from, from.Add(30*time.Minute), rest/500, rest/900)
		if r.To.Equal(march.To) {
			r.BytesIn, r.BytesOut = rest, 0
		}
		rest -= r.BytesIn + r.BytesOut
		if !from.Before(moved) {
			r.EdgeNodeID, r.Epoch = other.EdgeNodeID, 3
		}
		all = append(all, r)
	}
	for n := range all { // those of the node that it left come last
		r := all[len(all)-1-n]
		decided, err := reading.Decide(reading.State{}, reading.Record{Reading: r, Connection: state, CapacityMbps: 10_000_000, At: afterward})
		if err != nil || len(decided) != 1 {
			t.Fatalf("a reading of %s from %s: %v, %v", r.EdgeNodeID, r.From, decided, err)
		}
		w.meter(decided[0].(reading.Recorded))
	}
	stranger := all[0]
	stranger.EdgeNodeID = node("third")
	if _, err := reading.Decide(reading.State{}, reading.Record{Reading: stranger, Connection: state, CapacityMbps: 10_000_000, At: afterward}); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("a reading of a node that it never was on: %v", err)
	}

	result := w.run(request(march))
	i := w.invoice(result.Invoices[0])
	if got, want := linesOf(i), "port 270.967741935483870967… = 270.97; traffic 343.45678901234 = 343.46; platform_fee 18.4329 = 18.43"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.explained(i)
	w.checkBooks()
}
