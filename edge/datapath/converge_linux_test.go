package datapath_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"crossbill/domain"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

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
		{"port programs detached", p.unpin("link-*-port_*"), true},
		{"interface programs detached", p.unpin("link-*-interface_egress"), true},
		{"another kind of interface with the name", func() {
			ip("link", "del", a)()
			ip("link", "add", a, "type", "bridge")()
		}, false},
	} {
		damage.do()
		if !damage.still {
			time.Sleep(lookupMemory)
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
			"100.64.71.0/30 dev cb71a proto static scope link metric 1",
			"100.64.71.4/30 dev cb71z proto static scope link metric 1",
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
	if drift := p.Drift(c.Tag); len(drift) > 0 {
		t.Errorf("told of other routes that were wanted: %v", drift)
	}
	p.run(lab.PoP, "ip", "route", "flush", "table", fmt.Sprint(datapath.TableNumber(c.Tag)))
	must(t, p.SetRoutes(c.Tag, []datapath.Route{
		{Side: datapath.SideZ, Prefix: networkZ, NextHop: c.Z.Peer}, {Side: datapath.SideZ, Prefix: networkA, NextHop: c.Z.Peer}}))
	want("flushed by hand", "10.1.0.0/24 via 100.64.71.6 dev cb71z proto bgp metric 20", full[1])
	if drift := p.Drift(c.Tag); len(drift) != 1 {
		t.Errorf("told of a flushed table: %v", drift)
	}
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
