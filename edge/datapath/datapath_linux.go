package datapath

// Datapath is the node's datapath. Its methods may be called from several goroutines.
type Datapath struct{}

// Open finds or makes the node's maps and programs under the pin directory.
// It returns an Unavailable error where the kernel or the privileges do not allow it.
func Open(o Options) (*Datapath, error) { panic("not written yet") }

// Close lets go of the datapath and leaves all of it running.
func (d *Datapath) Close() error { panic("not written yet") }

// Ensure makes the node carry c, with the gate as it was (closed at first).
func (d *Datapath) Ensure(c Connection) error { panic("not written yet") }

// SetGate opens or closes the way between the two sides.
func (d *Datapath) SetGate(tag int, open bool) error { panic("not written yet") }

// Gate reports whether packets may cross.
func (d *Datapath) Gate(tag int) (bool, error) { panic("not written yet") }

// Counters reads both sides' meters.
func (d *Datapath) Counters(tag int) (a, z Counters, err error) { panic("not written yet") }

// Strays reads what a port saw outside all connections.
func (d *Datapath) Strays(port string) (Counters, error) { panic("not written yet") }

// SetRoutes makes the connection's table hold exactly these routes, beside the link subnets.
func (d *Datapath) SetRoutes(tag int, routes []Route) error { panic("not written yet") }

// Stop ends a connection's traffic for good: its frames become strays and its meters stand still, to be read a last
// time before Remove.
func (d *Datapath) Stop(tag int) error { panic("not written yet") }

// Remove takes everything of the connection off the node, meters included.
func (d *Datapath) Remove(tag int) error { panic("not written yet") }

// List returns the tags of which anything is on the node, in ascending order.
func (d *Datapath) List() ([]int, error) { panic("not written yet") }

// Destroy removes all connections, programs, maps and pins of this node.
func (d *Datapath) Destroy() error { panic("not written yet") }
