package connection

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

type (
	one   = scenario.Case[Command]
	facts = []domain.Event
)

func TestSteps(t *testing.T) {
	t.Parallel()
	at := scenario.After
	otherTag, otherDeadline := allocate(), StartTesting{at(601), at(2)}
	otherTag.Tag = 8
	later := allocate()
	later.At = at(99)
	otherRequest := request()
	otherRequest.BandwidthMbps = 200
	scenario.Run(t, Decide, Evolve, []one{
		{Name: "request", When: request(), Then: facts{requested}},
		{Name: "request again", Given: upTo(activated), When: request()},
		{Name: "request another under the id", Given: upTo(requested), When: otherRequest, Code: domain.Conflict},
		{Name: "everything of a request is wrong at once", When: Request{}, Code: domain.Invalid, Fields: []string{
			"/connection_id", "/order_id", "/quote_id", "/customer_id", "/provider_id", "/listing_id", "/listing_version", "/bandwidth_mbps",
			"/customer_port_id", "/provider_port_id", "/customer_bgp/asn", "/customer_bgp/prefixes", "/provider_bgp/asn", "/provider_bgp/prefixes",
			"/customer_bgp/asn", "/at"}},

		{Name: "allocate", Given: upTo(requested), When: allocate(), Then: facts{allocated}},
		{Name: "allocate again", Given: upTo(allocated), When: later},
		{Name: "allocate again, in production", Given: upTo(activated), When: later},
		{Name: "allocate again, after the end", Given: upTo(gone), When: later},
		{Name: "allocate again, otherwise", Given: upTo(allocated), When: otherTag, Code: domain.Conflict},
		{Name: "allocate what is given up", Given: upTo(requested, givingUp), When: allocate(), Code: domain.Conflict},

		{Name: "test", Given: upTo(allocated), When: StartTesting{at(600), at(2)}, Then: facts{underTest}},
		{Name: "test again", Given: upTo(activated), When: StartTesting{at(600), at(99)}},
		{Name: "test again, otherwise", Given: upTo(underTest), When: otherDeadline, Code: domain.Conflict},
		{Name: "test what is not allocated", Given: upTo(requested), When: StartTesting{at(600), at(2)}, Code: domain.Conflict},
		{Name: "test what is given up", Given: upTo(allocated, givingUp), When: StartTesting{at(600), at(2)}, Code: domain.Conflict},
		{Name: "test until now", Given: upTo(allocated), When: StartTesting{at(2), at(2)}, Code: domain.Invalid, Fields: []string{"/deadline"}},
		{Name: "test for too long", Given: upTo(allocated), When: StartTesting{at(2).Add(MaxTesting + time.Microsecond), at(2)}, Code: domain.Invalid, Fields: []string{"/deadline"}},

		{Name: "probe", Given: upTo(upZ), When: RequestProbe{probe1, at(5)}, Then: facts{probing}},
		{Name: "probe again", Given: upTo(probing), When: RequestProbe{probe1, at(99)}},
		{Name: "probe again, in production", Given: upTo(activated), When: RequestProbe{probe1, at(99)}},
		{Name: "probe while one is under way", Given: upTo(probing), When: RequestProbe{probe2, at(6)}, Code: domain.Conflict},
		{Name: "probe after one that failed", Given: upTo(probing, missed), When: RequestProbe{probe2, at(7)}, Then: facts{ProbeRequested{connectionID, probe2, at(7), false}}},
		{Name: "probe after one that passed", Given: upTo(passed), When: RequestProbe{probe2, at(7)}, Code: domain.Conflict},
		{Name: "probe with one side up", Given: upTo(upA), When: RequestProbe{probe1, at(5)}, Code: domain.Conflict},
		{Name: "probe what is allocated", Given: upTo(allocated), When: RequestProbe{probe1, at(5)}, Code: domain.Conflict},
		{Name: "probe in production", Given: upTo(activated), When: RequestProbe{probe2, at(9)}, Code: domain.Conflict},

		{Name: "cut over", Given: upTo(passed), When: RequestCutover{at(7)}, Then: facts{cutover}},
		{Name: "cut over again", Given: upTo(activated), When: RequestCutover{at(9)}},
		{Name: "cut over unprobed", Given: upTo(upZ), When: RequestCutover{at(7)}, Code: domain.Conflict},
		{Name: "cut over while a probe is under way", Given: upTo(probing), When: RequestCutover{at(7)}, Code: domain.Conflict},
		{Name: "cut over after a probe that failed", Given: upTo(probing, missed), When: RequestCutover{at(7)}, Code: domain.Conflict},
		{Name: "cut over with a session down", Given: upTo(passed, downZ), When: RequestCutover{at(7)}, Code: domain.Conflict},
		{Name: "cut over what is given up", Given: upTo(passed, givingUp), When: RequestCutover{at(51)}, Code: domain.Conflict},

		{Name: "cancel nothing", When: Cancel{at(1)}, Code: domain.NotFound},
		{Name: "no command", Given: upTo(requested), When: nil, Code: domain.Internal},
		{Name: "cut over at no time", Given: upTo(passed), When: RequestCutover{}, Code: domain.Invalid, Fields: []string{"/at"}},
	})
}

func TestEnds(t *testing.T) {
	t.Parallel()
	at := scenario.After
	leave := RequestDecommission{"moved", at(100), at(100), ""}
	left := func(reason string, effective, now time.Time) facts {
		return facts{DecommissionRequested{connectionID, reason, effective, now, ""}}
	}
	scenario.Run(t, Decide, Evolve, []one{
		{Name: "decommission", Given: upTo(activated), When: leave, Then: facts{leaving}},
		{Name: "decommission now", Given: upTo(activated), When: RequestDecommission{Reason: "moved", At: at(100)}, Then: facts{leaving}},
		{Name: "decommission since a while", Given: upTo(activated), When: RequestDecommission{"moved", at(8), at(100), ""}, Then: left("moved", at(8), at(100))},
		{Name: "decommission again", Given: upTo(leaving), When: RequestDecommission{Reason: "moved", At: at(105)}},
		{Name: "decommission again, after the end", Given: upTo(gone), When: leave},
		{Name: "decommission again, otherwise", Given: upTo(leaving), When: RequestDecommission{"moved", at(99), at(105), ""}, Code: domain.Conflict},
		{Name: "decommission in the future", Given: upTo(activated), When: RequestDecommission{"moved", at(101), at(100), ""}, Code: domain.Invalid, Fields: []string{"/effective_at"}},
		{Name: "decommission before billing", Given: upTo(activated), When: RequestDecommission{"moved", at(7), at(100), ""}, Code: domain.Invalid, Fields: []string{"/effective_at"}},
		{Name: "decommission long ago", Given: upTo(activated), When: RequestDecommission{"moved", at(8), at(9).Add(MaxBackdating), ""}, Code: domain.Invalid, Fields: []string{"/effective_at"}},
		{Name: "decommission what has just begun on a clock ahead of ours", Given: upTo(activated), When: RequestDecommission{Reason: "moved", At: at(7)}, Then: left("moved", at(8), at(7))},
		{Name: "the same, said outright", Given: upTo(activated), When: RequestDecommission{"moved", at(7), at(7), ""}, Then: left("moved", at(8), at(7))},
		{Name: "and again", Given: upTo(activated, left("moved", at(8), at(7))...), When: RequestDecommission{"moved", at(7), at(7), ""}},
		{Name: "decommission what is testing", Given: upTo(cutover), When: leave, Code: domain.Conflict},
		{Name: "decommission what is cancelled", Given: upTo(requested, givingUp, cancelled), When: leave, Code: domain.Conflict},
		{Name: "decommission without a reason", Given: upTo(activated), When: RequestDecommission{}, Code: domain.Invalid, Fields: []string{"/reason", "/at"}},

		{Name: "decommissioned", Given: upTo(closed), When: Decommission{at(103)}, Then: facts{gone}},
		{Name: "decommissioned again", Given: upTo(gone), When: Decommission{at(104)}},
		{Name: "decommissioned before the edge is", Given: upTo(leaving), When: Decommission{at(103)}, Code: domain.Conflict},
		{Name: "decommissioned unasked", Given: upTo(activated), When: Decommission{at(103)}, Code: domain.Conflict},
		{Name: "decommissioned at no time", Given: upTo(closed), When: Decommission{}, Code: domain.Invalid, Fields: []string{"/at"}},

		{Name: "give up", Given: upTo(requested), When: RequestCancellation{"no BGP", at(50)}, Then: facts{givingUp}},
		{Name: "give up at the last moment", Given: upTo(cutover), When: RequestCancellation{"no BGP", at(50)}, Then: facts{givingUp}},
		{Name: "give up again", Given: upTo(requested, givingUp), When: RequestCancellation{"no BGP", at(60)}},
		{Name: "give up again, after the end", Given: upTo(requested, givingUp, cancelled), When: RequestCancellation{"no BGP", at(60)}},
		{Name: "give up again, otherwise", Given: upTo(requested, givingUp), When: RequestCancellation{"late", at(60)}, Code: domain.Conflict},
		{Name: "give up production", Given: upTo(activated), When: RequestCancellation{"no BGP", at(50)}, Code: domain.Conflict},
		{Name: "give up what is being taken down", Given: upTo(leaving), When: RequestCancellation{"no BGP", at(150)}, Code: domain.Conflict},

		{Name: "cancelled, nothing on the edge", Given: upTo(allocated, givingUp), When: Cancel{at(53)}, Then: facts{cancelled}},
		{Name: "cancelled before the edge is", Given: upTo(underTest, givingUp), When: Cancel{at(53)}, Code: domain.Conflict},
		{Name: "cancelled after the edge", Given: upTo(underTest, givingUp, removed), When: Cancel{at(53)}, Then: facts{cancelled}},
		{Name: "cancelled again", Given: upTo(requested, givingUp, cancelled), When: Cancel{at(54)}},
		{Name: "cancelled unasked", Given: upTo(underTest), When: Cancel{at(53)}, Code: domain.Conflict},
	})
}

func TestReports(t *testing.T) {
	t.Parallel()
	at := scenario.After
	session := func(side, state string, since time.Time, received int) ReportSession {
		return ReportSession{edgeNode, side, "", Session{state, since, received, 1}, at(9)}
	}
	changed := func(side, state string, since time.Time, received int) facts {
		return facts{SessionChanged{connectionID, side, state, since, received, 1, at(9), "", false}}
	}
	stranger := session(SideA, SessionIdle, at(9), 0)
	stranger.EdgeNodeID = scenario.ID(domain.PrefixEdgeNode, 2)
	opened := Activate{edgeNode, at(8), at(9)}
	tomorrow := at(9).Add(domain.MaxClockSkew + time.Microsecond)
	scenario.Run(t, Decide, Evolve, []one{
		{Name: "session", Given: upTo(underTest), When: session(SideA, SessionConnect, at(3), 0), Then: changed(SideA, SessionConnect, at(3), 0)},
		{Name: "session again", Given: upTo(upA), When: session(SideA, SessionEstablished, at(3), 1)},
		{Name: "session on the other side", Given: upTo(upA), When: session(SideZ, SessionEstablished, at(3), 1), Then: changed(SideZ, SessionEstablished, at(3), 1)},
		{Name: "session flapped between reports", Given: upTo(upA), When: session(SideA, SessionEstablished, at(4), 1), Then: changed(SideA, SessionEstablished, at(4), 1)},
		{Name: "session has more prefixes", Given: upTo(activated), When: session(SideA, SessionEstablished, at(3), 2), Then: changed(SideA, SessionEstablished, at(3), 2)},
		{Name: "session of what is being taken down", Given: upTo(leaving), When: session(SideA, SessionIdle, at(9), 0), Then: changed(SideA, SessionIdle, at(9), 0)},
		{Name: "session too late", Given: upTo(closed), When: session(SideA, SessionIdle, at(9), 0)},
		{Name: "session after the end", Given: upTo(gone), When: session(SideA, SessionIdle, at(9), 0)},
		{Name: "session too early", Given: upTo(allocated), When: session(SideA, SessionIdle, at(9), 0), Code: domain.Conflict},
		{Name: "session of no node's", Given: upTo(requested), When: session(SideA, SessionIdle, at(9), 0), Code: domain.NotFound},
		{Name: "session of another node's", Given: upTo(underTest), When: stranger, Code: domain.NotFound},
		{Name: "session that is nothing", Given: upTo(underTest), When: ReportSession{edgeNode, "b", "", Session{"up", time.Time{}, -1, MaxSessionPrefixes + 1}, at(9)},
			Code: domain.Invalid, Fields: []string{"/side", "/state", "/since", "/prefixes_received", "/prefixes_sent"}},
		{Name: "session since tomorrow: the node's clock was ahead", Given: upTo(underTest), When: session(SideA, SessionIdle, tomorrow, 0), Then: changed(SideA, SessionIdle, at(9), 0)},
		{Name: "session since tomorrow, again", Given: upTo(underTest, changed(SideA, SessionIdle, at(8), 0)...), When: session(SideA, SessionIdle, tomorrow, 0)},
		{Name: "session since tomorrow, with more prefixes", Given: upTo(upA), When: session(SideA, SessionEstablished, tomorrow, 2), Then: changed(SideA, SessionEstablished, at(3), 2)},
		{Name: "session since tomorrow, in another state", Given: upTo(upA), When: session(SideA, SessionIdle, tomorrow, 0), Then: changed(SideA, SessionIdle, at(9), 0)},
		{Name: "session since a moment that a clock may be ahead", Given: upTo(underTest), When: session(SideA, SessionIdle, at(9).Add(domain.MaxClockSkew), 0),
			Then: changed(SideA, SessionIdle, at(9).Add(domain.MaxClockSkew), 0)},

		{Name: "probe passed", Given: upTo(probing), When: ReportProbe{edgeNode, probe1, true, "", at(6)}, Then: facts{passed}},
		{Name: "probe failed", Given: upTo(probing), When: ReportProbe{edgeNode, probe1, false, "no answer", at(6)}, Then: facts{missed}},
		{Name: "probe reported again", Given: upTo(passed), When: ReportProbe{edgeNode, probe1, true, "", at(7)}},
		{Name: "probe reported again, otherwise: the first stands", Given: upTo(passed), When: ReportProbe{edgeNode, probe1, false, "", at(7)}},
		{Name: "probe of before", Given: upTo(probing, missed, ProbeRequested{connectionID, probe2, at(7), false}), When: ReportProbe{edgeNode, probe1, true, "", at(8)}},
		{Name: "probe of what is given up", Given: upTo(probing, givingUp), When: ReportProbe{edgeNode, probe1, true, "", at(51)}},
		{Name: "probe of what is not set up", Given: upTo(allocated), When: ReportProbe{edgeNode, probe1, true, "", at(6)}, Code: domain.Conflict},
		{Name: "probe told at length", Given: upTo(probing), When: ReportProbe{edgeNode, "x", true, strings.Repeat("x", MaxProbeDetail+1), at(6)},
			Code: domain.Invalid, Fields: []string{"/probe_id", "/detail"}},

		{Name: "opened", Given: upTo(cutover), When: opened, Then: facts{activated}},
		{Name: "opened on a clock ahead", Given: upTo(cutover), When: Activate{edgeNode, at(8), at(8).Add(-domain.MaxClockSkew)}, Then: facts{activated}},
		{Name: "opened on a clock behind", Given: upTo(cutover), When: Activate{edgeNode, at(7).Add(-domain.MaxClockSkew), at(9)},
			Then: facts{Activated{connectionID, at(7).Add(-domain.MaxClockSkew)}}},
		{Name: "opened again", Given: upTo(activated), When: opened},
		{Name: "opened again after a reboot: the first stands", Given: upTo(activated), When: Activate{edgeNode, at(500), at(501)}},
		{Name: "opened and taken down", Given: upTo(gone), When: opened},
		{Name: "opened after it was given up", Given: upTo(cutover, givingUp), When: opened},
		{Name: "opened unasked", Given: upTo(passed), When: opened, Code: domain.Conflict},
		{Name: "opened in the future", Given: upTo(cutover), When: Activate{edgeNode, at(9).Add(domain.MaxClockSkew + time.Microsecond), at(9)}, Code: domain.Invalid, Fields: []string{"/opened_at"}},
		{Name: "opened before it was asked for", Given: upTo(cutover), When: Activate{edgeNode, at(7).Add(-domain.MaxClockSkew - time.Microsecond), at(9)}, Code: domain.Invalid, Fields: []string{"/opened_at"}},

		{Name: "closed", Given: upTo(leaving), When: CloseEdge{edgeNode, at(101), at(102)}, Then: facts{closed}},
		{Name: "closed again", Given: upTo(closed), When: CloseEdge{edgeNode, at(103), at(104)}},
		{Name: "closed after the end", Given: upTo(gone), When: CloseEdge{edgeNode, at(103), at(104)}},
		{Name: "closed what was given up", Given: upTo(underTest, givingUp), When: CloseEdge{edgeNode, at(51), at(52)}, Then: facts{removed}},
		{Name: "closed what never was there", Given: upTo(allocated, givingUp), When: CloseEdge{edgeNode, at(51), at(52)}},
		{Name: "closed unasked", Given: upTo(activated), When: CloseEdge{edgeNode, at(101), at(102)}, Code: domain.Conflict},
		{Name: "closed in the future", Given: upTo(leaving), When: CloseEdge{edgeNode, at(102).Add(domain.MaxClockSkew + time.Microsecond), at(102)}, Code: domain.Invalid, Fields: []string{"/closed_at"}},
		{Name: "closed before it was opened", Given: upTo(leaving), When: CloseEdge{edgeNode, at(7), at(102)}, Code: domain.Invalid, Fields: []string{"/closed_at"}},
	})
}

// What other rooms read off a state, along a whole life.
func TestAlongTheLife(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		last    domain.Event
		state   string
		phase   string
		billing string
	}{
		{requested, StateRequested, "", BillingNone},
		{allocated, StateAllocated, "", BillingNone},
		{underTest, StateTesting, PhaseTesting, BillingNone},
		{passed, StateTesting, PhaseTesting, BillingNone},
		{cutover, StateTesting, PhaseProduction, BillingNone},
		{activated, StateProduction, PhaseProduction, BillingAccruing},
		{leaving, StateDecommissionRequested, PhaseAbsent, BillingStopped},
		{closed, StateDecommissionRequested, "", BillingStopped},
		{gone, StateDecommissioned, "", BillingStopped},
	} {
		s := scenario.Fold(Evolve, upTo(c.last)...)
		if s.State != c.state || s.DesiredPhase() != c.phase || s.Billing != c.billing {
			t.Errorf("after %s: %s, phase %q, billing %s; want %s, %q, %s", c.last.EventType(), s.State, s.DesiredPhase(), s.Billing, c.state, c.phase, c.billing)
		}
	}
	s := scenario.Fold(Evolve, upTo(gone)...)
	if !s.BillingFrom.Equal(activated.At) || !s.BillingTo.Equal(leaving.EffectiveAt) || !s.EdgeRemoved || s.OnEdge || !s.Final() {
		t.Errorf("the state is %+v", s)
	}
	undone := scenario.Fold(Evolve, upTo(cutover, givingUp)...)
	if undone.DesiredPhase() != PhaseAbsent || undone.Billing != BillingNone {
		t.Errorf("given up after the cutover: phase %q, billing %s", undone.DesiredPhase(), undone.Billing)
	}
	// A state does not change when a later one is made of it.
	before := scenario.Fold(Evolve, upTo(upZ)...)
	if Evolve(before, downZ); !before.Established() {
		t.Error("two states share their sessions")
	}
	if one := scenario.Fold(Evolve, upTo(upA)...); one.Established() {
		t.Error("one side is up, and both are said to be")
	}
}

func TestAllocation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Allocate)
		fields []string // none: allowed
	}{
		{"bounds", func(a *Allocate) { a.Tag, a.A.VLAN, a.Z.VLAN = MaxTag, MinVLAN, MaxVLAN }, nil},
		{"a /31", func(a *Allocate) { a.A.Address, a.A.PeerAddress = "100.64.0.0/31", "100.64.0.1" }, nil},
		{"nothing", func(a *Allocate) { *a = Allocate{} }, []string{"/edge_node_id", "/edge_asn", "/tag",
			"/a/port_id", "/a/interface", "/a/vlan", "/a/peer_asn", "/a/peer_asn", "/a/prefixes", "/a/address",
			"/z/port_id", "/z/interface", "/z/vlan", "/z/peer_asn", "/z/peer_asn", "/z/prefixes", "/z/address", "/z/vlan", "/at"}},
		{"tag", func(a *Allocate) { a.Tag = MaxTag + 1 }, []string{"/tag"}},
		{"VLANs", func(a *Allocate) { a.A.VLAN, a.Z.VLAN = MinVLAN-1, MaxVLAN+1 }, []string{"/a/vlan", "/z/vlan"}},
		{"service VLANs", func(a *Allocate) { a.A.ServiceVLAN, a.Z.ServiceVLAN = MinVLAN-1, MaxVLAN+1 }, []string{"/a/service_vlan", "/z/service_vlan"}},
		{"another port", func(a *Allocate) { a.A.PortID = providerPort }, []string{"/a/port_id", "/z/vlan"}},
		{"another peer", func(a *Allocate) { a.Z.PeerASN = 64503 }, []string{"/z/peer_asn"}},
		{"the node's own AS", func(a *Allocate) { a.EdgeASN = 64501 }, []string{"/a/peer_asn"}},
		{"other prefixes", func(a *Allocate) { a.Z.Prefixes = customerBGP.Prefixes }, []string{"/z/prefixes"}},
		{"no length", func(a *Allocate) { a.A.Address = "100.64.0.1" }, []string{"/a/address"}},
		{"the network's address", func(a *Allocate) { a.A.Address = "100.64.0.0/30" }, []string{"/a/address"}},
		{"the broadcast address", func(a *Allocate) { a.A.Address = "100.64.0.3/30" }, []string{"/a/address"}},
		{"IPv6", func(a *Allocate) { a.A.Address, a.A.PeerAddress = "fd00::1/64", "fd00::2" }, []string{"/a/address"}},
		{"the same address", func(a *Allocate) { a.A.PeerAddress = "100.64.0.1" }, []string{"/a/peer_address"}},
		{"a peer elsewhere", func(a *Allocate) { a.A.PeerAddress = "100.64.0.6" }, []string{"/a/peer_address"}},
		{"no peer", func(a *Allocate) { a.A.PeerAddress = "" }, []string{"/a/peer_address"}},
		{"one link for both", func(a *Allocate) { a.Z.Address, a.Z.PeerAddress = a.A.Address, a.A.PeerAddress }, []string{"/z/address"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := allocate()
			c.change(&a)
			code := domain.Invalid
			if c.fields == nil {
				code = ""
			}
			_, err := Decide(scenario.Fold(Evolve, upTo(requested)...), a)
			scenario.CheckError(t, err, code, c.fields...)
		})
	}
}
