package datapath_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"crossbill/edge/lab"
)

// stream pings at a distance far shorter than a lookup is remembered, until stop is called, which returns what ping said.
func (p *pop) stream(place string, src, dst netip.Addr, count int) (stop func() string) {
	p.t.Helper()
	command := p.Command(p.t.Context(), place, "ping", "-n", "-q", "-c", fmt.Sprint(count), "-i", "0.002", "-W", "1", "-I", src.String(), dst.String())
	var said strings.Builder
	command.Stdout = &said
	must(p.t, command.Start())
	return func() string {
		_ = command.Wait() // it fails for replies that did not come
		return said.String()
	}
}

// TestRoutesAreExact takes a route away under traffic, whose lookups are remembered: after SetRoutes has returned, not one more
// packet crosses.
func TestRoutesAreExact(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := links6(connection(14, 100, 100))
	p.carry6(c, "a", "z")
	for _, addresses := range [][2]netip.Addr{{hostA, hostZ}, {hostA6, hostZ6}} {
		p.wantPing("a", addresses[0], addresses[1], true, "with routes")
		stop := p.stream("a", addresses[0], addresses[1], 600)
		before := p.metered(c.Tag)
		for range 500 { // until it is under way
			if minus(p.metered(c.Tag), before)[1].PacketsOut > 20 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		must(t, p.SetRoutes(c.Tag, nil))
		before = p.metered(c.Tag)
		stop()
		d := minus(p.metered(c.Tag), before)
		if d[0].PacketsIn < 20 {
			t.Errorf("%s: there was no traffic: %+v", addresses[1], d)
		}
		if d[1].PacketsOut > 5 { // what was on its way, ARP, neighbour discovery
			t.Errorf("%s: %d packets crossed without a route: %+v", addresses[1], d[1].PacketsOut, d)
		}
		must(t, p.SetRoutes(c.Tag, append(routes(c), routes6(c)...)))
	}
}

// TestLookupsStayApart has two connections with the same networks carry traffic to the same address at the same time.
func TestLookupsStayApart(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	one, two := links6(connection(15, 100, 200)), links6(connection(16, 101, 201))
	p.carry6(one, "a", "z")
	p.carry6(two, "a/second", "z/second")
	const count = 200
	for _, addresses := range [][2]netip.Addr{{hostA, hostZ}, {hostA6, hostZ6}} {
		for _, place := range []string{"a", "a/second"} { // and the routers have their neighbours
			p.wantPing(place, addresses[0], addresses[1], true, place)
		}
		p.wantExact("both", []int{one.Tag, two.Tag}, func() {
			stops := []func() string{p.stream("a", addresses[0], addresses[1], count), p.stream("a/second", addresses[0], addresses[1], count)}
			for i, stop := range stops {
				if said := stop(); !strings.Contains(said, fmt.Sprintf("%d received", count)) {
					t.Errorf("connection %d of two: %s", i, said)
				}
			}
		})
	}
}

// TestTooBigAmongSmall sends a packet that is too big among small ones, whose lookups are remembered.
func TestTooBigAmongSmall(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := links6(connection(17, 100, 200))
	p.carry6(c, "a", "z")
	p.run(lab.PoP, "ip", "link", "set", "cb17z", "mtu", "1400")
	for _, addresses := range [][2]netip.Addr{{hostA, hostZ}, {hostA6, hostZ6}} {
		p.wantPing("a", addresses[0], addresses[1], true, "small")
		stop := p.stream("a", addresses[0], addresses[1], 500)
		before := p.metered(c.Tag)
		for range 500 { // until it is under way
			if minus(p.metered(c.Tag), before)[1].PacketsOut > 20 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		out, _ := p.Command(t.Context(), "a", "ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1420", "-I", addresses[0].String(), addresses[1].String()).CombinedOutput()
		stop()
		if !strings.Contains(string(out), "1400") {
			t.Errorf("%s: a packet too big: %s", addresses[1], out)
		}
	}
}
