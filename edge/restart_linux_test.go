package edge

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crossbill/edge/bgp"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// routeMonitor has the kernel tell of every route that comes or goes at a place of the lab.
type routeMonitor struct {
	e     *kernelEdge
	place string
	marks int

	mu   sync.Mutex
	said bytes.Buffer
}

func (m *routeMonitor) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said.Write(b)
}

func (m *routeMonitor) all() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said.String()
}

func (e *kernelEdge) monitorRoutes(place string) *routeMonitor {
	e.t.Helper()
	m := &routeMonitor{e: e, place: place}
	command := e.lab.Command(e.t.Context(), place, "ip", "-o", "monitor", "route")
	command.Stdout = m
	if err := command.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	m.deleted() // from when on it listens
	return m
}

// deleted returns all routes that have gone, once it is known that nothing is on its way.
func (m *routeMonitor) deleted() (routes []string) {
	m.e.t.Helper()
	m.marks++
	mark := fmt.Sprintf("203.0.113.%d", m.marks)
	var all string
	eventually(m.e.t, time.Minute, func() string {
		for _, what := range []string{"replace", "del"} {
			if out, err := m.e.lab.Command(m.e.t.Context(), m.place, "ip", "route", what, "unreachable", mark).CombinedOutput(); err != nil {
				m.e.t.Fatalf("%v: %s", err, out)
			}
		}
		if all = m.all(); !strings.Contains(all, mark) {
			return "ip monitor says nothing at " + m.place
		}
		return ""
	})
	for line := range strings.Lines(all) {
		if strings.HasPrefix(line, "Deleted") && !strings.Contains(line, "203.0.113.") {
			routes = append(routes, strings.TrimSpace(line))
		}
	}
	return routes
}

// mentions reports which of the networks are in the lines.
func mentions(lines []string, networks ...netip.Prefix) (found []netip.Prefix) {
	for _, n := range networks {
		if slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, n.String()) }) {
			found = append(found, n)
		}
	}
	return found
}

var pingCounts = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// TestAgentRestarts kills the agent, and ends it in good order, beside routers that only know how to help with that. The kernels
// of both routers and of the node tell of no route that goes, and no echo request gets lost; until a route has gone in truth.
func TestAgentRestarts(t *testing.T) {
	e := newKernelEdge(t, time.Second)
	p, c := e.platform, e.connection(Production)
	_, z := e.withIPv6(&c, true)
	extra := netip.MustParsePrefix("10.3.0.0/24") // registered, and announced only later
	c.Z.Prefixes = append(c.Z.Prefixes, extra)
	e.startAgent()
	p.want(c)
	full := func(o Observation) bool {
		return settled(o.Sessions) && !slices.ContainsFunc(o.Sessions, func(s Session) bool { return s.PrefixesReceived != 1 || s.PrefixesSent != 2 })
	}
	awaitFull := func() {
		t.Helper()
		eventually(t, time.Minute, func() string {
			if o := p.observed(c.ID); !full(o) || !isOpen(o) {
				return fmt.Sprintf("not all is announced: %+v", o)
			}
			return ""
		})
	}
	awaitFull()
	eventually(t, time.Minute, func() string {
		if !e.reaches() {
			return "traffic does not cross"
		}
		return ""
	})
	monitors := map[string]*routeMonitor{}
	gone := func() (all []string) {
		t.Helper()
		for place, m := range monitors {
			for _, route := range m.deleted() {
				all = append(all, place+": "+route)
			}
		}
		return all
	}
	for _, place := range []string{"a", "z", lab.PoP} {
		monitors[place] = e.monitorRoutes(place)
	}
	all := []netip.Prefix{customerNetwork, providerNetwork, customerNetwork6, providerNetwork6}

	var pings []*exec.Cmd
	var replies [2]bytes.Buffer
	for i, way := range [][2]string{{customerHost.String(), providerHost.String()}, {customerNetwork6.Addr().Next().String(), providerNetwork6.Addr().Next().String()}} {
		ping := e.lab.Command(t.Context(), "a", "ping", "-i", "0.02", "-q", "-I", way[0], way[1])
		ping.Stdout = &replies[i]
		if err := ping.Start(); err != nil {
			t.Fatal(err)
		}
		pings = append(pings, ping)
	}
	for _, end := range []func(){
		e.killAgent,
		func() {
			if err := e.agent.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := e.agent.Wait(); err != nil {
				t.Error(err)
			}
		},
	} {
		end()
		time.Sleep(500 * time.Millisecond)
		p.set(func(p *memoryPlatform) { clear(p.observations) })
		e.startAgent()
		awaitFull()
		time.Sleep(2 * time.Second) // for what comes of the routers' End-of-RIB
	}
	for i, ping := range pings {
		if err := ping.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = ping.Wait()
		counts := pingCounts.FindStringSubmatch(replies[i].String())
		if counts == nil {
			t.Fatal(replies[i].String())
		}
		sent, _ := strconv.Atoi(counts[1])
		received, _ := strconv.Atoi(counts[2])
		t.Logf("%d of %d echo requests were answered", received, sent)
		if sent-received > sent/100+1 {
			t.Errorf("%d of %d echo requests were answered", received, sent)
		}
	}
	if lost := gone(); len(mentions(lost, all...)) > 0 {
		t.Fatalf("routes went with the agent:\n%s", strings.Join(lost, "\n"))
	}

	// While the agent is away the provider takes a network back and announces another.
	e.killAgent()
	if err := e.lab.StopRouter("z"); err != nil {
		t.Fatal(err)
	}
	z.Networks = []netip.Prefix{extra, providerNetwork6}
	if err := e.lab.StartRouter(t.Context(), "z", z); err != nil {
		t.Fatal(err)
	}
	p.set(func(p *memoryPlatform) { clear(p.observations) })
	e.startAgent()
	awaitFull()
	eventually(t, time.Minute, func() string {
		node := mentions(monitors[lab.PoP].deleted(), all...)
		router := mentions(monitors["a"].deleted(), all...)
		if want := []netip.Prefix{providerNetwork}; !slices.Equal(node, want) || !slices.Equal(router, want) {
			return fmt.Sprintf("on the node %v went, with the customer's router %v, want %v", node, router, want)
		}
		return ""
	})

	// A session that is ended takes its routes with it.
	c.Phase = Absent
	p.want(c)
	eventually(t, time.Minute, func() string {
		a, z := mentions(monitors["a"].deleted(), extra, providerNetwork6), mentions(monitors["z"].deleted(), customerNetwork, customerNetwork6)
		if len(a) != 2 || len(z) != 2 {
			return fmt.Sprintf("after the end %v have gone with the customer's router, %v with the provider's", a, z)
		}
		return ""
	})
	p.check(t)
}

// TestAdopt has standing routes of every kind beside announced ones.
func TestAdopt(t *testing.T) {
	t.Parallel()
	at, to := netip.MustParseAddr, netip.MustParsePrefix
	c := DesiredConnection{
		A: Attachment{Address: to("100.64.0.1/30"), Peer: at("100.64.0.2"), IPv6Address: to("2001:db8:ffff::2/127"), IPv6Peer: at("2001:db8:ffff::3"),
			Prefixes: []netip.Prefix{to("10.1.0.0/24"), to("10.2.0.0/24"), to("2001:db8:a::/48")}},
		Z: Attachment{Address: to("100.64.0.5/30"), Peer: at("100.64.0.6"), Prefixes: []netip.Prefix{to("10.3.0.0/24")}},
	}
	route := func(side bgp.Side, prefix, hop string) datapath.Route {
		return datapath.Route{Side: datapath.Side(side), Prefix: to(prefix), NextHop: at(hop)}
	}
	announced := []datapath.Route{route(bgp.A, "10.1.0.0/24", "100.64.0.2")}
	kept := []datapath.Route{route(bgp.A, "10.2.0.0/24", "100.64.0.2"), route(bgp.Z, "10.3.0.0/24", "100.64.0.6")}
	standing := append([]datapath.Route{
		route(bgp.A, "10.1.0.0/24", "100.64.0.2"),           // announced
		route(bgp.A, "10.9.0.0/24", "100.64.0.2"),           // registered no more
		route(bgp.Z, "10.2.0.0/24", "100.64.0.6"),           // of the other side
		route(bgp.A, "10.2.0.0/24", "100.64.0.3"),           // by way of another router
		route(bgp.A, "2001:db8:a::/48", "2001:db8:ffff::3"), // of a family that is settled
	}, kept...)
	if got, want := adopt(announced, standing, c, []string{"ipv4"}), append(announced, kept...); !slices.Equal(got, want) {
		t.Errorf("kept are %v, want %v", got, want)
	}
	c.Z.Down = true
	if got, want := adopt(announced, standing, c, []string{"ipv4"}), append(announced, kept[0]); !slices.Equal(got, want) {
		t.Errorf("with a session switched off, kept are %v, want %v", got, want)
	}
}
