package bgp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// carriage is a call whose session is opened with the router and then passed on to GoBGP.
type carriage struct {
	relay  *relay
	router *call
	hold   time.Duration // how long the router may be silent
	up     chan struct{} // closed when the session is established

	joined bool // GoBGP has been shown the session; guarded by the relay's mutex, as held
	held   bool // GoBGP's first End-of-RIB is not for the router: the node has more to tell

	inward  sync.Mutex
	inner   net.Conn // nil until GoBGP is called
	toGoBGP *bufio.Writer

	mu          sync.Mutex
	toRouter    *bufio.Writer
	silent      bool      // the router has been told why it ends; nothing comes after that
	ending      bool      // the deadlines are those of the end
	established time.Time // zero before
}

// age reports whether the session is up, and for long enough that a call that crossed its own has ended.
func (c *carriage) age() (established, old bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.established.IsZero(), !c.established.IsZero() && time.Since(c.established) > openTimeout
}

// run carries the session from its first message to its last.
func (c *carriage) run(ctx context.Context) {
	opening, err := c.open()
	if err == nil {
		err = c.join(ctx, opening)
	}
	if err != nil {
		c.breached(err)
		c.end()
		_, _ = io.Copy(io.Discard, c.router.reader) // a socket closed with something unread in it resets what was sent
		return
	}
	defer c.inner.Close()
	var ways sync.WaitGroup
	defer ways.Wait()
	lost := make(chan struct{})
	ways.Go(c.fromGoBGP)
	ways.Go(func() { c.keepAlive(lost) })
	c.lost(c.fromRouter())
	close(lost)
	c.end()
	_, _ = io.Copy(io.Discard, c.router.reader)
}

// hush has the router hear nothing more. It is not told of what the end of the other side's session is for it.
func (c *carriage) hush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = true
}

// abort ends it at once.
func (c *carriage) abort() {
	c.router.Close()
	c.inward.Lock()
	defer c.inward.Unlock()
	if c.inner != nil {
		c.inner.Close()
	}
}

// errEnded is for a router's NOTIFICATION.
var errEnded = errors.New("the router has ended the session")

// open exchanges the first messages with the router, and returns its OPEN. The node's first KEEPALIVE comes after the
// router's, which shows that it has read the node's OPEN: FRR 8.4 closes a call that crosses the node's when it reads that,
// and if it reads both at once, closes in its place the session that the KEEPALIVE has just established.
func (c *carriage) open() (opening []byte, err error) {
	r, guard := c.relay, c.router.guard
	if err := c.tell(r.open(), true); err != nil {
		return nil, err
	}
	c.hold = r.options.HoldTime
	agree := sync.OnceValue(func() error { return c.tell(keepalive, true) })
	var buffer [maxMessage]byte
	for !guard.agreed {
		m := c.router.first
		c.router.first = nil
		if m == nil {
			c.awaitRouter()
			if m, err = readMessage(c.router.reader, &buffer); err != nil {
				return nil, c.silence(err)
			}
			if m, err = guard.check(bytes.Clone(m)); err != nil {
				return nil, err
			}
		}
		switch m[typeOffset] {
		case packet.BGP_MSG_NOTIFICATION:
			r.log.Warn("bgp: the router refuses the session", "peer", r.session.Peer, "code", m[headerLength], "subcode", m[headerLength+1])
			return nil, errEnded
		case packet.BGP_MSG_OPEN:
			_, err := packet.ValidateOpenMsg(guard.open, r.session.PeerASN, r.options.ASN, r.options.RouterID.AsSlice())
			if err != nil {
				wrong := asBreach(packet.BGP_MSG_OPEN, err)
				wrong.why = err.Error()
				return nil, wrong
			}
			if guard.open.HoldTime == 0 {
				return nil, &breach{packet.BGP_ERROR_OPEN_MESSAGE_ERROR, packet.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME, nil,
					"with a hold time of 0 nobody would notice the router's end"}
			}
			c.hold = min(c.hold, time.Duration(guard.open.HoldTime)*time.Second)
			opening = m
			defer time.AfterFunc(agreeTimeout, func() { _ = agree() }).Stop()
		}
	}
	if err := agree(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.established = time.Now()
	c.mu.Unlock()
	close(c.up)
	return opening, nil
}

// join shows GoBGP a session that is established, from its OPEN on.
func (c *carriage) join(ctx context.Context, opening []byte) error {
	r := c.relay
	if !r.awaitReady(ctx) { // it was ready, but what it keeps of the last session may have run out since
		return ctx.Err()
	}
	dialing, cancel := context.WithTimeout(ctx, innerTimeout)
	defer cancel()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(r.alias, 0))}
	dialer.SetMultipathTCP(false)
	inner, err := dialer.DialContext(dialing, "tcp4", r.inner.String())
	if err != nil {
		if ctx.Err() == nil {
			r.log.Error("bgp: GoBGP does not listen", "at", r.inner, "error", err)
		}
		return err
	}
	c.inward.Lock()
	c.inner, c.toGoBGP = inner, bufio.NewWriterSize(inner, 4*maxMessage)
	c.inward.Unlock()
	binary.BigEndian.PutUint16(opening[holdTimeOffset:], innerHoldTime)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active, r.reset = false, false // GoBGP says it again before the next one
	c.joined, c.held = true, r.deferring
	if err := errors.Join(c.tellGoBGP(opening, false), c.tellGoBGP(keepalive, true)); err != nil {
		inner.Close()
		return err
	}
	if r.stale && !c.router.guard.preserved(r.family) {
		err = c.tellGoBGP(endOfRIB(r.family), true) // which drops what the router has not kept (RFC 4724 section 4.2)
	}
	r.preserved, r.marked, r.stale = true, false, false
	r.endsRIB = r.endsRIB || c.router.guard.restart() != nil
	return err
}

// fromRouter passes on what the router says, as far as it may be said. It returns why that has ended.
func (c *carriage) fromRouter() error {
	var buffer [maxMessage]byte
	for {
		if !whole(c.router.reader) {
			c.awaitRouter()
		}
		m, err := readMessage(c.router.reader, &buffer)
		if err != nil {
			return c.silence(err)
		}
		if m, err = c.router.guard.check(m); err != nil {
			return err
		}
		kind := m[typeOffset]
		if c.router.guard.marked {
			c.relay.mark() // before GoBGP can tell of it
		}
		if kind == packet.BGP_MSG_ROUTE_REFRESH && c.answersLater() {
			m = nil
		}
		last := kind == packet.BGP_MSG_NOTIFICATION
		if err := c.tellGoBGP(m, last || !whole(c.router.reader)); err != nil {
			return err
		}
		if last {
			return errEnded
		}
	}
}

// awaitRouter gives the router its hold time from now on.
func (c *carriage) awaitRouter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ending {
		_ = c.router.SetReadDeadline(time.Now().Add(c.hold))
	}
}

// silence returns a breach for a router whose hold time has run out, and other errors as they are.
func (c *carriage) silence(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return &breach{packet.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, nil, fmt.Sprintf("nothing was heard for %v", c.hold)}
}

// whole reports whether the next message is there already, so that what comes before it may wait for it.
func whole(r *bufio.Reader) bool {
	if r.Buffered() < headerLength {
		return false
	}
	header, _ := r.Peek(headerLength)
	return r.Buffered() >= int(binary.BigEndian.Uint16(header[16:]))
}

// fromGoBGP passes on what GoBGP says of routes, and its last word.
func (c *carriage) fromGoBGP() {
	reader := bufio.NewReaderSize(c.inner, 4*maxMessage)
	var buffer [maxMessage]byte
	for {
		m, err := readMessage(reader, &buffer)
		if err != nil {
			break
		}
		kind := m[typeOffset]
		switch {
		case kind == packet.BGP_MSG_OPEN, kind == packet.BGP_MSG_KEEPALIVE: // the relay has its own
			m = nil
		case kind == packet.BGP_MSG_UPDATE && isEndOfRIB(m) && c.withholds():
			m = nil
		}
		last := kind == packet.BGP_MSG_NOTIFICATION
		if err := c.tell(m, last || !whole(reader)); err != nil || last {
			break
		}
	}
	c.end()
	_, _ = io.Copy(io.Discard, reader)
}

// keepAlive tells the router that the node is there (RFC 4271 section 4.4).
func (c *carriage) keepAlive(lost chan struct{}) {
	due := time.NewTicker(c.hold / 3)
	defer due.Stop()
	for {
		select {
		case <-lost:
			return
		case <-due.C:
			if c.tell(keepalive, true) != nil {
				c.end()
				return
			}
		}
	}
}

// lost tells GoBGP how the session has ended, unless it knows. Without a word it keeps the router's routes, for as long as
// the router has asked for.
func (c *carriage) lost(err error) {
	c.mu.Lock()
	silent := c.silent
	c.mu.Unlock()
	switch wrong := c.breached(err); {
	case wrong != nil:
		_ = c.tellGoBGP(wrong.notification(), true) // as if the router had said it
	case errors.Is(err, errEnded) || silent:
	case c.router.guard.restarts(c.relay.family):
		c.relay.log.Info("bgp: the session is lost; the router's routes are kept for its restart", "peer", c.relay.session.Peer, "for", c.router.guard.restartTime())
		c.relay.keep()
	default:
		_ = c.tellGoBGP(cease, true)
	}
}

// breached tells the router how it broke the protocol, if that is what err says.
func (c *carriage) breached(err error) *breach {
	var wrong *breach
	if errors.As(err, &wrong) {
		c.relay.log.Warn("bgp: the session is closed", "peer", c.relay.session.Peer, "why", wrong.why, "code", wrong.code, "subcode", wrong.subcode)
		_ = c.tell(wrong.notification(), true)
	}
	return wrong
}

var errSilent = errors.New("the session has ended")

// tell says something to the router, or nothing more than what was said before. A NOTIFICATION is the last thing.
func (c *carriage) tell(m []byte, flush bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return errSilent
	}
	if !c.ending {
		_ = c.router.SetWriteDeadline(time.Now().Add(c.relay.options.HoldTime))
	}
	if m != nil {
		c.silent = m[typeOffset] == packet.BGP_MSG_NOTIFICATION
		if _, err := c.toRouter.Write(m); err != nil {
			return err
		}
	}
	if !flush {
		return nil
	}
	return c.toRouter.Flush()
}

// tellGoBGP says something to GoBGP, or nothing more than what was said before.
func (c *carriage) tellGoBGP(m []byte, flush bool) error {
	c.inward.Lock()
	defer c.inward.Unlock()
	if _, err := c.toGoBGP.Write(m); err != nil {
		return err
	}
	if !flush {
		return nil
	}
	return c.toGoBGP.Flush()
}

// end closes both directions as far as the node is concerned; what is under way has a moment to arrive.
func (c *carriage) end() {
	soon := time.Now().Add(linger)
	c.mu.Lock()
	c.ending = true
	_ = c.router.SetDeadline(soon)
	c.mu.Unlock()
	if conn, ok := c.router.Conn.(*net.TCPConn); ok {
		_ = conn.CloseWrite()
	}
	c.inward.Lock()
	defer c.inward.Unlock()
	if conn, ok := c.inner.(*net.TCPConn); ok {
		_ = conn.SetDeadline(soon)
		_ = conn.CloseWrite()
	}
}
