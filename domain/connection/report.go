package connection

import (
	"cmp"
	"slices"

	"crossbill/domain"
)

// report decides what an edge node reports. To a node that has nothing to do with the connection it does not exist.
func (s State) report(op, edgeNodeID string, c interface {
	Command
	decide(op string, s State) ([]domain.Event, error)
}) ([]domain.Event, error) {
	switch {
	case !s.Concerns(edgeNodeID):
		return nil, domain.Missing(op, "connection")
	case s.EdgeNodeID != edgeNodeID:
		return s.reportElsewhere(op, edgeNodeID, c)
	}
	return c.decide(op, s)
}

func (c ReportSession) decide(op string, s State) ([]domain.Event, error) {
	seen := c.Session
	seen.Since = domain.Instant(seen.Since)
	var p domain.Problems
	p.OneOf("/side", c.Side, SideA, SideZ)
	family := cmp.Or(c.Family, domain.IPv4)
	p.OneOf("/family", family, domain.IPv4, domain.IPv6)
	p.Check(slices.Contains(s.Families(), family), "/family", "is not carried by the connection")
	p.OneOf("/state", seen.State, SessionIdle, SessionConnect, SessionActive, SessionOpenSent, SessionOpenConfirm, SessionEstablished)
	p.Check(seen.PrefixesReceived >= 0 && seen.PrefixesReceived <= MaxSessionPrefixes, "/prefixes_received", "must be 0 to %d", MaxSessionPrefixes)
	p.Check(seen.PrefixesSent >= 0 && seen.PrefixesSent <= MaxSessionPrefixes, "/prefixes_sent", "must be 0 to %d", MaxSessionPrefixes)
	p.Time("/at", c.At)
	p.Time("/since", c.Session.Since)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	rebuild := s.reportsRebuild(c.EdgeNodeID)
	if rebuild {
		s = s.UnderTest()
	}
	before, known := s.Session(SessionName{c.Side, family})
	if seen.Since.After(c.At.Add(domain.MaxClockSkew)) {
		// The node's clock was ahead when the session came to its state, and may be right by now. What it is, is so; that it
		// is so since before now is all that can be said of when, or what was said before of the same state.
		if seen.Since = domain.Instant(c.At); known && before.State == seen.State {
			seen.Since = before.Since
		}
	}
	switch {
	case s.TestingDeadline == nil && !s.pastEdge():
		return nil, s.notOnEdge(op)
	case !s.OnEdge: // a report that was on its way when the last one came
		return nil, nil
	case known && before.equal(seen):
		return nil, nil
	}
	changed := SessionChanged{
		ConnectionID: s.ID, Side: c.Side, State: seen.State, Since: seen.Since, PrefixesReceived: seen.PrefixesReceived,
		PrefixesSent: seen.PrefixesSent, At: domain.Instant(c.At), Rebuild: rebuild,
	}
	if family != domain.IPv4 {
		changed.Family = family
	}
	return []domain.Event{changed}, nil
}

func (c ReportProbe) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/probe_id", domain.PrefixProbe, c.ProbeID)
	if c.Detail != "" {
		p.LongText("/detail", c.Detail, MaxProbeDetail)
	}
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	rebuild := s.reportsRebuild(c.EdgeNodeID)
	if rebuild {
		s = s.UnderTest()
	}
	switch {
	case s.TestingDeadline == nil && !s.pastEdge():
		return nil, s.notOnEdge(op)
	case !s.ProbePending() || s.LastProbe.ID != c.ProbeID:
		return nil, nil // of an earlier probe, or reported before
	case s.State != StateTesting && !rebuild:
		return nil, nil // given up since
	}
	return []domain.Event{Probed{ConnectionID: s.ID, ProbeID: c.ProbeID, Passed: c.Passed, Detail: c.Detail, At: domain.Instant(c.At), Rebuild: rebuild}}, nil
}

func (c Activate) decide(op string, s State) ([]domain.Event, error) {
	if s.reportsRebuild(c.EdgeNodeID) {
		return c.rebuilt(op, s)
	}
	opened := domain.Instant(c.OpenedAt)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/opened_at", c.OpenedAt)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.BillingFrom != nil || s.pastEdge():
		return nil, nil // the first report stands; one that comes after a cancellation starts nothing
	case s.CutoverRequestedAt == nil:
		return nil, domain.Errorf(domain.Conflict, op, "the gate of the connection %s was not to be opened", s.ID).
			WithHint("the edge node must be brought to its desired state")
	}
	p.Check(!opened.After(c.At.Add(domain.MaxClockSkew)), "/opened_at", "must not be in the future")
	p.Check(!opened.Before(s.CutoverRequestedAt.Add(-domain.MaxClockSkew)), "/opened_at", "must not be before the cutover was requested")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Activated{ConnectionID: s.ID, At: opened}}, nil
}

func (c CloseEdge) decide(op string, s State) ([]domain.Event, error) {
	closed := domain.Instant(c.ClosedAt)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/closed_at", c.ClosedAt)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case !s.pastEdge():
		return nil, s.refuse(op).WithHint("the edge node is to keep it")
	case !s.OnEdge:
		return nil, nil
	}
	p.Check(!closed.After(c.At.Add(domain.MaxClockSkew)), "/closed_at", "must not be in the future")
	if s.BillingFrom != nil {
		p.Check(!closed.Before(*s.BillingFrom), "/closed_at", "must not be before the gate was opened")
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{EdgeClosed{ConnectionID: s.ID, ClosedAt: closed, At: domain.Instant(c.At)}}, nil
}

// reportsRebuild reports whether what an edge node sees is of the new build: on another node it always is, on the same one
// since the old build's gate was closed.
func (s State) reportsRebuild(edgeNodeID string) bool {
	return s.rebuilding() && s.Rebuild.Build.EdgeNodeID == edgeNodeID && (s.Elsewhere() || s.Rebuild.StoppedAt != nil)
}

func (a Session) equal(b Session) bool {
	return a.State == b.State && a.Since.Equal(b.Since) && a.PrefixesReceived == b.PrefixesReceived && a.PrefixesSent == b.PrefixesSent
}

// pastEdge reports whether the edge node is to have nothing of the connection, or never more.
func (s State) pastEdge() bool {
	switch s.State {
	case StateDecommissionRequested, StateDecommissioned, StateCancelling, StateCancelled:
		return true
	}
	return false
}

// notOnEdge returns the Conflict for a report on a connection that no edge node has been asked to set up.
func (s State) notOnEdge(op string) error {
	return s.refuse(op).WithHint("the edge node was not asked to set it up")
}
