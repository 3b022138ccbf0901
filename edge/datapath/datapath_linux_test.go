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
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

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
	wait := func(packets uint64) (d [2]datapath.Counters) { // until so many more came in
		before := p.metered(c.Tag)
		for range 3000 {
			if d = minus(p.metered(c.Tag), before); d[0].PacketsIn >= packets {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		return d
	}
	wait(20)
	must(t, p.SetGate(c.Tag, false))
	d := wait(20)
	cancel()
	_ = flood.Wait()
	if d[0].PacketsIn < 20 {
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
	refused := func(c datapath.Connection, code domain.Code, told string) {
		t.Helper()
		err := p.Ensure(c)
		var party *datapath.PartyError
		if domain.CodeOf(err) != code || !errors.As(err, &party) || party.Told != told {
			t.Errorf("%v, told as %+v, want %s and %q", err, party, code, told)
		}
	}
	refused(connection(32, 101, 200), domain.Conflict, "the VLAN of side z is in use yet")
	address := connection(31, 101, 201)
	address.Tag, address.Z = 33, connection(33, 101, 201).Z
	refused(address, domain.Conflict, "the address of side a is in use yet")
	missing := connection(34, 110, 210)
	missing.Z.Port = "port9"
	refused(missing, domain.NotFound, "the port of side z is gone")
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

// TestForgedMark has frames arrive with what the programs leave in a frame for each other, of every connection: those that cross
// at once, those that the stack forwards as they are (IP options), and those for the node. Each counts for its own connection.
func TestForgedMark(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	own, other := connection(61, 100, 200), connection(62, 101, 201)
	p.carry(own, "a", "z")
	must(t, p.Ensure(other))
	if p.ping("a", hostA, hostZ, 3) != 3 {
		t.Fatal("no ping")
	}
	untouched := p.metered(other.Tag)
	const slots = 4 // of two connections
	for slot := range uint16(slots) {
		endA, err := p.AttachForger(lab.PortA, 0x8000|slot)
		must(t, err)
		endZ, err := p.AttachForger(lab.PortZ, 0x8000|slot)
		must(t, err)
		p.wantExact(fmt.Sprintf("slot %d", slot), []int{own.Tag}, func() {
			p.ping("a", hostA, hostZ, 2)
			p.ping("a", own.A.Peer, own.A.Address.Addr(), 2)
			p.run("a", "ping", "-n", "-q", "-R", "-c", "2", "-i", "0.2", "-I", hostA.String(), hostZ.String()) // fails without an answer
		})
		must(t, errors.Join(endA(), endZ()))
	}
	if got := p.metered(other.Tag); got != untouched {
		t.Errorf("another connection counted it: %+v", minus(got, untouched))
	}
}

// A connection's interfaces stay out of the chains in which the kernel looks for the ports, unless an index is taken.
func TestInterfacesAreFoundBehindNoPort(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	index := func(name string) (index int) {
		t.Helper()
		out := p.run(lab.PoP, "ip", "-o", "link", "show", "dev", name)
		if _, err := fmt.Sscanf(out, "%d:", &index); err != nil {
			t.Fatalf("%s: %q", name, out)
		}
		return index
	}
	seen := map[int]string{}
	for tag := datapath.MinTag; tag <= datapath.MaxTag; tag++ {
		for _, side := range []datapath.Side{datapath.SideA, datapath.SideZ} {
			name, index := datapath.InterfaceName(tag, side), datapath.InterfaceIndex(tag, side)
			if seen[index] != "" || index%256 < 16 || index < 1<<20 {
				t.Errorf("%s has the index %d, which %q has", name, index, seen[index])
			}
			seen[index] = name
		}
	}
	must(t, p.Ensure(connection(51, 100, 200)))
	for _, side := range []datapath.Side{datapath.SideA, datapath.SideZ} {
		if got, want := index(datapath.InterfaceName(51, side)), datapath.InterfaceIndex(51, side); got != want {
			t.Errorf("%s has the index %d, want %d", datapath.InterfaceName(51, side), got, want)
		}
	}
	for tag, side := range map[int]datapath.Side{52: datapath.SideA, 53: datapath.SideZ} {
		theirs := fmt.Sprint("theirs", tag)
		p.run(lab.PoP, "ip", "link", "add", "name", theirs, "index", fmt.Sprint(datapath.InterfaceIndex(tag, side)), "type", "veth", "peer", "name", fmt.Sprint("other", tag))
		must(t, p.Ensure(connection(tag, 50+tag, 150+tag)))
		if name := datapath.InterfaceName(tag, side); index(name) == index(theirs) {
			t.Errorf("%s has the index of an interface that was there", name)
		}
	}
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
