package datapath_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"crossbill/domain"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// labPrefix begins the names of these tests' labs; the process's number makes them its own.
const labPrefix = "dptest"

var labNumber atomic.Int32

func TestMain(m *testing.M) {
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
		A:   datapath.Attachment{Port: lab.PortA, VLAN: vlanA, Address: netip.PrefixFrom(address(0, 1), 30), Peer: address(0, 2)},
		Z:   datapath.Attachment{Port: lab.PortZ, VLAN: vlanZ, Address: netip.PrefixFrom(address(1, 1), 30), Peer: address(1, 2)},
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

// wantExact runs traffic and compares what the meters counted with what the kernel's interface counters did, byte for
// byte. It waits for frames still on their way, not for agreement: counters that meet by luck would be no proof.
func (p *pop) wantExact(why string, tags []int, traffic func()) (wire [2]datapath.Counters) {
	p.t.Helper()
	before, beforeWire := p.metered(tags...), p.wire()
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
	wire = minus(quiet, beforeWire)
	if got := minus(p.metered(tags...), before); got != wire {
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

func TestCountsEqualTheWire(t *testing.T) {
	t.Parallel()
	for _, vlan := range []struct {
		name string
		a, z int
	}{{"tagged", 100, 200}, {"untagged", 0, 0}, {"one of each", 4094, 0}} {
		t.Run(vlan.name, func(t *testing.T) {
			t.Parallel()
			p := newPoP(t)
			c := connection(7, vlan.a, vlan.z)
			p.carry(c, "a", "z")
			tags := []int{c.Tag}

			wire := p.wantExact("ping", tags, func() { p.wantPing("a", hostA, hostZ, true, "open") })
			if wire[0].PacketsIn < 3 || wire[1].PacketsOut < 3 {
				t.Errorf("the ping was not on the wire: %+v", wire)
			}
			p.wantExact("fragments", tags, func() {
				p.run("a", "ping", "-q", "-c", "2", "-i", "0.05", "-s", "4000", "-I", hostA.String(), hostZ.String())
			})
			p.wantExact("UDP both ways", tags, func() {
				p.run("a", "sh", "-c", `i=0; while [ $i -lt 50 ]; do echo x$i; i=$((i+1)); done > /dev/udp/10.2.0.1/9 2>/dev/null; true`)
				p.run("z", "bash", "-c", `for i in {1..50}; do echo reply$i > /dev/udp/10.1.0.1/9; done 2>/dev/null; true`)
			})
			const size = 5_000_000
			wire = p.wantExact("TCP a to z", tags, func() {
				p.iperf("a", hostA, "z", hostZ, size)
			})
			if wire[0].BytesIn < size || wire[1].BytesOut < size {
				t.Errorf("%d bytes of payload took %+v on the wire", size, wire)
			}
			wire = p.wantExact("TCP z to a", tags, func() {
				p.iperf("z", hostZ, "a", hostA, size)
			})
			if wire[1].BytesIn < size || wire[0].BytesOut < size {
				t.Errorf("%d bytes of payload took %+v on the wire", size, wire)
			}
			// What the node itself sends is super-packets that the port cuts up.
			p.wantExact("TCP from the node", tags, func() {
				p.iperf(lab.PoP, c.A.Address.Addr(), "a", c.A.Peer, 2_000_000)
			})
		})
	}
}

func TestFiftyMegabytesToTheByte(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(9, 300, 300)
	p.carry(c, "a", "z")
	const size = 50_000_000
	var moved lab.Transfer
	wire := p.wantExact("50 MB", []int{c.Tag}, func() {
		moved = p.iperf("a", hostA, "z", hostZ, size)
	})
	if moved.BytesSent < size || wire[1].BytesOut < uint64(moved.BytesSent) {
		t.Errorf("moved %+v with %+v on the wire", moved, wire)
	}
	t.Logf("%d bytes of payload in %s, %d bytes on the wire, %d retransmits",
		moved.BytesSent, moved.Elapsed.Round(time.Millisecond), wire[1].BytesOut, moved.Retransmits)
}

func TestGate(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(12, 100, 100)
	must(t, p.Ensure(c))
	must(t, p.SetRoutes(c.Tag, routes(c)))
	p.join(c, "a", "z")
	p.run("a", "ip", "route", "add", c.Z.Address.Masked().String(), "via", c.A.Address.Addr().String())
	p.run("z", "ip", "route", "add", c.A.Address.Masked().String(), "via", c.Z.Address.Addr().String())

	local := func(why string) {
		t.Helper()
		p.wantPing("a", c.A.Peer, c.A.Address.Addr(), true, why+", our address")
		p.wantPing("z", c.Z.Peer, c.Z.Address.Addr(), true, why+", our address")
		p.wantPing(lab.PoP, c.A.Address.Addr(), c.A.Peer, true, why+", the peer")
		// The probe: from our address on one side to the peer on the other.
		p.wantPing(lab.PoP, c.Z.Address.Addr(), c.A.Peer, true, why+", from side z to the peer on a")
		p.wantPing(lab.PoP, c.A.Address.Addr(), c.Z.Peer, true, why+", from side a to the peer on z")
	}
	transit := func(open bool, why string) {
		t.Helper()
		p.wantPing("a", hostA, hostZ, open, why)
		p.wantPing("z", hostZ, hostA, open, why)
		if got, err := p.Gate(c.Tag); err != nil || got != open {
			t.Errorf("%s: Gate = %t, %v", why, got, err)
		}
	}
	local("closed at first")
	transit(false, "closed at first")
	for round := range 2 {
		must(t, p.SetGate(c.Tag, true))
		must(t, p.SetGate(c.Tag, true)) // twice is once
		local("open")
		transit(true, fmt.Sprint("opened ", round))
		must(t, p.Ensure(c))
		transit(true, "Ensure leaves an open gate open")
		must(t, p.SetGate(c.Tag, false))
		local("closed again")
		transit(false, fmt.Sprint("closed ", round))
		must(t, p.Ensure(c))
		transit(false, "Ensure leaves a closed gate closed")
	}
	a, _, err := p.Counters(c.Tag)
	must(t, err)
	if a.Refused < 3 {
		t.Errorf("refused %d packets, want those of the closed gate", a.Refused)
	}
	if err := p.SetGate(99, true); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("SetGate of an unknown connection: %v", err)
	}
}

// TestGateIsExact floods while the gate is closed: after SetGate has returned, not one more packet crosses.
func TestGateIsExact(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(13, 100, 100)
	p.carry(c, "a", "z")
	p.wantPing("a", hostA, hostZ, true, "open")
	ctx, cancel := context.WithCancel(t.Context())
	flood := p.Command(ctx, "a", "ping", "-q", "-f", "-I", hostA.String(), hostZ.String())
	must(t, flood.Start())
	time.Sleep(100 * time.Millisecond)
	must(t, p.SetGate(c.Tag, false))
	before := p.metered(c.Tag)
	time.Sleep(200 * time.Millisecond)
	d := minus(p.metered(c.Tag), before)
	cancel()
	_ = flood.Wait()
	if d[0].PacketsIn < 5 {
		t.Errorf("the flood was not on: %+v", d)
	}
	if d[1].PacketsOut > 2 { // ARP or nothing
		t.Errorf("%d packets crossed a closed gate: %+v", d[1].PacketsOut, d)
	}
}

func TestConnectionsStayApart(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	one, two := connection(21, 100, 200), connection(22, 101, 201)
	p.carry(one, "a", "z")
	p.carry(two, "a/second", "z/second") // the same networks
	ping := func(why string, places ...string) {
		t.Helper()
		for _, place := range []string{"a", "a/second"} {
			p.wantPing(place, hostA, hostZ, slices.Contains(places, place), why+", "+place)
		}
	}
	both := []int{one.Tag, two.Tag}
	p.wantExact("both", both, func() { ping("both open", "a", "a/second") })

	before := p.metered(two.Tag)
	p.wantPing("a", hostA, hostZ, true, "one")
	if d := minus(p.metered(two.Tag), before); d[0].PacketsIn != 0 || d[1].PacketsOut != 0 {
		t.Errorf("traffic of connection 21 was counted for 22: %+v", d)
	}
	must(t, p.SetGate(one.Tag, false))
	ping("one closed", "a/second")
	must(t, p.SetGate(one.Tag, true))
	must(t, p.SetRoutes(two.Tag, nil))
	ping("two without routes", "a")
	must(t, p.SetRoutes(two.Tag, routes(two)))
	must(t, p.Remove(one.Tag))
	ping("one removed", "a/second")

	// Nobody reaches the other's link, or the node's other addresses, through a connection. That no answer finds its
	// way back is not enough: the request must not arrive.
	must(t, p.Ensure(one))
	echoes := p.echoes()
	for _, dst := range []netip.Addr{one.A.Address.Addr(), one.A.Peer, p.ManagementPoP, p.ManagementHost} {
		p.run("a/second", "ip", "route", "replace", dst.String()+"/32", "via", two.A.Address.Addr().String())
		p.wantPing("a/second", hostA, dst, false, "an address that is none of the connection's")
	}
	if now := p.echoes(); now != echoes {
		t.Errorf("the node got echo requests for addresses that are none of the connection's: %s, then %s", echoes, now)
	}
}

// echoes returns how many echo requests the node's own stack has received.
func (p *pop) echoes() string {
	p.t.Helper()
	fields := strings.Fields(p.run(lab.PoP, "nstat", "-a", "-s", "-z", "IcmpInEchos"))
	if len(fields) < 3 {
		p.t.Fatalf("nstat said %q", fields)
	}
	return fields[2]
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	one := connection(31, 100, 200)
	must(t, p.Ensure(one))
	vlan := connection(32, 101, 200)
	if err := p.Ensure(vlan); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a VLAN that is taken: %v", err)
	}
	address := connection(31, 101, 201)
	address.Tag = 33
	if err := p.Ensure(address); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("an address that is taken: %v", err)
	}
	missing := connection(34, 110, 210)
	missing.Z.Port = "port9"
	if err := p.Ensure(missing); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("a port that is not there: %v", err)
	}
	tags, err := p.List()
	must(t, err)
	if !slices.Equal(tags, []int{31}) {
		t.Errorf("refused connections left something: %v", tags)
	}
}

func TestPinsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(41, 100, 200)
	p.carry(c, "a", "z")
	p.wantExact("across Close and Open", []int{c.Tag}, func() {
		p.wantPing("a", hostA, hostZ, true, "before")
		before, _, err := p.Counters(c.Tag)
		must(t, err)
		must(t, p.Datapath.Close())
		p.Datapath = nil
		p.wantPing("a", hostA, hostZ, true, "while the agent is down")
		p.open()
		after, _, err := p.Counters(c.Tag)
		must(t, err)
		if after.Epoch != before.Epoch || after.PacketsIn < before.PacketsIn+3 {
			t.Errorf("before %+v, after %+v", before, after)
		}
		must(t, p.Ensure(c))
		if open, err := p.Gate(c.Tag); err != nil || !open {
			t.Errorf("Gate = %t, %v after the agent is back", open, err)
		}
		p.wantPing("a", hostA, hostZ, true, "after")
	})
}

func TestLostMapsBeginAnEpoch(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(42, 100, 200)
	p.carry(c, "a", "z")
	p.wantPing("a", hostA, hostZ, true, "before")
	before, _, err := p.Counters(c.Tag)
	must(t, err)
	must(t, p.Datapath.Close())
	must(t, os.RemoveAll(p.PinDir()))
	p.open()
	time.Sleep(100 * time.Millisecond) // the kernel detaches programs some time after their last pin is gone
	p.wantPing("a", hostA, hostZ, false, "without programs nothing crosses")
	if _, _, err := p.Counters(c.Tag); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("Counters of a lost map: %v", err)
	}
	must(t, p.Ensure(c))
	must(t, p.SetGate(c.Tag, true))
	p.wantExact("new maps", []int{c.Tag}, func() { p.wantPing("a", hostA, hostZ, true, "after") })
	after, _, err := p.Counters(c.Tag)
	must(t, err)
	if after.Epoch <= before.Epoch {
		t.Errorf("epoch %d after %d", after.Epoch, before.Epoch)
	}
}

func TestPinDirectoryOfAnotherNamespace(t *testing.T) {
	t.Parallel()
	p, other := newPoP(t), newPoP(t)
	must(t, p.Ensure(connection(43, 100, 200)))
	foreign := datapath.Options{PinDir: p.PinDir(), Namespace: other.Namespace(lab.PoP)}
	if d, err := datapath.Open(foreign); domain.CodeOf(err) != domain.Conflict {
		if d != nil {
			d.Close()
		}
		t.Fatalf("the pins of a live namespace were taken: %v", err)
	}
	must(t, p.Datapath.Close())
	p.Datapath = nil
	pins := p.PinDir() + "-kept" // as if the namespace had died and the pins had not
	must(t, os.Rename(p.PinDir(), pins))
	t.Cleanup(func() { os.RemoveAll(pins) })
	must(t, p.Lab.Close())
	d, err := datapath.Open(datapath.Options{PinDir: pins, Namespace: other.Namespace(lab.PoP)})
	must(t, err)
	defer d.Close()
	if tags, err := d.List(); err != nil || len(tags) != 0 {
		t.Errorf("List = %v, %v: what is left of a dead namespace counts as ours", tags, err)
	}
}

// left lists whatever of any connection is in the PoP and in its pins.
func (p *pop) left() string {
	p.t.Helper()
	var found []string
	for line := range strings.Lines(p.run(lab.PoP, "ip", "-o", "link")) {
		if strings.Contains(line, ": cb") {
			found = append(found, line)
		}
	}
	for line := range strings.Lines(p.run(lab.PoP, "ip", "rule")) {
		if !strings.HasPrefix(line, "0:") && !strings.HasPrefix(line, "3276") {
			found = append(found, line)
		}
	}
	for line := range strings.Lines(p.run(lab.PoP, "ip", "route", "show", "table", "all")) {
		if strings.Contains(line, "table 1000") || strings.Contains(line, "100.64.") {
			found = append(found, line)
		}
	}
	pins, err := filepath.Glob(p.PinDir() + "/link-*")
	must(p.t, err)
	found = append(found, pins...)
	tags, err := p.List()
	must(p.t, err)
	for _, tag := range tags {
		found = append(found, fmt.Sprint("listed: ", tag))
	}
	return strings.Join(found, "\n")
}

func TestRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	for _, c := range []datapath.Connection{connection(51, 100, 200), connection(52, 101, 201)} {
		must(t, p.Ensure(c))
		must(t, p.SetRoutes(c.Tag, routes(c)))
		must(t, p.SetGate(c.Tag, true))
	}
	p.run(lab.PoP, "ip", "link", "del", datapath.InterfaceName(51, datapath.SideA))
	must(t, p.Remove(51))
	if tags, err := p.List(); err != nil || !slices.Equal(tags, []int{52}) {
		t.Errorf("List = %v, %v", tags, err)
	}
	if pins, err := filepath.Glob(p.PinDir() + "/link-*"); err != nil || len(pins) != 6 {
		t.Errorf("%d links for one connection, want 4 at ports and 2 at interfaces: %v, %v", len(pins), pins, err)
	}
	must(t, p.Remove(52))
	must(t, p.Remove(52)) // twice is once
	if left := p.left(); left != "" {
		t.Errorf("left:\n%s", left)
	}
	must(t, p.Ensure(connection(53, 100, 200)))
	must(t, p.Destroy())
	if _, err := os.Stat(p.PinDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Destroy left the pins: %v", err)
	}
}

func TestStopFreezesTheMeters(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(54, 100, 200)
	p.carry(c, "a", "z")
	p.wantPing("a", hostA, hostZ, true, "before")
	must(t, p.Stop(c.Tag))
	first := p.metered(c.Tag)
	p.wantPing("a", hostA, hostZ, false, "stopped")
	p.wantPing("a", c.A.Peer, c.A.Address.Addr(), false, "stopped")
	if last := p.metered(c.Tag); last != first || first[0].PacketsIn < 3 {
		t.Errorf("meters moved from %+v to %+v", first, last)
	}
	strays, err := p.Strays(lab.PortA)
	must(t, err)
	if strays.PacketsIn == 0 {
		t.Error("frames of a stopped connection are not counted as strays")
	}
	must(t, p.Remove(c.Tag))
	if left := p.left(); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

func TestEnsureRepairs(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(61, 100, 200)
	p.carry(c, "a", "z")
	p.wantPing("a", hostA, hostZ, true, "unharmed") // and the routers have their neighbour: asking again takes them a second
	a := datapath.InterfaceName(c.Tag, datapath.SideA)
	z := datapath.InterfaceName(c.Tag, datapath.SideZ)
	table := fmt.Sprint(datapath.TableNumber(c.Tag))
	ip := func(args ...string) func() { return func() { p.run(lab.PoP, "ip", args...) } }
	pin := func(pattern string) func() {
		return func() {
			found, err := filepath.Glob(p.PinDir() + "/" + pattern)
			must(t, err)
			if len(found) == 0 {
				t.Fatalf("no pin %s", pattern)
			}
			for _, path := range found {
				must(t, os.Remove(path))
			}
		}
	}
	for _, damage := range []struct {
		name  string
		do    func()
		still bool // it does no harm to packets that cross
	}{
		{"interface a deleted", ip("link", "del", a), false},
		{"interface z deleted", ip("link", "del", z), false},
		{"interface a down", ip("link", "set", a, "down"), false},
		{"port down", ip("link", "set", lab.PortZ, "down"), false},
		{"address replaced", func() {
			ip("addr", "flush", "dev", a)()
			ip("addr", "add", "192.0.2.1/24", "dev", a)()
		}, false},
		{"table flushed", ip("route", "flush", "table", table), false},
		{"link subnet rerouted", ip("route", "replace", "unreachable", c.A.Address.Masked().String(), "table", table), true},
		{"own rules deleted", func() { ip("rule", "del", "priority", fmt.Sprint(datapath.PriorityOwn))() }, true},
		{"gate rules deleted", func() { ip("rule", "del", "priority", fmt.Sprint(datapath.PriorityGate))() }, true},
		{"wall deleted", ip("rule", "del", "priority", fmt.Sprint(datapath.PriorityWall)), true},
		{"hardware address changed", ip("link", "set", a, "address", "02:00:00:00:00:99"), true},
		{"forwarding off", func() { p.run(lab.PoP, "sysctl", "-w", "net.ipv4.conf."+a+".forwarding=0") }, false},
		{"port programs detached", pin("link-*-port_*"), true},
		{"interface programs detached", pin("link-*-interface_egress"), true},
		{"another kind of interface with the name", func() {
			ip("link", "del", a)()
			ip("link", "add", a, "type", "bridge")()
		}, false},
	} {
		damage.do()
		if !damage.still {
			p.wantPing("a", hostA, hostZ, false, damage.name+", damaged")
		}
		must(t, p.Ensure(c))
		must(t, p.SetRoutes(c.Tag, routes(c)))
		p.settle() // a router needs up to a second to notice that its link is back, or to ask for a neighbour again
		p.wantPing("a", hostA, hostZ, true, damage.name+", repaired")
		p.wantPing(lab.PoP, c.Z.Address.Addr(), c.Z.Peer, true, damage.name+", repaired, the peer")
		p.wantExact(damage.name, []int{c.Tag}, func() { p.wantPing("z", hostZ, hostA, true, damage.name+", repaired") })
		for _, rule := range []string{
			"1000:\tfrom " + c.A.Address.Addr().String() + " iif lo lookup " + table,
			"2000:\tfrom all iif " + z + " lookup " + table,
			"3000:\tfrom all fwmark 0xcb000000/0xff000000 blackhole",
		} {
			if !strings.Contains(p.run(lab.PoP, "ip", "rule"), rule) {
				t.Errorf("%s: no rule %q after the repair", damage.name, rule)
			}
		}
	}

	// A changed attachment moves; what it was is gone.
	moved := c
	moved.A.VLAN = 150
	moved.A.Address, moved.A.Peer = netip.MustParsePrefix("100.64.61.9/30"), netip.MustParseAddr("100.64.61.10")
	must(t, p.Ensure(moved))
	must(t, p.SetRoutes(c.Tag, routes(moved)))
	p.wantPing("a", hostA, hostZ, false, "the old VLAN")
	p.run("a", "ip", "addr", "flush", "dev", lab.RouterInterface)
	p.join(moved, "a", "z")
	p.wantPing("a", hostA, hostZ, true, "the new VLAN")
	if rules := p.run(lab.PoP, "ip", "rule"); strings.Contains(rules, c.A.Address.Addr().String()+" ") {
		t.Errorf("rules of the old address are left:\n%s", rules)
	}
	must(t, p.Remove(c.Tag))
	if left := p.left(); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

func TestSetRoutesIsExact(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(71, 100, 200)
	must(t, p.Ensure(c))
	show := func() string {
		var lines []string
		for line := range strings.Lines(p.run(lab.PoP, "ip", "route", "show", "table", fmt.Sprint(datapath.TableNumber(c.Tag)))) {
			lines = append(lines, strings.TrimSpace(line))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	want := func(why string, lines ...string) {
		t.Helper()
		lines = append(lines,
			"100.64.71.0/30 dev cb71a proto static scope link",
			"100.64.71.4/30 dev cb71z proto static scope link",
			"unreachable default proto static metric 4278198272")
		slices.Sort(lines)
		if got := show(); got != strings.Join(lines, "\n") {
			t.Errorf("%s:\n%s\nwant:\n%s", why, got, strings.Join(lines, "\n"))
		}
	}
	want("at first")
	must(t, p.SetRoutes(c.Tag, append(routes(c), datapath.Route{
		Side: datapath.SideZ, Prefix: netip.MustParsePrefix("0.0.0.0/0"), NextHop: c.Z.Peer})))
	full := []string{
		"10.1.0.0/24 via 100.64.71.2 dev cb71a proto bgp metric 20",
		"10.2.0.0/24 via 100.64.71.6 dev cb71z proto bgp metric 20",
		"default via 100.64.71.6 dev cb71z proto bgp metric 20",
	}
	want("three", full...)
	p.run(lab.PoP, "ip", "route", "add", "10.9.0.0/24", "dev", "cb71a", "table", fmt.Sprint(datapath.TableNumber(c.Tag)))
	p.run(lab.PoP, "ip", "route", "del", "10.2.0.0/24", "table", fmt.Sprint(datapath.TableNumber(c.Tag)))
	must(t, p.SetRoutes(c.Tag, []datapath.Route{
		{Side: datapath.SideZ, Prefix: networkA, NextHop: c.Z.Peer}, // it moved to the other side
		{Side: datapath.SideZ, Prefix: networkZ, NextHop: c.Z.Peer},
	}))
	want("moved", "10.1.0.0/24 via 100.64.71.6 dev cb71z proto bgp metric 20", full[1])

	bad := []datapath.Route{
		{Side: "b", Prefix: networkA, NextHop: c.A.Peer},
		{Side: datapath.SideA, Prefix: netip.MustParsePrefix("10.1.0.1/24"), NextHop: c.A.Peer},
		{Side: datapath.SideA, Prefix: networkA, NextHop: c.Z.Peer},
		{Side: datapath.SideA, Prefix: netip.MustParsePrefix("2001:db8::/32"), NextHop: c.A.Peer},
		{Side: datapath.SideA, Prefix: networkA, NextHop: c.A.Address.Addr()},
	}
	err := p.SetRoutes(c.Tag, bad)
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != domain.Invalid || len(e.Fields) < len(bad) {
		t.Errorf("bad routes: %v", err)
	}
	want("bad routes change nothing", "10.1.0.0/24 via 100.64.71.6 dev cb71z proto bgp metric 20", full[1])
	must(t, p.SetRoutes(c.Tag, nil))
	want("none")
	if err := p.SetRoutes(72, nil); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("routes of no connection: %v", err)
	}
}

// TestStraysStayOut sends frames of no connection at the port.
func TestStraysStayOut(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(81, 100, 200)
	p.carry(c, "a", "z")
	must(t, p.JoinNetwork(t.Context(), "a/stranger", lab.RouterConfig{VLAN: 99, Address: netip.PrefixFrom(c.A.Peer, 30)}))
	p.wantPing("a/stranger", c.A.Peer, c.A.Address.Addr(), false, "an unknown VLAN")
	strays, err := p.Strays(lab.PortA)
	must(t, err)
	if strays.PacketsIn == 0 || strays.BytesIn != strays.PacketsIn*46 || strays.PacketsOut != 0 {
		t.Errorf("strays %+v, want ARP requests of 42 bytes with a tag of 4", strays)
	}
	// And the node's own noise stays in: an address on the port itself.
	p.run(lab.PoP, "ip", "addr", "add", "192.0.2.1/24", "dev", lab.PortA)
	_, tx, err := p.WireBytes("a")
	must(t, err)
	_ = p.Command(t.Context(), lab.PoP, "ping", "-c", "1", "-W", "0.2", "192.0.2.2").Run()
	if _, now, err := p.WireBytes("a"); err != nil || now != tx {
		t.Errorf("%d bytes leaked out of the port (%v)", now-tx, err)
	}
}

func TestTimeToLiveAndErrors(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(82, 100, 200)
	p.carry(c, "a", "z")
	p.wantPing("a", hostA, hostZ, true, "warm")
	out, _ := p.Command(t.Context(), "a", "ping", "-n", "-c", "1", "-W", "1", "-t", "1", "-I", hostA.String(), hostZ.String()).CombinedOutput()
	if !strings.Contains(string(out), "From "+c.A.Address.Addr().String()) || !strings.Contains(string(out), "Time to live exceeded") {
		t.Errorf("a packet at the end of its life: %s", out)
	}
	out, err := p.Command(t.Context(), "a", "ping", "-n", "-c", "1", "-W", "1", "-t", "2", "-I", hostA.String(), hostZ.String()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ttl=63") {
		t.Errorf("a router takes one hop: %v: %s", err, out)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	must(t, connection(1, 100, 200).Validate())
	must(t, connection(1, 0, 0).Validate())
	for name, change := range map[string]func(*datapath.Connection){
		"tag 0":            func(c *datapath.Connection) { c.Tag = 0 },
		"tag 16384":        func(c *datapath.Connection) { c.Tag = 16384 },
		"VLAN 4095":        func(c *datapath.Connection) { c.A.VLAN = 4095 },
		"VLAN -1":          func(c *datapath.Connection) { c.Z.VLAN = -1 },
		"no port":          func(c *datapath.Connection) { c.A.Port = "" },
		"long port":        func(c *datapath.Connection) { c.A.Port = "abcdefghijklmnop" },
		"no address":       func(c *datapath.Connection) { c.A.Address = netip.Prefix{} },
		"a /32":            func(c *datapath.Connection) { c.A.Address = netip.MustParsePrefix("100.64.0.1/32") },
		"IPv6":             func(c *datapath.Connection) { c.A.Address = netip.MustParsePrefix("2001:db8::1/64") },
		"peer elsewhere":   func(c *datapath.Connection) { c.A.Peer = c.Z.Peer },
		"peer is us":       func(c *datapath.Connection) { c.A.Peer = c.A.Address.Addr() },
		"both on one VLAN": func(c *datapath.Connection) { c.Z.Port, c.Z.VLAN = c.A.Port, c.A.VLAN },
		"one subnet":       func(c *datapath.Connection) { c.Z.Address, c.Z.Peer = c.A.Address, c.A.Peer },
		"bandwidth":        func(c *datapath.Connection) { c.BandwidthMbps = -1 },
	} {
		c := connection(1, 100, 200)
		change(&c)
		if err := c.Validate(); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoProgramRunsTwice takes away pins, as a careless person would, while the kernel still has the links: it detaches
// them some time later, and here not before their last holder lets go. Frames must not count twice meanwhile.
func TestNoProgramRunsTwice(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(44, 100, 200)
	p.carry(c, "a", "z")
	p.wantPing("a", hostA, hostZ, true, "before")
	for range 3 {
		pins, err := filepath.Glob(p.PinDir() + "/link-*")
		must(t, err)
		if len(pins) != 6 {
			t.Fatalf("%d links, want 6: %v", len(pins), pins)
		}
		for _, pin := range pins {
			held, err := link.LoadPinnedLink(pin, nil)
			must(t, err)
			defer held.Close()
			must(t, os.Remove(pin))
		}
		must(t, p.Datapath.Close())
		p.open() // with programs of its own: to the kernel they are others
		must(t, p.Ensure(c))
		p.wantExact("right after", []int{c.Tag}, func() { p.wantPing("a", hostA, hostZ, true, "right after") })
	}
}
