package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/edge/datapath"
)

// brokenNode can't set connections up, and says why as a node does: with names of its own.
type brokenNode struct {
	*memoryNode
	mu  sync.Mutex
	err error
}

func (b *brokenNode) Ensure(ctx context.Context, c DesiredConnection) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	return b.memoryNode.Ensure(ctx, c)
}

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What a connection's message says goes to the customer and to the provider. What keeps it from being set up is told by side,
// and never with the names of the node's interfaces, files or other connections: those are in the node's log.
func TestPartiesAreToldNothingOfTheNodes(t *testing.T) {
	t.Parallel()
	detail := func(code domain.Code) error {
		return domain.Errorf(code, "datapath.Ensure", "no interface \"ens7f0np0\": open /sys/fs/bpf/crossbill/meter: VLAN 7 belongs to connection 12")
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"the port is gone":   {&datapath.PartyError{Told: "the port of side a is gone", Err: detail(domain.NotFound)}, "the port of side a is gone"},
		"wrapped once more":  {fmt.Errorf("ens7f0np0: %w", &datapath.PartyError{Told: "the port of side z can't be set up", Err: detail(domain.Internal)}), "the port of side z can't be set up"},
		"anything else":      {detail(domain.Internal), "the edge node can't bring it to what it should be, and tries again; the node's operator finds the reason in its log"},
		"an error of no one": {errors.New("sysctl: open /proc/sys/net/ipv6/conf/ens7f0np0/disable_ipv6"), "the edge node can't bring it to what it should be, and tries again; the node's operator finds the reason in its log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, n, log := newMemoryPlatform(tick), &brokenNode{memoryNode: newMemoryNode(), err: c.err}, new(lockedLog)
			want := desiredConnection(1, Production)
			p.want(want)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- Run(ctx, Config{Platform: p, Node: n, StateDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil))})
			}()
			awaitObserved(t, p, want.ID, "in trouble", func(o Observation) bool { return o.Message != "" })
			if got := p.observed(want.ID).Message; got != c.want {
				t.Errorf("the parties are told %q, want %q", got, c.want)
			}
			eventually(t, time.Minute, func() string {
				if text := log.String(); !strings.Contains(text, "ens7f0np0") {
					return "the operator can't read why: " + text
				}
				return ""
			})
			n.mu.Lock()
			n.err = nil
			n.mu.Unlock()
			awaitObserved(t, p, want.ID, "mended", func(o Observation) bool { return o.Message == "" && isOpen(o) })
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A probe that failed is in the connection's state and, when it is given up, in the order's reason.
func TestProbesAreToldBySide(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	nobody := fmt.Errorf("%w from 100.64.0.6 to 100.64.0.1: sendto: network is unreachable", errUnanswered)
	local := errors.New("probe from 100.64.0.1: listen ip4:icmp 100.64.0.1: bind: cannot assign requested address")
	for _, c := range []struct {
		errs []error
		want string
	}{
		{[]error{nobody, nil}, "no answer from the router of side z (IPv4)"},
		{[]error{nil, nobody}, "no answer from the router of side a (IPv4)"},
		{[]error{nobody, local}, "no answer from the router of side z (IPv4); the edge node could not send to side a (IPv4)"},
		{[]error{nil, nil, nobody, nobody}, "no answer from the router of side z (IPv6); no answer from the router of side a (IPv6)"},
	} {
		if got := probeDetail([]string{domain.IPv4, domain.IPv6}, c.errs); got != c.want {
			t.Errorf("the parties are told %q, want %q", got, c.want)
		}
	}
	if err := ping(ctx, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")); err == nil {
		t.Error("a probe that was given up has passed")
	}
	_, told := (&SoftwareNode{}).Probe(ctx, DesiredConnection{})
	if told != "software edge: nothing listens at the target" {
		t.Errorf("the software edge tells %q", told)
	}
}
