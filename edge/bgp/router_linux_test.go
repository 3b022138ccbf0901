package bgp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// inNamespace marks the copy of the test binary that runs in a network namespace of its own.
const inNamespace = "CROSSBILL_TEST_IN_NAMESPACE"

// TestMain runs the tests in a new network namespace: they put addresses on interfaces and listen on port 179.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inNamespace) != "" {
		if os.Getenv(inNamespace) != "" {
			if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "set lo up: %v: %s\n", err, out)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), inNamespace+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := child.Run(); err != nil {
		if child.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
		}
		os.Exit(1)
	}
}

func needsRouters(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, p := range append(programs, "ip") {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: apt-get install bird2 frr iproute2", p)
		}
	}
}

var routers atomic.Int32

// router is a namespace with one link to the node.
type router struct {
	t         testing.TB
	namespace string
	local     netip.Prefix // the node's address
	peer      netip.Addr
	id        netip.Addr // its BGP identifier, for an IPv6 link
	dir       string
	daemon    *exec.Cmd // the last that was started
	frrLines  []string  // more of what FRR's router is configured with
}

// family is the router's address family, as the daemons call it.
func (r *router) family() string {
	if r.peer.Is6() {
		return "ipv6"
	}
	return "ipv4"
}

// identifier is its IPv4 address, if it has one.
func (r *router) identifier() netip.Addr {
	if r.peer.Is6() {
		return r.id
	}
	return r.peer
}

// newRouter makes a namespace joined to the test's own by a link 100.64.0.4n/30: the node is .1 of it, the router .2.
func newRouter(t testing.TB) *router {
	t.Helper()
	n := int(routers.Add(1))
	base := netip.AddrFrom4([4]byte{100, 64, byte(n / 64), byte(n % 64 * 4)})
	return joined(t, n, netip.PrefixFrom(base.Next(), 30), base.Next().Next())
}

// newRouter6 is newRouter with a link 2001:db8:ffff::2n/127: the node has the even address.
func newRouter6(t testing.TB) *router {
	t.Helper()
	n := int(routers.Add(1))
	own := netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff::%x", 2*n))
	return joined(t, n, netip.PrefixFrom(own, 127), own.Next())
}

func joined(t testing.TB, n int, local netip.Prefix, peer netip.Addr) *router {
	t.Helper()
	r := &router{t: t, namespace: fmt.Sprintf("cbbgp%d-%d", os.Getpid(), n), local: local, peer: peer, dir: t.TempDir(),
		id: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})}
	device := fmt.Sprintf("r%d", n)
	r.ip("netns", "add", r.namespace)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", r.namespace).Run() })
	r.ip("link", "add", device, "type", "veth", "peer", "name", "node", "netns", r.namespace)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", device).Run() })
	more := []string{"nodad"}
	if r.peer.Is4() {
		more = nil
	}
	r.ip(append([]string{"addr", "add", r.local.String(), "dev", device}, more...)...)
	r.ip("link", "set", device, "up")
	r.ip(append([]string{"-n", r.namespace, "addr", "add", netip.PrefixFrom(r.peer, r.local.Bits()).String(), "dev", "node"}, more...)...)
	r.ip("-n", r.namespace, "link", "set", "node", "up")
	r.ip("-n", r.namespace, "link", "set", "lo", "up")
	return r
}

func (r *router) ip(args ...string) {
	r.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		r.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

type birdConfig struct {
	asn, nodeASN uint32
	routerID     string // "" means the link address
	password     string
	routes       []string
	passive      bool
	restartTime  int      // seconds; 0 for a router that only helps others to restart
	flags        []string // of the next start
}

// bird runs BIRD in the router's namespace until the test ends, or takes a new configuration into the running one.
func (r *router) bird(c birdConfig) {
	r.t.Helper()
	if c.routerID == "" {
		c.routerID = r.identifier().String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "router id %s;\nprotocol device {}\nprotocol static nets { %s;\n", c.routerID, r.family())
	for _, route := range c.routes {
		fmt.Fprintf(&b, "  route %s blackhole;\n", route)
	}
	fmt.Fprintf(&b, "}\nprotocol bgp node {\n  local %s as %d;\n  neighbor %s as %d;\n", r.peer, c.asn, r.local.Addr(), c.nodeASN)
	if c.password != "" {
		fmt.Fprintf(&b, "  password \"%s\";\n", c.password)
	}
	if c.passive {
		b.WriteString("  passive;\n")
	}
	if c.restartTime > 0 {
		fmt.Fprintf(&b, "  graceful restart on; graceful restart time %d;\n", c.restartTime)
	}
	b.WriteString("  connect delay time 1; connect retry time 1; error wait time 1, 2;\n")
	fmt.Fprintf(&b, "  %s { import all; export where source = RTS_STATIC; };\n}\n", r.family())
	config, socket := filepath.Join(r.dir, "bird.conf"), filepath.Join(r.dir, "bird.ctl")
	if err := os.WriteFile(config, []byte(b.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if _, err := os.Stat(socket); err == nil {
		r.birdc("configure")
		return
	}
	r.run(append([]string{"bird", "-f", "-c", config, "-s", socket}, c.flags...)...)
	eventually(r.t, patience, func() string {
		if _, err := os.Stat(socket); err != nil {
			return "BIRD does not start"
		}
		return ""
	})
}

// run starts a daemon in the namespace and kills it when the test ends.
func (r *router) run(args ...string) *exec.Cmd {
	r.t.Helper()
	daemon := exec.Command("ip", append([]string{"netns", "exec", r.namespace}, args...)...)
	var log bytes.Buffer
	daemon.Stdout, daemon.Stderr = &log, &log
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.daemon = daemon
	r.t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait() // fails if the test has waited for it
		if r.t.Failed() {
			r.t.Logf("%s in %s:\n%s", args[0], r.namespace, log.String())
		}
	})
	return daemon
}

// crash ends the daemon as a loss of power would, but for the connections, which the kernel closes.
func (r *router) crash() {
	r.t.Helper()
	if err := r.daemon.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	_ = r.daemon.Wait()
	_ = os.Remove(filepath.Join(r.dir, "bird.ctl"))
}

// pause stops the daemon from doing anything until it is called with false.
func (r *router) pause(on bool) {
	r.t.Helper()
	signal := syscall.SIGCONT
	if on {
		signal = syscall.SIGSTOP
	}
	if err := r.daemon.Process.Signal(signal); err != nil {
		r.t.Fatal(err)
	}
}

func (r *router) birdc(command ...string) string {
	r.t.Helper()
	out, err := r.askBird(command...)
	if err != nil {
		r.t.Fatalf("birdc %v: %v: %s", command, err, out)
	}
	return out
}

func (r *router) askBird(command ...string) (string, error) {
	args := append([]string{"-s", filepath.Join(r.dir, "bird.ctl")}, command...)
	out, err := exec.Command("birdc", args...).CombinedOutput()
	return string(out), err
}

// learnt returns what BIRD has from the node, as "prefix via next-hop".
func (r *router) learnt() []string {
	r.t.Helper()
	return birdRoutes(r.birdc("show", "route", "protocol", "node"))
}

func birdRoutes(out string) []string {
	lines := strings.Split(out, "\n")
	var routes []string
	for i, line := range lines {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.Contains(fields[0], "/") && i+1 < len(lines) {
			via := strings.Fields(lines[i+1])
			routes = append(routes, fields[0]+" via "+via[1])
		}
	}
	return routes
}

// eventually waits until f has nothing to complain about.
func eventually(t testing.TB, within time.Duration, f func() string) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		complaint := f()
		if complaint == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", within, complaint)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// frr runs FRR's bgpd in the router's namespace until the test ends. It refuses updates whose first AS is not the
// node's (bgp enforce-first-as), as many routers do.
func (r *router) frr(asn, nodeASN uint32, networks ...string) {
	r.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n", asn, r.identifier())
	fmt.Fprintf(&b, " neighbor %s remote-as %d\n neighbor %s timers connect 1\n address-family %s unicast\n  neighbor %s activate\n", r.local.Addr(), nodeASN, r.local.Addr(), r.family(), r.local.Addr())
	for _, n := range networks {
		fmt.Fprintf(&b, "  network %s\n", n)
	}
	b.WriteString(" exit-address-family\n")
	for _, line := range r.frrLines {
		fmt.Fprintf(&b, " %s\n", line)
	}
	config := filepath.Join(r.dir, "bgpd.conf")
	if err := os.WriteFile(config, []byte(b.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
	// -n: no kernel routes; the daemon has no zebra to speak to. It gives its rights up to the user, who must be able to
	// write into the directory, so it stays root.
	r.run(frrBGPD, "-Z", "-n", "-S", "-f", config, "-i", filepath.Join(r.dir, "bgpd.pid"), "--vty_socket", r.dir, "-A", "127.0.0.1", "-u", "root", "-g", "root")
}

// frrRoutes returns what FRR accepted from the node.
func (r *router) frrRoutes() string {
	out, err := exec.Command("ip", "netns", "exec", r.namespace, "vtysh", "--vty_socket", r.dir, "-c", "show bgp "+r.family()+" unicast").CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	return string(out)
}

const frrBGPD = "/usr/lib/frr/bgpd"
