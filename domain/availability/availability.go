// Package availability says for how much of a calendar month a connection could be used, as far as the platform observes it.
//
// A connection in production is down while its provider's BGP session is not established, in any family that it carries, while
// its edge node is silent, and while it is moved and nothing crosses. Time in which it is suspended, or set up anew for a change
// that was ordered, and time in which nothing is amiss but the customer's own session, is neither up nor down: it is out of
// scope. What nobody observes is not claimed: the platform sends a test packet across before production and none after it, so
// a path that loses packets while its sessions stand counts as up, and a session that was lost and came back between two looks
// of the edge node's agent was never seen to be down.
//
// Everything follows from the events of the connection and of its edge node. It knows no prices: what a month that falls short
// gives back is the listing's promise, and decided elsewhere. Start reading at [State], then [State.Measure].
package availability

import (
	"maps"
	"slices"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
)

// Causes of time that does not count as up, a closed set.
const (
	CauseProviderSession = "provider_session" // down: the provider's BGP session is not established
	CauseEdgeNode        = "edge_node"        // down: nothing is heard of the edge node's agent
	CauseMove            = "move"             // down: nothing crosses while it is set up on other ports of its node
	CauseChange          = "change"           // out of scope: likewise for a change that the customer ordered, with its outage
	CauseSuspension      = "suspension"       // out of scope: the gate is closed on purpose
	CauseCustomerSession = "customer_session" // out of scope: the customer's BGP session is not established, and nothing else is amiss
)

// Interruption is a time in which a condition held that keeps a connection from being up.
type Interruption struct {
	Condition string // a cause, with "/ipv6" after it where it is that family's session
	From, To  time.Time
}

// State is what is known of one connection. The zero State is one that does not exist.
type State struct {
	Connection connection.State `json:"connection"`
	// Holds are the conditions that hold, since when; Known is, by condition, up to when its past is settled.
	Holds map[string]time.Time `json:"holds,omitempty"`
	Known map[string]time.Time `json:"known,omitempty"`
	// Ended are the interruptions that ended in the events that were folded, in order. Who keeps a state keeps them apart:
	// they are many.
	Ended []Interruption `json:"-"`
}

// Evolve returns the state after an event of the connection, or of an edge node. Those of other nodes leave it as it is.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case edgenode.FellSilent:
		if s.on(e.EdgeNodeID) {
			s = s.set(CauseEdgeNode, true, e.Since)
		}
		return s
	case edgenode.Heard:
		if s.on(e.EdgeNodeID) {
			s = s.set(CauseEdgeNode, false, e.Until)
		}
		return s
	}
	before := s.Connection
	s.Connection = connection.Evolve(before, e)
	for _, name := range s.Connection.SessionNames() {
		now, known := s.Connection.Session(name)
		was, _ := before.Session(name)
		if known && (now.State != was.State || !now.Since.Equal(was.Since)) {
			since := now.Since
			if e, ok := e.(connection.Rebuilt); ok { // until then the sessions of the build that it left were the ones
				since = later(since, e.At)
			}
			s = s.set(conditionOf(name), now.State != connection.SessionEstablished, since)
		}
	}
	switch e := e.(type) {
	case connection.Suspended:
		s = s.set(CauseSuspension, true, e.At)
	case connection.Resumed:
		s = s.set(CauseSuspension, false, e.At)
	case connection.TrafficStopped:
		if before.Change != nil {
			s = s.set(CauseChange, true, e.At)
		} else {
			s = s.set(CauseMove, true, e.At)
		}
	case connection.TrafficRestored:
		s = s.set(CauseChange, false, e.At).set(CauseMove, false, e.At)
	case connection.Rebuilt:
		if s = s.set(CauseChange, false, e.At).set(CauseMove, false, e.At); before.EdgeNodeID != s.Connection.EdgeNodeID {
			s = s.set(CauseEdgeNode, false, e.At) // that was the other node's silence; this one has just been heard
		}
	}
	if before.OnEdge && !s.Connection.OnEdge && s.Connection.EdgeClosedAt != nil {
		for _, condition := range slices.Sorted(maps.Keys(s.Holds)) {
			s = s.set(condition, false, *s.Connection.EdgeClosedAt)
		}
	}
	return s
}

// EdgeNodeID returns the node that the connection is on; "" while it is on none.
func (s State) EdgeNodeID() string {
	if !s.Connection.OnEdge {
		return ""
	}
	return s.Connection.EdgeNodeID
}

func (s State) on(edgeNodeID string) bool { return edgeNodeID != "" && s.EdgeNodeID() == edgeNodeID }

func conditionOf(name connection.SessionName) string {
	condition := CauseProviderSession
	if name.Side == connection.SideA {
		condition = CauseCustomerSession
	}
	if name.Family == domain.IPv6 {
		condition += "/" + domain.IPv6
	}
	return condition
}

// causeOf returns the cause that a condition is of.
func causeOf(condition string) string {
	cause, _, _ := strings.Cut(condition, "/")
	return cause
}

// DownConditions are all that make a connection count as down.
var DownConditions = []string{CauseEdgeNode, CauseMove, CauseProviderSession, CauseProviderSession + "/" + domain.IPv6}

// IsDown reports whether a condition makes a connection count as down, and not as out of scope.
func IsDown(condition string) bool {
	return slices.Contains(DownConditions, condition)
}

// set says whether a condition holds from an instant on. An instant before what is settled already is not believed: clocks
// differ, and a time that was counted stays as it was.
func (s State) set(condition string, holds bool, at time.Time) State {
	since, held := s.Holds[condition]
	if known := s.Known[condition]; at.Before(known) {
		at = known
	}
	if holds == held && !at.After(s.Known[condition]) {
		return s
	}
	s.Known = with(s.Known, condition, at)
	switch {
	case holds && !held:
		s.Holds = with(s.Holds, condition, at)
	case !holds && held:
		s.Holds = maps.Clone(s.Holds)
		delete(s.Holds, condition)
		if s.sold(since, at) {
			s.Ended = append(slices.Clip(s.Ended), Interruption{condition, since.UTC(), at.UTC()})
		}
	}
	return s
}

// sold reports whether the connection was in production in any of [from, to).
func (s State) sold(from, to time.Time) bool {
	c := s.Connection
	return from.Before(to) && c.BillingFrom != nil && c.BillingFrom.Before(to) && (c.BillingTo == nil || from.Before(*c.BillingTo))
}

// with returns a map with one more entry; states of before do not see it.
func with(m map[string]time.Time, key string, at time.Time) map[string]time.Time {
	changed := make(map[string]time.Time, len(m)+1)
	maps.Copy(changed, m)
	changed[key] = at.UTC()
	return changed
}

// DownSince returns since when the first of the conditions holds that make the connection count as down; nil: none does.
func (s State) DownSince() *time.Time {
	var first *time.Time
	for condition, since := range s.Holds {
		if IsDown(condition) && (first == nil || since.Before(*first)) {
			first = &since
		}
	}
	return first
}
