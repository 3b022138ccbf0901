package datapath_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// labPrefix begins the names of these tests' labs; the process's number makes them its own.
const labPrefix = "dptest"

// lookupMemory is longer than the programs remember a lookup: RECENT_UNITS of bpf/datapath.c. What the datapath changes itself
// counts at once.
const lookupMemory = 200 * time.Millisecond

var labNumber atomic.Int32

func TestMain(m *testing.M) {
	if device := os.Getenv(asSender); device != "" {
		if err := sendFrames(device); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if device := os.Getenv(asCaptor); device != "" {
		if err := capture(device); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if what := strings.Fields(os.Getenv(asFlood)); len(what) == 4 {
		if err := flood(what[0], what[1], what[2], what[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if lab.Supported() == nil {
		if _, err := lab.Sweep(labPrefix); err != nil { // what a killed run left
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// pop is a lab with a datapath in its PoP.
type pop struct {
	*lab.Lab
	*datapath.Datapath
	t *testing.T
}

func newPoP(t *testing.T) *pop {
	t.Helper()
	if err := lab.Supported(); err != nil {
		t.Skip(err)
	}
	name := fmt.Sprintf("%s%d-%d", labPrefix, os.Getpid(), labNumber.Add(1))
	l, err := lab.New(t.Context(), lab.Options{Name: name, Dir: t.TempDir()})
	must(t, err)
	p := &pop{Lab: l, t: t}
	t.Cleanup(func() {
		if p.Datapath != nil {
			if err := p.Datapath.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	p.open()
	return p
}

func (p *pop) open() {
	p.t.Helper()
	d, err := datapath.Open(datapath.Options{PinDir: p.PinDir(), Namespace: p.Namespace(lab.PoP)})
	must(p.t, err)
	p.Datapath = d
}

// The addresses of the tests' connections: networks are the same for all, links differ.
var (
	networkA, networkZ = netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	hostA, hostZ       = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
)

// connection returns a connection whose tag n chooses the links' subnets.
func connection(n, vlanA, vlanZ int) datapath.Connection {
	address := func(m, host int) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, byte(n), byte(4*m + host)}) }
	return datapath.Connection{
		Tag: n,
		A:   datapath.Attachment{Port: lab.PortA, VLAN: vlanA, Link: datapath.Link{Address: netip.PrefixFrom(address(0, 1), 30), Peer: address(0, 2)}},
		Z:   datapath.Attachment{Port: lab.PortZ, VLAN: vlanZ, Link: datapath.Link{Address: netip.PrefixFrom(address(1, 1), 30), Peer: address(1, 2)}},
	}
}

// join configures routers for c at the places, with static routes in the place of BGP.
func (p *pop) join(c datapath.Connection, placeA, placeZ string) {
	p.t.Helper()
	for place, side := range map[string]struct {
		a    datapath.Attachment
		own  netip.Prefix
		far  netip.Prefix
		host netip.Addr
	}{placeA: {c.A, networkA, networkZ, hostA}, placeZ: {c.Z, networkZ, networkA, hostZ}} {
		must(p.t, p.JoinNetwork(p.t.Context(), place, lab.RouterConfig{
			VLAN: side.a.VLAN, Address: netip.PrefixFrom(side.a.Peer, 30), Networks: []netip.Prefix{side.own},
		}))
		p.run(place, "ip", "route", "replace", side.far.String(), "via", side.a.Address.Addr().String(), "src", side.host.String())
	}
}

func routes(c datapath.Connection) []datapath.Route {
	return []datapath.Route{
		{Side: datapath.SideA, Prefix: networkA, NextHop: c.A.Peer},
		{Side: datapath.SideZ, Prefix: networkZ, NextHop: c.Z.Peer},
	}
}

// carry makes an open connection with its routers.
func (p *pop) carry(c datapath.Connection, placeA, placeZ string) {
	p.t.Helper()
	must(p.t, p.Ensure(c))
	must(p.t, p.SetRoutes(c.Tag, routes(c)))
	must(p.t, p.SetGate(c.Tag, true))
	p.join(c, placeA, placeZ)
}

// SetMTU makes both ports and the routers' interfaces carry frames of more than 1 514 bytes.
func (p *pop) SetMTU(bytes int) error {
	for place, devices := range map[string][]string{lab.PoP: {lab.PortA, lab.PortZ}, "a": {lab.RouterInterface}, "z": {lab.RouterInterface}} {
		for _, device := range devices {
			if out, err := p.Command(p.t.Context(), place, "ip", "link", "set", device, "mtu", fmt.Sprint(bytes)).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
	}
	return nil
}

// unpin takes away pins, as a careless person would.
func (p *pop) unpin(pattern string) func() {
	return func() {
		p.t.Helper()
		found, err := filepath.Glob(p.PinDir() + "/" + pattern)
		must(p.t, err)
		if len(found) == 0 {
			p.t.Fatalf("no pin %s", pattern)
		}
		for _, path := range found {
			must(p.t, os.Remove(path))
		}
	}
}

func (p *pop) run(place, name string, args ...string) string {
	p.t.Helper()
	out, err := p.Command(p.t.Context(), place, name, args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %s in %s: %v: %s", name, strings.Join(args, " "), place, err, out)
	}
	return string(out)
}

func (p *pop) ping(place string, src, dst netip.Addr, count int) int {
	p.t.Helper()
	received, err := p.Ping(p.t.Context(), place, src, dst, count, 300*time.Millisecond)
	must(p.t, err)
	return received
}

func (p *pop) wantPing(place string, src, dst netip.Addr, crosses bool, why string) {
	p.t.Helper()
	want := 0
	if crosses {
		want = 3
	}
	if got := p.ping(place, src, dst, 3); got != want {
		p.t.Errorf("%s: ping %s to %s: %d of 3 replies, want %d", why, src, dst, got, want)
	}
}

// wire reads the kernel's counters of both ports.
func (p *pop) wire() (all [2]datapath.Counters) {
	p.t.Helper()
	for i, side := range []string{"a", "z"} {
		var err error
		all[i].BytesIn, all[i].BytesOut, err = p.WireBytes(side)
		must(p.t, err)
		all[i].PacketsIn, all[i].PacketsOut, all[i].DroppedOut, err = p.WirePackets(side)
		must(p.t, err)
	}
	return all
}

// metered adds up the meters of the connections.
func (p *pop) metered(tags ...int) (all [2]datapath.Counters) {
	p.t.Helper()
	for _, tag := range tags {
		a, z, err := p.Counters(tag)
		must(p.t, err)
		for i, c := range []datapath.Counters{a, z} {
			all[i].BytesIn += c.BytesIn
			all[i].BytesOut += c.BytesOut
			all[i].PacketsIn += c.PacketsIn
			all[i].PacketsOut += c.PacketsOut
		}
	}
	return all
}

func minus(a, b [2]datapath.Counters) (d [2]datapath.Counters) {
	for i := range d {
		d[i].BytesIn, d[i].BytesOut = a[i].BytesIn-b[i].BytesIn, a[i].BytesOut-b[i].BytesOut
		d[i].PacketsIn, d[i].PacketsOut = a[i].PacketsIn-b[i].PacketsIn, a[i].PacketsOut-b[i].PacketsOut
		d[i].DroppedOut = a[i].DroppedOut - b[i].DroppedOut // on the wire: lost by the port, which none of these tests may
	}
	return d
}

// readBoth reads meters and wire of one instant: with no frame between the two, such as routers send at any time on IPv6 links.
func (p *pop) readBoth(tags []int) (metered, wire [2]datapath.Counters) {
	p.t.Helper()
	for {
		wire = p.wire()
		metered = p.metered(tags...)
		if p.wire() == wire || p.t.Context().Err() != nil {
			return metered, wire
		}
	}
}

// wantExact runs traffic and compares what the meters counted with what the kernel's interface counters did, byte for
// byte. It waits for frames still on their way, not for agreement: counters that meet by luck would be no proof.
func (p *pop) wantExact(why string, tags []int, traffic func()) (wire [2]datapath.Counters) {
	p.t.Helper()
	before, beforeWire := p.readBoth(tags)
	traffic()
	quiet := p.wire()
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		now := p.wire()
		if now == quiet {
			break
		}
		quiet = now
	}
	after, wire := p.readBoth(tags)
	wire = minus(wire, beforeWire)
	if got := minus(after, before); got != wire {
		p.t.Errorf("%s:\n metered %+v\n wire    %+v", why, got, wire)
	}
	return wire
}

// settle waits until a ping crosses, for a few seconds; what follows says whether it did.
func (p *pop) settle() {
	p.t.Helper()
	for range 20 {
		if p.ping("a", hostA, hostZ, 1) == 1 {
			return
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// iperf moves size bytes and fails the test if that takes far too long.
func (p *pop) iperf(from string, src netip.Addr, to string, dst netip.Addr, size int64) lab.Transfer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	moved, err := p.IperfBetween(ctx, from, src, to, dst, size)
	must(p.t, err)
	return moved
}
