package bgp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
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
	linger          = 2 * time.Second  // how long the last message of a session has to arrive
)

// relay is the way of one session between a router and GoBGP. It has the node's address on the link, calls the router and
// answers its calls, and shows GoBGP only messages that a guard has let through: in GoBGP v3.37 a message of an unknown type
// is a nil pointer in a goroutine of its own, which ends the process with all its sessions. GoBGP listens on the loopback
// and knows the router by an address that stands for it there; the session's state machine, its timers and its routes
// are GoBGP's.
type relay struct {
	session  Session
	options  Options
	inner    netip.AddrPort // where GoBGP listens
	alias    netip.Addr     // the router, as GoBGP knows it
	server   *gobgp.BgpServer
	families map[packet.RouteFamily]packet.BGPAddPathMode
	log      *slog.Logger
	listener net.Listener // nil if the node only calls

	calls   chan *call // the router's last call that is not answered yet
	changed chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu       sync.Mutex
	active   bool          // GoBGP waits for a connection
	won      *call         // took the place of another; comes next
	carrying chan struct{} // closed when the call that is carried has ended
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
	return &call{Conn: conn, ours: ours, reader: bufio.NewReaderSize(conn, 4*maxMessage), guard: &guard{asn: r.options.ASN, families: r.families}}
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

// stop ends the session as a crash would. For an orderly end, GoBGP has said its Cease first, and drain has waited for it to pass.
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

// drain waits until the session that GoBGP has closed is closed with the router too.
func (r *relay) drain() {
	r.mu.Lock()
	carrying := r.carrying
	r.mu.Unlock()
	if carrying != nil {
		select {
		case <-carrying:
		case <-time.After(2 * linger):
		}
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
		select { // a router that calls again has given up its former call
		case former := <-r.calls:
			former.Close()
		default:
		}
		r.calls <- r.newCall(conn, false)
	}
}

func (r *relay) run(ctx context.Context) {
	retry := r.options.ConnectRetry
	for r.awaitReady(ctx) {
		c, failed := r.nextCall(ctx, retry)
		switch {
		case failed:
			retry = min(2*retry, max(maxConnectRetry, r.options.ConnectRetry))
		case c != nil:
			retry = r.options.ConnectRetry
			r.carry(ctx, c)
		}
	}
}

// awaitReady waits until GoBGP wants a connection; calls that come meanwhile wait with it for a moment, but not for
// a session that is not to be. It reports false once ctx is done.
func (r *relay) awaitReady(ctx context.Context) bool {
	for {
		r.mu.Lock()
		active := r.active
		r.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		if active {
			// GoBGP would stay idle for 5 s after the next loss. A reset makes that the configured time; there is no session
			// yet that it could close, and the NOTIFICATION it queues is dropped when GoBGP leaves this state.
			_ = r.server.ResetPeer(ctx, &api.ResetPeerRequest{Address: r.alias.String()})
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
		if conn := <-called; conn != nil {
			conn.Close()
		}
		return c, false
	}
}

// carry takes a call to GoBGP and passes messages both ways until it ends. Of two calls that cross it keeps one.
func (r *relay) carry(ctx context.Context, router *call) {
	defer router.Close()
	carrying := make(chan struct{})
	defer close(carrying)
	r.mu.Lock()
	r.active, r.carrying = false, carrying // GoBGP says it again before the next one
	r.mu.Unlock()
	dialing, cancel := context.WithTimeout(ctx, innerTimeout)
	defer cancel()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(r.alias, 0))}
	dialer.SetMultipathTCP(false)
	inner, err := dialer.DialContext(dialing, "tcp4", r.inner.String())
	if err != nil {
		if ctx.Err() == nil {
			r.log.Error("bgp: GoBGP does not listen", "at", r.inner, "error", err)
		}
		return
	}
	defer inner.Close()
	c := &carriage{relay: r, router: router, inner: inner.(*net.TCPConn), toRouter: bufio.NewWriterSize(router, 4*maxMessage)}
	var ways sync.WaitGroup
	ways.Go(c.fromRouter)
	ways.Go(c.fromGoBGP)
	ended := make(chan struct{})
	go func() { ways.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			router.Close()
			inner.Close()
			<-ended
			return
		case other := <-r.calls:
			r.done.Go(func() { r.collide(ctx, c, other) })
		}
	}
}

// collide decides between the call that is carried and another one from the router (RFC 4271 section 6.8). The one that is
// given up is closed without a word: it is no error, and routers take a NOTIFICATION for one.
func (r *relay) collide(ctx context.Context, current *carriage, other *call) {
	defer context.AfterFunc(ctx, func() { other.Close() })()
	switch {
	case current.isEstablished():
		other.Close()
		return
	case !current.router.ours: // both are the router's: it has given the first one up
	default:
		var buffer [maxMessage]byte
		_ = other.SetReadDeadline(time.Now().Add(openTimeout))
		m, err := readMessage(other.reader, &buffer)
		if err == nil {
			m, err = other.guard.check(m)
		}
		if err != nil || !r.options.RouterID.Less(netip.AddrFrom4([4]byte(other.guard.open.ID.To4()))) {
			other.Close()
			return
		}
		_ = other.SetReadDeadline(time.Time{})
		other.first = m
		if current.isEstablished() {
			other.Close()
			return
		}
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

// carriage is a call that is passed on to GoBGP.
type carriage struct {
	relay  *relay
	router *call
	inner  *net.TCPConn

	mu          sync.Mutex
	toRouter    *bufio.Writer
	silent      bool // the router has been told why it ends; nothing comes after that
	established bool
}

func (c *carriage) isEstablished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.established
}

// fromRouter passes on what the router says, as far as it may be said.
func (c *carriage) fromRouter() {
	toGoBGP := bufio.NewWriterSize(c.inner, 4*maxMessage)
	err := c.relayInward(toGoBGP)
	var wrong *breach
	if errors.As(err, &wrong) {
		c.relay.log.Warn("bgp: the session is closed", "peer", c.relay.session.Peer, "why", wrong.why, "code", wrong.code, "subcode", wrong.subcode)
		c.tell(wrong.notification(), true)
		// GoBGP hears of it as if the router had said it, and drops the routes.
		_, _ = toGoBGP.Write(wrong.notification())
		_ = toGoBGP.Flush()
	}
	_ = c.inner.CloseWrite()
	c.end()
	_, _ = io.Copy(io.Discard, c.router.reader) // a socket closed with something unread in it resets what was sent
}

func (c *carriage) relayInward(toGoBGP *bufio.Writer) error {
	var buffer [maxMessage]byte
	m := c.router.first
	for {
		if m == nil {
			var err error
			if m, err = readMessage(c.router.reader, &buffer); err != nil {
				return err
			}
			if m, err = c.router.guard.check(m); err != nil {
				return err
			}
		}
		if c.router.guard.agreed && !c.established {
			c.mu.Lock()
			c.established = true
			c.mu.Unlock()
		}
		if _, err := toGoBGP.Write(m); err != nil {
			return err
		}
		if !whole(c.router.reader) {
			if err := toGoBGP.Flush(); err != nil {
				return err
			}
		}
		m = nil
	}
}

// whole reports whether the next message is there already, so that what comes before it may wait for it.
func whole(r *bufio.Reader) bool {
	if r.Buffered() < headerLength {
		return false
	}
	header, _ := r.Peek(headerLength)
	return r.Buffered() >= int(binary.BigEndian.Uint16(header[16:]))
}

// fromGoBGP passes on what GoBGP says.
func (c *carriage) fromGoBGP() {
	reader := bufio.NewReaderSize(c.inner, 4*maxMessage)
	var buffer [maxMessage]byte
	for {
		m, err := readMessage(reader, &buffer)
		if err != nil {
			break
		}
		last := m[typeOffset] == packet.BGP_MSG_NOTIFICATION
		if err := c.tell(m, last || !whole(reader)); err != nil || last {
			break
		}
	}
	c.end()
	_, _ = io.Copy(io.Discard, reader)
}

var errSilent = errors.New("the session has ended")

// tell says something to the router. A NOTIFICATION is the last thing.
func (c *carriage) tell(m []byte, flush bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return errSilent
	}
	c.silent = m[typeOffset] == packet.BGP_MSG_NOTIFICATION
	_ = c.router.SetWriteDeadline(time.Now().Add(c.relay.options.HoldTime))
	if _, err := c.toRouter.Write(m); err != nil {
		return err
	}
	if !flush {
		return nil
	}
	return c.toRouter.Flush()
}

// end closes both directions as far as the node is concerned; what is under way has a moment to arrive.
func (c *carriage) end() {
	soon := time.Now().Add(linger)
	_ = c.router.SetDeadline(soon)
	_ = c.inner.SetDeadline(soon)
	if conn, ok := c.router.Conn.(*net.TCPConn); ok {
		_ = conn.CloseWrite()
	}
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
