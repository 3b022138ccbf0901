package reading

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/listing"
)

var (
	edgeNode     = scenario.ID(domain.PrefixEdgeNode, 1)
	connectionID = scenario.ID(domain.PrefixConnection, 1)
)

// inProduction is a connection that is billed from Noon on.
func inProduction() connection.State {
	from, cutover := scenario.Noon, scenario.Noon
	return connection.State{ID: connectionID, State: connection.StateProduction, EdgeNodeID: edgeNode, OnEdge: true,
		CutoverRequestedAt: &cutover, BillingFrom: &from, Billing: connection.BillingAccruing}
}

// record is a reading of a minute on a port of 100 Mbit/s.
func record() Record {
	return Record{
		Reading: Recorded{EdgeNodeID: edgeNode, ConnectionID: connectionID, Epoch: 1, Sequence: 2, From: scenario.Noon, To: scenario.After(60),
			BytesIn: 1000, BytesOut: 2000, PacketsIn: 1, PacketsOut: 2, DroppedIn: 3, DroppedOut: 4, Source: SourceEBPF},
		Connection: inProduction(), CapacityMbps: 100, At: scenario.After(61),
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	with := func(change func(*Record)) Record {
		r := record()
		change(&r)
		return r
	}
	ok := func(name string, change func(*Record)) scenario.Case[Command] {
		r := with(change)
		return scenario.Case[Command]{Name: name, When: r, Then: []domain.Event{r.Reading}}
	}
	wrong := func(name, field string, change func(*Record)) scenario.Case[Command] {
		return scenario.Case[Command]{Name: name, When: with(change), Code: domain.Invalid, Fields: []string{field}}
	}
	refused := func(name string, code domain.Code, change func(*Record)) scenario.Case[Command] {
		return scenario.Case[Command]{Name: name, When: with(change), Code: code}
	}
	closedAt := func(second int) func(*Record) {
		return func(r *Record) {
			at := scenario.After(second)
			r.Connection.State, r.Connection.EdgeClosedAt, r.Connection.OnEdge = connection.StateDecommissioned, &at, false
			r.At = scenario.After(9999)
		}
	}
	// 100 Mbit/s over 60 s and the slack of one: 61 × 12 500 000 bytes.
	const most = 762_500_000
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		ok("recorded", func(*Record) {}),
		ok("the first", func(r *Record) { r.Reading.Sequence = 1 }),
		ok("nothing was counted", func(r *Record) { r.Reading.BytesIn, r.Reading.BytesOut = 0, 0 }),
		ok("from a software edge", func(r *Record) { r.Reading.Source = SourceSoftware }),
		ok("after the decommission request", func(r *Record) {
			to := scenario.Noon
			r.Connection.State, r.Connection.BillingTo = connection.StateDecommissionRequested, &to
		}),
		ok("delivered after the end", closedAt(60)),
		ok("at full speed", func(r *Record) { r.Reading.BytesIn, r.Reading.BytesOut = most, most }),
		ok("at the speed of the fastest port", func(r *Record) { r.Reading.BytesIn, r.CapacityMbps = most*8000, 0 }),
		wrong("faster than any port", "/bytes_in", func(r *Record) { r.Reading.BytesIn, r.CapacityMbps = most*8000+1, 0 }),
		ok("from a clock ahead of ours", func(r *Record) { r.At = r.Reading.To.Add(-domain.MaxClockSkew) }),
		ok("of the longest time", func(r *Record) { r.Reading.To = r.Reading.From.Add(MaxSpan); r.At = r.Reading.To }),

		refused("no connection", domain.NotFound, func(r *Record) { r.Connection = connection.State{} }),
		refused("another connection", domain.NotFound, func(r *Record) { r.Reading.ConnectionID = scenario.ID(domain.PrefixConnection, 2) }),
		refused("another edge node", domain.NotFound, func(r *Record) { r.Reading.EdgeNodeID = scenario.ID(domain.PrefixEdgeNode, 2) }),
		refused("no edge node at all", domain.NotFound, func(r *Record) { r.Reading.EdgeNodeID, r.Connection.EdgeNodeID = "", "" }),
		refused("before the gate is reported open", domain.Unavailable, func(r *Record) { r.Connection.State, r.Connection.BillingFrom = connection.StateTesting, nil }),
		wrong("before the cutover", "/connection_id", func(r *Record) {
			r.Connection.State, r.Connection.BillingFrom, r.Connection.CutoverRequestedAt = connection.StateTesting, nil, nil
		}),
		wrong("of what was given up", "/connection_id", func(r *Record) { r.Connection.State, r.Connection.BillingFrom = connection.StateCancelling, nil }),

		wrong("before billing", "/from", func(r *Record) { r.Reading.From = scenario.Noon.Add(-time.Microsecond) }),
		wrong("of no time", "/to", func(r *Record) { r.Reading.To = r.Reading.From }),
		wrong("backwards", "/to", func(r *Record) { r.Reading.From, r.Reading.To = r.Reading.To, r.Reading.From }),
		wrong("of too long a time", "/to", func(r *Record) { r.Reading.To = r.Reading.From.Add(MaxSpan + time.Microsecond); r.At = r.Reading.To }),
		refused("of a time to come", domain.Unavailable, func(r *Record) { r.At = r.Reading.To.Add(-domain.MaxClockSkew - time.Microsecond) }),
		refused("of tomorrow", domain.Unavailable, func(r *Record) { r.At = r.Reading.To.Add(-MaxEarly) }),
		{Name: "of a time to come, and wrong by then", When: with(func(r *Record) { r.At, r.Reading.BytesIn = r.Reading.To.Add(-MaxEarly), -1 }),
			Code: domain.Invalid, Fields: []string{"/bytes_in", "/to"}},
		wrong("of the day after", "/to", func(r *Record) { r.At = r.Reading.To.Add(-MaxEarly - time.Microsecond) }),
		wrong("after the end", "/to", closedAt(-1)),
		wrong("epoch", "/epoch", func(r *Record) { r.Reading.Epoch = 0 }),
		wrong("sequence", "/sequence", func(r *Record) { r.Reading.Sequence = 0 }),
		wrong("source", "/source", func(r *Record) { r.Reading.Source = "guess" }),
		wrong("bytes in", "/bytes_in", func(r *Record) { r.Reading.BytesIn = -1 }),
		wrong("packets out", "/packets_out", func(r *Record) { r.Reading.PacketsOut = math.MinInt64 }),
		wrong("dropped", "/dropped_in", func(r *Record) { r.Reading.DroppedIn = -1 }),
		wrong("faster in than the port", "/bytes_in", func(r *Record) { r.Reading.BytesIn = most + 1 }),
		wrong("faster out than the port", "/bytes_out", func(r *Record) { r.Reading.BytesOut = most + 1 }),
		{Name: "no times", When: with(func(r *Record) { r.Reading.From, r.Reading.To = time.Time{}, time.Time{} }), Code: domain.Invalid, Fields: []string{"/from", "/to"}},
		{Name: "no command", Code: domain.Internal},
	})
}

// The longest reading of the fastest port stays inside 64 bits.
func TestCapacityBytes(t *testing.T) {
	t.Parallel()
	if got, want := capacityBytes(domain.MaxMbps, MaxSpan), uint64(domain.MaxMbps)*125_000*31*86_400; got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	if got := capacityBytes(100, time.Millisecond); got != 12_500 {
		t.Errorf("a millisecond of 100 Mbit/s is %d bytes", got)
	}
	if got := capacityBytes(math.MaxInt32*8, math.MaxInt64); got < math.MaxInt64 {
		t.Errorf("it wrapped around to %d", got)
	}
}

func TestEventID(t *testing.T) {
	t.Parallel()
	id := EventID(edgeNode, connectionID, 1, 2)
	if id != EventID(edgeNode, connectionID, 1, 2) {
		t.Error("the same reading has two ids")
	}
	others := [][16]byte{
		EventID(connectionID, edgeNode, 1, 2), EventID(edgeNode, connectionID, 2, 1), EventID(edgeNode, connectionID, 12, 0),
		EventID(edgeNode, connectionID, 1, 3), EventID(edgeNode, scenario.ID(domain.PrefixConnection, 2), 1, 2),
	}
	for i, other := range others {
		if other == id {
			t.Errorf("another reading has the same id (%d)", i)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	late, early := record().Reading, record().Reading
	early.From, early.To = late.From.Add(-time.Hour), late.To.Add(-time.Hour)
	s := scenario.Fold(Evolve, domain.Event(late), early)
	if s.Readings != 2 || !s.LastTo.Equal(late.To) || s.ConnectionID != connectionID {
		t.Errorf("the state is %+v", s)
	}
}

// AppendJSON writes what json.Marshal does, whatever is in the fields.
func TestAppendJSON(t *testing.T) {
	t.Parallel()
	texts := []string{"", "plain", "a\"b\\c", "<&>", "é\u2028", "\x00\n\x7f", "\xff", connectionID}
	for i, a := range texts {
		for j, b := range texts {
			e := Recorded{EdgeNodeID: a, ConnectionID: b, Epoch: int64(i), Sequence: math.MaxInt64, From: scenario.Noon.Add(time.Duration(i*j) * time.Microsecond),
				To: scenario.After(i), BytesIn: -1, BytesOut: int64(j), PacketsIn: 3, PacketsOut: 4, DroppedIn: 5, DroppedOut: math.MinInt64, Source: b, Meter: a, MeterEvent: texts[(i+j)%len(texts)]}
			want, err := json.Marshal(e)
			if got := e.AppendJSON(nil); err != nil || string(got) != string(want) {
				t.Fatalf("got\n%s\nwant\n%s (%v)", got, want, err)
			}
		}
	}
}

// What decide finds nothing wrong with at a glance is what it finds nothing wrong with when it looks closely.
func TestPlain(t *testing.T) {
	t.Parallel()
	random, plain, refused := rand.New(rand.NewPCG(1, 2)), 0, 0
	times := []time.Time{{}, scenario.Noon.Add(-time.Hour), scenario.Noon.Add(-time.Microsecond), scenario.Noon, scenario.After(1), scenario.After(60), scenario.After(61), scenario.After(121), scenario.After(122), scenario.Noon.Add(MaxSpan), scenario.Noon.Add(MaxSpan + time.Microsecond)}
	counts := []int64{-1, 0, 1, 12_500_000, 12_500_001, 762_500_000, 762_500_001, math.MaxInt64, math.MinInt64}
	for range 200_000 {
		r := record()
		for range random.IntN(3) {
			count, at := counts[random.IntN(len(counts))], times[random.IntN(len(times))]
			switch random.IntN(14) {
			case 0:
				r.Reading.Epoch = count
			case 1:
				r.Reading.Sequence = count
			case 2:
				r.Reading.From = at
			case 3:
				r.Reading.To = at
			case 4:
				r.Reading.BytesIn = count
			case 5:
				r.Reading.BytesOut = count
			case 6:
				r.Reading.PacketsIn = count
			case 7:
				r.Reading.DroppedOut = count
			case 8:
				r.Reading.Source = []string{SourceEBPF, SourceProvider, ""}[random.IntN(3)]
			case 9:
				r.At = at
			case 10:
				r.CapacityMbps = random.IntN(3)
			case 11:
				r.Connection.BillingFrom = &at
			case 12:
				r.Connection.EdgeClosedAt = &at
			case 13:
				r.Connection.BillingFrom = nil
			}
		}
		var p domain.Problems
		p.Check(r.Reading.Epoch >= 1, "/epoch", "must be at least 1")
		p.Check(r.Reading.Sequence >= 1, "/sequence", "must be at least 1")
		p.OneOf("/source", r.Reading.Source, SourceEBPF, SourceSoftware)
		_, err := r.check("test", p, r.Reading)
		if got := r.plain(r.Reading); got != (err == nil) {
			t.Fatalf("at a glance it is right: %v, and when looked at closely %v\n%+v", got, err, r)
		}
		if err == nil {
			plain++
		} else {
			refused++
		}
	}
	if plain < 20_000 || refused < 20_000 {
		t.Errorf("%d are right and %d wrong", plain, refused)
	}
}

func TestRecordUsage(t *testing.T) {
	t.Parallel()
	provider := scenario.ID(domain.PrefixOrganisation, 2)
	usage := func(change func(*RecordUsage)) RecordUsage {
		r := record()
		r.Connection.ProviderID = provider
		u := RecordUsage{ProviderID: provider, Connection: r.Connection, CapacityMbps: 100, Metering: listing.MeteringProvider, At: r.At, Reading: Recorded{
			ConnectionID: connectionID, From: scenario.Noon, To: scenario.After(60), BytesIn: 1, BytesOut: 2, Source: SourceProvider, Meter: "/meters/1", MeterEvent: "e-1"}}
		change(&u)
		return u
	}
	refused := func(name string, code domain.Code, change func(*RecordUsage), fields ...string) scenario.Case[Command] {
		return scenario.Case[Command]{Name: name, When: usage(change), Code: code, Fields: fields}
	}
	edge := record()
	edge.Metering = listing.MeteringProvider
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "recorded", When: usage(func(*RecordUsage) {}), Then: []domain.Event{usage(func(*RecordUsage) {}).Reading}},
		{Name: "an edge node's", When: edge, Code: domain.Invalid, Fields: []string{"/connection_id"}},
		refused("of another provider", domain.NotFound, func(u *RecordUsage) { u.ProviderID = scenario.ID(domain.PrefixOrganisation, 3) }),
		refused("of no connection", domain.NotFound, func(u *RecordUsage) { u.Connection = connection.State{} }),
		refused("that the platform meters", domain.Invalid, func(u *RecordUsage) { u.Metering = "" }, "/connection_id"),
		refused("without a name", domain.Invalid, func(u *RecordUsage) { u.Reading.Meter, u.Reading.MeterEvent = "", " " }, "/source", "/id"),
		refused("of the future", domain.Invalid, func(u *RecordUsage) { u.At = scenario.Noon.Add(-time.Hour) }, "/to"),
		refused("backwards", domain.Invalid, func(u *RecordUsage) { u.Reading.To = u.Reading.From }, "/to"),
		refused("of too long a time", domain.Invalid, func(u *RecordUsage) { u.Reading.To = u.Reading.From.Add(MaxSpan + 1000); u.At = u.Reading.To }, "/to"),
		refused("faster than the port", domain.Invalid, func(u *RecordUsage) { u.Reading.BytesIn = 762_500_001 }, "/bytes_in"),
		refused("negative", domain.Invalid, func(u *RecordUsage) { u.Reading.BytesOut = -1 }, "/bytes_out"),
		refused("before billing", domain.Invalid, func(u *RecordUsage) { u.Reading.From = scenario.Noon.Add(-time.Second) }, "/from"),
	})
}
