package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/edge/lab"
)

// labPrefix begins the names of these tests' labs; the process's number makes them its own.
const labPrefix = "labtest"

// childVariable makes the test binary a process that owns a lab and waits to be killed.
const childVariable = "CROSSBILL_LAB_TEST_CHILD"

var labNumber atomic.Int32

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		ownLab(name)
		return
	}
	if lab.Supported() == nil {
		if _, err := lab.Sweep(labPrefix); err != nil { // what a killed run left
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func newLab(t *testing.T) (*lab.Lab, string) {
	t.Helper()
	if err := lab.Supported(); err != nil {
		t.Skip(err)
	}
	name := fmt.Sprintf("%s%d-%d", labPrefix, os.Getpid(), labNumber.Add(1))
	l, err := lab.New(t.Context(), lab.Options{Name: name, Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, name
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	routerA = lab.RouterConfig{
		VLAN: 100, Address: netip.MustParsePrefix("100.64.0.2/30"), Peer: netip.MustParseAddr("100.64.0.1"),
		ASN: 65001, PeerASN: 64512, Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.1.1.0/24")},
	}
	routerZ = lab.RouterConfig{
		VLAN: 200, Address: netip.MustParsePrefix("100.64.0.6/30"), Peer: netip.MustParseAddr("100.64.0.5"),
		ASN: 65002, PeerASN: 64512, Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
	}
)

// remains lists what of a lab is on the machine.
func remains(t *testing.T, name string, slot string) string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/run/netns/" + name + "-*", "/run/crossbill-lab/" + name, "/sys/fs/bpf/crossbill/" + name} {
		paths, err := filepath.Glob(pattern)
		must(t, err)
		found = append(found, paths...)
	}
	links, err := exec.Command("ip", "-o", "link").Output()
	must(t, err)
	if slot != "" && strings.Contains(string(links), " "+slot+"@") {
		found = append(found, slot)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range processes {
		line, _ := os.ReadFile(path)
		if strings.Contains(string(line), "/"+name+"/") { // BIRD's control socket is there
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return strings.Join(found, "\n")
}

// managementLink finds the machine's end of a lab's management link.
func managementLink(t *testing.T, l *lab.Lab) string {
	t.Helper()
	out, err := exec.Command("ip", "-o", "-4", "addr", "show", "to", l.ManagementHost.String()).Output()
	must(t, err)
	fields := strings.Fields(string(out))
	if len(fields) < 2 {
		t.Fatalf("no interface has %s", l.ManagementHost)
	}
	return fields[1]
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	l, name := newLab(t)
	must(t, l.StartRouter(t.Context(), "a", routerA))
	must(t, l.StartRouter(t.Context(), "z", routerZ))
	must(t, l.StartRouter(t.Context(), "z/second", lab.RouterConfig{
		VLAN: 201, Address: routerZ.Address, Peer: routerZ.Peer, ASN: 65003, PeerASN: 64512, Networks: routerZ.Networks}))
	orphan := l.Command(t.Context(), lab.PoP, "sleep", "600")
	must(t, orphan.Start())
	must(t, os.MkdirAll(l.PinDir(), 0o700))
	link := managementLink(t, l)
	if found := remains(t, name, link); strings.Count(found, "bird") < 3 || strings.Count(found, "/run/netns/") != 4 {
		t.Fatalf("a live lab has:\n%s", found)
	}
	must(t, l.Close())
	if err := orphan.Wait(); err == nil {
		t.Error("a process in the lab lived on")
	}
	if found := remains(t, name, link); found != "" {
		t.Errorf("left:\n%s", found)
	}
	must(t, l.Close()) // twice is once
}

func TestManagementLink(t *testing.T) {
	t.Parallel()
	one, _ := newLab(t)
	two, _ := newLab(t)
	if one.ManagementHost == two.ManagementHost {
		t.Errorf("two labs share %s", one.ManagementHost)
	}
	for _, l := range []*lab.Lab{one, two} {
		received, err := l.Ping(t.Context(), lab.PoP, l.ManagementPoP, l.ManagementHost, 2, time.Second)
		if err != nil || received != 2 {
			t.Errorf("ping %s: %d, %v", l.ManagementHost, received, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	_, name := newLab(t)
	if _, err := lab.New(t.Context(), lab.Options{Name: name}); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a second lab of a live one's name: %v", err)
	}
	for _, bad := range []string{"", "Upper", "a/b", "x-pop", "cust", "-x", strings.Repeat("x", 41)} {
		if l, err := lab.New(t.Context(), lab.Options{Name: bad}); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("name %q: %v", bad, err)
			if l != nil {
				l.Close()
			}
		}
	}
}

// TestWireIsSilent: before a datapath is there, a lab's ports see nothing but what routers mean to send.
func TestWireIsSilent(t *testing.T) {
	t.Parallel()
	l, _ := newLab(t)
	must(t, l.JoinNetwork(t.Context(), "a", routerA))
	time.Sleep(300 * time.Millisecond)
	for _, side := range []string{"a", "z"} {
		if rx, tx, err := l.WireBytes(side); err != nil || rx != 0 || tx != 0 {
			t.Errorf("side %s: rx %d, tx %d, %v", side, rx, tx, err)
		}
	}
	if received, err := l.Ping(t.Context(), "a", routerA.Address.Addr(), routerA.Peer, 1, 200*time.Millisecond); err != nil || received != 0 {
		t.Errorf("ping nobody: %d, %v", received, err)
	}
	rx, tx, err := l.WireBytes("a")
	if err != nil || rx == 0 || rx%46 != 0 || tx != 0 {
		t.Errorf("rx %d, tx %d, %v, want ARP requests of 42 bytes with a tag of 4", rx, tx, err)
	}
	if received, err := l.Ping(t.Context(), "a", routerA.Address.Addr(), netip.MustParseAddr("192.0.2.1"), 1, 200*time.Millisecond); err != nil || received != 0 {
		t.Errorf("ping without a route: %d, %v", received, err)
	}
	if _, err := l.Ping(t.Context(), "a", netip.MustParseAddr("192.0.2.9"), routerA.Peer, 1, 200*time.Millisecond); err == nil {
		t.Error("ping from an address that is not there succeeded")
	}
}

// TestRouters joins the two main routers by BIRD alone: the PoP's place is taken by an untagged router in its namespace.
func TestRouters(t *testing.T) {
	t.Parallel()
	l, _ := newLab(t)
	untagged := routerA
	untagged.VLAN = 0
	must(t, l.StartRouter(t.Context(), "a", untagged))
	if err := l.StartRouter(t.Context(), "a", untagged); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a second BIRD at a place: %v", err)
	}
	if state, err := l.BGPState(t.Context(), "a"); err != nil || state == "Established" || state == "Down" {
		t.Errorf("state without a peer %q, %v", state, err)
	}
	peer := fmt.Sprintf(`log stderr all; router id 1.1.1.1; protocol device {}
protocol static { ipv4; route 10.2.0.0/24 blackhole; route 10.3.0.0/16 blackhole; }
protocol bgp { local %s as 64512; neighbor %s as 65001; connect delay time 1; ipv4 { import all; export all; }; }
`, untagged.Peer, untagged.Address.Addr())
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "peer.conf"), []byte(peer), 0o644))
	must(t, l.Command(t.Context(), lab.PoP, "ip", "addr", "add", untagged.Peer.String()+"/30", "dev", lab.PortA).Run())
	bird := l.Command(t.Context(), lab.PoP, "bird", "-f", "-c", filepath.Join(dir, "peer.conf"), "-s", filepath.Join("/run/crossbill-lab", filepath.Base(l.PinDir()), "peer.ctl"))
	must(t, bird.Start())
	defer func() { _ = bird.Process.Kill(); _ = bird.Wait() }()
	eventually(t, func() error {
		state, err := l.BGPState(t.Context(), "a")
		if err != nil || state != "Established" {
			return fmt.Errorf("state %q, %v", state, err)
		}
		routes, err := l.RouterRoutes(t.Context(), "a")
		if want := []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("10.3.0.0/16")}; err != nil || !slices.Equal(routes, want) {
			return fmt.Errorf("routes %v, %v, want %v", routes, err, want)
		}
		return nil
	})
	kernel, err := l.Command(t.Context(), "a", "ip", "route", "show", "proto", "bird").Output()
	if err != nil || !strings.Contains(string(kernel), "10.2.0.0/24 via "+untagged.Peer.String()) {
		t.Errorf("the kernel's table: %s, %v", kernel, err)
	}
	must(t, l.StopRouter("a"))
	must(t, l.StopRouter("a"))
	if _, err := l.BGPState(t.Context(), "a"); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("state of a stopped router: %v", err)
	}
	if kernel, _ := l.Command(t.Context(), "a", "ip", "route", "show", "proto", "bird").Output(); len(kernel) > 0 {
		t.Errorf("a stopped router left routes: %s", kernel)
	}
}

func TestStartRouterFails(t *testing.T) {
	t.Parallel()
	l, _ := newLab(t)
	bad := routerA
	bad.ASN = 0 // BIRD refuses it
	if err := l.StartRouter(t.Context(), "a", bad); err == nil || !strings.Contains(err.Error(), "AS") {
		t.Errorf("a bad configuration: %v", err)
	}
	if err := l.StartRouter(t.Context(), "middle", routerA); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a place that is none: %v", err)
	}
}

// ownLab is the child process: it makes a lab, says so, and waits for its end.
func ownLab(name string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	l, err := lab.New(context.Background(), lab.Options{Name: name})
	fail(err)
	fail(l.StartRouter(context.Background(), "a", routerA))
	fail(os.MkdirAll(l.PinDir(), 0o700))
	fail(l.Command(context.Background(), "z", "iperf3", "--server").Start())
	out, err := exec.Command("ip", "-o", "-4", "addr", "show", "to", l.ManagementHost.String()).Output()
	fail(err)
	fmt.Println("ready", strings.Fields(string(out))[1])
	select {}
}

func TestSweepAfterKill(t *testing.T) {
	t.Parallel()
	live, liveName := newLab(t)
	dead := fmt.Sprintf("%s%d-dead", labPrefix, os.Getpid())
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dead)
	pipe, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	said, err := bufio.NewReader(pipe).ReadString('\n')
	must(t, err)
	link, ok := strings.CutPrefix(strings.TrimSpace(said), "ready ")
	if !ok {
		t.Fatalf("the child said %q", said)
	}
	prefix := labPrefix + strconv.Itoa(os.Getpid())
	if names, err := lab.Sweep(prefix); err != nil || len(names) != 0 {
		t.Fatalf("swept %v, %v while all owners live", names, err)
	}
	must(t, child.Process.Kill())
	_ = child.Wait()
	if found := remains(t, dead, link); !strings.Contains(found, "bird") || !strings.Contains(found, link) {
		t.Fatalf("a killed lab has:\n%s", found)
	}
	if names, err := lab.Sweep("another-prefix"); err != nil || len(names) != 0 {
		t.Errorf("swept %v, %v of another prefix", names, err)
	}
	names, err := lab.Sweep(prefix)
	if err != nil || !slices.Equal(names, []string{dead}) {
		t.Errorf("swept %v, %v, want %s", names, err, dead)
	}
	if found := remains(t, dead, link); found != "" {
		t.Errorf("left:\n%s", found)
	}
	if found := remains(t, liveName, ""); strings.Count(found, "/run/netns/") != 3 {
		t.Errorf("a live lab was swept, it has:\n%s", found)
	}
	if _, _, err := live.WireBytes("a"); err != nil {
		t.Error(err)
	}
}

func TestCommandEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, _ := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	command := l.Command(ctx, "a", "sleep", "600")
	must(t, command.Start())
	time.Sleep(50 * time.Millisecond)
	cancel()
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it ended by itself")
		}
	case <-time.After(5 * time.Second):
		t.Error("the program outlived its command")
	}
	out, err := l.Command(t.Context(), lab.PoP, "ls", "/sys/fs").Output()
	if err != nil || !strings.Contains(string(out), "bpf") {
		t.Errorf("the machine's /sys is not there: %s, %v", out, err)
	}
}

func BenchmarkWireBytes(b *testing.B) {
	if err := lab.Supported(); err != nil {
		b.Skip(err)
	}
	l, err := lab.New(b.Context(), lab.Options{Name: fmt.Sprintf("%s%d-bench%d", labPrefix, os.Getpid(), labNumber.Add(1)), Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		if _, _, err := l.WireBytes("a"); err != nil {
			b.Fatal(err)
		}
	}
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
