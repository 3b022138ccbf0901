package edge

import (
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSoftwareEdge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := NewSoftwareNode(SoftwareOptions{StateDir: dir, BasePort: 23000})
	defer n.Close()
	p := newMemoryPlatform(time.Second)
	c := desiredConnection(1, Testing)
	c.A.Address, c.A.Peer = netip.MustParsePrefix("100.64.0.9/30"), netip.MustParseAddr("100.64.0.10")
	c.A.IPv6Address, c.A.IPv6Peer = netip.MustParsePrefix("2001:db8::2/127"), netip.MustParseAddr("2001:db8::3")
	p.want(c)
	runAgent(t, p, n, dir)
	awaitObserved(t, p, c.ID, "up", func(o Observation) bool { return settled(o.Sessions) && len(o.Sessions) == 4 })
	if message := p.observed(c.ID).Message; !strings.Contains(message, "software edge") || p.lastKind != Software {
		t.Errorf("it says %q and is of the kind %q, which hides what it is", message, p.lastKind)
	}
	content, err := os.ReadFile(filepath.Join(dir, "software-edge.json"))
	if err != nil {
		t.Fatal(err)
	}
	var addresses map[string]SoftwareAddresses
	if err := json.Unmarshal(content, &addresses); err != nil {
		t.Fatal(err)
	}
	ends := addresses[c.ID]
	target, err := net.Listen("tcp", ends.Target)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() { // answers each request with twice its bytes
		for {
			conn, err := target.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request, _ := io.ReadAll(conn)
				conn.Write(append(request, request...))
			}()
		}
	}()
	c.ProbeID = "prb_1"
	p.want(c)
	awaitObserved(t, p, c.ID, "probed", func(o Observation) bool { return o.Probe != nil && o.Probe.Passed })
	if conn, err := net.Dial("tcp", ends.Listen); err == nil {
		conn.Close()
		t.Error("the relay listens in testing")
	}
	c.Phase = Production
	p.want(c)
	awaitObserved(t, p, c.ID, "open", isOpen)
	const size = 3_000_000
	conn, err := net.Dial("tcp", ends.Listen)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn.Write(make([]byte, size))
		conn.(*net.TCPConn).CloseWrite()
	}()
	if answer, err := io.ReadAll(conn); err != nil || len(answer) != 2*size {
		t.Fatalf("%d bytes came back, want %d: %v", len(answer), 2*size, err)
	}
	conn.Close()
	idle, err := net.Dial("tcp", ends.Listen) // still there when the connection ends
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	c.Phase = Absent
	p.want(c)
	awaitObserved(t, p, c.ID, "removed", isRemoved)
	if in, out := p.bytes(c.ID); in != size || out != 2*size {
		t.Errorf("read %d bytes in and %d out, want %d and %d", in, out, size, 2*size)
	}
	for _, r := range p.of(c.ID) {
		if r.Source != Software {
			t.Errorf("a reading says its source is %q", r.Source)
		}
	}
	if _, err := io.ReadAll(idle); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("a relayed connection that was open ends with %v", err)
	}
	if conn, err := net.Dial("tcp", ends.Listen); err == nil {
		conn.Close()
		t.Error("the relay still listens")
	}
	p.check(t)
}
