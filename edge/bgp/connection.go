package bgp

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"sync"
	"syscall"
	"time"

	"crossbill/domain"

	api "github.com/osrg/gobgp/v3/api"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	gobgp "github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/types/known/anypb"
)

// unicast is the family as GoBGP's API has it.
func (k key) unicast() *api.Family {
	if k.ipv6 {
		return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}

// routes is the same as its parser has it.
func (k key) routes() packet.RouteFamily {
	if k.ipv6 {
		return packet.RF_IPv6_UC
	}
	return packet.RF_IPv4_UC
}

// tables are those a server needs, by the numbers of GoBGP's IntToAfiSafiTypeMap. It would make one of each family that it knows, and
// a node has a server for each connection.
func (k key) tables() []uint32 {
	if k.ipv6 {
		return []uint32{1}
	}
	return []uint32{0}
}

// connection is the GoBGP server of one connection and what is known of its two sessions.
type connection struct {
	server  *gobgp.BgpServer
	options Options
	want    Connection // only the speaker's methods read and write it, under the speaker's lock
	unwatch context.CancelFunc
	signal  func() // that something has changed

	inner   netip.AddrPort      // where the server listens
	aliases map[Side]netip.Addr // the routers, as the server knows them

	mu        sync.Mutex
	sessions  map[Side]*observed
	deferring bool        // it has restarted, and not all its routers have announced what they have
	deferral  *time.Timer // ends that
}

// observed is a session's relay, and what GoBGP last said of it.
type observed struct {
	relay    *relay // nil for a session that is not wanted
	state    string
	since    time.Time
	tooMany  bool // closed because the peer announced more than its limit
	routerID string
	complete bool // the router has announced what it had, and GoBGP has got it
}

// end is one side of what a connection is to be.
type end struct {
	side Side
	Session
}

func (c Connection) ends() [2]end { return [2]end{{A, c.A}, {Z, c.Z}} }

// startAttempts bounds the search for a loopback address that no other process listens on.
const startAttempts = 100

// start configures a server for c and begins to peer.
func (s *Speaker) start(ctx context.Context, c Connection) (*connection, error) {
	const op = "bgp.Ensure"
	server := s.acquire()
	signal := func() { s.signal(c.Tag) }
	watch, unwatch := context.WithCancel(context.Background())
	conn := &connection{server: server, options: s.options, want: c, unwatch: unwatch, signal: signal, sessions: map[Side]*observed{}, deferring: s.restarted[c.key()]}
	conn.deferral = time.AfterFunc(s.options.DeferralTime, func() {
		conn.settle(true)
		conn.signal()
	})
	if !conn.deferring {
		conn.deferral.Stop()
	}
	fail := func(code domain.Code, doing string, err error) (*connection, error) {
		conn.stop()
		s.idle = append(s.idle, server)
		return nil, domain.Errorf(code, op, "%s for tag %d: %w", doing, c.Tag, err)
	}

	if err := conn.startServer(ctx); err != nil {
		return fail(domain.Unavailable, "start BGP", err)
	}
	if err := conn.setPolicies(ctx); err != nil {
		return fail(domain.Internal, "set the import and export policies", err)
	}
	request := &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{},
		Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{
			{Type: api.WatchEventRequest_Table_Filter_BEST}, {Type: api.WatchEventRequest_Table_Filter_EOR}}},
	}
	if err := server.WatchEvent(watch, request, func(event *api.WatchEventResponse) {
		conn.observe(event, time.Now())
		signal()
	}); err != nil {
		return fail(domain.Internal, "watch", err)
	}
	for _, link := range []netip.Prefix{c.A.Local, c.Z.Local} {
		if err := conn.originate(ctx, link.Masked()); err != nil {
			return fail(domain.Internal, "originate the link", err)
		}
	}
	for _, end := range c.ends() {
		if err := conn.addPeer(ctx, end); err != nil {
			return fail(domain.Unavailable, "add the peer", err)
		}
	}
	return conn, nil
}

// startServer starts GoBGP on a loopback address that is free.
func (c *connection) startServer(ctx context.Context) (err error) {
	for range startAttempts {
		inner, a, z := nextAliases()
		c.inner, c.aliases = inner, map[Side]netip.Addr{A: a, Z: z}
		err = c.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: c.options.ASN, RouterId: c.options.RouterID.String(),
			ListenPort: int32(inner.Port()), ListenAddresses: []string{inner.Addr().String()}, Families: c.want.key().tables()}})
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// takes reports whether the running server can be changed into want: it announces the subnets of the links it started with.
func (c *connection) takes(want Connection) bool {
	return c.want.A.Local == want.A.Local && c.want.Z.Local == want.Z.Local
}

// change brings the running server from c.want to want. If it fails half-way c.want keeps the old sessions, so the
// next Ensure tries again.
func (c *connection) change(ctx context.Context, want Connection) error {
	const op = "bgp.Ensure"
	if reflect.DeepEqual(c.want, want) {
		return nil
	}
	old := c.want
	wasEqual := old.A.PeerASN == old.Z.PeerASN
	c.want = want
	restart := func(before, after Session) bool {
		return before.Peer != after.Peer || before.PeerASN != after.PeerASN || before.Password != after.Password || before.Down != after.Down ||
			wasEqual != (want.A.PeerASN == want.Z.PeerASN)
	}
	apply := func() error {
		olds := old.ends()
		for i, after := range want.ends() {
			before := olds[i]
			switch {
			case restart(before.Session, after.Session), before.PrefixLimit != after.PrefixLimit && c.overLimit(before.side):
				c.removePeer(ctx, before.side)
			case before.PrefixLimit != after.PrefixLimit:
				if _, err := c.server.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: c.peer(after)}); err != nil {
					return err
				}
			}
		}
		if err := c.setPolicies(ctx); err != nil {
			return err
		}
		for _, end := range want.ends() {
			if !c.has(end.side) {
				if err := c.addPeer(ctx, end); err != nil {
					return err
				}
			}
			// What the peer has announced is judged again by the new lists, without asking it to announce anew.
			request := &api.ResetPeerRequest{Address: c.aliases[end.side].String(), Soft: true, Direction: api.ResetPeerRequest_IN}
			if err := c.server.ResetPeer(ctx, request); err != nil {
				return err
			}
		}
		return nil
	}
	if err := apply(); err != nil {
		c.want = old
		return domain.Errorf(domain.Internal, op, "change the sessions of tag %d: %w", want.Tag, err)
	}
	return nil
}

// close ends both sessions for good, and waits until the routers have been told.
func (c *connection) close() {
	c.shut()
	c.eachRelay((*relay).close)
}

// stop ends both sessions as a crash would: at once, so that no router hears what the end of the other's means.
func (c *connection) stop() {
	c.eachRelay((*relay).hush)
	c.eachRelay((*relay).stop)
	c.shut()
}

// shut ends what GoBGP does. It says its Cease on every session there is.
func (c *connection) shut() {
	c.unwatch()
	c.deferral.Stop()
	// The error is only for a nil request.
	_ = c.server.StopBgp(context.Background(), &api.StopBgpRequest{})
}

// eachRelay does something with all relays at once.
func (c *connection) eachRelay(do func(*relay)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var wait sync.WaitGroup
	for _, session := range c.sessions {
		if session.relay != nil {
			wait.Go(func() { do(session.relay) })
		}
	}
	wait.Wait()
}

func (c *connection) addPeer(ctx context.Context, end end) error {
	session := &observed{state: "idle", since: time.Now()}
	if !end.Down {
		c.mu.Lock()
		restarted := c.deferring
		c.mu.Unlock()
		session.relay = &relay{session: end.Session, options: c.options, inner: c.inner, alias: c.aliases[end.side], server: c.server,
			family: c.want.key().routes(), log: c.options.Logger, calls: make(chan *call, 1), changed: make(chan struct{}, 1),
			preserved: restarted, deferring: restarted}
		if err := session.relay.listen(); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.sessions[end.side] = session
	c.mu.Unlock()
	if err := c.server.AddPeer(ctx, &api.AddPeerRequest{Peer: c.peer(end)}); err != nil {
		c.mu.Lock()
		delete(c.sessions, end.side)
		c.mu.Unlock()
		if session.relay != nil {
			session.relay.stop()
		}
		return err
	}
	if session.relay != nil {
		session.relay.start()
	}
	c.settle(false) // if it was one that is not wanted which was waited for
	return nil
}

func (c *connection) removePeer(ctx context.Context, side Side) {
	// The one error is that there is no such peer.
	_ = c.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: c.aliases[side].String()})
	c.mu.Lock()
	session := c.sessions[side]
	delete(c.sessions, side)
	c.mu.Unlock()
	if session != nil && session.relay != nil {
		session.relay.close()
	}
}

func (c *connection) has(side Side) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[side] != nil
}

func (c *connection) overLimit(side Side) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[side] != nil && c.sessions[side].tooMany
}

// peer is a session as GoBGP has it: with the relay in the router's place.
func (c *connection) peer(end end) *api.Peer {
	return &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: c.aliases[end.side].String(), PeerAsn: end.PeerASN, AdminDown: end.Down,
			// Two networks with the same private AS number would each discard the other's routes as a loop.
			ReplacePeerAsn: c.want.A.PeerASN == c.want.Z.PeerASN,
		},
		Transport: &api.Transport{LocalAddress: c.inner.Addr().String(), PassiveMode: true},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: innerHoldTime, KeepaliveInterval: innerHoldTime / 3,
			IdleHoldTimeAfterReset: uint64(idleAfterReset / time.Second),
		}},
		GracefulRestart: &api.GracefulRestart{Enabled: true, RestartTime: uint32(c.options.RestartTime / time.Second)},
		AfiSafis: []*api.AfiSafi{{
			Config:            &api.AfiSafiConfig{Family: c.want.key().unicast(), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
			PrefixLimits:      &api.PrefixLimit{Family: c.want.key().unicast(), MaxPrefixes: uint32(end.PrefixLimit)},
		}},
	}
}

// originate announces the link's subnet: the far router's answer to a probe from our address needs a way back.
func (c *connection) originate(ctx context.Context, link netip.Prefix) error {
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: link.Addr().String(), PrefixLen: uint32(link.Bits())})
	if err != nil {
		return err
	}
	origin, err := anypb.New(&api.OriginAttribute{Origin: 0}) // IGP (RFC 4271 section 5.1.1)
	if err != nil {
		return err
	}
	// The unspecified next hop is for the export policy to fill in.
	nowhere := netip.IPv4Unspecified()
	if link.Addr().Is6() {
		nowhere = netip.IPv6Unspecified()
	}
	nextHop, err := anypb.New(&api.NextHopAttribute{NextHop: nowhere.String()})
	if err != nil {
		return err
	}
	_, err = c.server.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL,
		Path: &api.Path{Family: c.want.key().unicast(), Nlri: nlri, Pattrs: []*anypb.Any{origin, nextHop}}})
	return err
}
