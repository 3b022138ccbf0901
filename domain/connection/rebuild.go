package connection

import (
	"maps"
	"slices"
	"time"

	"crossbill/domain"
)

// MaxRebuild bounds a rebuild's tests, from its start to its deadline.
const MaxRebuild = MaxTesting

// Build is a connection as it is, or is to be, set up on an edge node.
type Build struct {
	EdgeNodeID string     `json:"edge_node_id"`
	EdgeASN    uint32     `json:"edge_asn"`
	Tag        int        `json:"tag"`
	A          Attachment `json:"a"`
	Z          Attachment `json:"z"`
}

// Rebuild is another build that is to take the place of the one in production. On the same edge node traffic stops before
// it is set up (break before make: a node has one build of a connection at a time). On another one it is tested beside the
// one in production, which stays until traffic crosses the new one (make before break).
type Rebuild struct {
	CustomerPortID     string             `json:"customer_port_id"`
	ProviderPortID     string             `json:"provider_port_id"`
	ProviderBGP        *BGP               `json:"provider_bgp,omitempty"` // nil: as it is
	Reason             string             `json:"reason"`
	RequestedAt        time.Time          `json:"requested_at"`
	Build              *Build             `json:"build,omitempty"` // nil until it is chosen
	Deadline           *time.Time         `json:"deadline,omitempty"`
	StoppedAt          *time.Time         `json:"stopped_at,omitempty"` // since when nothing crosses the old build; on the same node
	Sessions           map[string]Session `json:"sessions,omitempty"`   // of the new build, by side
	LastProbe          *Probe             `json:"last_probe,omitempty"` // likewise
	FailedProbes       int                `json:"failed_probes,omitempty"`
	CutoverRequestedAt *time.Time         `json:"cutover_requested_at,omitempty"`
	AbandonedAt        *time.Time         `json:"abandoned_at,omitempty"` // on the same node, until the old build carries traffic again
}

// Leaving is a build that is in use no more, or never came to be, and still holds what was reserved for it.
type Leaving struct {
	Build
	Since     time.Time  `json:"since"`
	RemovedAt *time.Time `json:"removed_at,omitempty"` // when its edge node had nothing left of it; nil until it says so
}

// RequestMove has the connection set up on other ports, of the same edge node or of another. The caller makes sure that they
// are its parties' and of one node.
type RequestMove struct {
	CustomerPortID string
	ProviderPortID string
	Reason         string
	At             time.Time
}

// StartRebuild records what is reserved for another build: of a move, or of a change that is not in place. The caller
// reserves it in the same append.
type StartRebuild struct {
	Build          Build
	CustomerPortID string
	ProviderPortID string
	ProviderBGP    *BGP // nil: as it is
	Reason         string
	Deadline       time.Time // give up when it is not in production by then; at most [MaxRebuild] after At
	At             time.Time
}

// ReportStopped is the edge node's report that nothing crosses a build that is to make way. The first report stands.
type ReportStopped struct {
	EdgeNodeID string
	ClosedAt   time.Time // the edge node's clock
	At         time.Time
}

// ReportRestored is the edge node's report that its gate is open, which ends an abandoned rebuild.
type ReportRestored struct {
	EdgeNodeID string
	OpenedAt   time.Time // the edge node's clock
	At         time.Time
}

// AbandonRebuild gives another build up: the connection stays on, or goes back to, the one it has.
type AbandonRebuild struct {
	Reason string
	At     time.Time
}

// ReleaseBuild ends a build of which nothing is left. The caller frees what was reserved for it in the same append.
type ReleaseBuild struct{ At time.Time }

func (RequestMove) command()    {}
func (StartRebuild) command()   {}
func (ReportStopped) command()  {}
func (ReportRestored) command() {}
func (AbandonRebuild) command() {}
func (ReleaseBuild) command()   {}

// MoveRequested says that the connection is to be set up on other ports.
type MoveRequested struct {
	ConnectionID   string    `json:"connection_id"`
	CustomerPortID string    `json:"customer_port_id"`
	ProviderPortID string    `json:"provider_port_id"`
	Reason         string    `json:"reason"`
	At             time.Time `json:"at"`
}

// RebuildStarted says what is reserved for another build, and that it is to be set up and tested by Deadline.
type RebuildStarted struct {
	ConnectionID   string    `json:"connection_id"`
	Build          Build     `json:"build"`
	CustomerPortID string    `json:"customer_port_id"`
	ProviderPortID string    `json:"provider_port_id"`
	ProviderBGP    *BGP      `json:"provider_bgp,omitempty"` // absent: as it is
	Reason         string    `json:"reason"`
	Deadline       time.Time `json:"deadline"`
	At             time.Time `json:"at"`
}

// TrafficStopped says that nothing crosses the old build since At, the instant the edge node closed its gate.
type TrafficStopped struct {
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
}

// Rebuilt says that traffic crosses the new build since At, the instant the edge node opened its gate.
type Rebuilt struct {
	ConnectionID string    `json:"connection_id"`
	EdgeNodeID   string    `json:"edge_node_id"`
	At           time.Time `json:"at"`
}

// RebuildAbandoned says that the other build was given up.
type RebuildAbandoned struct {
	ConnectionID string    `json:"connection_id"`
	Reason       string    `json:"reason"`
	At           time.Time `json:"at"`
}

// TrafficRestored says that traffic crosses the old build again since At, the instant the edge node opened its gate.
type TrafficRestored struct {
	ConnectionID string    `json:"connection_id"`
	At           time.Time `json:"at"`
}

// BuildRemoved says that an edge node which the connection left has nothing left of it, and has delivered its readings.
type BuildRemoved struct {
	ConnectionID string    `json:"connection_id"`
	EdgeNodeID   string    `json:"edge_node_id"`
	ClosedAt     time.Time `json:"closed_at"` // when traffic stopped crossing there; the edge node's clock
	At           time.Time `json:"at"`
}

// BuildReleased says that what was reserved for a build that is gone is free.
type BuildReleased struct {
	ConnectionID string    `json:"connection_id"`
	EdgeNodeID   string    `json:"edge_node_id"`
	Tag          int       `json:"tag"`
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (MoveRequested) EventType() string { return "connection.move_requested" }

// EventType is the name in the log.
func (RebuildStarted) EventType() string { return "connection.rebuild_started" }

// EventType is the name in the log.
func (TrafficStopped) EventType() string { return "connection.traffic_stopped" }

// EventType is the name in the log.
func (Rebuilt) EventType() string { return "connection.rebuilt" }

// EventType is the name in the log.
func (RebuildAbandoned) EventType() string { return "connection.rebuild_abandoned" }

// EventType is the name in the log.
func (TrafficRestored) EventType() string { return "connection.traffic_restored" }

// EventType is the name in the log.
func (BuildRemoved) EventType() string { return "connection.build_removed" }

// EventType is the name in the log.
func (BuildReleased) EventType() string { return "connection.build_released" }

// Elsewhere reports whether the other build is on another edge node.
func (s State) Elsewhere() bool {
	return s.Rebuild != nil && s.Rebuild.Build != nil && s.Rebuild.Build.EdgeNodeID != s.EdgeNodeID
}

// rebuilding reports whether the other build is being set up or tested.
func (s State) rebuilding() bool {
	return s.Rebuild != nil && s.Rebuild.Build != nil && s.Rebuild.AbandonedAt == nil
}

// UnderTest returns the connection as the tests of its other build see it: that build's sessions, probes, cutover and
// deadline stand where a new connection has its own.
func (s State) UnderTest() State {
	r := s.Rebuild
	s.Sessions, s.LastProbe, s.FailedProbes = r.Sessions, r.LastProbe, r.FailedProbes
	s.CutoverRequestedAt, s.TestingDeadline = r.CutoverRequestedAt, r.Deadline
	return s
}

// build is the one in production.
func (s State) build() Build {
	return Build{EdgeNodeID: s.EdgeNodeID, EdgeASN: s.EdgeASN, Tag: s.Tag, A: *s.A, Z: *s.Z}
}

func (c RequestMove) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/customer_port_id", domain.PrefixPort, c.CustomerPortID)
	p.ID("/provider_port_id", domain.PrefixPort, c.ProviderPortID)
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if r := s.Rebuild; r != nil && s.Change == nil && r.CustomerPortID == c.CustomerPortID && r.ProviderPortID == c.ProviderPortID && r.Reason == c.Reason {
		return nil, nil
	}
	if err := s.movable(op); err != nil {
		return nil, err
	}
	p.Check(c.CustomerPortID != s.CustomerPortID || c.ProviderPortID != s.ProviderPortID, "/customer_port_id", "is where the connection is, and so is the provider's")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{MoveRequested{ConnectionID: s.ID, CustomerPortID: c.CustomerPortID, ProviderPortID: c.ProviderPortID, Reason: c.Reason, At: domain.Instant(c.At)}}, nil
}

func (c StartRebuild) decide(op string, s State) ([]domain.Event, error) {
	deadline := domain.Instant(c.Deadline)
	provider := s.ProviderBGP
	if c.ProviderBGP != nil {
		provider = *c.ProviderBGP
	}
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.BGP("/provider_bgp", provider)
	p.BGPPair("/provider_bgp", provider, s.CustomerBGP)
	p.Time("/at", c.At)
	p.Time("/deadline", c.Deadline)
	c.Build.check(&p, c.CustomerPortID, s.CustomerBGP, c.ProviderPortID, provider)
	p.Check(c.Build.EdgeNodeID != s.EdgeNodeID || c.Build.Tag != s.Tag, "/build/tag", "is that of the build in production")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	r := s.Rebuild
	switch {
	case r != nil && r.Build != nil:
		if r.Build.Tag == c.Build.Tag && r.Build.EdgeNodeID == c.Build.EdgeNodeID && r.Build.A.equal(c.Build.A) && r.Build.Z.equal(c.Build.Z) {
			return nil, nil
		}
		return nil, domain.Differs(op, "connection", s.ID, "rebuild")
	case s.Leaving != nil:
		return nil, s.movable(op)
	case r == nil && (s.Change == nil || s.Change.InPlace):
		return nil, s.refuse(op).WithHint("ask for a move, or for a change that is not in place")
	case r != nil && (r.CustomerPortID != c.CustomerPortID || r.ProviderPortID != c.ProviderPortID):
		return nil, domain.Differs(op, "connection", s.ID, "move")
	}
	p.Check(deadline.After(c.At) && !deadline.After(c.At.Add(MaxRebuild)), "/deadline", "must be in the future, by at most %s", MaxRebuild)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{RebuildStarted{
		ConnectionID: s.ID, Build: c.Build, CustomerPortID: c.CustomerPortID, ProviderPortID: c.ProviderPortID, ProviderBGP: c.ProviderBGP,
		Reason: c.Reason, Deadline: deadline, At: domain.Instant(c.At),
	}}, nil
}

// check is that of an allocation.
func (b Build) check(p *domain.Problems, customerPort string, customer BGP, providerPort string, provider BGP) {
	p.ID("/edge_node_id", domain.PrefixEdgeNode, b.EdgeNodeID)
	p.ASN("/edge_asn", b.EdgeASN)
	p.Check(b.Tag >= MinTag && b.Tag <= MaxTag, "/tag", "must be %d to %d", MinTag, MaxTag)
	b.A.check(p, "/a", customerPort, customer, b.EdgeASN)
	b.Z.check(p, "/z", providerPort, provider, b.EdgeASN)
	for _, family := range []string{domain.IPv4, domain.IPv6} {
		carried := slices.Contains(familiesOf(customer), family)
		linkA, linkZ := b.A.checkLink(p, "/a", family, carried), b.Z.checkLink(p, "/z", family, carried)
		p.Check(!linkA.IsValid() || !linkZ.IsValid() || !linkA.Overlaps(linkZ), "/z"+addressField[family], "is on the link of the other side")
	}
	p.Check(b.A.PortID != b.Z.PortID || b.A.VLAN != b.Z.VLAN, "/z/vlan", "is the other side's on the same port")
}

func (c ReportStopped) decide(op string, s State) ([]domain.Event, error) {
	closed := domain.Instant(c.ClosedAt)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/closed_at", c.ClosedAt)
	p.Check(!closed.After(c.At.Add(domain.MaxClockSkew)), "/closed_at", "must not be in the future")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if !s.rebuilding() || s.Elsewhere() || s.Rebuild.StoppedAt != nil || s.EdgeNodeID != c.EdgeNodeID ||
		closed.Before(s.Rebuild.RequestedAt.Add(-domain.MaxClockSkew)) {
		return nil, nil // known, of an earlier rebuild, or not asked for: then it is reported when it is
	}
	return []domain.Event{TrafficStopped{ConnectionID: s.ID, At: closed}}, nil
}

func (c ReportRestored) decide(op string, s State) ([]domain.Event, error) {
	opened := domain.Instant(c.OpenedAt)
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/opened_at", c.OpenedAt)
	p.Check(!opened.After(c.At.Add(domain.MaxClockSkew)), "/opened_at", "must not be in the future")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	r := s.Rebuild
	if r == nil || r.AbandonedAt == nil || s.EdgeNodeID != c.EdgeNodeID || r.StoppedAt != nil && !opened.After(*r.StoppedAt) {
		return nil, nil
	}
	return []domain.Event{TrafficRestored{ConnectionID: s.ID, At: opened}}, nil
}

// rebuilt decides an edge node's report that the new build's gate is open.
func (c Activate) rebuilt(op string, s State) ([]domain.Event, error) {
	opened, r := domain.Instant(c.OpenedAt), s.Rebuild
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/opened_at", c.OpenedAt)
	p.Check(!opened.After(c.At.Add(domain.MaxClockSkew)), "/opened_at", "must not be in the future")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case r.StoppedAt != nil && !opened.After(*r.StoppedAt), opened.Before(r.RequestedAt.Add(-domain.MaxClockSkew)):
		return nil, nil // of the old build, or of an earlier stay on this node
	case r.CutoverRequestedAt == nil:
		return nil, domain.Errorf(domain.Conflict, op, "the gate of the connection %s was not to be opened", s.ID).
			WithHint("the edge node must be brought to its desired state")
	}
	all := []domain.Event{Rebuilt{ConnectionID: s.ID, EdgeNodeID: r.Build.EdgeNodeID, At: opened}}
	if s.Change != nil {
		changed := s.changed(opened)
		if len(changed) == 0 {
			return nil, nil // it is to have ended by now
		}
		all = append(all, changed...)
	}
	return all, nil
}

func (c AbandonRebuild) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return s.abandoned(c.Reason, c.At), nil
}

// abandoned is what gives the other build up, if there is one that is not given up yet.
func (s State) abandoned(reason string, at time.Time) []domain.Event {
	if s.Rebuild == nil || s.Rebuild.AbandonedAt != nil {
		return nil
	}
	return []domain.Event{RebuildAbandoned{ConnectionID: s.ID, Reason: reason, At: domain.Instant(at)}}
}

func (c ReleaseBuild) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch l := s.Leaving; {
	case l == nil:
		return nil, nil
	case l.RemovedAt == nil:
		return nil, domain.Errorf(domain.Conflict, op, "the edge node %s has not removed the connection %s yet", l.EdgeNodeID, s.ID).
			WithHint("wait for its report")
	default:
		return []domain.Event{BuildReleased{ConnectionID: s.ID, EdgeNodeID: l.EdgeNodeID, Tag: l.Tag, At: domain.Instant(c.At)}}, nil
	}
}

// movable returns why no other build can take the place of the one that there is, a Conflict, or nil.
func (s State) movable(op string) error {
	switch {
	case s.Rebuild != nil || s.Leaving != nil:
		return domain.Errorf(domain.Conflict, op, "the connection %s is being moved or rebuilt", s.ID).
			WithHint("wait until that is done or given up, and nothing is left of the build that it left")
	case s.Change != nil:
		return domain.Errorf(domain.Conflict, op, "the connection %s is being changed by the order %s", s.ID, s.Change.OrderID).
			WithHint("wait until that change is in force or given up")
	case s.SuspensionRequestedAt != nil || s.State == StateSuspended:
		return domain.Errorf(domain.Conflict, op, "the connection %s is suspended", s.ID).WithHint("resume it first")
	case s.State != StateProduction:
		return s.refuse(op).WithHint("a connection is changed while it is in production")
	}
	return nil
}

// reportElsewhere decides what an edge node reports that the connection is to be moved to, or has left.
func (s State) reportElsewhere(op, edgeNodeID string, c Command) ([]domain.Event, error) {
	moving := s.Elsewhere() && s.Rebuild.Build.EdgeNodeID == edgeNodeID
	switch c := c.(type) {
	case ReportSession:
		if moving {
			return c.decide(op, s)
		}
	case ReportProbe:
		if moving {
			return c.decide(op, s)
		}
	case Activate:
		if moving {
			return c.rebuilt(op, s)
		}
	case CloseEdge:
		if l := s.Leaving; l != nil && l.EdgeNodeID == edgeNodeID && l.RemovedAt == nil {
			return c.left(op, s)
		}
		if moving {
			return nil, s.refuse(op).WithHint("the edge node is to keep it")
		}
	}
	return nil, nil // of other reports only those of the node that carries the traffic count
}

// left decides the report of a node that the connection left.
func (c CloseEdge) left(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Time("/at", c.At)
	p.Time("/closed_at", c.ClosedAt)
	p.Check(!c.ClosedAt.After(c.At.Add(domain.MaxClockSkew)), "/closed_at", "must not be in the future")
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{BuildRemoved{ConnectionID: s.ID, EdgeNodeID: s.Leaving.EdgeNodeID, ClosedAt: domain.Instant(c.ClosedAt), At: domain.Instant(c.At)}}, nil
}

// withRebuild is the part of [Evolve] about another build.
func (s State) withRebuild(e domain.Event) State {
	var r Rebuild
	if s.Rebuild != nil {
		r = *s.Rebuild // an earlier State must not see the change
	}
	settled := func() { // unless an order's change of it is still to be ended
		if s.Rebuild = nil; s.Change == nil && s.State == StateChangePending {
			s.State = StateProduction
		}
	}
	leave := func(b Build, at time.Time, removed *time.Time) {
		s.Leaving = &Leaving{Build: b, Since: at, RemovedAt: removed}
		if removed == nil && !s.left(b.EdgeNodeID) {
			s.FormerNodes = append(slices.Clip(s.FormerNodes), b.EdgeNodeID)
		}
	}
	switch e := e.(type) {
	case MoveRequested:
		s.State, s.RebuildFailure = StateChangePending, ""
		s.Rebuild = &Rebuild{CustomerPortID: e.CustomerPortID, ProviderPortID: e.ProviderPortID, Reason: e.Reason, RequestedAt: e.At}
	case RebuildStarted:
		if s.Rebuild == nil {
			r.RequestedAt = e.At
		}
		r.CustomerPortID, r.ProviderPortID, r.ProviderBGP, r.Reason, r.Build, r.Deadline = e.CustomerPortID, e.ProviderPortID, e.ProviderBGP, e.Reason, &e.Build, &e.Deadline
		s.Rebuild, s.RebuildFailure = &r, ""
	case SessionChanged:
		r.Sessions = maps.Clone(r.Sessions)
		if r.Sessions == nil {
			r.Sessions = make(map[string]Session, 2)
		}
		r.Sessions[sessionKey(e.Side, e.Family)] = Session{e.State, e.Since, e.PrefixesReceived, e.PrefixesSent}
		s.Rebuild = &r
	case ProbeRequested:
		r.LastProbe = &Probe{ID: e.ProbeID, RequestedAt: e.At}
		s.Rebuild = &r
	case Probed:
		probe := Probe{ID: e.ProbeID, ReportedAt: &e.At, Passed: e.Passed, Detail: e.Detail}
		if r.LastProbe != nil {
			probe.RequestedAt = r.LastProbe.RequestedAt
		}
		if r.LastProbe = &probe; !e.Passed {
			r.FailedProbes++
		}
		s.Rebuild = &r
	case CutoverRequested:
		r.CutoverRequestedAt = &e.At
		s.Rebuild = &r
	case TrafficStopped:
		r.StoppedAt = &e.At
		s.Rebuild = &r
	case Rebuilt:
		if r.Build == nil || s.A == nil || s.Z == nil {
			return s
		}
		removed := &e.At
		if s.Elsewhere() {
			removed = nil
		}
		leave(s.build(), e.At, removed)
		b := *r.Build
		s.EdgeNodeID, s.EdgeASN, s.Tag, s.A, s.Z = b.EdgeNodeID, b.EdgeASN, b.Tag, &b.A, &b.Z
		s.FormerNodes = slices.DeleteFunc(slices.Clone(s.FormerNodes), func(id string) bool { return id == b.EdgeNodeID })
		s.CustomerPortID, s.ProviderPortID = r.CustomerPortID, r.ProviderPortID
		if r.ProviderBGP != nil {
			s.ProviderBGP = *r.ProviderBGP
		}
		s.Sessions, s.LastProbe, s.EdgeMessage = r.Sessions, r.LastProbe, nil
		settled()
	case RebuildAbandoned:
		s.RebuildFailure = e.Reason
		switch {
		case r.Build == nil:
			settled()
		case s.Elsewhere():
			leave(*r.Build, e.At, nil)
			settled()
		default:
			r.AbandonedAt = &e.At
			s.Rebuild = &r
		}
	case TrafficRestored:
		if r.Build != nil {
			leave(*r.Build, e.At, &e.At)
		}
		settled()
	case BuildRemoved:
		if s.Leaving != nil {
			gone := *s.Leaving
			gone.RemovedAt = &e.ClosedAt
			s.Leaving = &gone
		}
	case BuildReleased:
		s.Leaving = nil
	case DecommissionRequested:
		if s.Elsewhere() {
			leave(*r.Build, e.At, nil)
		}
		s.Rebuild = nil
	}
	return s
}
