package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// SessionStatus is what is known of one session.
type SessionStatus struct {
	Tag              int
	Side             Side
	Family           string    // domain.IPv4 or domain.IPv6
	State            string    // idle, connect, active, opensent, openconfirm or established (RFC 4271 section 8.2.2)
	Since            time.Time // UTC, microseconds
	PrefixesReceived int       // announced by the peer, our own routes that it sends back not counted
	PrefixesAccepted int       // of these, registered
	PrefixesSent     int
	Message          string // what a person has to know, or empty
}

// Route is an accepted path: traffic for Prefix leaves on Side. The next hop is always the session's peer; a
// third-party next hop (RFC 4271 section 5.1.3) would lead out of the connection.
type Route struct {
	Side    Side
	Prefix  netip.Prefix
	NextHop netip.Addr
}

// Established is the state of a session over which routes are exchanged.
const Established = "established"

// Status returns the state of all sessions, by tag, side and family.
func (s *Speaker) Status(ctx context.Context) ([]SessionStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []SessionStatus
	for _, c := range s.connections {
		pair, err := c.status(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, pair...)
	}
	slices.SortFunc(all, func(x, y SessionStatus) int {
		if x.Tag != y.Tag {
			return x.Tag - y.Tag
		}
		return strings.Compare(string(x.Side)+x.Family, string(y.Side)+y.Family)
	})
	return all, nil
}

// ConnectionStatus returns the state of the sessions of one connection: a, then z, of IPv4, then of IPv6; nothing for an
// unknown tag.
func (s *Speaker) ConnectionStatus(ctx context.Context, tag int) (all []SessionStatus, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys(tag) {
		if c, ok := s.connections[k]; ok {
			pair, err := c.status(ctx)
			if err != nil {
				return nil, err
			}
			all = append(all, pair...)
		}
	}
	return all, nil
}

// Settled reports whether Routes has all that a connection's routers announce in a family. It has not yet after a restart:
// what the kernel has of the speaker before is to stay until then.
func (s *Speaker) Settled(tag int, family string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys(tag) {
		if k.family() != family {
			continue
		}
		if c, ok := s.connections[k]; ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return !c.deferring
		}
		return !s.restarted[k]
	}
	return true
}

// Routes returns the accepted best paths of a connection, by prefix, IPv4 first.
func (s *Speaker) Routes(ctx context.Context, tag int) (all []Route, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys(tag) {
		if c, ok := s.connections[k]; ok {
			routes, err := c.routes(ctx)
			if err != nil {
				return nil, err
			}
			all = append(all, routes...)
		}
	}
	return all, nil
}

func (c *connection) observe(event *api.WatchEventResponse, at time.Time) {
	defer c.settle(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, path := range event.GetTable().GetPaths() {
		if path.Nlri != nil {
			return // routes have changed; they are read from the table
		}
		side, _ := c.sideOf(path.NeighborIp) // an End-of-RIB
		if session, ok := c.sessions[side]; ok && session.relay != nil && session.relay.hasMarked() {
			session.complete = true
		}
	}
	peer := event.GetPeer().GetPeer()
	if peer == nil {
		return
	}
	side, _ := c.sideOf(peer.GetState().GetNeighborAddress())
	session, ok := c.sessions[side]
	if !ok {
		return
	}
	if state := strings.ToLower(peer.State.SessionState.String()); state != session.state && state != "unknown" {
		session.state, session.since = state, at
		if session.relay != nil {
			session.relay.state(state)
			if c.deferring && state == Established && session.relay.hasRestarted() {
				time.AfterFunc(restartedTime, func() {
					c.mu.Lock()
					session.complete = true
					c.mu.Unlock()
					c.settle(false)
					c.signal()
				})
			}
		}
	}
	session.tooMany = peer.State.AdminState == api.PeerState_PFX_CT
	session.routerID = peer.State.RouterId
}

// sideOf returns the side whose router GoBGP knows by an address.
func (c *connection) sideOf(alias string) (Side, bool) {
	for side, address := range c.aliases {
		if address.String() == alias {
			return side, true
		}
	}
	return "", false
}

func (c *connection) status(ctx context.Context) ([]SessionStatus, error) {
	counts := map[Side]*api.AfiSafiState{}
	err := c.server.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: true}, func(p *api.Peer) {
		for _, family := range p.AfiSafis {
			if side, ok := c.sideOf(p.State.NeighborAddress); ok && family.State != nil {
				counts[side] = family.State
			}
		}
	})
	if err != nil {
		return nil, err
	}
	accepted := map[Side]int{}
	routes, err := c.routes(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		accepted[r.Side]++
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var pair []SessionStatus
	other := map[Side]Side{A: Z, Z: A}
	for _, end := range c.want.ends() {
		status := SessionStatus{Tag: c.want.Tag, Side: end.side, Family: c.want.key().family(), State: "idle"}
		if o := c.sessions[end.side]; o != nil {
			status.State, status.Since = o.state, o.since.UTC().Truncate(time.Microsecond)
			if kept := accepted[end.side]; kept > 0 && status.State != Established {
				status.Message = fmt.Sprintf("the router is away, and has asked for its routes to be kept while it restarts; %d are", kept)
			}
			if o.tooMany {
				status.Message = fmt.Sprintf("closed: the peer announced more than %d prefixes", end.PrefixLimit)
			} else if p := c.sessions[other[end.side]]; p != nil && o.state == Established && p.state == Established && o.routerID == p.routerID {
				// GoBGP tells where a route came from by the router's identifier alone.
				status.Message = fmt.Sprintf("both routers use the BGP identifier %s; no routes cross until one of them has another", o.routerID)
			}
		}
		if n := counts[end.side]; n != nil && status.State == Established {
			status.PrefixesReceived, status.PrefixesSent = int(n.Accepted), int(n.Advertised)
			status.PrefixesAccepted = accepted[end.side]
			if relay := c.sessions[end.side].relay; relay != nil && relay.sendsEndOfRIB() {
				status.PrefixesSent--
			}
			if refused := status.PrefixesReceived - status.PrefixesAccepted; refused > 0 && status.Message == "" {
				status.Message = fmt.Sprintf("%d of %d prefixes announced are not registered and are refused", refused, status.PrefixesReceived)
			}
		}
		pair = append(pair, status)
	}
	return pair, nil
}

func (c *connection) routes(ctx context.Context) ([]Route, error) {
	var routes []Route
	err := c.server.ListPath(ctx, &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: c.want.key().unicast()}, func(d *api.Destination) {
		for _, p := range d.Paths {
			if !p.Best {
				continue
			}
			prefix, err := netip.ParsePrefix(d.Prefix)
			if err != nil {
				continue
			}
			if side, ok := c.sideOf(p.NeighborIp); ok { // what the node originates has no neighbour
				routes = append(routes, Route{Side: side, Prefix: prefix, NextHop: map[Side]netip.Addr{A: c.want.A.Peer, Z: c.want.Z.Peer}[side]})
			}
		}
	})
	slices.SortFunc(routes, func(x, y Route) int { return x.Prefix.Compare(y.Prefix) })
	return routes, err
}
