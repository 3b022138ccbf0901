package bgp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	gobgp "github.com/osrg/gobgp/v3/pkg/server"
)

// Times of a relay.
const (
	maxConnectRetry = 8 * time.Second  // calls that fail come at growing distances, up to this one
	callTimeout     = 5 * time.Second  // of one call to the router
	innerTimeout    = 5 * time.Second  // of one call to GoBGP, in this process
	readyTimeout    = 5 * time.Second  // how long a router's call waits for GoBGP to be ready
	openTimeout     = 10 * time.Second // how long the second of two calls that cross may take to say who it is
	agreeTimeout    = time.Second      // how long the node's first KEEPALIVE waits for the router's
	linger          = 2 * time.Second  // how long the last message of a session has to arrive
	innerHoldTime   = 0xffff           // in seconds, between relay and GoBGP: the relay notices a router's silence
)

// relay is one session's way between a router and GoBGP. It has the node's address on the link, calls the router and
// answers its calls, and shows GoBGP only messages that a guard has let through: in GoBGP v3.37 a message of an unknown type
// is a nil pointer in a goroutine of its own, which ends the process with all its sessions. GoBGP listens on the loopback
// and knows the router by an address that stands for it there. It hears of a session once that is established, for it
// forgets what it keeps for a router that restarts with the first attempt that fails; the session's opening, its timers
// and graceful restart (RFC 4724, see restart.go) are the relay's, the routes are GoBGP's.
type relay struct {
	session  Session
	options  Options
	inner    netip.AddrPort // where GoBGP listens
	alias    netip.Addr     // the router, as GoBGP knows it
	server   *gobgp.BgpServer
	family   packet.RouteFamily
	log      *slog.Logger
	listener net.Listener // nil if the node only calls

	calls   chan *call // the router's last call that is not answered yet
	changed chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu        sync.Mutex
	active    bool          // GoBGP waits for a connection
	reset     bool          // and has been told how long it is to be idle after the next loss
	won       *call         // took the place of another; comes next
	carrying  chan struct{} // closed when the call that is carried has ended
	current   *carriage     // the call that is carried
	preserved bool          // the kernel has kept the routes that the router was told of
	deferring bool          // the node has restarted and has not told all it will: see restart.go
	marked    bool          // the router has ended its initial update
	stale     bool          // GoBGP keeps routes of a session that was lost
	endsRIB   bool          // GoBGP tells the router when it has said all, and counts that as a route
}

// call is a TCP connection with the router.
type call struct {
	net.Conn
	ours   bool // the node called
	reader *bufio.Reader
	guard  *guard
	first  []byte // what was read of it before it was its turn: its OPEN
}

func (r *relay) newCall(conn net.Conn, ours bool) *call {
	return &call{Conn: conn, ours: ours, reader: bufio.NewReaderSize(conn, 4*maxMessage), guard: newGuard(r.options.ASN, r.family)}
}

// listen takes the session's address, so that it is known at once whether the node has it.
func (r *relay) listen() (err error) {
	if r.options.Port < 0 {
		return nil
	}
	config := net.ListenConfig{Control: tcpOptions(r.session)}
	config.SetMultipathTCP(false) // such a socket takes no keys
	r.listener, err = config.Listen(context.Background(), "tcp", netip.AddrPortFrom(r.session.Local.Addr(), uint16(r.options.Port)).String())
	return err
}

// start begins to call and to answer.
func (r *relay) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if r.listener != nil {
		r.done.Go(r.accept)
	}
	r.done.Go(func() { r.run(ctx) })
}

// close ends the session for good: the router hears of it, and drops its routes. GoBGP has been told to say its Cease.
func (r *relay) close() {
	r.mu.Lock()
	current, carrying := r.current, r.carrying
	joined := current != nil && current.joined
	r.mu.Unlock()
	switch {
	case joined: // until GoBGP's Cease has passed
		select {
		case <-carrying:
		case <-time.After(2 * linger):
		}
	case current != nil:
		_ = current.tell(cease, true)
	}
	r.stop()
}

// hush has the router hear nothing more.
func (r *relay) hush() {
	r.mu.Lock()
	current := r.current
	r.mu.Unlock()
	if current != nil {
		current.hush()
	}
}

// stop ends the session as a crash would: a router that knows graceful restart keeps the node's routes for a while.
func (r *relay) stop() {
	if r.listener != nil {
		r.listener.Close()
	}
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.done.Wait()
	select {
	case c := <-r.calls:
		c.Close()
	default:
	}
	if r.won != nil {
		r.won.Close()
	}
}

// state is what GoBGP says of the session.
func (r *relay) state(state string) {
	r.mu.Lock()
	r.active = state == "active"
	r.mu.Unlock()
	r.wake()
}

func (r *relay) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if from, _ := netip.ParseAddrPort(conn.RemoteAddr().String()); from.Addr().Unmap() != r.session.Peer {
			conn.Close()
			continue
		}
		for c := r.newCall(conn, false); c != nil; {
			select {
			case r.calls <- c:
				c = nil
			case former := <-r.calls: // a router that calls again has given up its former call
				former.Close()
			}
		}
	}
}

func (r *relay) run(ctx context.Context) {
	retry := time.Duration(0) // the first call is made at once (RFC 4271 section 8.2.2, ManualStart)
	for r.awaitReady(ctx) {
		c, failed := r.nextCall(ctx, retry)
		switch {
		case failed:
			retry = max(r.options.ConnectRetry, min(2*retry, maxConnectRetry))
		case c != nil && r.carry(ctx, c):
			retry = r.options.ConnectRetry
		case c != nil:
			retry = max(r.options.ConnectRetry, min(2*retry, maxConnectRetry))
			r.pause(ctx)
		}
	}
}

// pause keeps a router that calls and calls, and says nothing of use, from being answered as often. It ends for one that has
// called anew before its former call was given up.
func (r *relay) pause(ctx context.Context) {
	over := time.NewTimer(idleAfterReset)
	defer over.Stop()
	for {
		r.mu.Lock()
		won := r.won
		r.mu.Unlock()
		if won != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-r.changed:
		}
	}
}

// awaitReady waits until GoBGP wants a connection; calls that come meanwhile wait with it for a moment, but not for
// a session that is not to be. It reports false once ctx is done.
func (r *relay) awaitReady(ctx context.Context) bool {
	for {
		r.mu.Lock()
		active, reset := r.active, r.reset
		r.reset = active
		r.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		if active {
			// GoBGP would stay idle for 5 s after the next loss. A reset makes that the configured time; there is no session
			// yet that it could close, and the NOTIFICATION it queues is dropped when GoBGP leaves this state.
			if !reset {
				_ = r.server.ResetPeer(ctx, &api.ResetPeerRequest{Address: r.alias.String()})
			}
			return true
		}
		select {
		case <-ctx.Done():
		case <-r.changed:
		case <-time.After(readyTimeout):
			select {
			case c := <-r.calls:
				c.Close()
			default:
			}
			r.recheck(ctx)
		}
	}
}

// recheck asks GoBGP for what it may not have said again, such as after a call that it refused without a change of state.
func (r *relay) recheck(ctx context.Context) {
	_ = r.server.ListPeer(ctx, &api.ListPeerRequest{Address: r.alias.String()}, func(p *api.Peer) {
		r.state(strings.ToLower(p.GetState().GetSessionState().String()))
	})
}

// nextCall waits for a call from the router, and calls it unless it was faster. failed says that the node's call failed.
func (r *relay) nextCall(ctx context.Context, retry time.Duration) (c *call, failed bool) {
	wait := time.NewTimer(time.Duration(float64(retry) * (0.25 + 0.75*rand.Float64()))) // RFC 4271 section 10: jitter
	defer wait.Stop()
	for {
		r.mu.Lock()
		active, won := r.active, r.won
		if active {
			r.won = nil
		}
		r.mu.Unlock()
		if !active {
			return nil, false
		}
		if won != nil {
			return won, false
		}
		select {
		case <-ctx.Done():
			return nil, false
		case c := <-r.calls:
			return c, false
		case <-r.changed:
			continue
		case <-wait.C:
		}
		break
	}
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	called := make(chan net.Conn, 1)
	go func() {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(r.session.Local.Addr(), 0)), Control: tcpOptions(r.session)}
		dialer.SetMultipathTCP(false)
		port := DefaultPort
		if r.options.Port > 0 {
			port = r.options.Port
		}
		conn, err := dialer.DialContext(calling, "tcp", netip.AddrPortFrom(r.session.Peer, uint16(port)).String())
		if err != nil {
			r.log.Debug("bgp: call the router", "peer", r.session.Peer, "error", err)
		}
		called <- conn
	}()
	select {
	case conn := <-called:
		if conn == nil {
			return nil, true
		}
		return r.newCall(conn, true), false
	case c = <-r.calls:
		cancel()
		conn := <-called
		if conn == nil {
			return c, false
		}
		select { // they cross
		case r.calls <- c:
		default: // it has called again
			c.Close()
		}
		return r.newCall(conn, true), false
	}
}

// carry opens the session of a call and passes messages both ways until it ends. Of two calls that cross it keeps one.
// It reports whether the session was up.
func (r *relay) carry(ctx context.Context, router *call) bool {
	defer router.Close()
	carrying := make(chan struct{})
	defer close(carrying)
	c := &carriage{relay: r, router: router, toRouter: bufio.NewWriterSize(router, 4*maxMessage), up: make(chan struct{})}
	r.mu.Lock()
	r.carrying, r.current = carrying, c
	r.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		c.run(ctx)
		close(ended)
	}()
	stopped := ctx.Done()
	for {
		select {
		case <-ended:
			established, _ := c.age()
			return established
		case <-stopped:
			c.abort()
			stopped = nil
		case other := <-r.calls:
			r.done.Go(func() { r.collide(ctx, c, carrying, other) })
		}
	}
}

// collide decides between the call that is carried and another one from the router (RFC 4271 section 6.8). The one that is
// given up is closed without a word: it is no error, and routers take a NOTIFICATION for one.
func (r *relay) collide(ctx context.Context, current *carriage, ended <-chan struct{}, other *call) {
	defer context.AfterFunc(ctx, func() { other.Close() })()
	established, old := current.age()
	switch {
	case established && !old:
		other.Close()
		return
	case !established && !current.router.ours: // both are the router's: it has given the first one up
	case !r.yields(current, ended, other):
		other.Close()
		return
	}
	r.mu.Lock()
	former := r.won
	r.won = other
	r.mu.Unlock()
	if former != nil {
		former.Close()
	}
	current.router.Close()
	r.wake()
}

// yields reports whether the router's call is to take the place of the one that is carried. If the router's identifier is
// the higher one, it is for the router to close the node's call; the node gives that up for nothing but silence. A router
// that has not looked at it yet would do so later, and FRR ends a session that is up when it comes upon another call, as
// that of a node that has restarted. Had the node restarted indeed, this would be the second time, with which its routes
// are gone (RFC 4724 section 4.2).
func (r *relay) yields(current *carriage, ended <-chan struct{}, other *call) bool {
	var buffer [maxMessage]byte
	_ = other.SetReadDeadline(time.Now().Add(openTimeout))
	m, err := readMessage(other.reader, &buffer)
	if err == nil {
		m, err = other.guard.check(m)
	}
	if err != nil || !other.guard.opened {
		return false
	}
	_ = other.SetReadDeadline(time.Time{})
	other.first = m
	established, old := current.age()
	if established {
		// A router that has restarted has no other session, though its former one may seem to be up (RFC 4724 section 4.2).
		return old && other.guard.hasRestarted()
	}
	if !other.guard.outranks(r.options.RouterID) {
		return false
	}
	select {
	case <-current.up:
		return false
	case <-ended:
	case <-time.After(openTimeout):
	}
	established, _ = current.age()
	return !established
}

// aliases hand out the loopback addresses at which the GoBGP servers of this process listen and know their routers.
var aliases struct {
	sync.Mutex
	next uint32
}

const (
	aliasBase  = 127<<24 | 64<<16 // 127.64.0.0/10
	aliasCount = 1 << 20          // of four addresses each
	innerPort  = 1790             // no other speaker's: those listen on 179 of every address
)

// nextAliases returns the address for a GoBGP server and those that stand for its two routers.
func nextAliases() (inner netip.AddrPort, a, z netip.Addr) {
	aliases.Lock()
	defer aliases.Unlock()
	at := func(n uint32) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, aliasBase+4*aliases.next+n)))
	}
	inner, a, z = netip.AddrPortFrom(at(1), innerPort), at(2), at(3)
	aliases.next = (aliases.next + 1) % aliasCount
	return inner, a, z
}
