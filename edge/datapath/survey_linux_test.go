package datapath_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// TestListedIsLeftAlone holds the look at the whole node to that at a single connection: what is right is left alone, and each
// single thing that is not is noticed and mended.
func TestListedIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	both := links6(connection(1, 100, 100))
	qinq := connection(2, 7, 8)
	qinq.A.ServiceVLAN = 300
	others := []datapath.Connection{qinq, only6(3, 300, 0), connection(4, 0, 400)}
	all := append(others, both)
	ensured := func(c datapath.Connection) bool {
		t.Helper()
		must(t, p.Ensure(c))
		right := p.FoundRight(c.Tag)
		must(t, p.SetRoutes(c.Tag, nil))
		return right
	}
	listed := func() {
		t.Helper()
		tags, err := p.List()
		must(t, err)
		if fmt.Sprint(tags) != "[1 2 3 4]" {
			t.Errorf("listed %v", tags)
		}
	}
	drifted := func() (told []string) {
		for _, c := range all {
			told = append(told, p.Drift(c.Tag)...)
		}
		return told
	}
	for _, c := range all {
		if ensured(c) {
			t.Errorf("connection %d is right before there is anything", c.Tag)
		}
	}
	must(t, p.SetGate(both.Tag, true))
	must(t, p.SetGate(qinq.Tag, true))
	if ensured(both) {
		t.Error("right without having been listed")
	}
	for range 2 {
		listed()
		for _, c := range all {
			if !ensured(c) {
				t.Errorf("connection %d is as it should be, and was not left alone", c.Tag)
			}
			if ensured(c) {
				t.Errorf("connection %d was left alone twice for one look", c.Tag)
			}
		}
	}

	// A program of somebody else's at a port is none of our business.
	end, err := p.AttachForeign(lab.PortA)
	must(t, err)
	listed()
	for _, c := range all {
		if !ensured(c) {
			t.Errorf("connection %d was not left alone beside another program", c.Tag)
		}
	}
	must(t, end())

	a, z := datapath.InterfaceName(both.Tag, datapath.SideA), datapath.InterfaceName(both.Tag, datapath.SideZ)
	ip := func(args ...string) func() { return func() { p.run(lab.PoP, "ip", args...) } }
	own, own6 := both.A.Address, both.Z.IPv6.Address
	table := fmt.Sprint(datapath.TableNumber(both.Tag))
	damages := map[string]func(){
		"interface deleted":    ip("link", "del", a),
		"interface down":       ip("link", "set", z, "down"),
		"port down":            ip("link", "set", lab.PortA, "down"),
		"MTU":                  ip("link", "set", a, "mtu", "1400"),
		"hardware address":     ip("link", "set", z, "address", "02:00:00:00:00:99"),
		"address gone":         ip("addr", "del", own.String(), "dev", a),
		"IPv6 address gone":    ip("-6", "addr", "del", own6.String(), "dev", z),
		"another address":      ip("addr", "add", "192.0.2.1/24", "dev", a),
		"another IPv6 address": ip("-6", "addr", "add", "2001:db8:9::1/64", "dev", a, "nodad"),
		"address with a route": func() { ip("addr", "del", own.String(), "dev", a)(); ip("addr", "add", own.String(), "dev", a)() },
		"own rule gone":        ip("rule", "del", "from", own.Addr().String(), "priority", fmt.Sprint(datapath.PriorityOwn)),
		"own IPv6 rule gone":   ip("-6", "rule", "del", "from", own6.Addr().String(), "priority", fmt.Sprint(datapath.PriorityOwn)),
		"gate rule gone":       ip("rule", "del", "iif", z, "priority", fmt.Sprint(datapath.PriorityGate)),
		"gate IPv6 rule gone":  ip("-6", "rule", "del", "iif", a, "priority", fmt.Sprint(datapath.PriorityGate)),
		"wall gone":            ip("rule", "del", "priority", fmt.Sprint(datapath.PriorityWall)),
		"IPv6 wall gone":       ip("-6", "rule", "del", "priority", fmt.Sprint(datapath.PriorityWall)),
		"port programs":        p.unpin("link-*-port_ingress"),
		"interface programs":   p.unpin("link-*-interface_egress"),
		"rule of another source": func() {
			ip("rule", "del", "from", own.Addr().String(), "priority", "1000")()
			ip("rule", "add", "from", "192.0.2.9", "iif", "lo", "lookup", table, "priority", "1000")()
		},
		"IPv6 of a port": func() { p.run(lab.PoP, "sysctl", "-w", "net.ipv6.conf."+lab.PortZ+".disable_ipv6=0") },
		"IPv6 where none is": func() {
			p.run(lab.PoP, "sysctl", "-w", "net.ipv6.conf."+datapath.InterfaceName(qinq.Tag, datapath.SideA)+".disable_ipv6=0")
		},
	}
	settings := map[string]int32{}
	for _, name := range []string{a, z} {
		for path, value := range datapath.SettingsOf(name) {
			settings[path] = value
			damages[path] = func() {
				p.run(lab.PoP, "sh", "-c", fmt.Sprintf("echo %d > /proc/sys/net/%s", otherSetting(value), path))
			}
		}
	}
	var paths []string
	for path := range settings {
		paths = append(paths, "/proc/sys/net/"+path)
	}
	for name, damage := range damages {
		damage()
		listed()
		right := true
		for _, c := range all {
			right = ensured(c) && right
		}
		if right {
			t.Errorf("%s: was not noticed", name)
		}
		if drift := drifted(); len(drift) == 0 {
			t.Errorf("%s: was not told", name)
		}
		for n, got := range strings.Fields(p.run(lab.PoP, "cat", paths...)) {
			if value := settings[strings.TrimPrefix(paths[n], "/proc/sys/net/")]; got != fmt.Sprint(value) {
				t.Errorf("%s: %s is %s, want %d", name, paths[n], got, value)
			}
		}
		listed()
		for _, c := range all {
			if !ensured(c) {
				t.Errorf("%s: connection %d is not right after it was mended", name, c.Tag)
			}
		}
		if drift := drifted(); len(drift) > 0 {
			t.Errorf("%s: still told after it was mended: %v", name, drift)
		}
	}
	if open, err := p.Gate(both.Tag); err != nil || !open {
		t.Errorf("the gate is no longer open: %v", err)
	}

	// What a connection is to be instead is seen, too.
	for name, change := range map[string]func(c *datapath.Connection){
		"bandwidth":    func(c *datapath.Connection) { c.BandwidthMbps = 70 },
		"VLAN":         func(c *datapath.Connection) { c.A.VLAN = 101 },
		"service VLAN": func(c *datapath.Connection) { c.A.ServiceVLAN = 50 },
		"address": func(c *datapath.Connection) {
			c.A.Address, c.A.Peer = netip.MustParsePrefix("100.64.200.1/30"), netip.MustParseAddr("100.64.200.2")
		},
		"without IPv6": func(c *datapath.Connection) { c.A.IPv6, c.Z.IPv6 = datapath.Link{}, datapath.Link{} },
		"ports":        func(c *datapath.Connection) { c.A.Port, c.Z.Port = lab.PortZ, lab.PortA },
	} {
		changed := both
		change(&changed)
		listed()
		if ensured(changed) {
			t.Errorf("%s: a change was not noticed", name)
		}
		listed()
		if !ensured(changed) {
			t.Errorf("%s: is not right after the change", name)
		}
		must(t, p.Ensure(both))
	}
	if drift := drifted(); len(drift) > 0 {
		t.Errorf("told of what was wanted: %v", drift)
	}
	// What could not be set right is not told to be.
	p.run(lab.PoP, "ip", "link", "set", lab.PortZ, "name", "elsewhere")
	listed()
	if err := p.Ensure(both); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("without its port: %v", err)
	}
	if drift := drifted(); len(drift) > 0 {
		t.Errorf("told to be right without its port: %v", drift)
	}
	p.run(lab.PoP, "ip", "link", "set", "elsewhere", "name", lab.PortZ)

	// And what was changed after the look.
	listed()
	must(t, p.Stop(both.Tag))
	if ensured(both) {
		t.Error("a stopped connection was taken for what it had been")
	}
	listed()
	must(t, p.Stop(both.Tag))
	listed()
	ensured(both)
	if drift := drifted(); len(drift) > 0 {
		t.Errorf("told of what was stopped: %v", drift)
	}
}

// otherSetting is one that the kernel takes as well.
func otherSetting(value int32) int32 {
	if value == 0 {
		return 1
	}
	return 0
}
