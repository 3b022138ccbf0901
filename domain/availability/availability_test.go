package availability_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
)

var (
	march = availability.Month{From: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)}
	april = availability.Month{From: march.To, To: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
)

const (
	con  = "con_00000000000000000000000001"
	node = "edg_00000000000000000000000001"
)

// on returns a time of March 2026: its day, hours, minutes and seconds.
func on(day, hour, minute, second int) time.Time {
	return time.Date(2026, 3, day, hour, minute, second, 0, time.UTC)
}

// production are the events of a connection that is in production from an instant on, dual-stack if so wished.
func production(from time.Time, families ...string) []domain.Event {
	prefixes := []string{"198.51.100.0/24"}
	if slices.Contains(families, domain.IPv6) {
		prefixes = append(prefixes, "2001:db8:1::/48")
	}
	before := from.Add(-time.Minute)
	all := []domain.Event{
		connection.Requested{ConnectionID: con, CustomerID: "org_c", ProviderID: "org_p", CustomerBGP: domain.BGP{ASN: 64501, Prefixes: prefixes}, At: before},
		connection.Allocated{ConnectionID: con, EdgeNodeID: node, Tag: 1, At: before},
		connection.TestingStarted{ConnectionID: con, Deadline: from.Add(time.Hour), At: before},
	}
	for _, side := range []string{connection.SideA, connection.SideZ} {
		all = append(all, session(side, "", connection.SessionActive, before), session(side, "", connection.SessionEstablished, before))
		if len(prefixes) > 1 {
			all = append(all, session(side, domain.IPv6, connection.SessionEstablished, before))
		}
	}
	return append(all, connection.CutoverRequested{ConnectionID: con, At: before}, connection.Activated{ConnectionID: con, At: from})
}

func session(side, family, state string, since time.Time) connection.SessionChanged {
	return connection.SessionChanged{ConnectionID: con, Side: side, Family: family, State: state, Since: since, At: since.Add(time.Second)}
}

func down(since time.Time) domain.Event {
	return session(connection.SideZ, "", connection.SessionIdle, since)
}
func up(since time.Time) domain.Event {
	return session(connection.SideZ, "", connection.SessionEstablished, since)
}
func silent(since time.Time) domain.Event {
	return edgenode.FellSilent{EdgeNodeID: node, Since: since, At: since.Add(4 * time.Minute)}
}
func heard(until time.Time) domain.Event {
	return edgenode.Heard{EdgeNodeID: node, Until: until, End: edgenode.EndHeard, At: until}
}

// fold returns the state after the events, with all that ended.
func fold(all []domain.Event) availability.State {
	var s availability.State
	for _, e := range all {
		s = availability.Evolve(s, e)
	}
	return s
}

// text is a report in a line: seconds in scope, down, excluded, then the outages and the exclusions.
func text(r availability.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d in scope, %d down, %d excluded", r.InScope, r.Down, r.Excluded)
	for _, spans := range [][]availability.Span{r.Outages, r.Exclusions} {
		for _, s := range spans {
			fmt.Fprintf(&b, "; %s–%s %s", s.From.Format("02T15:04:05"), s.To.Format("02T15:04:05"), strings.Join(s.Causes, "+"))
		}
	}
	return b.String()
}

const node2 = "edg_00000000000000000000000002"

// rebuild begins another build, for a move to a node or, with a change, on the same one.
func rebuild(at time.Time, to string, change bool) []domain.Event {
	asked := domain.Event(connection.MoveRequested{ConnectionID: con, Reason: "maintenance", At: at})
	if change {
		asked = connection.ChangeRequested{ConnectionID: con, OrderID: "ord_2", BandwidthMbps: 200, At: at}
	}
	return []domain.Event{asked, connection.RebuildStarted{ConnectionID: con, Build: connection.Build{EdgeNodeID: to, Tag: 2}, Deadline: at.Add(time.Hour), At: at}}
}

func rebuilt(to string, sessions, at time.Time) []domain.Event {
	a, z := session(connection.SideA, "", connection.SessionEstablished, sessions), session(connection.SideZ, "", connection.SessionEstablished, sessions)
	a.Rebuild, z.Rebuild = true, true
	return []domain.Event{a, z, connection.Rebuilt{ConnectionID: con, EdgeNodeID: to, At: at}}
}

const day = 24 * 60 * 60

func TestMeasure(t *testing.T) {
	t.Parallel()
	whole := production(march.From.Add(-48 * time.Hour))
	with := func(first []domain.Event, more ...domain.Event) []domain.Event {
		return append(slices.Clone(first), more...)
	}
	end := march.To.Add(time.Hour)
	for _, c := range []struct {
		name    string
		events  []domain.Event
		until   time.Time
		want    string
		percent string
	}{
		{"all is well", whole, end, fmt.Sprintf("%d in scope, 0 down, 0 excluded", 31*day), "100"},
		{"moved on its node", with(with(with(whole, rebuild(on(10, 12, 0, 0), node, false)...), connection.TrafficStopped{ConnectionID: con, At: on(10, 12, 0, 1)}),
			rebuilt(node, on(10, 12, 0, 20), on(10, 12, 0, 31))...), end, "2678400 in scope, 30 down, 0 excluded; 10T12:00:01–10T12:00:31 move", "99.9988"},
		{"moved on its node in vain", with(with(whole, rebuild(on(10, 12, 0, 0), node, false)...), connection.TrafficStopped{ConnectionID: con, At: on(10, 12, 0, 1)},
			connection.RebuildAbandoned{ConnectionID: con, Reason: "late", At: on(10, 12, 5, 0)}, connection.TrafficRestored{ConnectionID: con, At: on(10, 12, 5, 1)}), end,
			"2678400 in scope, 300 down, 0 excluded; 10T12:00:01–10T12:05:01 move", "99.9887"},
		{"changed by a rebuild", with(with(with(whole, rebuild(on(10, 12, 0, 0), node, true)...), connection.TrafficStopped{ConnectionID: con, At: on(10, 12, 0, 1)}),
			rebuilt(node, on(10, 12, 0, 20), on(10, 12, 0, 31))...), end, "2678370 in scope, 0 down, 30 excluded; 10T12:00:01–10T12:00:31 change", "100"},
		{"moved from a silent node", with(with(with(whole, silent(on(10, 12, 0, 0))), rebuild(on(10, 12, 10, 0), node2, false)...), append(rebuilt(node2, on(10, 12, 20, 0), on(10, 12, 30, 0)),
			heard(on(10, 13, 0, 0)), silent(on(11, 0, 0, 0)))...), end, "2678400 in scope, 1800 down, 0 excluded; 10T12:00:00–10T12:30:00 edge_node", "99.9327"},
		{"moved with the provider's session down", with(with(with(whole, down(on(10, 12, 0, 0))), rebuild(on(10, 12, 10, 0), node2, false)...), rebuilt(node2, on(10, 12, 20, 0), on(10, 12, 30, 0))...), end,
			"2678400 in scope, 1800 down, 0 excluded; 10T12:00:00–10T12:30:00 provider_session", "99.9327"},
		{"never in production", whole[:3], end, "0 in scope, 0 down, 0 excluded", ""},
		{"from the middle of the month", production(on(11, 0, 0, 0)), end, fmt.Sprintf("%d in scope, 0 down, 0 excluded", 21*day), "100"},
		{"from the middle of a second", production(on(11, 0, 0, 0).Add(time.Millisecond)), on(11, 0, 1, 0).Add(time.Millisecond), "60 in scope, 0 down, 0 excluded", "100"},
		{"the present month", whole, on(2, 0, 0, 0), fmt.Sprintf("%d in scope, 0 down, 0 excluded", day), "100"},
		{"before it is asked for", whole, march.From.Add(-time.Hour), "0 in scope, 0 down, 0 excluded", ""},
		// 2 678 400 s less 44 min 39 s (2679 s) is 99.89997…: below 99.9, and cut, not rounded up to it.
		{"the provider's session", with(whole, down(on(10, 12, 0, 0)), up(on(10, 12, 44, 39))), end,
			"2678400 in scope, 2679 down, 0 excluded; 10T12:00:00–10T12:44:39 provider_session", "99.8999"},
		{"by way of other states", with(whole, down(on(10, 12, 0, 0)), session("z", "", connection.SessionConnect, on(10, 12, 0, 5)),
			session("z", "", connection.SessionOpenConfirm, on(10, 12, 0, 9)), up(on(10, 12, 0, 10))), end,
			"2678400 in scope, 10 down, 0 excluded; 10T12:00:00–10T12:00:10 provider_session", "99.9996"},
		{"the customer's session", with(whole, session("a", "", connection.SessionIdle, on(10, 12, 0, 0)), session("a", "", connection.SessionEstablished, on(10, 13, 0, 0))), end,
			"2674800 in scope, 0 down, 3600 excluded; 10T12:00:00–10T13:00:00 customer_session", "100"},
		{"both sessions", with(whole, session("a", "", connection.SessionIdle, on(10, 12, 0, 0)), down(on(10, 12, 30, 0)), up(on(10, 12, 40, 0)),
			session("a", "", connection.SessionEstablished, on(10, 13, 0, 0))), end,
			"2675400 in scope, 600 down, 3000 excluded; 10T12:30:00–10T12:40:00 provider_session; 10T12:00:00–10T12:30:00 customer_session; 10T12:40:00–10T13:00:00 customer_session", "99.9775"},
		{"one of two families", with(production(march.From, domain.IPv6), session("z", domain.IPv6, connection.SessionIdle, on(10, 12, 0, 0)),
			down(on(10, 12, 5, 0)), session("z", domain.IPv6, connection.SessionEstablished, on(10, 12, 10, 0)), up(on(10, 12, 20, 0))), end,
			"2678400 in scope, 1200 down, 0 excluded; 10T12:00:00–10T12:20:00 provider_session", "99.9551"},
		{"the edge node, and the session in it", with(whole, silent(on(10, 12, 0, 0)), heard(on(10, 12, 10, 0)), down(on(10, 12, 9, 0)), up(on(10, 12, 11, 0))), end,
			"2678400 in scope, 660 down, 0 excluded; 10T12:00:00–10T12:11:00 edge_node+provider_session", "99.9753"},
		{"another edge node", with(whole, edgenode.FellSilent{EdgeNodeID: "edg_other", Since: on(10, 12, 0, 0)}), end, "2678400 in scope, 0 down, 0 excluded", "100"},
		{"suspended, and down meanwhile", with(whole, connection.Suspended{ConnectionID: con, At: on(10, 0, 0, 0)}, silent(on(10, 23, 0, 0)),
			connection.Resumed{ConnectionID: con, At: on(11, 0, 0, 0)}, heard(on(11, 1, 0, 0))), end,
			"2592000 in scope, 3600 down, 86400 excluded; 11T00:00:00–11T01:00:00 edge_node; 10T00:00:00–11T00:00:00 suspension", "99.8611"},
		{"still suspended", with(whole, connection.Suspended{ConnectionID: con, At: on(31, 0, 0, 0)}), end,
			"2592000 in scope, 0 down, 86400 excluded; 31T00:00:00–01T00:00:00 suspension", "100"},
		{"still down", with(whole, down(on(31, 23, 0, 0))), end, "2678400 in scope, 3600 down, 0 excluded; 31T23:00:00–01T00:00:00 provider_session", "99.8655"},
		{"down, as of now", with(whole, down(on(1, 1, 0, 0))), on(1, 2, 0, 0), "7200 in scope, 3600 down, 0 excluded; 01T01:00:00–01T02:00:00 provider_session", "50"},
		{"down all the month", with(whole, down(march.From.Add(-time.Hour)), up(march.To.Add(time.Minute))), end,
			"2678400 in scope, 2678400 down, 0 excluded; 01T00:00:00–01T00:00:00 provider_session", "0"},
		{"down as it goes into production", with(whole[:3], down(march.From.Add(-time.Hour)), connection.Activated{ConnectionID: con, At: march.From}, up(on(1, 0, 1, 0))), end,
			"2678400 in scope, 60 down, 0 excluded; 01T00:00:00–01T00:01:00 provider_session", "99.9977"},
		{"decommissioned", with(whole, connection.DecommissionRequested{ConnectionID: con, EffectiveAt: on(11, 0, 0, 0), At: on(11, 0, 0, 0)}, down(on(11, 0, 0, 5)),
			connection.EdgeClosed{ConnectionID: con, ClosedAt: on(11, 0, 0, 7), At: on(11, 0, 0, 9)}, silent(on(12, 0, 0, 0))), end,
			fmt.Sprintf("%d in scope, 0 down, 0 excluded", 10*day), "100"},
		{"parts of seconds", with(whole, down(on(10, 12, 0, 0).Add(900*time.Millisecond)), up(on(10, 12, 0, 2).Add(100*time.Millisecond)),
			down(on(10, 13, 0, 0).Add(100*time.Millisecond)), up(on(10, 13, 0, 0).Add(900*time.Millisecond))), end,
			"2678400 in scope, 2 down, 0 excluded; 10T12:00:00–10T12:00:02 provider_session", "99.9999"},
		// The second outage begins, by the node's clock, before the first was over: what was counted is not counted again.
		{"a clock that was set back", with(whole, down(on(10, 12, 0, 0)), up(on(10, 12, 10, 0)), down(on(10, 12, 5, 0)), up(on(10, 12, 12, 0))), end,
			"2678400 in scope, 720 down, 0 excluded; 10T12:00:00–10T12:12:00 provider_session", "99.9731"},
		{"lost and back between two looks", with(whole, up(on(10, 12, 0, 0))), end, "2678400 in scope, 0 down, 0 excluded", "100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := fold(c.events)
			for n, i := range s.Ended { // read models know them by condition and beginning
				for _, o := range s.Ended[:n] {
					if i.Condition == o.Condition && i.From.Before(o.To) {
						t.Errorf("%v overlaps %v", i, o)
					}
				}
			}
			got := s.Measure(march, s.Ended, c.until)
			if got.From.Nanosecond() != 0 || got.To.Nanosecond() != 0 {
				t.Errorf("measured from %s to %s", got.From, got.To)
			}
			if text(got) != c.want {
				t.Errorf("got  %s\nwant %s", text(got), c.want)
			}
			percent, ok := got.Percent()
			if ok != (c.percent != "") || ok && percent.String() != c.percent {
				t.Errorf("got %s %t, want %q", percent, ok, c.percent)
			}
		})
	}
}

// TestMeasure_Naively holds the sweep to a count of every second, over histories in which everything happens at any time, and
// the parts of an outage that a month's end cuts to the whole.
func TestMeasure_Naively(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 7))
		from := march.To.Add(-30 * time.Minute)
		all := production(from, domain.IPv6)
		now := from
		type condition struct{ from, to time.Time }
		held := make(map[string][]condition)
		open := make(map[string]time.Time)
		toggle := func(name string, on, off domain.Event) {
			if since, ok := open[name]; ok {
				held[name] = append(held[name], condition{since, now})
				delete(open, name)
				all = append(all, off)
			} else {
				open[name] = now
				all = append(all, on)
			}
		}
		for range 5 + random.IntN(40) {
			now = now.Add(time.Duration(random.IntN(120)) * time.Second)
			switch random.IntN(6) {
			case 0:
				toggle("z", down(now), up(now))
			case 1:
				toggle("z6", session("z", domain.IPv6, connection.SessionIdle, now), session("z", domain.IPv6, connection.SessionEstablished, now))
			case 2:
				toggle("a", session("a", "", connection.SessionIdle, now), session("a", "", connection.SessionEstablished, now))
			case 3:
				toggle("node", silent(now), heard(now))
			case 4:
				toggle("suspended", connection.Suspended{ConnectionID: con, At: now}, connection.Resumed{ConnectionID: con, At: now})
			case 5:
				all = append(all, connection.MessageChanged{ConnectionID: con, Message: "hello", At: now})
			}
		}
		until := now.Add(time.Duration(random.IntN(120)) * time.Second)
		holds := func(name string, at time.Time) bool {
			if since, ok := open[name]; ok && !at.Before(since) {
				return true
			}
			return slices.ContainsFunc(held[name], func(c condition) bool { return !at.Before(c.from) && at.Before(c.to) })
		}
		var want [2]availability.Report
		for at := from; at.Before(until); at = at.Add(time.Second) {
			r := &want[0]
			if !at.Before(march.To) {
				r = &want[1]
			}
			switch {
			case holds("suspended", at):
				r.Excluded++
			case holds("z", at), holds("z6", at), holds("node", at):
				r.InScope, r.Down = r.InScope+1, r.Down+1
			case holds("a", at):
				r.Excluded++
			default:
				r.InScope++
			}
		}
		s := fold(all)
		for n, month := range []availability.Month{march, april} {
			got := s.Measure(month, s.Ended, until)
			if got.InScope != want[n].InScope || got.Down != want[n].Down || got.Excluded != want[n].Excluded {
				t.Fatalf("seed %d: got %s, want %d in scope, %d down, %d excluded", seed, text(got), want[n].InScope, want[n].Down, want[n].Excluded)
			}
			for _, of := range []struct {
				spans []availability.Span
				want  int64
			}{{got.Outages, got.Down}, {got.Exclusions, got.Excluded}} {
				sum := int64(0)
				for k, span := range of.spans {
					sum += span.To.Unix() - span.From.Unix()
					if k > 0 && !of.spans[k-1].To.Before(span.From) {
						t.Fatalf("seed %d: %s", seed, text(got))
					}
				}
				if sum != of.want {
					t.Fatalf("seed %d: spans of %d seconds, want %d: %s", seed, sum, of.want, text(got))
				}
			}
		}
	}
}

// TestEvolve_KeepsStates checks that a state does not change when it is evolved from.
func TestEvolve_KeepsStates(t *testing.T) {
	t.Parallel()
	all := append(production(march.From), down(on(2, 0, 0, 0)), silent(on(2, 0, 0, 30)), up(on(2, 0, 1, 0)), heard(on(2, 0, 9, 0)), down(on(3, 0, 0, 0)))
	var s availability.State
	for n, e := range all {
		before, again := s, fold(all[:n])
		s = availability.Evolve(s, e)
		if !reflect.DeepEqual(before, again) {
			t.Fatalf("event %d changed the state before it", n)
		}
	}
	if since := s.DownSince(); since == nil || !since.Equal(on(3, 0, 0, 0)) {
		t.Errorf("down since %v", since)
	}
	s = availability.Evolve(s, connection.DecommissionRequested{ConnectionID: con, EffectiveAt: on(4, 0, 0, 0), At: on(4, 0, 0, 0)})
	if s = availability.Evolve(s, connection.EdgeClosed{ConnectionID: con, ClosedAt: on(4, 0, 1, 0), At: on(4, 0, 1, 0)}); s.DownSince() != nil || s.EdgeNodeID() != "" {
		t.Errorf("when it has ended it is down since %v, on %q", s.DownSince(), s.EdgeNodeID())
	}
}
