package edge

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"crossbill/edge/lab"
)

// frrBGPD is where FRR's package has it.
const frrBGPD = "/usr/lib/frr/bgpd"

// startFRR starts FRR's bgpd at a place that has joined the network. It puts no routes into the kernel, so the place is given them.
func (e *kernelEdge) startFRR(place string, c lab.RouterConfig, routes ...netip.Prefix) {
	e.t.Helper()
	dir := e.t.TempDir()
	config := filepath.Join(dir, "bgpd.conf")
	text := fmt.Sprintf("router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check\n neighbor %s remote-as %d\n neighbor %s timers connect 1\n",
		c.ASN, c.RouterID(), c.Peer, c.PeerASN, c.Peer)
	for _, network := range c.Networks {
		text += fmt.Sprintf(" network %s\n", network)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	for _, to := range routes {
		if out, err := e.lab.Command(e.t.Context(), place, "ip", "route", "add", to.String(), "via", c.Peer.String()).CombinedOutput(); err != nil {
			e.t.Fatalf("%v: %s", err, out)
		}
	}
	daemon := e.lab.Command(e.t.Context(), place, frrBGPD, "-Z", "-n", "-S", "-f", config, "-i", filepath.Join(dir, "bgpd.pid"), "--vty_socket", dir, "-A", "127.0.0.1", "-u", "root", "-g", "root")
	daemon.Stdout, daemon.Stderr = e.t.Output(), e.t.Output()
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
}

// TestKernelEdgeServiceVLANs has a real router behind a service VLAN peer with the node, through two tags, with one in a plain VLAN on
// the other side: routes are exchanged, packets cross up to the longest that there is room for and senders of longer ones are
// told, and what is read is what was on the wire.
func TestKernelEdgeServiceVLANs(t *testing.T) {
	for _, daemon := range []string{"BIRD", "FRR"} {
		t.Run(daemon, func(t *testing.T) {
			if _, err := exec.LookPath(frrBGPD); daemon == "FRR" && err != nil {
				t.Skip(err)
			}
			e := newKernelEdge(t, time.Second)
			p, c := e.platform, e.connection(Testing)
			c.A.ServiceVLAN, c.A.VLAN = 300, 400
			const place = "a/inner"
			router := lab.RouterConfig{ServiceVLAN: c.A.ServiceVLAN, VLAN: c.A.VLAN, Address: netip.PrefixFrom(c.A.Peer, 30), Peer: c.A.Address.Addr(),
				ASN: c.A.PeerASN, PeerASN: 64500, Networks: []netip.Prefix{customerNetwork}}
			if err := e.lab.StopRouter("a"); err != nil {
				t.Fatal(err)
			}
			if daemon == "BIRD" {
				if err := e.lab.StartRouter(t.Context(), place, router); err != nil {
					t.Fatal(err)
				}
			} else {
				if err := e.lab.JoinNetwork(t.Context(), place, router); err != nil {
					t.Fatal(err)
				}
				e.startFRR(place, router, providerNetwork, c.Z.Address.Masked())
			}
			e.startAgent()
			p.want(c)
			eventually(t, time.Minute, func() string {
				o := p.observed(c.ID)
				for _, s := range o.Sessions {
					if s.PrefixesReceived < 1 || s.PrefixesSent < 2 {
						return fmt.Sprintf("no full routes: %+v", o)
					}
				}
				if !settled(o.Sessions) {
					return fmt.Sprintf("not established: %+v", o)
				}
				return ""
			})
			eventually(t, time.Minute, func() string {
				learnt, err := e.lab.RouterRoutes(t.Context(), "z")
				if err != nil || !strings.Contains(fmt.Sprint(learnt), customerNetwork.String()) {
					return fmt.Sprintf("the provider's router has learnt %v, %v", learnt, err)
				}
				return ""
			})
			c.ProbeID = "prb_1"
			p.want(c)
			eventually(t, time.Minute, func() string {
				if o := p.observed(c.ID); o.Probe == nil || !o.Probe.Passed {
					return fmt.Sprintf("not probed: %+v", o.Probe)
				}
				return ""
			})
			rxBefore, txBefore := e.wire()
			c.Phase, c.ProbeID = Production, ""
			p.want(c)
			eventually(t, time.Minute, func() string {
				if !isOpen(p.observed(c.ID)) {
					return "not open"
				}
				return ""
			})
			// What the sessions say at this moment is counted or not: routers speak when they like.
			rxOpen, txOpen := e.wire()

			// ping sends packets of a length, with headers, that may not be divided.
			ping := func(place string, from, to netip.Addr, length int) (string, bool) {
				out, err := e.lab.Command(t.Context(), place, "ping", "-n", "-M", "do", "-c", "3", "-i", "0.05", "-W", "5", "-s", fmt.Sprint(length-28), "-I", from.String(), to.String()).CombinedOutput()
				return string(out), err == nil
			}
			for _, way := range []struct {
				place    string
				from, to netip.Addr
			}{{place, customerHost, providerHost}, {"z", providerHost, customerHost}} {
				for _, length := range []int{84, 1496} {
					if out, ok := ping(way.place, way.from, way.to, length); !ok {
						t.Errorf("%d bytes from %s do not cross:\n%s", length, way.from, out)
					}
				}
				out, crossed := ping(way.place, way.from, way.to, 1500)
				if crossed || !strings.Contains(out, "1496") {
					t.Errorf("%s is not told that 1500 bytes are too many:\n%s", way.from, out)
				}
			}
			if _, err := e.lab.IperfBetween(t.Context(), place, customerHost, "z", providerHost, 5_000_000); err != nil {
				t.Error(err)
			}
			eventually(t, time.Minute, func() string {
				in, out := p.bytes(c.ID)
				rx, tx := e.wire()
				if in > rx-rxBefore || out > tx-txBefore || in < rx-rxOpen || out < tx-txOpen {
					return fmt.Sprintf("read %d bytes in and %d out, on the wire were %d and %d, of which %d and %d while it opened",
						in, out, rx-rxBefore, tx-txBefore, rxOpen-rxBefore, txOpen-txBefore)
				}
				return ""
			})
			if in, _ := p.bytes(c.ID); in < 5_000_000 {
				t.Errorf("%d bytes in, want at least what iperf3 moved", in)
			}
			p.check(t)
		})
	}
}
