package bgp

import (
	"context"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// Times of graceful restart (RFC 4724).
const (
	// DefaultRestartTime is how long routers are asked to keep the node's routes without a session. Theirs are kept for as long
	// as each of them asks for.
	DefaultRestartTime = 120 * time.Second
	// DefaultDeferralTime is how long a speaker that has restarted waits for all that a connection's routers announce, before
	// it takes what they have not announced for gone.
	DefaultDeferralTime = 60 * time.Second
	// restartedTime is how long an established session's End-of-RIB is awaited if the router has restarted too. It may wait for
	// the node's, so RFC 4724 has the node not wait at all; but FRR says so of itself for two minutes after every start.
	restartedTime = 30 * time.Second
)

// asTrans stands for AS numbers of more than two octets (RFC 6793 section 9).
const asTrans = 23456

// open is the node's OPEN. It asks the router to keep the node's routes when the session is lost without a NOTIFICATION.
// The kernel forwards on whether the speaker runs or not, so it has preserved them, unless the node itself has restarted.
// After a restart of the speaker the router is to announce its routes at once, and not to wait for the node's, which may
// be long in coming. GoBGP's own OPEN is of no use: it says neither that the kernel has kept the routes of a session that
// was merely lost, nor that the node has restarted once the other side's session is up.
func (r *relay) open() []byte {
	r.mu.Lock()
	restarted, preserved := r.deferring, r.preserved
	r.mu.Unlock()
	asn := uint16(asTrans)
	if r.options.ASN <= 0xffff {
		asn = uint16(r.options.ASN)
	}
	return encode(packet.NewBGPOpenMessage(asn, uint16(r.options.HoldTime/time.Second), r.options.RouterID.String(), []packet.OptionParameterInterface{
		packet.NewOptionParameterCapability([]packet.ParameterCapabilityInterface{
			packet.NewCapRouteRefresh(), packet.NewCapMultiProtocol(r.family), packet.NewCapFourOctetASNumber(r.options.ASN),
			packet.NewCapGracefulRestart(restarted, false, uint16(r.options.RestartTime/time.Second), []*packet.CapGracefulRestartTuple{
				packet.NewCapGracefulRestartTuple(r.family, preserved)}),
		})}))
}

// endOfRIB is the end of an initial update (RFC 4724 section 2).
func endOfRIB(family packet.RouteFamily) []byte { return encode(packet.NewEndOfRib(family)) }

func isEndOfRIB(m []byte) bool {
	if len(m) > 30 { // with a family it is the longest
		return false
	}
	parsed, err := packet.ParseBGPMessage(m)
	if err != nil {
		return false
	}
	update, ok := parsed.Body.(*packet.BGPUpdate)
	if !ok {
		return false
	}
	end, _ := update.IsEndOfRib()
	return end
}

// restart is what the router's OPEN says of graceful restart, nil for nothing.
func (g *guard) restart() (last *packet.CapGracefulRestart) {
	if g.open == nil {
		return nil
	}
	for _, c := range capabilities(g.open) {
		if c, ok := c.(*packet.CapGracefulRestart); ok {
			last = c
		}
	}
	return last
}

// restartOf is what it says of a family.
func (g *guard) restartOf(family packet.RouteFamily) *packet.CapGracefulRestartTuple {
	if restart := g.restart(); restart != nil {
		for _, t := range restart.Tuples {
			if packet.AfiSafiToRouteFamily(t.AFI, t.SAFI) == family {
				return t
			}
		}
	}
	return nil
}

// restarts reports whether the router asks for its routes to be kept while it restarts.
func (g *guard) restarts(family packet.RouteFamily) bool {
	return g.restartOf(family) != nil && g.restart().Time > 0
}

// preserved reports whether the router has forwarded on since the session before.
func (g *guard) preserved(family packet.RouteFamily) bool {
	t := g.restartOf(family)
	return t != nil && t.Flags&0x80 != 0
}

// hasRestarted reports whether the router says so.
func (g *guard) hasRestarted() bool {
	restart := g.restart()
	return restart != nil && restart.Flags&0x08 != 0
}

// refreshes reports whether the router knows how to ask for all routes.
func (g *guard) refreshes() bool {
	return slices.ContainsFunc(capabilities(g.open), func(c packet.ParameterCapabilityInterface) bool { return c.Code() == packet.BGP_CAP_ROUTE_REFRESH })
}

func (g *guard) restartTime() time.Duration { return time.Duration(g.restart().Time) * time.Second }

// keep notes that GoBGP keeps routes of a session that was lost.
func (r *relay) keep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = true
}

// mark notes that the router has announced all it had.
func (r *relay) mark() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marked = true
}

// sendsEndOfRIB reports whether GoBGP tells the router when it has said all, which it counts as a route.
func (r *relay) sendsEndOfRIB() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endsRIB
}

// hasMarked reports whether it has.
func (r *relay) hasMarked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.marked
}

// hasRestarted reports whether the router has restarted too.
func (r *relay) hasRestarted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current != nil && r.current.joined && r.current.router.guard.hasRestarted()
}

// withholds reports whether an End-of-RIB of GoBGP's is not for the router. GoBGP sends one when it has told what it has;
// after a restart that is not yet what the other router will announce, and the router would drop all that is missing.
func (c *carriage) withholds() bool {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	held := c.held
	c.held = false
	return held
}

// answersLater reports whether a request for all routes will be answered anyway, with the End-of-RIB behind them.
func (c *carriage) answersLater() bool {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	return c.relay.deferring
}

// release has the router told everything again, with the End-of-RIB behind it. The request goes the way of the router's
// own, so that it comes after the session's beginning, whose End-of-RIB is withheld. For a router that does not know route
// refresh (RFC 2918), which is old enough that its session has begun long ago, it goes to GoBGP's API.
func (r *relay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deferring = false
	if r.current == nil || !r.current.joined {
		return
	}
	if r.current.router.guard.refreshes() {
		afi, safi := packet.RouteFamilyToAfiSafi(r.family)
		_ = r.current.tellGoBGP(encode(packet.NewBGPRouteRefreshMessage(afi, 0, safi)), true)
		return
	}
	_ = r.server.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: r.alias.String(), Soft: true, Direction: api.ResetPeerRequest_OUT})
}

// settle ends the connection's deferral if all its routers have announced what they had, or without condition. GoBGP has
// had all of it by then.
func (c *connection) settle(unconditionally bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deferring {
		return
	}
	if !unconditionally {
		if len(c.sessions) < 2 {
			return
		}
		for _, session := range c.sessions {
			if session.relay != nil && !session.complete {
				return
			}
		}
	}
	c.deferring = false
	c.deferral.Stop()
	for _, session := range c.sessions {
		if session.relay != nil {
			session.relay.release()
		}
	}
}
