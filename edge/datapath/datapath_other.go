//go:build !linux

package datapath

import "time"

import "crossbill/domain"

// Datapath is the node's datapath. Off Linux there is none: [Open] returns an Unavailable error.
type Datapath struct{}

func unsupported(op string) error {
	return domain.Errorf(domain.Unavailable, op, "the eBPF datapath needs Linux 6.6 or later").
		WithHint("run the software edge here")
}

// Open returns an Unavailable error.
func Open(Options) (*Datapath, error) { return nil, unsupported("datapath.Open") }

// Close does nothing.
func (d *Datapath) Close() error { return nil }

// Ensure returns an Unavailable error.
func (d *Datapath) Ensure(Connection) error { return unsupported("datapath.Ensure") }

// SetGate returns an Unavailable error.
func (d *Datapath) SetGate(int, bool) error { return unsupported("datapath.SetGate") }

// Gate returns an Unavailable error.
func (d *Datapath) Gate(int) (bool, error) { return false, unsupported("datapath.Gate") }

// Bandwidth returns an Unavailable error.
func (d *Datapath) Bandwidth(int) (int, error) { return 0, unsupported("datapath.Bandwidth") }

// Counters returns an Unavailable error.
func (d *Datapath) Counters(int) (a, z Counters, err error) {
	return a, z, unsupported("datapath.Counters")
}

// Strays returns an Unavailable error.
func (d *Datapath) Strays(string) (Counters, error) {
	return Counters{}, unsupported("datapath.Strays")
}

// SetRoutes returns an Unavailable error.
func (d *Datapath) SetRoutes(int, []Route) error { return unsupported("datapath.SetRoutes") }

// Drift returns nothing.
func (d *Datapath) Drift(int) []string { return nil }

// Routes returns an Unavailable error.
func (d *Datapath) Routes(int) ([]Route, error) { return nil, unsupported("datapath.Routes") }

// Stop returns an Unavailable error.
func (d *Datapath) Stop(int) error { return unsupported("datapath.Stop") }

// Remove returns an Unavailable error.
func (d *Datapath) Remove(int) error { return unsupported("datapath.Remove") }

// List returns an Unavailable error.
func (d *Datapath) List() ([]int, error) { return nil, unsupported("datapath.List") }

// Destroy returns an Unavailable error.
func (d *Datapath) Destroy() error { return unsupported("datapath.Destroy") }

// Cost is what the kernel needs for one frame.
type Cost struct{ Empty, In, Look, Out time.Duration }

// MeasureCost returns an Unavailable error.
func MeasureCost(int, int) (Cost, error) { return Cost{}, unsupported("datapath.MeasureCost") }
