//go:build !linux

package lab

import (
	"context"
	"net/netip"
	"os/exec"
	"time"

	"crossbill/domain"
)

// Lab is one set of namespaces. Off Linux there is none: [New] returns an Unavailable error.
type Lab struct {
	ManagementHost, ManagementPoP netip.Addr
}

// Supported returns an Unavailable error.
func Supported() error {
	return domain.Errorf(domain.Unavailable, "lab.Supported", "the lab needs Linux 6.6 or later").
		WithHint("run the software edge here")
}

// New returns an Unavailable error.
func New(context.Context, Options) (*Lab, error) { return nil, Supported() }

// Sweep finds nothing.
func Sweep(string) ([]string, error) { return nil, nil }

// Close does nothing.
func (l *Lab) Close() error { return nil }

// PinDir returns "".
func (l *Lab) PinDir() string { return "" }

// Namespace returns "".
func (l *Lab) Namespace(string) string { return "" }

// Command returns a command that fails to start.
func (l *Lab) Command(ctx context.Context, _, name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, args...)
	command.Err = Supported()
	return command
}

// StartRouter returns an Unavailable error.
func (l *Lab) StartRouter(context.Context, string, RouterConfig) error { return Supported() }

// JoinNetwork returns an Unavailable error.
func (l *Lab) JoinNetwork(context.Context, string, RouterConfig) error { return Supported() }

// AddInterface returns an Unavailable error.
func (l *Lab) AddInterface(context.Context, string, string, netip.Prefix) error { return Supported() }

// SetVLAN returns an Unavailable error.
func (l *Lab) SetVLAN(string, string, int) error { return Supported() }

// StopRouter does nothing.
func (l *Lab) StopRouter(string) error { return nil }

// RouterRoutes returns an Unavailable error.
func (l *Lab) RouterRoutes(context.Context, string) ([]netip.Prefix, error) { return nil, Supported() }

// BGPState returns an Unavailable error.
func (l *Lab) BGPState(context.Context, string) (string, error) { return "", Supported() }

// Ping returns an Unavailable error.
func (l *Lab) Ping(context.Context, string, netip.Addr, netip.Addr, int, time.Duration) (int, error) {
	return 0, Supported()
}

// Iperf returns an Unavailable error.
func (l *Lab) Iperf(context.Context, string, netip.Addr, netip.Addr, int64) (Transfer, error) {
	return Transfer{}, Supported()
}

// IperfBetween returns an Unavailable error.
func (l *Lab) IperfBetween(context.Context, string, netip.Addr, string, netip.Addr, int64) (Transfer, error) {
	return Transfer{}, Supported()
}

// Throughput returns an Unavailable error.
func (l *Lab) Throughput(context.Context, string, netip.Addr, string, netip.Addr, time.Duration) (float64, error) {
	return 0, Supported()
}

// WireBytes returns an Unavailable error.
func (l *Lab) WireBytes(string) (rx, tx uint64, err error) { return 0, 0, Supported() }

// WirePackets returns an Unavailable error.
func (l *Lab) WirePackets(string) (rx, tx, lost uint64, err error) { return 0, 0, 0, Supported() }
