package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"crossbill/edge/bgp"
	"crossbill/edge/lab"
)

// The environment of the copy of the test binary that is an agent in the PoP's namespace.
const (
	agentPlatform = "CROSSBILL_TEST_AGENT_PLATFORM"
	agentStateDir = "CROSSBILL_TEST_AGENT_STATE_DIR"
	agentPinDir   = "CROSSBILL_TEST_AGENT_PIN_DIR"
)

func TestMain(m *testing.M) {
	if os.Getenv(agentPlatform) == "" {
		os.Exit(m.Run())
	}
	if err := agentMain(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func agentMain() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	platform, err := newAPI(os.Getenv(agentPlatform), testNode, http.DefaultClient)
	if err != nil {
		return err
	}
	node, err := OpenKernelNode(KernelOptions{PinDir: os.Getenv(agentPinDir), Logger: log})
	if err != nil {
		return err
	}
	defer node.Close()
	return Run(ctx, Config{Platform: platform, Node: node, StateDir: os.Getenv(agentStateDir), Logger: log})
}

// kernelEdge is a lab with BIRD on both sides, a platform on the host and an agent process in the PoP.
type kernelEdge struct {
	t        *testing.T
	lab      *lab.Lab
	platform *memoryPlatform
	url      string
	stateDir string
	agent    *exec.Cmd
}

var (
	customerNetwork = netip.MustParsePrefix("10.1.0.0/24")
	providerNetwork = netip.MustParsePrefix("10.2.0.0/24")
	customerHost    = netip.MustParseAddr("10.1.0.1")
	providerHost    = netip.MustParseAddr("10.2.0.1")
)

func newKernelEdge(t *testing.T, interval time.Duration) *kernelEdge {
	t.Helper()
	if err := lab.Supported(); err != nil {
		t.Skip("the edge lab:", err)
	}
	l, err := lab.New(t.Context(), lab.Options{Name: fmt.Sprintf("edgetest%d", os.Getpid()), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	e := &kernelEdge{t: t, lab: l, platform: newMemoryPlatform(interval), stateDir: t.TempDir()}
	listener, err := net.Listen("tcp", net.JoinHostPort(l.ManagementHost.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: served(e.platform)}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	e.url = "http://" + listener.Addr().String()
	for side, c := range map[string]lab.RouterConfig{
		"a": {VLAN: 101, Address: netip.MustParsePrefix("100.64.0.2/30"), Peer: netip.MustParseAddr("100.64.0.1"), ASN: 65001, PeerASN: 64500, Networks: []netip.Prefix{customerNetwork}},
		"z": {VLAN: 202, Address: netip.MustParsePrefix("100.64.0.6/30"), Peer: netip.MustParseAddr("100.64.0.5"), ASN: 65002, PeerASN: 64500, Networks: []netip.Prefix{providerNetwork}},
	} {
		if err := l.StartRouter(t.Context(), side, c); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// connection is the one the routers are configured for.
func (e *kernelEdge) connection(phase Phase) DesiredConnection {
	c := desiredConnection(7, phase)
	c.BandwidthMbps = 10_000 // more than the lab carries: the wire counts what is dropped, too
	c.A = Attachment{Interface: lab.PortA, VLAN: 101, Address: netip.MustParsePrefix("100.64.0.1/30"), Peer: netip.MustParseAddr("100.64.0.2"), PeerASN: 65001, Prefixes: []netip.Prefix{customerNetwork}, PrefixLimit: 10}
	c.Z = Attachment{Interface: lab.PortZ, VLAN: 202, Address: netip.MustParsePrefix("100.64.0.5/30"), Peer: netip.MustParseAddr("100.64.0.6"), PeerASN: 65002, Prefixes: []netip.Prefix{providerNetwork}, PrefixLimit: 10}
	return c
}

func (e *kernelEdge) startAgent() {
	e.t.Helper()
	self, err := os.Executable()
	if err != nil {
		e.t.Fatal(err)
	}
	e.agent = e.lab.Command(context.Background(), lab.PoP, self)
	e.agent.Env = append(os.Environ(), agentPlatform+"="+e.url, agentStateDir+"="+e.stateDir, agentPinDir+"="+e.lab.PinDir())
	e.agent.Stdout, e.agent.Stderr = e.t.Output(), e.t.Output()
	e.agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.agent.Start(); err != nil {
		e.t.Fatal(err)
	}
	agent := e.agent
	e.t.Cleanup(func() {
		agent.Process.Kill()
		agent.Wait()
	})
}

func (e *kernelEdge) killAgent() {
	e.t.Helper()
	if err := e.agent.Process.Kill(); err != nil {
		e.t.Fatal(err)
	}
	e.agent.Wait()
}

// reaches reports whether a ping from the customer's network arrives in the provider's.
func (e *kernelEdge) reaches() bool {
	e.t.Helper()
	received, err := e.lab.Ping(e.t.Context(), "a", customerHost, providerHost, 2, time.Second)
	if err != nil {
		e.t.Fatal(err)
	}
	return received > 0
}

func (e *kernelEdge) wire() (rx, tx int64) {
	e.t.Helper()
	r, x, err := e.lab.WireBytes("a")
	if err != nil {
		e.t.Fatal(err)
	}
	return int64(r), int64(x)
}

// open puts a connection into production, and returns what the port's counters were when its meter was opened. Routers send
// what they like in the moment before.
func (e *kernelEdge) open(c DesiredConnection) (rx, tx int64) {
	e.t.Helper()
	rxBefore, txBefore := e.wire()
	e.platform.want(c)
	awaitObserved(e.t, e.platform, c.ID, "open", isOpen)
	rxAfter, txAfter := e.wire()
	eventually(e.t, 30*time.Second, func() string {
		in, out := e.platform.bytes(c.ID)
		rxNow, txNow := e.wire()
		wasRx, wasTx := rx, tx
		rx, tx = rxNow-in, txNow-out
		if rx < rxBefore || rx > rxAfter || tx < txBefore || tx > txAfter || rx != wasRx || tx != wasTx {
			return fmt.Sprintf("opened at %d and %d bytes on the wire by what has been read, which were %d to %d and %d to %d", rx, tx, rxBefore, rxAfter, txBefore, txAfter)
		}
		return ""
	})
	return rx, tx
}

// suspendAndResume closes the gate of a live connection for a while, with its sessions up and the agent killed meanwhile, and
// compares what is read with the wire: to the byte while it is open, and nothing while it is not.
func (e *kernelEdge) suspendAndResume(c DesiredConnection, rxBefore, txBefore int64) {
	e.t.Helper()
	t, p := e.t, e.platform
	awaitObserved(t, p, c.ID, "established", func(o Observation) bool { return settled(o.Sessions) })
	since := p.observed(c.ID).Sessions
	c.Phase, c.BandwidthMbps = Suspended, 20_000
	began := time.Now()
	p.want(c)
	awaitObserved(t, p, c.ID, "suspended", func(o Observation) bool { return isSuspended(o) && o.Bandwidth == 20_000 })
	t.Logf("desired → gate closed and reported: %v", time.Since(began).Round(time.Millisecond))
	for i, s := range p.observed(c.ID).Sessions {
		if s.State != bgp.Established || !s.Since.Equal(since[i].Since) {
			t.Errorf("the suspension restarted a session: %+v, before %+v", s, since[i])
		}
	}
	// What was on the wire until the gate closed is read; the sessions' frames since then are not, so the wire is ahead by those.
	var in, out int64
	eventually(t, 10*time.Second, func() string {
		in, out = p.bytes(c.ID)
		rx, tx := e.wire()
		if in > rx-rxBefore || out > tx-txBefore || rx-rxBefore-in > 20_000 || tx-txBefore-out > 20_000 {
			return fmt.Sprintf("read %d bytes in and %d out, on the wire were %d and %d", in, out, rx-rxBefore, tx-txBefore)
		}
		return ""
	})
	if e.reaches() {
		t.Error("traffic crosses while it is suspended")
	}
	e.killAgent()
	_ = e.reaches() // knocks at the gate, and is counted by nobody
	p.set(func(p *memoryPlatform) { clear(p.observations) })
	e.startAgent()
	awaitObserved(t, p, c.ID, "suspended still, its sessions up", func(o Observation) bool { return isSuspended(o) && settled(o.Sessions) })
	if e.reaches() {
		t.Error("traffic crosses after the agent was killed while it is suspended")
	}
	time.Sleep(2 * time.Second) // two intervals
	if nowIn, nowOut := p.bytes(c.ID); nowIn != in || nowOut != out {
		t.Errorf("%d and %d bytes are read while it is suspended", nowIn-in, nowOut-out)
	}

	rx, tx := e.wire()
	c.Phase = Production
	began = time.Now()
	p.want(c)
	awaitObserved(t, p, c.ID, "resumed", isResumed)
	t.Logf("desired → gate opened again and reported: %v", time.Since(began).Round(time.Millisecond))
	eventually(t, 20*time.Second, func() string {
		if !e.reaches() {
			return "traffic does not cross after it was resumed"
		}
		return ""
	})
	if _, err := e.lab.Iperf(t.Context(), "a", customerHost, providerHost, 20_000_000); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() string {
		nowIn, nowOut := p.bytes(c.ID)
		nowRx, nowTx := e.wire()
		// The baseline is read just before the gate opens; a keepalive may fall between it and the look at the wire.
		if lostIn, lostOut := nowRx-rx-(nowIn-in), nowTx-tx-(nowOut-out); lostIn < 0 || lostOut < 0 || lostIn > 2000 || lostOut > 2000 {
			return fmt.Sprintf("since it was resumed, %d bytes in and %d out are read, on the wire were %d and %d", nowIn-in, nowOut-out, nowRx-rx, nowTx-tx)
		}
		return ""
	})
}

// TestKernelEdge takes a connection through its whole life on real routers, with the agent killed under traffic, and
// compares what was read with the kernel's own counters of the customer's port.
func TestKernelEdge(t *testing.T) {
	e := newKernelEdge(t, time.Second)
	p, c := e.platform, e.connection(Testing)
	e.startAgent()

	began := time.Now()
	p.want(c)
	awaitObserved(t, p, c.ID, "established", func(o Observation) bool { return settled(o.Sessions) })
	t.Logf("desired → both sessions established: %v", time.Since(began).Round(time.Millisecond))
	awaitObserved(t, p, c.ID, "in full routes", func(o Observation) bool {
		return o.Sessions[0].PrefixesReceived == 1 && o.Sessions[0].PrefixesSent == 2 && o.Sessions[1].PrefixesReceived == 1 && o.Sessions[1].PrefixesSent == 2
	})
	if e.reaches() {
		t.Fatal("traffic crosses before production")
	}
	began = time.Now()
	c.ProbeID = "prb_1"
	p.want(c)
	awaitObserved(t, p, c.ID, "probed", func(o Observation) bool { return o.Probe != nil })
	t.Logf("desired → probe reported: %v", time.Since(began).Round(time.Millisecond))
	if probe := p.observed(c.ID).Probe; !probe.Passed {
		t.Fatalf("the probe failed: %s", probe.Detail)
	}
	if e.reaches() {
		t.Fatal("traffic crosses after the probe")
	}

	c.Phase, c.ProbeID = Production, ""
	rxBefore, txBefore := e.open(c)
	if !e.reaches() {
		t.Fatal("traffic does not cross in production")
	}
	awaitWire := func(what string) {
		t.Helper()
		eventually(t, 10*time.Second, func() string {
			in, out := p.bytes(c.ID)
			rx, tx := e.wire()
			if in != rx-rxBefore || out != tx-txBefore {
				return fmt.Sprintf("%s: read %d bytes in and %d out, on the wire were %d and %d", what, in, out, rx-rxBefore, tx-txBefore)
			}
			return ""
		})
	}
	awaitWire("after a ping")
	if _, err := e.lab.Iperf(t.Context(), "a", customerHost, providerHost, 50_000_000); err != nil {
		t.Fatal(err)
	}
	awaitWire("after iperf3")
	if in, _ := p.bytes(c.ID); in < 50_000_000 {
		t.Errorf("%d bytes in, want at least what iperf3 moved", in)
	}

	// The agent is killed while traffic runs. Traffic is counted on without it.
	ping, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ping.Err() == nil {
			_, _ = e.lab.Ping(ping, "a", customerHost, providerHost, 20, 100*time.Millisecond)
		}
	}()
	const kills = 4
	for i := range kills {
		time.Sleep(time.Duration(300+i*170) * time.Millisecond)
		e.killAgent()
		time.Sleep(200 * time.Millisecond)
		e.startAgent()
	}
	opened := p.observed(c.ID).OpenedAt
	began = time.Now()
	p.set(func(p *memoryPlatform) { clear(p.observations) })
	awaitObserved(t, p, c.ID, "established again", func(o Observation) bool { return settled(o.Sessions) })
	t.Logf("agent killed and started → established again: %v", time.Since(began).Round(time.Millisecond))
	if again := p.observed(c.ID).OpenedAt; !again.Equal(opened) {
		t.Errorf("after kills it is open since %v, want %v", again, opened)
	}
	cancel()
	<-done
	eventually(t, 10*time.Second, func() string {
		if !e.reaches() {
			return "traffic does not cross after the kills"
		}
		return ""
	})
	awaitWire(fmt.Sprintf("after %d kills", kills))

	// Somebody changes the node by hand; the next look repairs it.
	if out, err := e.lab.Command(t.Context(), lab.PoP, "ip", "link", "del", "cb7z").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, time.Minute, func() string {
		if o := p.observed(c.ID); !strings.Contains(o.Message, "set right: the interface of side") {
			return fmt.Sprintf("a deleted interface is not reported: %+v", o)
		}
		return ""
	})
	eventually(t, time.Minute, func() string {
		if !e.reaches() {
			return "a deleted interface is not repaired"
		}
		return ""
	})
	awaitWire("after a repair")

	e.suspendAndResume(c, rxBefore, txBefore)

	began = time.Now()
	c.Phase = Absent
	p.want(c)
	awaitObserved(t, p, c.ID, "removed", isRemoved)
	t.Logf("desired → closed, delivered, removed: %v", time.Since(began).Round(time.Millisecond))
	if e.reaches() {
		t.Error("traffic crosses after the end")
	}
	for _, command := range []string{"ip -o link show", "ip rule show", "ip route show table 100007"} {
		out, _ := e.lab.Command(t.Context(), lab.PoP, "sh", "-c", command).CombinedOutput()
		if strings.Contains(string(out), "cb7") || strings.Contains(string(out), "100007") {
			t.Errorf("left on the node: %s:\n%s", command, out)
		}
	}
	p.check(t)
}
