package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"crossbill/domain"
	"crossbill/edge/bgp"
	"crossbill/edge/datapath"
)

// KernelOptions configure a [KernelNode].
type KernelOptions struct {
	PinDir  string // where the meters outlive the agent; one for each node; empty means the datapath's default
	BGPPort int    // 0 means 179
	Logger  *slog.Logger
}

// KernelNode is the real node: the eBPF datapath, BGP and the kernel's routes, in the network namespace of the process.
// It needs root on Linux.
type KernelNode struct {
	options  KernelOptions
	datapath *datapath.Datapath
	changes  chan struct{}

	mu      sync.Mutex
	speaker *bgp.Speaker // nil until Configure
	asn     uint32
	router  string
	relayed chan struct{} // closed to end the relay of the speaker's changes
}

// OpenKernelNode opens the datapath. Errors: Unavailable where the kernel or the privileges do not allow it.
func OpenKernelNode(o KernelOptions) (*KernelNode, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	d, err := datapath.Open(datapath.Options{PinDir: o.PinDir, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return &KernelNode{options: o, datapath: d, changes: make(chan struct{}, 1)}, nil
}

// Close ends the BGP sessions as a crash would and leaves the rest running: meters count, routes and gates stay, and so do
// the node's routes with routers that know graceful restart, for a while.
func (n *KernelNode) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopSpeaker()
	return n.datapath.Close()
}

// Kind is EBPF.
func (n *KernelNode) Kind() Kind { return EBPF }

// Configure starts the speaker, anew if the node's AS number or router id is another.
func (n *KernelNode) Configure(_ context.Context, d DesiredState) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.speaker != nil && n.asn == d.ASN && n.router == d.RouterID.String() {
		return nil
	}
	n.stopSpeaker()
	standing, err := n.datapath.List() // a machine that has restarted has nothing
	if err != nil {
		return err
	}
	speaker, err := bgp.Start(bgp.Options{ASN: d.ASN, RouterID: d.RouterID, Port: n.options.BGPPort, Restarted: standing, Logger: n.options.Logger})
	if err != nil {
		return err
	}
	n.speaker, n.asn, n.router, n.relayed = speaker, d.ASN, d.RouterID.String(), make(chan struct{})
	go func(end chan struct{}) {
		for {
			select {
			case <-speaker.Changes():
				poke(n.changes)
			case <-end:
				return
			}
		}
	}(n.relayed)
	return nil
}

func (n *KernelNode) stopSpeaker() {
	if n.speaker != nil {
		close(n.relayed)
		n.speaker.Stop()
		n.speaker = nil
	}
}

func (n *KernelNode) sessions() (*bgp.Speaker, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.speaker == nil {
		return nil, domain.Errorf(domain.Unavailable, "edge.KernelNode", "BGP is not configured yet")
	}
	return n.speaker, nil
}

// Ensure sets up the datapath first: the speaker listens on its addresses. Until the routers have announced what they have to a
// new speaker, the routes in the kernel that it may have from them stay.
func (n *KernelNode) Ensure(ctx context.Context, c DesiredConnection) error {
	speaker, err := n.sessions()
	if err != nil {
		return err
	}
	err = n.datapath.Ensure(datapath.Connection{Tag: c.Tag, BandwidthMbps: c.BandwidthMbps, A: attached(c.A), Z: attached(c.Z)})
	if err != nil {
		return err
	}
	for _, family := range c.families() {
		if err := speaker.Ensure(ctx, bgp.Connection{Tag: c.Tag, A: neighbour(c.A, family), Z: neighbour(c.Z, family)}); err != nil {
			return err
		}
	}
	return n.follow(ctx, speaker, c)
}

// Follow gives the kernel the routes that the sessions have.
func (n *KernelNode) Follow(ctx context.Context, c DesiredConnection) error {
	speaker, err := n.sessions()
	if err != nil {
		return err
	}
	return n.follow(ctx, speaker, c)
}

func (n *KernelNode) follow(ctx context.Context, speaker *bgp.Speaker, c DesiredConnection) error {
	var unsettled []string // asked for first: what is settled then is in the routes
	for _, family := range c.families() {
		if !speaker.Settled(c.Tag, family) {
			unsettled = append(unsettled, family)
		}
	}
	paths, err := speaker.Routes(ctx, c.Tag) // of a session that is not wanted there are none
	if err != nil {
		return err
	}
	routes := make([]datapath.Route, len(paths))
	for i, p := range paths {
		routes[i] = datapath.Route{Side: datapath.Side(p.Side), Prefix: p.Prefix, NextHop: p.NextHop}
	}
	if len(unsettled) > 0 {
		standing, err := n.datapath.Routes(c.Tag)
		if err != nil {
			return err
		}
		routes = adopt(routes, standing, c, unsettled)
	}
	return n.datapath.SetRoutes(c.Tag, routes)
}

// adopt adds the standing routes of some families to those that are announced, so far as they may still be announced.
func adopt(announced, standing []datapath.Route, c DesiredConnection, families []string) []datapath.Route {
	taken := map[netip.Prefix]bool{}
	for _, r := range announced {
		taken[r.Prefix] = true
	}
	for _, family := range families {
		sides := map[datapath.Side]bgp.Session{datapath.SideA: neighbour(c.A, family), datapath.SideZ: neighbour(c.Z, family)}
		for _, r := range standing {
			s := sides[r.Side]
			if !taken[r.Prefix] && !s.Down && r.NextHop == s.Peer && slices.Contains(s.Prefixes, r.Prefix) {
				announced = append(announced, r)
			}
		}
	}
	return announced
}

func attached(a Attachment) datapath.Attachment {
	return datapath.Attachment{Port: a.Interface, VLAN: a.VLAN, ServiceVLAN: a.ServiceVLAN, Link: datapath.Link{Address: a.Address, Peer: a.Peer},
		IPv6: datapath.Link{Address: a.IPv6Address, Peer: a.IPv6Peer}}
}

// neighbour is a side's session in a family: between the family's addresses, for prefixes of it.
func neighbour(a Attachment, family string) bgp.Session {
	s := bgp.Session{Local: a.Address, Peer: a.Peer, PeerASN: a.PeerASN, PrefixLimit: a.PrefixLimit, Down: a.Down, Password: a.MD5Secret}
	if family == domain.IPv6 {
		s.Local, s.Peer = a.IPv6Address, a.IPv6Peer
	}
	for _, p := range a.Prefixes {
		if p.Addr().Is4() == (family == domain.IPv4) {
			s.Prefixes = append(s.Prefixes, p)
		}
	}
	return s
}

// Sessions returns a's and z's session of each family, and what of the connection was changed by hand.
func (n *KernelNode) Sessions(ctx context.Context, tag int) ([]Session, string, error) {
	speaker, err := n.sessions()
	if err != nil {
		return nil, "", err
	}
	all, err := speaker.ConnectionStatus(ctx, tag)
	if err != nil {
		return nil, "", err
	}
	var sessions []Session
	messages := n.datapath.Drift(tag)
	for i := range messages {
		messages[i] = "changed on the node by another hand, and set right: " + messages[i]
	}
	for _, s := range all {
		sessions = append(sessions, Session{Side: s.Side, Family: s.Family, State: s.State, Since: s.Since,
			PrefixesReceived: s.PrefixesReceived, PrefixesSent: s.PrefixesSent})
		if s.Message != "" {
			messages = append(messages, "BGP on side "+string(s.Side)+" ("+domain.FamilyName(s.Family)+"): "+s.Message)
		}
	}
	return sessions, strings.Join(messages, "; "), nil
}

// SetGate opens or closes the way between the sides.
func (n *KernelNode) SetGate(tag int, open bool) error { return n.datapath.SetGate(tag, open) }

// Gate reports whether traffic may cross.
func (n *KernelNode) Gate(tag int) (bool, error) { return n.datapath.Gate(tag) }

// Counters reads the meter of the customer's port.
func (n *KernelNode) Counters(tag int) (Counters, error) {
	a, _, err := n.datapath.Counters(tag)
	return Counters{Meter: a.Epoch, BytesIn: a.BytesIn, BytesOut: a.BytesOut, PacketsIn: a.PacketsIn, PacketsOut: a.PacketsOut,
		DroppedIn: a.DroppedIn, DroppedOut: a.DroppedOut}, err
}

// Bandwidth returns what the datapath holds each direction of the connection to.
func (n *KernelNode) Bandwidth(tag int) (int, error) { return n.datapath.Bandwidth(tag) }

// Pause takes the connection's frames for strays until Ensure: a few of the sessions' are lost, which TCP sends again.
func (n *KernelNode) Pause(tag int) error { return n.datapath.Stop(tag) }

// Halt closes the sessions, so that the routers hear of it while their frames still pass, then stops the meter.
func (n *KernelNode) Halt(_ context.Context, tag int) error {
	if speaker, err := n.sessions(); err == nil {
		speaker.Remove(tag)
	}
	return n.datapath.Stop(tag)
}

// Remove takes a connection off the node.
func (n *KernelNode) Remove(_ context.Context, tag int) error {
	if speaker, err := n.sessions(); err == nil {
		speaker.Remove(tag)
	}
	return n.datapath.Remove(tag)
}

// List returns the tags in the datapath or with sessions.
func (n *KernelNode) List() ([]int, error) {
	tags, err := n.datapath.List()
	if err != nil {
		return nil, err
	}
	if speaker, err := n.sessions(); err == nil {
		tags = append(tags, speaker.List()...)
	}
	return unique(tags), nil
}

// Changes is signalled when a session or an accepted route has changed.
func (n *KernelNode) Changes() <-chan struct{} { return n.changes }

// Changed returns the tags of which that is so since it was last asked.
func (n *KernelNode) Changed() []int {
	speaker, err := n.sessions()
	if err != nil {
		return nil
	}
	return speaker.Changed()
}

// Probe pings the provider's router from the node's address on the customer's side and the other way round, in each family:
// each answer comes only if routes have crossed and the far router has taken them.
func (n *KernelNode) Probe(ctx context.Context, c DesiredConnection) (bool, string) {
	var wait sync.WaitGroup
	var ways [][2]netip.Addr
	for _, family := range c.families() {
		a, z := neighbour(c.A, family), neighbour(c.Z, family)
		ways = append(ways, [2]netip.Addr{a.Local.Addr(), z.Peer}, [2]netip.Addr{z.Local.Addr(), a.Peer})
	}
	errs := make([]error, len(ways))
	for i, way := range ways {
		wait.Go(func() { errs[i] = ping(ctx, way[0], way[1]) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		n.options.Logger.WarnContext(ctx, "a probe failed", "connection", c.ID, "error", err)
		return false, probeDetail(c.families(), errs)
	}
	return true, "echo requests were answered by both routers across the connection"
}

// probeDetail says to the parties which routers gave no answer: errs are those of the ways to z and to a, in each family.
func probeDetail(families []string, errs []error) string {
	var told []string
	for i, err := range errs {
		side := [2]bgp.Side{bgp.Z, bgp.A}[i%2]
		switch {
		case errors.Is(err, errUnanswered):
			told = append(told, fmt.Sprintf("no answer from the router of side %s (%s)", side, domain.FamilyName(families[i/2])))
		case err != nil:
			told = append(told, fmt.Sprintf("the edge node could not send to side %s (%s)", side, domain.FamilyName(families[i/2])))
		}
	}
	return strings.Join(told, "; ")
}
