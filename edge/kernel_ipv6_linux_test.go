package edge

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/edge/lab"
)

var customerNetwork6, providerNetwork6 = netip.MustParsePrefix("2001:db8:a::/48"), netip.MustParsePrefix("2001:db8:b::/48")

// withIPv6 gives a connection and its routers IPv6, beside IPv4 or alone.
func (e *kernelEdge) withIPv6(c *DesiredConnection, both bool) (a, z lab.RouterConfig) {
	e.t.Helper()
	for i, end := range []struct {
		place   string
		a       *Attachment
		network netip.Prefix
		router  *lab.RouterConfig
	}{{"a", &c.A, customerNetwork6, &a}, {"z", &c.Z, providerNetwork6, &z}} {
		if err := e.lab.StopRouter(end.place); err != nil {
			e.t.Fatal(err)
		}
		own := netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%d", 2*i+2))
		end.a.IPv6Address, end.a.IPv6Peer = netip.PrefixFrom(own, 127), own.Next()
		end.a.Prefixes = append(end.a.Prefixes, end.network)
		*end.router = lab.RouterConfig{VLAN: end.a.VLAN, Address: netip.PrefixFrom(end.a.Peer, 30), Peer: end.a.Address.Addr(),
			IPv6Address: netip.PrefixFrom(own.Next(), 127), IPv6Peer: own, ASN: end.a.PeerASN, PeerASN: 64500, Networks: end.a.Prefixes}
		if !both {
			end.a.Address, end.a.Peer, end.a.Prefixes = netip.Prefix{}, netip.Addr{}, end.a.Prefixes[1:]
			end.router.Address, end.router.Peer, end.router.Networks = netip.Prefix{}, netip.Addr{}, end.a.Prefixes
		}
		if err := e.lab.StartRouter(e.t.Context(), end.place, *end.router); err != nil {
			e.t.Fatal(err)
		}
	}
	return a, z
}

// TestKernelEdgeIPv6 takes a connection of both families, and one of IPv6 alone, into production on real routers: traffic of
// each family crosses, what was read is what was on the wire, and nothing is left.
func TestKernelEdgeIPv6(t *testing.T) {
	for _, kind := range []struct {
		name     string
		families []string
	}{{"both families", []string{domain.IPv4, domain.IPv6}}, {"IPv6 alone", []string{domain.IPv6}}} {
		t.Run(kind.name, func(t *testing.T) {
			e := newKernelEdge(t, time.Second)
			p, c := e.platform, e.connection(Testing)
			from, to := customerNetwork6.Addr().Next(), providerNetwork6.Addr().Next()
			both := len(kind.families) > 1
			e.withIPv6(&c, both)
			reaches := func() bool {
				t.Helper()
				received, err := e.lab.Ping(t.Context(), "a", from, to, 2, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				return received > 0
			}
			e.startAgent()
			p.want(c)
			awaitObserved(t, p, c.ID, "established in each family", func(o Observation) bool {
				return settled(o.Sessions) && len(o.Sessions) == 2*len(kind.families)
			})
			for i, s := range p.observed(c.ID).Sessions {
				if want := kind.families[i/2]; s.Family != want {
					t.Errorf("session %d is of %s, want %s", i, s.Family, want)
				}
			}
			if reaches() {
				t.Fatal("traffic crosses before production")
			}
			c.ProbeID = "prb_1"
			p.want(c)
			awaitObserved(t, p, c.ID, "probed", func(o Observation) bool { return o.Probe != nil })
			if probe := p.observed(c.ID).Probe; !probe.Passed {
				t.Fatalf("the probe failed: %s", probe.Detail)
			}
			c.Phase, c.ProbeID = Production, ""
			rxBefore, txBefore := e.open(c)
			eventually(t, 30*time.Second, func() string {
				if !reaches() {
					return "IPv6 does not cross in production"
				}
				return ""
			})
			if e.reaches() != both {
				t.Errorf("IPv4 crosses: %t, want %t", !both, both)
			}
			if _, err := e.lab.Iperf(t.Context(), "a", from, to, 20_000_000); err != nil {
				t.Fatal(err)
			}
			eventually(t, 30*time.Second, func() string {
				in, out := p.bytes(c.ID)
				if rx, tx := e.wire(); in != rx-rxBefore || out != tx-txBefore {
					return fmt.Sprintf("read %d bytes in and %d out, on the wire were %d and %d", in, out, rx-rxBefore, tx-txBefore)
				}
				return ""
			})
			c.Phase = Absent
			p.want(c)
			awaitObserved(t, p, c.ID, "removed", isRemoved)
			if reaches() {
				t.Error("traffic crosses after the end")
			}
			if out, _ := e.lab.Command(t.Context(), lab.PoP, "sh", "-c", "ip -6 rule; ip -6 route show table all; ip -6 address").CombinedOutput(); isLeft(string(out)) {
				t.Errorf("left on the node:\n%s", out)
			}
			p.check(t)
		})
	}
}

func isLeft(out string) bool { return strings.Contains(out, "cb7") || strings.Contains(out, "100007") }
