package bgp

import (
	"context"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"crossbill/domain"

	api "github.com/osrg/gobgp/v3/api"
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

// connection is the GoBGP server of one connection and what is known of its two sessions.
type connection struct {
	server  *gobgp.BgpServer
	options Options
	want    Connection // only the speaker's methods read and write it, under the speaker's lock
	unwatch context.CancelFunc

	mu       sync.Mutex
	sessions map[netip.Addr]*observed // by peer address
}

// observed is what GoBGP last said of a session.
type observed struct {
	state    string
	since    time.Time
	tooMany  bool // closed because the peer announced more than its limit
	routerID string
}

// start configures a server for c and begins to peer.
func (s *Speaker) start(ctx context.Context, c Connection) (*connection, error) {
	const op = "bgp.Ensure"
	server := s.acquire()
	watch, unwatch := context.WithCancel(context.Background())
	conn := &connection{server: server, options: s.options, want: c, unwatch: unwatch, sessions: map[netip.Addr]*observed{}}
	fail := func(code domain.Code, doing string, err error) (*connection, error) {
		conn.stop()
		s.idle = append(s.idle, server)
		return nil, domain.Errorf(code, op, "%s for tag %d: %w", doing, c.Tag, err)
	}

	global := &api.Global{Asn: s.options.ASN, RouterId: s.options.RouterID.String(), ListenPort: int32(s.options.Port),
		ListenAddresses: []string{c.A.Local.Addr().String(), c.Z.Local.Addr().String()}}
	if err := server.StartBgp(ctx, &api.StartBgpRequest{Global: global}); err != nil {
		return fail(domain.Unavailable, "start BGP", err)
	}
	if err := conn.setPolicies(ctx); err != nil {
		return fail(domain.Internal, "set the import and export policies", err)
	}
	request := &api.WatchEventRequest{
		Peer:  &api.WatchEventRequest_Peer{},
		Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{{Type: api.WatchEventRequest_Table_Filter_BEST}}},
	}
	if err := server.WatchEvent(watch, request, func(event *api.WatchEventResponse) {
		conn.observe(event, time.Now())
		s.signal()
	}); err != nil {
		return fail(domain.Internal, "watch", err)
	}
	for _, link := range []netip.Prefix{c.A.Local, c.Z.Local} {
		if err := conn.originate(ctx, link.Masked()); err != nil {
			return fail(domain.Internal, "originate the link", err)
		}
	}
	for _, session := range []Session{c.A, c.Z} {
		if err := conn.addPeer(ctx, session); err != nil {
			return fail(domain.Internal, "add the peer", err)
		}
	}
	return conn, nil
}

// takes reports whether the running server can be changed into want; GoBGP fixes its listeners when it starts.
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
		for _, pair := range [][2]Session{{old.A, want.A}, {old.Z, want.Z}} {
			before, after := pair[0], pair[1]
			switch {
			case restart(before, after), before.PrefixLimit != after.PrefixLimit && c.overLimit(before.Peer):
				c.removePeer(ctx, before.Peer)
			case before.PrefixLimit != after.PrefixLimit:
				if _, err := c.server.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: c.peer(after)}); err != nil {
					return err
				}
			}
		}
		if err := c.setPolicies(ctx); err != nil {
			return err
		}
		for _, session := range []Session{want.A, want.Z} {
			if !c.has(session.Peer) {
				if err := c.addPeer(ctx, session); err != nil {
					return err
				}
			}
			// What the peer has announced is judged again by the new lists, without asking it to announce anew.
			request := &api.ResetPeerRequest{Address: session.Peer.String(), Soft: true, Direction: api.ResetPeerRequest_IN}
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

func (c *connection) stop() {
	c.unwatch()
	// The error is only for a nil request.
	_ = c.server.StopBgp(context.Background(), &api.StopBgpRequest{})
}

func (c *connection) addPeer(ctx context.Context, session Session) error {
	c.mu.Lock()
	c.sessions[session.Peer] = &observed{state: "idle", since: time.Now()}
	c.mu.Unlock()
	err := c.server.AddPeer(ctx, &api.AddPeerRequest{Peer: c.peer(session)})
	if err != nil {
		c.mu.Lock()
		delete(c.sessions, session.Peer)
		c.mu.Unlock()
	}
	return err
}

func (c *connection) removePeer(ctx context.Context, peer netip.Addr) {
	// The one error is that there is no such peer.
	_ = c.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: peer.String()})
	c.mu.Lock()
	delete(c.sessions, peer)
	c.mu.Unlock()
}

func (c *connection) has(peer netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[peer] != nil
}

func (c *connection) overLimit(peer netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[peer] != nil && c.sessions[peer].tooMany
}

func (c *connection) peer(session Session) *api.Peer {
	hold := uint64(c.options.HoldTime / time.Second)
	return &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: session.Peer.String(), PeerAsn: session.PeerASN, AuthPassword: session.Password,
			AdminDown: session.Down,
			// Two networks with the same private AS number would each discard the other's routes as a loop.
			ReplacePeerAsn: c.want.A.PeerASN == c.want.Z.PeerASN,
		},
		Transport: &api.Transport{LocalAddress: session.Local.Addr().String()},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry: uint64(max(1, c.options.ConnectRetry/time.Second)), HoldTime: hold, KeepaliveInterval: max(1, hold/3),
			IdleHoldTimeAfterReset: uint64(idleAfterReset / time.Second),
		}},
		AfiSafis: []*api.AfiSafi{{
			Config:       &api.AfiSafiConfig{Family: c.want.key().unicast(), Enabled: true},
			PrefixLimits: &api.PrefixLimit{Family: c.want.key().unicast(), MaxPrefixes: uint32(session.PrefixLimit)},
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
	// The unspecified next hop becomes our own address on each session.
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
