package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"crossbill/domain"
	"crossbill/edge/bgp"
)

// Numbers of the software edge.
const (
	DefaultSoftwarePort = 20000 // with the highest tag the ports end at 52767
	softwareRelays      = 256   // TCP connections of one connection at a time
	softwareDial        = 5 * time.Second
	softwareMessage     = "software edge: a TCP relay on the loopback interface stands in for ports, BGP and the eBPF meter"
)

// SoftwareOptions configure a [SoftwareNode].
type SoftwareOptions struct {
	StateDir string // where software-edge.json says which ports belong to which connection
	BasePort int    // 0 means DefaultSoftwarePort
}

// SoftwareNode stands in for a [KernelNode] where there is no root or no Linux, for demonstrations. In production a
// connection is a TCP relay on 127.0.0.1 from a listener (the customer's side) to a target (the provider's), counting
// payload bytes. It speaks no BGP: it says of its sessions that they are established, so that an order can go on, and
// in the same observation that nothing of the kind has taken place; reports and readings are of the kind "software".
// Its counters end with the process, which begins a new epoch of readings, and what it carried since the last one is lost.
type SoftwareNode struct {
	file    string
	base    int
	began   time.Time
	changes chan struct{}

	mu     sync.Mutex
	relays map[int]*relay
}

// relay is one connection.
type relay struct {
	connection string
	listen     string
	target     string
	meter      int64
	mbps       int
	families   []string // that it says it has sessions for

	in, out, inPackets, outPackets atomic.Uint64 // a packet is one read of the stream

	listener net.Listener // nil while the gate is closed
	cancel   context.CancelFunc
	running  *sync.WaitGroup
}

// SoftwareAddresses is where one connection can be reached, as software-edge.json has it by connection id.
type SoftwareAddresses struct {
	Listen string `json:"listen"` // the customer's side connects here while the connection is in production
	Target string `json:"target"` // the provider's side listens here, from before the order on
}

// NewSoftwareNode returns a node without connections.
func NewSoftwareNode(o SoftwareOptions) *SoftwareNode {
	return &SoftwareNode{file: filepath.Join(o.StateDir, "software-edge.json"), base: cmp.Or(o.BasePort, DefaultSoftwarePort),
		began: time.Now().UTC().Truncate(time.Microsecond), changes: make(chan struct{}), relays: map[int]*relay{}}
}

// Addresses returns the addresses of the connection with the given tag: the listener on port base + 2·tag, the target on
// the next.
func (n *SoftwareNode) Addresses(tag int) SoftwareAddresses {
	at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	return SoftwareAddresses{Listen: at(n.base + 2*tag), Target: at(n.base + 2*tag + 1)}
}

// Close ends all relays.
func (n *SoftwareNode) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.relays {
		r.close()
	}
	return nil
}

// Kind is Software.
func (n *SoftwareNode) Kind() Kind { return Software }

// Configure has nothing to do.
func (n *SoftwareNode) Configure(context.Context, DesiredState) error { return nil }

// Ensure gives the connection its addresses.
func (n *SoftwareNode) Ensure(_ context.Context, c DesiredConnection) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.relays[c.Tag]; ok && r.connection == c.ID {
		r.mbps = c.BandwidthMbps
		return nil
	}
	addresses := n.Addresses(c.Tag)
	n.relays[c.Tag] = &relay{connection: c.ID, listen: addresses.Listen, target: addresses.Target, meter: time.Now().UnixNano(), mbps: c.BandwidthMbps,
		families: c.families()}
	return n.publish()
}

// publish writes the addresses down for those who want to use them.
func (n *SoftwareNode) publish() error {
	all := map[string]SoftwareAddresses{}
	for tag, r := range n.relays {
		all[r.connection] = n.Addresses(tag)
	}
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(n.file, append(content, '\n'))
}

// Sessions says what the platform waits for and, in the message, that it is not so.
func (n *SoftwareNode) Sessions(_ context.Context, tag int) (sessions []Session, message string, err error) {
	r := n.relay(tag)
	if r == nil {
		return nil, softwareMessage, nil
	}
	for _, side := range []bgp.Side{bgp.A, bgp.Z} {
		for _, family := range r.families {
			sessions = append(sessions, Session{Side: side, Family: family, State: bgp.Established, Since: n.began})
		}
	}
	return sessions, softwareMessage, nil
}

// Probe looks whether somebody listens at the target.
func (n *SoftwareNode) Probe(ctx context.Context, c DesiredConnection) (bool, string) {
	var dialer net.Dialer
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "tcp", n.Addresses(c.Tag).Target)
		if err == nil {
			conn.Close()
			return true, "software edge: the target accepts TCP connections; no packet was sent across"
		}
		select {
		case <-ctx.Done():
		case <-time.After(pingEvery):
		}
	}
	return false, "software edge: nothing listens at the target"
}

// SetGate begins or ends to listen. Ending also cuts what is being relayed.
func (n *SoftwareNode) SetGate(tag int, open bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.relays[tag]
	switch {
	case !ok:
		return domain.Errorf(domain.NotFound, "edge.SoftwareNode.SetGate", "connection %d is not on this node", tag)
	case !open:
		r.close()
		return nil
	case r.listener != nil:
		return nil
	}
	return r.open()
}

// Gate reports whether the relay listens.
func (n *SoftwareNode) Gate(tag int) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.relays[tag]
	return ok && r.listener != nil, nil
}

// Counters returns what was relayed.
func (n *SoftwareNode) Counters(tag int) (Counters, error) {
	r := n.relay(tag)
	if r == nil {
		return Counters{}, domain.Errorf(domain.NotFound, "edge.SoftwareNode.Counters", "connection %d is not on this node", tag)
	}
	return Counters{Meter: r.meter, BytesIn: r.in.Load(), BytesOut: r.out.Load(), PacketsIn: r.inPackets.Load(), PacketsOut: r.outPackets.Load()}, nil
}

// Bandwidth returns what was asked for. The relay runs as fast as it can.
func (n *SoftwareNode) Bandwidth(tag int) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.relays[tag]; ok {
		return r.mbps, nil
	}
	return 0, nil
}

// Pause cuts the relay; nothing is counted while it is cut.
func (n *SoftwareNode) Pause(tag int) error { return n.Halt(context.Background(), tag) }

// Halt cuts the relay; what it counted can still be read.
func (n *SoftwareNode) Halt(_ context.Context, tag int) error {
	err := n.SetGate(tag, false)
	if domain.CodeOf(err) == domain.NotFound {
		return nil
	}
	return err
}

// Remove forgets the connection.
func (n *SoftwareNode) Remove(_ context.Context, tag int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok := n.relays[tag]; ok {
		r.close()
		delete(n.relays, tag)
	}
	return n.publish()
}

// List returns the tags with a relay.
func (n *SoftwareNode) List() ([]int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.relays)), nil
}

// Follow has nothing to do.
func (n *SoftwareNode) Follow(context.Context, DesiredConnection) error { return nil }

// Changes is never signalled: nothing changes by itself.
func (n *SoftwareNode) Changes() <-chan struct{} { return n.changes }

// Changed returns none.
func (n *SoftwareNode) Changed() []int { return nil }

func (n *SoftwareNode) relay(tag int) *relay {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.relays[tag]
}

func (r *relay) open() error {
	listener, err := net.Listen("tcp", r.listen)
	if err != nil {
		return domain.Errorf(domain.Unavailable, "edge.SoftwareNode.SetGate", "listen at %s: %w", r.listen, err).
			WithHint("another program has the port; choose another base port for the software edge")
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.listener, r.cancel, r.running = listener, cancel, &sync.WaitGroup{}
	slots := make(chan struct{}, softwareRelays)
	r.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			select {
			case slots <- struct{}{}:
				r.running.Go(func() {
					defer func() { <-slots }()
					r.carry(ctx, conn)
				})
			default:
				conn.Close()
			}
		}
	})
	return nil
}

// close returns when nothing is counted any more.
func (r *relay) close() {
	if r.listener == nil {
		return
	}
	r.listener.Close()
	r.cancel()
	r.running.Wait()
	r.listener = nil
}

func (r *relay) carry(ctx context.Context, customer net.Conn) {
	defer customer.Close()
	dialer := net.Dialer{Timeout: softwareDial}
	provider, err := dialer.DialContext(ctx, "tcp", r.target)
	if err != nil {
		return
	}
	defer provider.Close()
	defer context.AfterFunc(ctx, func() {
		customer.Close()
		provider.Close()
	})()
	var both sync.WaitGroup
	both.Go(func() { relayStream(provider, customer, &r.in, &r.inPackets) })
	both.Go(func() { relayStream(customer, provider, &r.out, &r.outPackets) })
	both.Wait()
}

// relayStream copies one direction, counting what has been handed on, and passes the end of the stream on.
func relayStream(to, from net.Conn, bytes, packets *atomic.Uint64) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			written, failed := to.Write(buffer[:n])
			bytes.Add(uint64(written))
			packets.Add(1)
			err = errors.Join(failed, err)
		}
		if err != nil {
			if half, ok := to.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
				half.CloseWrite()
			} else {
				to.Close()
			}
			return
		}
	}
}
