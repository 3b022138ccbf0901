// Package edge is the agent of a PoP node: it makes the node what the platform wants it to be, reads its meters, and
// delivers what they counted.
//
// [Run] is level-triggered. It asks the platform for the node's whole desired state and brings a [Node] to it, again
// and again: it may be killed at any point, find the node half-configured or changed by hand, and converges. What it
// must not forget is in a journal on disk before anything depends on it (see journal.go): where each meter was last read
// and every reading the platform does not have yet. The rest is in the kernel, where traffic is carried and counted
// while no agent runs.
//
// It never decides what should exist, never prices or drops what was counted, and reaches the platform only through
// [Platform], as the node whose certificate it has (identity.go). There are two nodes: the kernel's (kernel_linux.go: eBPF, BGP, routes) and a software stand-in
// (software.go).
//
// Start reading at [Run], then reconcile.go and meter.go.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"crossbill/domain"
)

// Limits and times of the agent.
const (
	// DefaultSpoolLimit is how many undelivered readings the node keeps: a day of 5-minute readings of 4 000
	// connections, and some. When it is reached, meters are not read until the platform takes some: they keep counting.
	DefaultSpoolLimit = 1_250_000

	maxBatch      = 1000             // readings in one request; the contract's limit
	maxReport     = 500              // observations in one; with four sessions each, what comes of them is one append
	longPoll      = 30 * time.Second // how long the platform may hold a request for the desired state
	resyncEvery   = 15 * time.Second // how often the node is compared with the desired state without any news
	wholeEvery    = 15 * time.Minute // how often the whole desired state is asked for, and not only what has changed
	probeTimeout  = 10 * time.Second
	retryFirst    = 250 * time.Millisecond // back-off after an error, doubled each time
	retryLast     = 15 * time.Second
	maxMessage    = 500 // characters; the contract's limit
	cacheFileMode = 0o600
)

// Config is what an agent needs.
type Config struct {
	Platform   Platform
	Identity   *Identity // is renewed; nil: the platform asks for none
	Node       Node
	StateDir   string // the journal, the last desired state, rejected readings; one agent at a time
	SpoolLimit int    // 0 means DefaultSpoolLimit
	Logger     *slog.Logger

	clock  func() instant // nil means the node's
	resync time.Duration  // 0 means resyncEvery
}

// Run runs the agent until ctx is done, then returns nil. The node is left as it is: what is in production stays so.
// It returns an error only if it cannot start or keep its journal: Conflict if another agent has StateDir, Internal if
// the disk fails. It does not close the node.
func Run(ctx context.Context, c Config) error {
	if c.SpoolLimit == 0 {
		c.SpoolLimit = DefaultSpoolLimit
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.clock == nil {
		c.clock = nodeClock()
	}
	if c.resync == 0 {
		c.resync = resyncEvery
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return domain.Errorf(domain.Internal, "edge.Run", "make the state directory: %w", err)
	}
	unlock, err := lockDir(c.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	journal, err := openJournal(c.StateDir, c.Logger)
	if err != nil {
		return err
	}
	defer journal.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &agent{
		platform: c.Platform, node: c.Node, journal: journal, log: c.Logger, now: c.clock, spoolLimit: c.SpoolLimit, resync: c.resync,
		cache:    filepath.Join(c.StateDir, "desired.json"),
		reporter: newReporter(c.Platform, c.Node.Kind(), c.Logger),
		news:     make(chan DesiredState), probed: make(chan probed), delivered: make(chan struct{}, 1),
		probes: map[string]*Probe{}, fail: cancel,
	}
	var wait sync.WaitGroup
	parts := []func(context.Context){a.watch, a.deliver, a.reporter.run, a.loop}
	if c.Identity != nil {
		parts = append(parts, func(ctx context.Context) { c.Identity.keep(ctx, c.Logger) })
	}
	for _, part := range parts {
		wait.Go(func() { part(ctx) })
	}
	wait.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// instant is a moment by the node's clock, as it is stored: UTC, microseconds; and by how long the agent has been running,
// which nobody can set.
type instant struct {
	wall time.Time
	up   time.Duration
}

// nodeClock returns the clock of an agent that begins to run.
func nodeClock() func() instant {
	began := time.Now()
	return func() instant {
		now := time.Now() // with a monotonic clock reading, which the difference is taken of
		return instant{now.UTC().Truncate(time.Microsecond), now.Sub(began)}
	}
}

// backoff is a growing wait between attempts. The zero value is ready.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// after returns how long to wait after one more failure.
func (b *backoff) after() time.Duration {
	b.next = min(max(retryFirst, 2*b.next), retryLast)
	return b.next
}

// wait waits after a failure; it reports false once ctx is done.
func (b *backoff) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(b.after()):
		return true
	}
}
