package lab

import (
	"context"
	"net/netip"
	"os/exec"
	"time"
)

// Lab is one set of namespaces.
type Lab struct {
	// The two ends of the link between the machine and the PoP: the platform listens on the host's end.
	ManagementHost, ManagementPoP netip.Addr
}

// Supported returns nil if a lab can run here, else an Unavailable error that lists what is missing.
func Supported() error { panic("not written yet") }

// New makes the namespaces and links.
func New(ctx context.Context, o Options) (*Lab, error) { panic("not written yet") }

// Close removes everything the lab made.
func (l *Lab) Close() error { panic("not written yet") }

// Sweep removes what dead labs whose name begins with prefix left behind, and returns their names.
func Sweep(prefix string) ([]string, error) { panic("not written yet") }

// PinDir is where the datapath of this lab's PoP keeps its pins; Close and Sweep remove it.
func (l *Lab) PinDir() string { panic("not written yet") }

// Namespace returns the path of a place's network namespace ("pop", "a", "z").
func (l *Lab) Namespace(place string) string { panic("not written yet") }

// Command returns a command that runs a program in a place's network namespace and the caller's mount namespace.
func (l *Lab) Command(ctx context.Context, place, name string, args ...string) *exec.Cmd {
	panic("not written yet")
}

// StartRouter starts BIRD on a side.
func (l *Lab) StartRouter(ctx context.Context, side string, c RouterConfig) error {
	panic("not written yet")
}

// StopRouter stops a side's BIRD.
func (l *Lab) StopRouter(side string) error { panic("not written yet") }

// RouterRoutes returns the prefixes a router learned by BGP.
func (l *Lab) RouterRoutes(ctx context.Context, side string) ([]netip.Prefix, error) {
	panic("not written yet")
}

// BGPState returns BIRD's word for the state of a router's session, such as "Established".
func (l *Lab) BGPState(ctx context.Context, side string) (string, error) { panic("not written yet") }

// Ping sends count echo requests from a side and returns how many replies came.
func (l *Lab) Ping(ctx context.Context, side string, src, dst netip.Addr, count int, timeout time.Duration) (received int, err error) {
	panic("not written yet")
}

// Iperf moves at least n bytes by TCP from src on one side to dst on the other.
func (l *Lab) Iperf(ctx context.Context, side string, src, dst netip.Addr, n int64) (Transfer, error) {
	panic("not written yet")
}

// WireBytes returns the kernel's own counters of the PoP's port on a side: what came in from the wire and what went out.
func (l *Lab) WireBytes(side string) (rx, tx uint64, err error) { panic("not written yet") }
