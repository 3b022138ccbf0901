package connection

import (
	"slices"
	"time"
)

// Desired is what an edge node is to make of a connection.
type Desired struct {
	EdgeNodeID string
	Phase      string
	Tag        int
	Mbps       int
	ProbeID    string // to be run once
	A, Z       *Attachment
}

// left reports whether an edge node has, or may have, been told of the connection and is not the one it is on.
func (s State) left(edgeNodeID string) bool { return slices.Contains(s.FormerNodes, edgeNodeID) }

// Concerns reports whether an edge node may report on the connection.
func (s State) Concerns(edgeNodeID string) bool {
	return edgeNodeID != "" && (s.EdgeNodeID == edgeNodeID || s.Elsewhere() && s.Rebuild.Build.EdgeNodeID == edgeNodeID || s.left(edgeNodeID))
}

// MeteredOn reports whether an edge node has, or had, traffic of the connection to count.
func (s State) MeteredOn(edgeNodeID string) bool {
	return edgeNodeID != "" && (s.EdgeNodeID == edgeNodeID || s.left(edgeNodeID))
}

// Awaited lists the edge nodes that are still to remove something of the connection.
func (s State) Awaited() []string {
	var nodes []string
	if s.OnEdge && s.pastEdge() {
		nodes = append(nodes, s.EdgeNodeID)
	}
	if s.Leaving != nil && s.Leaving.RemovedAt == nil {
		nodes = append(nodes, s.Leaving.EdgeNodeID)
	}
	return nodes
}

// AwaitedSince returns since when the first of [State.Awaited] is to remove it.
func (s State) AwaitedSince() time.Time {
	if s.OnEdge && s.pastEdge() {
		return *s.EndRequestedAt
	}
	return s.Leaving.Since
}

// Desired lists what edge nodes are to make of the connection, at most one entry for each node, that of its own node first.
func (s State) Desired() []Desired {
	var all []Desired
	of := func(b Build, phase string, mbps int, probe *Probe) {
		d := Desired{EdgeNodeID: b.EdgeNodeID, Phase: phase, Tag: b.Tag, Mbps: mbps, A: &b.A, Z: &b.Z}
		if probe != nil && probe.ReportedAt == nil {
			d.ProbeID = probe.ID
		}
		all = append(all, d)
	}
	rebuild := func() {
		phase, mbps := PhaseTesting, s.BandwidthMbps
		if s.Rebuild.CutoverRequestedAt != nil {
			phase = PhaseProduction
		}
		if s.Change != nil {
			mbps = s.Change.BandwidthMbps
		}
		of(*s.Rebuild.Build, phase, mbps, s.Rebuild.LastProbe)
	}
	switch phase := s.DesiredPhase(); {
	case phase == "" || s.A == nil || s.Z == nil:
	case s.rebuilding() && !s.Elsewhere():
		rebuild()
	default:
		of(s.build(), phase, s.DesiredMbps(), s.LastProbe)
	}
	if s.rebuilding() && s.Elsewhere() {
		rebuild()
	}
	if l := s.Leaving; l != nil && l.RemovedAt == nil {
		of(l.Build, PhaseAbsent, s.BandwidthMbps, nil)
	}
	return all
}

// DesiredOn returns what one edge node is to make of the connection; ok is false if it has nothing to do with it.
func (s State) DesiredOn(edgeNodeID string) (d Desired, ok bool) {
	for _, d := range s.Desired() {
		if d.EdgeNodeID == edgeNodeID {
			return d, true
		}
	}
	return Desired{}, false
}
