// Package bgp is the BGP speaker of an edge node: GoBGP, embedded, with two neighbours for every connection and address
// family that it carries.
//
// For each connection it peers with the customer's router on side a and the provider's router on side z, accepts from
// each exactly the prefixes registered for that session, and tells each what the other one may reach it by. The routes
// it accepts are handed out by [Speaker.Routes]; it never touches the kernel's routing tables, interfaces or addresses
// itself, and it never originates anything but the two link subnets of a connection, so that a far router can answer
// a probe sent from the node's own address.
//
// # Why a RIB for each connection
//
// Two customers may use the same private prefixes, so their routes must never meet in one table. GoBGP's own answer,
// VRFs, is not taken, for three reasons that can be read in its source (v3.37.0, pkg/server):
//   - For every update and every established neighbour of the whole server, CanImportToVrf compiles a regular
//     expression to compare route targets. The work is routes × all neighbours of the node, which a node with hundreds
//     of sessions cannot pay.
//   - When the best path falls away in favour of the neighbour's own, filterPathFromSourcePeer returns a withdrawal
//     cloned from the VPN path, which goes out on a session that speaks plain IPv4 unicast.
//   - Isolation would rest on route targets being right; one wrong one is a leak between customers.
//
// So each connection has a GoBGP server of its own inside this process: the isolation is the absence of any shared table,
// and the work is linear. A [Speaker] is the set of them.
//
// # Why a relay before each session
//
// A router may send anything, and GoBGP does not survive everything: a message of an unknown type, a second OPEN, or
// AS4_PATH before AS_PATH is a panic in one of its goroutines (v3.37.0, pkg/server/fsm.go, internal/pkg/table/message.go),
// and with it the end of every session of the node. So routers never speak to GoBGP. A relay has the connection's
// address, and shows its GoBGP, which listens on the loopback, only what a guard has let through. A process on the
// node itself can reach GoBGP there, so the node is to run nothing that is not trusted.
//
// # Why a session for each address family
//
// IPv4 and IPv6 could share one session (RFC 4760). They have one each, over addresses of their own, as is the custom where
// networks meet: what breaks one family, be it a limit that is passed, a malformed route or a filter on the way, leaves
// the other alone, next hops need no translation, and the state of each is told by itself. Tables are apart too: each
// has a GoBGP server.
//
// Registered prefixes are matched exactly: 10.1.0.0/16 admits 10.1.0.0/16 and neither 10.1.2.0/24 nor 10.0.0.0/8.
//
// Start reading at [Speaker.Ensure].
package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"crossbill/domain"

	gobgp "github.com/osrg/gobgp/v3/pkg/server"
)

// Timers and limits.
const (
	DefaultHoldTime     = 90 * time.Second // RFC 4271 section 10
	DefaultConnectRetry = time.Second      // the far router may come up long after the node; look often
	idleAfterReset      = time.Second      // between a lost session and the next attempt
	maxPrefixes         = 10_000           // registered prefixes of one session
	DefaultPort         = 179
)

// Side names the end of a connection a session belongs to.
type Side string

// A is the customer's side of a connection, Z the provider's.
const (
	A Side = "a"
	Z Side = "z"
)

// Options configure a [Speaker].
type Options struct {
	ASN          uint32     // the node's AS number, the same on every session
	RouterID     netip.Addr // the node's BGP identifier, an IPv4 address
	Port         int        // to listen on; 0 means 179, -1 means not to listen and only to call
	HoldTime     time.Duration
	ConnectRetry time.Duration
	RestartTime  time.Duration // 0 means DefaultRestartTime
	DeferralTime time.Duration // 0 means DefaultDeferralTime
	Restarted    []int         // tags of the connections that the kernel has routes of from a speaker before; see Settled
	Logger       *slog.Logger
}

// Session is what one neighbour of a connection is to be.
type Session struct {
	Local       netip.Prefix // the node's own address on the link, with the link's length
	Peer        netip.Addr
	PeerASN     uint32
	Prefixes    []netip.Prefix // accepted from the peer: these exactly, nothing longer or shorter
	PrefixLimit int            // the session is closed when the peer announces more; 0 means no limit
	Password    string         // TCP MD5 (RFC 2385); empty means none
	Down        bool           // the session is not wanted: neither called nor answered
}

// Connection is one pair of neighbours, in the address family of their addresses. Tag and family together are unique on the
// node.
type Connection struct {
	Tag  int
	A, Z Session
}

// key tells the connections of a speaker apart.
type key struct {
	tag  int
	ipv6 bool
}

func (c Connection) key() key { return key{c.Tag, c.A.Local.Addr().Is6()} }

// family is the address family as the domain calls it.
func (k key) family() string {
	if k.ipv6 {
		return domain.IPv6
	}
	return domain.IPv4
}

// keys are those that a connection may have sessions under, IPv4's first.
func keys(tag int) [2]key { return [2]key{{tag, false}, {tag, true}} }

// Speaker holds the node's sessions. Its methods may be called from several goroutines.
type Speaker struct {
	options Options
	changes chan struct{}

	noting sync.Mutex   // held for nothing else: GoBGP's goroutines wait for it
	noted  map[int]bool // tags of which something has changed; see Changed

	mu          sync.Mutex // also serialises Ensure and Remove
	connections map[key]*connection
	restarted   map[key]bool       // see Options; until the connection is there
	idle        []*gobgp.BgpServer // stopped servers for the next connection; see acquire
	stopped     bool
}

// Start returns a speaker without sessions. It fails with Invalid when the AS number or the router id is missing.
func Start(options Options) (*Speaker, error) {
	var problems domain.Problems
	problems.Check(options.ASN != 0, "/asn", "the AS number is missing")
	problems.Check(options.RouterID.Is4(), "/router_id", "the BGP identifier has to be an IPv4 address")
	if err := problems.Err("bgp.Start"); err != nil {
		return nil, err
	}
	if options.Port == 0 {
		options.Port = DefaultPort
	}
	if options.HoldTime == 0 {
		options.HoldTime = DefaultHoldTime
	}
	if options.ConnectRetry == 0 {
		options.ConnectRetry = DefaultConnectRetry
	}
	if options.RestartTime == 0 {
		options.RestartTime = DefaultRestartTime
	}
	if options.DeferralTime == 0 {
		options.DeferralTime = DefaultDeferralTime
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	restarted := map[key]bool{}
	for _, tag := range options.Restarted {
		for _, k := range keys(tag) {
			restarted[k] = true
		}
	}
	return &Speaker{options: options, changes: make(chan struct{}, 1), connections: map[key]*connection{}, restarted: restarted, noted: map[int]bool{}}, nil
}

// Ensure makes the sessions of one connection what c says, and does nothing if they are. New prefixes and limits are
// taken over without closing a session; another peer, AS number or password, and being wanted or not, restarts that session alone, another
// address of ours both. The addresses have to be on the node already. It returns once the sessions are configured, not
// once they are established. Errors: Invalid for a connection that cannot be, Unavailable if an address cannot be
// listened on (yet).
func (s *Speaker) Ensure(ctx context.Context, c Connection) error {
	c = c.normal()
	if err := c.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return domain.Errorf(domain.Unavailable, "bgp.Ensure", "the speaker is stopped")
	}
	if old, ok := s.connections[c.key()]; ok {
		if old.takes(c) {
			return old.change(ctx, c)
		}
		s.drop(old)
	}
	started, err := s.start(ctx, c)
	if err != nil {
		return err
	}
	s.connections[c.key()] = started
	delete(s.restarted, c.key())
	return nil
}

// Remove closes the sessions of a connection, of which its routers hear, and forgets its routes. A tag that is not there is no
// error.
func (s *Speaker) Remove(tag int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dropped []*connection
	var wait sync.WaitGroup
	for _, k := range keys(tag) {
		delete(s.restarted, k)
		if c, ok := s.connections[k]; ok {
			wait.Go(c.close)
			dropped = append(dropped, c)
		}
	}
	wait.Wait()
	for _, c := range dropped {
		s.forget(c)
	}
}

// List returns the tags of the connections with sessions, ascending.
func (s *Speaker) List() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	tags := make([]int, 0, len(s.connections))
	for k := range s.connections {
		tags = append(tags, k.tag)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// Changes is signalled after the state of any session or any accepted route has changed. Signals are merged: one
// receive may stand for many changes.
func (s *Speaker) Changes() <-chan struct{} { return s.changes }

// Stop ends all sessions without a word, as a crash would: routers that know graceful restart keep the node's routes until
// the next speaker is there, or their time is up. The speaker cannot be used again.
func (s *Speaker) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	var wait sync.WaitGroup
	for _, c := range s.connections {
		wait.Go(c.stop)
	}
	wait.Wait()
	clear(s.connections)
	s.idle = nil
}

func (s *Speaker) drop(c *connection) {
	c.close()
	s.forget(c)
}

// forget takes note that a connection is closed.
func (s *Speaker) forget(c *connection) {
	delete(s.connections, c.want.key())
	s.idle = append(s.idle, c.server)
	s.signal(c.want.Tag)
}

// acquire returns a GoBGP server that is not in use. GoBGP has no way to end a server's goroutine, so stopped servers
// are kept for the next connection: there are never more of them than there have been connections at one time.
func (s *Speaker) acquire() *gobgp.BgpServer {
	if n := len(s.idle); n > 0 {
		server := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return server
	}
	server := gobgp.NewBgpServer(gobgp.LoggerOption(&logAdapter{s.options.Logger}))
	go server.Serve()
	return server
}

// Changed returns the tags of the connections of which a session or an accepted route has changed since it was last asked.
func (s *Speaker) Changed() []int {
	s.noting.Lock()
	defer s.noting.Unlock()
	tags := slices.Sorted(maps.Keys(s.noted))
	clear(s.noted)
	return tags
}

func (s *Speaker) signal(tag int) {
	s.noting.Lock()
	s.noted[tag] = true
	s.noting.Unlock()
	select {
	case s.changes <- struct{}{}:
	default:
	}
}

// normal brings a connection into a form in which equal ones compare equal.
func (c Connection) normal() Connection {
	for _, session := range []*Session{&c.A, &c.Z} {
		prefixes := make([]netip.Prefix, len(session.Prefixes))
		for i, p := range session.Prefixes {
			prefixes[i] = p.Masked()
		}
		slices.SortFunc(prefixes, netip.Prefix.Compare)
		session.Prefixes = slices.Compact(prefixes)
	}
	return c
}

func (c Connection) check() error {
	var problems domain.Problems
	for _, end := range []struct {
		side    Side
		session Session
	}{{A, c.A}, {Z, c.Z}} {
		at, session := "/"+string(end.side), end.session
		problems.Check(session.Local.IsValid() && !session.Local.Addr().Is4In6() && session.Local.Addr().Is4() == c.A.Local.Addr().Is4(),
			at+"/local", "an address with its prefix length is needed, of one family on both sides")
		problems.Check(session.Peer.IsValid() && session.Peer != session.Local.Addr() && session.Local.Contains(session.Peer),
			at+"/peer", "the peer %v has to be another address of the link %v", session.Peer, session.Local)
		problems.Check(session.PeerASN != 0, at+"/peer_asn", "the peer's AS number is missing")
		problems.Check(session.PrefixLimit >= 0, at+"/prefix_limit", "the limit is negative")
		problems.Check(len(session.Prefixes) <= maxPrefixes, at+"/prefixes", "more than %d prefixes", maxPrefixes)
		for _, p := range session.Prefixes {
			problems.Check(p.IsValid() && p.Addr().Is4() == c.A.Local.Addr().Is4(), at+"/prefixes", "%v is not a prefix of the session's family", p)
		}
	}
	// Equal prefixes on both sides would leave the path of traffic to GoBGP's tie break.
	for _, p := range c.A.Prefixes {
		problems.Check(!slices.Contains(c.Z.Prefixes, p), "/z/prefixes", "%v is registered on both sides", p)
	}
	problems.Check(c.A.Peer != c.Z.Peer, "/z/peer", "both sides have the peer %v", c.Z.Peer)
	return problems.Err(fmt.Sprintf("bgp.Ensure(tag %d)", c.Tag))
}
