package datapath_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// The IPv6 networks of the tests' connections, the same for all of them.
var (
	networkA6, networkZ6 = netip.MustParsePrefix("2001:db8:a::/64"), netip.MustParsePrefix("2001:db8:b::/64")
	hostA6, hostZ6       = netip.MustParseAddr("2001:db8:a::1"), netip.MustParseAddr("2001:db8:b::1")
)

// links6 gives a connection its IPv6 links, of /127 (RFC 6164).
func links6(c datapath.Connection) datapath.Connection {
	link := func(side int) datapath.Link {
		own := netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%x", 4*c.Tag+2*side))
		return datapath.Link{Address: netip.PrefixFrom(own, 127), Peer: own.Next()}
	}
	c.A.IPv6, c.Z.IPv6 = link(0), link(1)
	return c
}

// only6 is a connection that carries IPv6 alone.
func only6(n, vlanA, vlanZ int) datapath.Connection {
	c := links6(connection(n, vlanA, vlanZ))
	c.A.Link, c.Z.Link = datapath.Link{}, datapath.Link{}
	return c
}

func routes6(c datapath.Connection) []datapath.Route {
	return []datapath.Route{
		{Side: datapath.SideA, Prefix: networkA6, NextHop: c.A.IPv6.Peer},
		{Side: datapath.SideZ, Prefix: networkZ6, NextHop: c.Z.IPv6.Peer},
	}
}

// join6 configures routers for c's IPv6 at the places, beside what they have.
func (p *pop) join6(c datapath.Connection, placeA, placeZ string) {
	p.t.Helper()
	for place, side := range map[string]struct {
		a         datapath.Attachment
		own, far  netip.Prefix
		host      netip.Addr
		isIPv4Too bool
	}{placeA: {c.A, networkA6, networkZ6, hostA6, c.A.Link != datapath.Link{}}, placeZ: {c.Z, networkZ6, networkA6, hostZ6, c.Z.Link != datapath.Link{}}} {
		must(p.t, p.JoinNetwork(p.t.Context(), place, lab.RouterConfig{
			VLAN: side.a.VLAN, IPv6Address: netip.PrefixFrom(side.a.IPv6.Peer, 127), Networks: []netip.Prefix{side.own},
		}))
		p.run(place, "ip", "-6", "route", "replace", side.far.String(), "via", side.a.IPv6.Address.Addr().String(), "dev", lab.RouterInterface, "src", side.host.String())
	}
}

// carry6 makes an open connection with its routers, for IPv6 and, if it has links of it, for IPv4.
func (p *pop) carry6(c datapath.Connection, placeA, placeZ string) {
	p.t.Helper()
	must(p.t, p.Ensure(c))
	all := routes6(c)
	if c.A.Link != (datapath.Link{}) {
		all = append(all, routes(c)...)
		p.join(c, placeA, placeZ)
	}
	must(p.t, p.SetRoutes(c.Tag, all))
	must(p.t, p.SetGate(c.Tag, true))
	p.join6(c, placeA, placeZ)
}

func TestIPv6CountsEqualTheWire(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name string
		c    datapath.Connection
	}{{"IPv6 alone, tagged", only6(61, 100, 200)}, {"both families, tagged", links6(connection(62, 100, 200))}, {"both families, untagged", links6(connection(63, 0, 0))}} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPoP(t), kind.c
			p.carry6(c, "a", "z")
			tags := []int{c.Tag}
			wire := p.wantExact("ping", tags, func() { p.wantPing("a", hostA6, hostZ6, true, "open") })
			if wire[0].PacketsIn < 3 || wire[1].PacketsOut < 3 {
				t.Errorf("the ping was not on the wire: %+v", wire)
			}
			if c.A.Link != (datapath.Link{}) {
				p.wantExact("IPv4 beside it", tags, func() { p.wantPing("z", hostZ, hostA, true, "open") })
			}
			p.wantExact("fragments", tags, func() {
				p.run("a", "ping", "-q", "-c", "2", "-i", "0.05", "-s", "4000", "-I", hostA6.String(), hostZ6.String())
			})
			const size = 5_000_000
			wire = p.wantExact("TCP a to z", tags, func() { p.iperf("a", hostA6, "z", hostZ6, size) })
			if wire[0].BytesIn < size || wire[1].BytesOut < size {
				t.Errorf("%d bytes of payload took %+v on the wire", size, wire)
			}
			p.wantExact("TCP z to a", tags, func() { p.iperf("z", hostZ6, "a", hostA6, size) })
			p.wantExact("TCP from the node", tags, func() { p.iperf(lab.PoP, c.A.IPv6.Address.Addr(), "a", c.A.IPv6.Peer, 2_000_000) })
		})
	}
}

func TestIPv6Gate(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := only6(64, 100, 100)
	must(t, p.Ensure(c))
	must(t, p.SetRoutes(c.Tag, routes6(c)))
	p.join6(c, "a", "z")
	p.run("a", "ip", "-6", "route", "add", c.Z.IPv6.Address.Masked().String(), "via", c.A.IPv6.Address.Addr().String())
	p.run("z", "ip", "-6", "route", "add", c.A.IPv6.Address.Masked().String(), "via", c.Z.IPv6.Address.Addr().String())
	for round, open := range []bool{false, true, false, true} {
		why := fmt.Sprintf("round %d, open %t", round, open)
		must(t, p.SetGate(c.Tag, open))
		p.wantPing("a", c.A.IPv6.Peer, c.A.IPv6.Address.Addr(), true, why+", our address")
		p.wantPing(lab.PoP, c.A.IPv6.Address.Addr(), c.A.IPv6.Peer, true, why+", the peer")
		p.wantPing(lab.PoP, c.Z.IPv6.Address.Addr(), c.A.IPv6.Peer, true, why+", from side z to the peer on a")
		p.wantPing("a", hostA6, hostZ6, open, why)
		p.wantPing("z", hostZ6, hostA6, open, why)
		must(t, p.Ensure(c))
		p.wantPing("a", hostA6, hostZ6, open, why+", ensured again")
	}
}

// TestOverlappingIPv6StaysApart has two customers, each with two connections' worth of the same networks and addresses as the
// other, and tries every pair of routers, and every address of the node.
func TestOverlappingIPv6StaysApart(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	one, two := links6(connection(65, 100, 200)), links6(connection(66, 101, 201))
	p.carry6(one, "a", "z")
	p.carry6(two, "a/second", "z/second") // the same networks of both families
	both := []int{one.Tag, two.Tag}
	each := func(why string, crosses ...string) {
		t.Helper()
		for _, place := range []string{"a", "a/second"} {
			p.wantPing(place, hostA6, hostZ6, slices.Contains(crosses, place), why+", "+place)
			p.wantPing(place, hostA, hostZ, slices.Contains(crosses, place), why+", IPv4, "+place)
		}
	}
	p.wantExact("both", both, func() { each("both open", "a", "a/second") })

	// The same request from each customer is answered by its own provider alone: the other's router hears nothing.
	for _, pair := range []struct{ from, to, not string }{{"a", "z", "z/second"}, {"a/second", "z/second", "z"}, {"z", "a", "a/second"}, {"z/second", "a/second", "a"}} {
		src, dst := hostA6, hostZ6
		if strings.HasPrefix(pair.from, "z") {
			src, dst = hostZ6, hostA6
		}
		heard, other := p.echoes6(pair.to), p.echoes6(pair.not)
		p.wantPing(pair.from, src, dst, true, pair.from+" to "+pair.to)
		if now := p.echoes6(pair.to); now == heard {
			t.Errorf("%s did not hear %s", pair.to, pair.from)
		}
		if now := p.echoes6(pair.not); now != other {
			t.Errorf("%s heard %s: %s, then %s", pair.not, pair.from, other, now)
		}
	}
	before := p.metered(two.Tag)
	const requests = 50 // far more than what routers and node say of themselves meanwhile (multicast listener reports, neighbour discovery)
	p.run("a", "ping", "-n", "-q", "-c", strconv.Itoa(requests), "-i", "0.01", "-I", hostA6.String(), hostZ6.String())
	if d := minus(p.metered(two.Tag), before); d[0].PacketsIn >= requests || d[1].PacketsOut >= requests {
		t.Errorf("traffic of connection %d was counted for %d: %+v", one.Tag, two.Tag, d)
	}
	must(t, p.SetGate(one.Tag, false))
	each("one closed", "a/second")
	must(t, p.SetGate(one.Tag, true))
	must(t, p.SetRoutes(two.Tag, routes(two)))
	p.wantPing("a/second", hostA6, hostZ6, false, "two without IPv6 routes")
	p.wantPing("a/second", hostA, hostZ, true, "two without IPv6 routes")
	must(t, p.SetRoutes(two.Tag, append(routes(two), routes6(two)...)))
	must(t, p.Remove(one.Tag))
	each("one removed", "a/second")

	// Nobody reaches the other's link, or the node's other addresses, through a connection.
	must(t, p.Ensure(one))
	p.run(lab.PoP, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/mgmt0/disable_ipv6; ip -6 address add 2001:db8:99::1/64 dev mgmt0 nodad")
	linkLocal := p.linkLocal(lab.PoP, datapath.InterfaceName(two.Tag, datapath.SideA))
	echoes := p.echoes6(lab.PoP)
	for _, dst := range []netip.Addr{one.A.IPv6.Address.Addr(), one.A.IPv6.Peer, netip.MustParseAddr("2001:db8:99::1"), netip.MustParseAddr("ff02::1%" + lab.RouterInterface), linkLocal} {
		if dst.Zone() == "" {
			p.run("a/second", "ip", "-6", "route", "replace", dst.String()+"/128", "via", two.A.IPv6.Address.Addr().String())
		}
		out, _ := p.Command(t.Context(), "a/second", "ping", "-n", "-q", "-c", "2", "-i", "0.1", "-W", "0.3", dst.String()).CombinedOutput()
		if dst.IsMulticast() { // the sender answers itself
			continue
		}
		if !strings.Contains(string(out), "0 received") && !strings.Contains(string(out), "0 packets received") {
			t.Errorf("%s is reached through a connection that it is none of: %s", dst, out)
		}
	}
	if now := p.echoes6(lab.PoP); now != echoes {
		t.Errorf("the node got echo requests for addresses that are none of the connection's: %s, then %s", echoes, now)
	}
}

// linkLocal returns an interface's link-local address with the router's interface as its zone.
func (p *pop) linkLocal(place, device string) netip.Addr {
	p.t.Helper()
	for _, field := range strings.Fields(p.run(place, "ip", "-6", "-o", "address", "show", "dev", device, "scope", "link")) {
		if prefix, err := netip.ParsePrefix(field); err == nil {
			return prefix.Addr().WithZone(lab.RouterInterface)
		}
	}
	p.t.Fatalf("%s has no link-local address", device)
	return netip.Addr{}
}

// echoes6 returns how many ICMPv6 echo requests a place's stack has received.
func (p *pop) echoes6(place string) string {
	p.t.Helper()
	fields := strings.Fields(p.run(place, "nstat", "-a", "-s", "-z", "Icmp6InEchos"))
	if len(fields) < 3 {
		p.t.Fatalf("nstat said %q", fields)
	}
	return fields[2]
}

func TestIPv6ErrorsFindTheirWay(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := only6(67, 100, 200)
	p.carry6(c, "a", "z")
	p.wantPing("a", hostA6, hostZ6, true, "warm")
	ping := func(more ...string) string {
		out, _ := p.Command(t.Context(), "a", "ping", append([]string{"-n", "-c", "1", "-W", "2", "-I", hostA6.String()}, append(more, hostZ6.String())...)...).CombinedOutput()
		return string(out)
	}
	if out := ping("-t", "1"); !strings.Contains(out, "From "+c.A.IPv6.Address.Addr().String()) || !strings.Contains(out, "Hop limit") {
		t.Errorf("a packet at the end of its life: %s", out)
	}
	if out := ping("-t", "2"); !strings.Contains(out, "ttl=63") {
		t.Errorf("a router takes one hop: %s", out)
	}
	// The way narrows behind the node: whoever sends is told how much passes (RFC 4443 section 3.2), and goes on with that.
	p.run(lab.PoP, "ip", "link", "set", datapath.InterfaceName(c.Tag, datapath.SideZ), "mtu", "1400")
	time.Sleep(lookupMemory)
	if out := ping("-M", "do", "-s", "1420"); !strings.Contains(out, "1400") {
		t.Errorf("a packet too big: %s", out)
	}
	p.iperf("a", hostA6, "z", hostZ6, 200_000)
}

// TestIPv6Polices holds IPv6 to the ordered bandwidth, and lets what is for the node through.
func TestIPv6Polices(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := only6(68, 100, 200)
	c.BandwidthMbps = 10
	p.carry6(c, "a", "z")
	p.wantPing("a", hostA6, hostZ6, true, "warm")
	before := p.both(c.Tag)
	p.flood("a", hostA6.String(), hostZ6.String(), 40, 2*time.Second)
	after := p.both(c.Tag)
	if crossed, dropped := after[0].PacketsIn-before[0].PacketsIn, after[0].DroppedIn-before[0].DroppedIn; dropped < crossed || after[1].DroppedOut-before[1].DroppedOut != dropped {
		t.Errorf("of 40 Mbps at 10 Mbps %d frames crossed and %d were dropped: %+v", crossed, dropped, after)
	}
	p.flood("a", hostA6.String(), c.A.IPv6.Address.Addr().String(), 40, time.Second)
	if now := p.both(c.Tag); now[0].DroppedIn != after[0].DroppedIn || now[0].PacketsIn == after[0].PacketsIn {
		t.Errorf("packets for the node were dropped: %+v, then %+v", after, now)
	}
}

// TestIPv6Converges changes a node by hand and a connection by its families, and leaves nothing in the end.
func TestIPv6Converges(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := links6(connection(69, 100, 200))
	p.carry6(c, "a", "z")
	p.wantPing("a", hostA6, hostZ6, true, "before")
	device := datapath.InterfaceName(c.Tag, datapath.SideA)
	for _, by := range [][]string{
		{"ip", "-6", "address", "flush", "dev", device, "scope", "global"},
		{"ip", "-6", "address", "add", "2001:db8:77::1/64", "dev", device},
		{"ip", "-6", "route", "flush", "table", fmt.Sprint(datapath.TableNumber(c.Tag))},
		{"ip", "-6", "rule", "flush"},
		{"ip", "link", "del", device},
		{"sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/" + device + "/disable_ipv6"},
		{"sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/" + device + "/force_forwarding"},
	} {
		p.run(lab.PoP, by[0], by[1:]...)
		must(t, p.Ensure(c))
		must(t, p.SetRoutes(c.Tag, append(routes(c), routes6(c)...)))
		p.run("a", "ip", "-6", "neigh", "flush", "all")
		if got := p.ping("a", hostA6, hostZ6, 3); got < 2 { // the first may wait for a neighbour longer than its sender does
			t.Errorf("after %q: %d of 3 replies", strings.Join(by, " "), got)
		}
		if out := p.run(lab.PoP, "ip", "-6", "address", "show", "dev", device); strings.Contains(out, "2001:db8:77") {
			t.Errorf("a foreign address stays: %s", out)
		}
	}
	must(t, p.Ensure(connection(69, 100, 200))) // without IPv6
	must(t, p.SetRoutes(c.Tag, routes(c)))
	p.wantPing("a", hostA, hostZ, true, "IPv4 alone")
	p.wantPing("a", hostA6, hostZ6, false, "IPv4 alone")
	if out := p.run(lab.PoP, "sh", "-c", "ip -6 address show dev "+device+"; ip -6 rule | grep -v -e ^0: -e ^3276 -e ^3000; ip -6 route show table all | grep 1000; true"); out != "" {
		t.Errorf("of IPv6 there is left:\n%s", out)
	}
	must(t, p.Remove(c.Tag))
	if left := p.left(); left != "" {
		t.Errorf("left:\n%s", left)
	}
	if out := p.run(lab.PoP, "sh", "-c", "ip -6 rule | grep -v -e ^0: -e ^3276; ip -6 route show table all | grep -e 1000 -e cb69; true"); out != "" {
		t.Errorf("of IPv6 there is left:\n%s", out)
	}
}

func TestIPv6Conflicts(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	must(t, p.Ensure(only6(71, 100, 200)))
	taken := only6(71, 101, 201)
	taken.Tag = 72
	if err := p.Ensure(taken); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("an address that is taken: %v", err)
	}
	must(t, p.Ensure(only6(73, 102, 202))) // neither has an IPv4 address: that is no address in common
}
