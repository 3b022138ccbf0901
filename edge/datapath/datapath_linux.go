package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// Datapath is one node's datapath. Its methods may be called from several goroutines. What it makes lives in the kernel
// and in bpffs and stays when the process ends; [Open] finds it again.
type Datapath struct {
	mu        sync.Mutex
	log       *slog.Logger
	pins      string
	namespace netns.NsHandle // None: the process's own
	netlink   *netlink.Handle
	socket    *nl.SocketHandle // see execute
	objects   datapathObjects

	pairs      map[int]uint32   // tag to the even one of its two slots; the buckets say the same
	attached   map[int][]entry  // by tag; the map of the programs says the same
	held       map[hold]link.ID // programs at interfaces
	generation uint32           // of attachments, the last
	survey     *survey          // nil until the node is listed

	made    map[int]Connection // as Ensure last left them
	routed  map[int]uint64     // the sum of the routes as SetRoutes last left them
	drift   map[int][]string   // see Drift
	earlier earlierMaps
}

// Open finds or makes the node's maps and programs under the pin directory, and puts this binary's programs in the
// place of older ones, with no frame lost or uncounted.
// It returns an Unavailable error where the kernel or the privileges do not allow it, and a Conflict error when the pin
// directory belongs to another live namespace or to a version with another layout.
func Open(o Options) (*Datapath, error) {
	d := &Datapath{log: o.Logger, pins: o.PinDir, namespace: netns.None(), held: map[hold]link.ID{},
		made: map[int]Connection{}, routed: map[int]uint64{}, drift: map[int][]string{}}
	if d.log == nil {
		d.log = slog.Default()
	}
	if d.pins == "" {
		d.pins = DefaultPinDir
	}
	if o.Namespace != "" {
		namespace, err := netns.GetFromPath(o.Namespace)
		if err != nil {
			return nil, domain.Errorf(domain.NotFound, "datapath.Open", "no network namespace %s: %w", o.Namespace, err)
		}
		d.namespace = namespace
	}
	err := d.in("datapath.Open", d.open)
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Datapath) open() error {
	if err := mountPins(d.pins); err != nil {
		return err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return domain.Errorf(domain.Unavailable, "datapath.Open", "netlink: %w", err)
	}
	d.netlink = handle
	if err := d.load(); err != nil {
		return err
	}
	cookie, err := namespaceCookie()
	if err != nil {
		return domain.Errorf(domain.Unavailable, "datapath.Open", "the namespace's identity cannot be read: %w", err)
	}
	var node datapathNode
	if err := d.objects.Nodes.Lookup(uint32(0), &node); err != nil {
		return domain.Errorf(domain.Internal, "datapath.Open", "the node's identity cannot be read: %w", err)
	}
	if node.NetnsCookie != 0 && node.NetnsCookie != cookie {
		if err := d.takeOver(); err != nil {
			return err
		}
		node = datapathNode{}
	}
	if node.NetnsCookie == 0 {
		node = datapathNode{NetnsCookie: cookie, Created: uint64(time.Now().UnixNano())}
		if err := d.objects.Nodes.Put(uint32(0), node); err != nil {
			return domain.Errorf(domain.Internal, "datapath.Open", "the node's identity cannot be written: %w", err)
		}
	}
	if err := d.takeAttachments(); err != nil {
		return err
	}
	if err := d.renewLinks(); err != nil {
		return err
	}
	return d.earlier.endPrograms(d.pins)
}

// load opens the pinned maps, makes those that are missing, and loads the programs.
func (d *Datapath) load() error {
	if err := d.earlier.open(d.pins); err != nil {
		return err
	}
	if err := d.loadObjects(); err != nil {
		return err
	}
	d.generation = uint32(time.Now().UnixNano() >> 10)
	return errors.Join(d.readPairs(), d.readAttachments())
}

func (d *Datapath) loadObjects() error {
	err := loadDatapathObjects(&d.objects, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.pins}})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ebpf.ErrMapIncompatible):
		return domain.Errorf(domain.Conflict, "datapath.Open", "the maps in %s have another layout: %w", d.pins, err).
			WithHint("they hold readings of another version: let that version drain them, then remove the directory")
	default:
		return domain.Errorf(domain.Unavailable, "datapath.Open", "the eBPF programs cannot be loaded: %w", err).
			WithHint("it needs CAP_BPF and CAP_NET_ADMIN, Linux 6.6 or later with CONFIG_BPF_SYSCALL and CONFIG_NET_XGRESS")
	}
}

// takeOver replaces the pins of a namespace that is gone. Interface indexes and routes in them mean nothing here.
func (d *Datapath) takeOver() error {
	live, err := d.liveLinks()
	if err != nil {
		return err
	}
	if live {
		return domain.Errorf(domain.Conflict, "datapath.Open", "%s belongs to another network namespace, which is alive", d.pins).
			WithHint("give each node a pin directory of its own")
	}
	d.log.Warn("pins of a network namespace that is gone are replaced; meters start at zero", "dir", d.pins)
	d.objects.Close()
	d.objects = datapathObjects{}
	d.earlier.close()
	if err := unpinAll(d.pins); err != nil {
		return err
	}
	if err := mountPins(d.pins); err != nil {
		return err
	}
	return d.load()
}

// Close lets go of the datapath and leaves all of it running.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.netlink != nil {
		d.netlink.Close()
		d.netlink = nil
	}
	if d.socket != nil {
		d.socket.Close()
		d.socket = nil
	}
	err := d.objects.Close()
	d.objects = datapathObjects{}
	d.earlier.close()
	if d.namespace.IsOpen() {
		d.namespace.Close()
	}
	return err
}

// Ensure makes the node carry c: interfaces, addresses, table, rules, programs, meters. It converges from any half-made
// or hand-changed state and disturbs nothing that is right already. The gate stays as it was, at first closed. Routes
// that fell with a deleted interface come back with the next [Datapath.SetRoutes].
//
// The first Ensure of a connection after [Datapath.List] goes by what that has seen, and leaves its table to SetRoutes.
//
// It returns an Invalid error for fields out of range, NotFound when a port is missing, and Conflict when a VLAN of a
// port or an address belongs to another connection.
func (d *Datapath) Ensure(c Connection) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return d.in("datapath.Ensure", func() error { return d.ensure(c) })
}

func (d *Datapath) ensure(c Connection) error {
	seen, drift := d.unasked(c.Tag), ""
	if seen != nil {
		ends, wrong := d.right(seen, c)
		if wrong == "" {
			seen.ends[c.Tag] = ends
			d.made[c.Tag] = c
			delete(d.drift, c.Tag)
			return nil
		}
		if d.made[c.Tag] == c { // it was so
			drift = wrong
		}
	}
	ports, err := d.findPorts(c)
	if err != nil {
		return err
	}
	if err := d.checkConflicts(c, ports); err != nil {
		return err
	}
	if err := d.ensurePorts(ports); err != nil {
		return err
	}
	if err := d.ensureMeters(c.Tag); err != nil { // before anything that a frame could pass
		return err
	}
	interfaces, err := d.ensureInterfaces(c, ports)
	if err != nil {
		return err
	}
	if err := d.ensureTable(c, interfaces, seen); err != nil {
		return err
	}
	open, err := d.ensureAttachments(c, ports, interfaces)
	if err != nil {
		return err
	}
	carried := c.families()
	if !open {
		carried = nil
	}
	if err := d.setGateRules(c.Tag, carried); err != nil {
		return err
	}
	d.made[c.Tag] = c
	if drift != "" {
		d.note(c.Tag, drift)
	}
	return nil
}

// note keeps and says what was changed by another hand.
func (d *Datapath) note(tag int, wrong string) {
	d.log.Warn("changed on the node by another hand, and set right", "tag", tag, "what", wrong)
	if !slices.Contains(d.drift[tag], wrong) {
		d.drift[tag] = append(d.drift[tag], wrong)
	}
}

// Drift returns what was found changed by another hand of a connection, and set right, since List last saw all of it right.
func (d *Datapath) Drift(tag int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.drift[tag])
}

// SetGate opens or closes the way between the two sides. When it returns after closing, no packet crosses any more.
// It returns a NotFound error for a connection that Ensure has not made.
func (d *Datapath) SetGate(tag int, open bool) error {
	if err := checkTag("datapath.SetGate", tag); err != nil {
		return err
	}
	return d.in("datapath.SetGate", func() error {
		d.unasked(tag)
		mine := slices.Clone(d.attached[tag])
		if open && len(mine) < 2 {
			return domain.Errorf(domain.NotFound, "datapath.SetGate", "connection %d is not on this node", tag).
				WithHint("call Ensure first")
		}
		// The rules serve packets that the programs let through: first to come, last to go.
		if open {
			if err := d.setGateRules(tag, mine[0].families()); err != nil {
				return err
			}
		}
		for _, e := range mine {
			if e.open() == open {
				continue
			}
			e.value.Flags ^= attachmentOpen
			if err := d.putAttachment(e); err != nil {
				return err
			}
		}
		if !open {
			if err := d.setGateRules(tag, nil); err != nil {
				return err
			}
			synchronise()
		}
		return nil
	})
}

// Gate reports whether packets may cross. A connection that is not on the node has a closed gate.
func (d *Datapath) Gate(tag int) (open bool, err error) {
	if err := checkTag("datapath.Gate", tag); err != nil {
		return false, err
	}
	err = d.in("datapath.Gate", func() error {
		standing := d.attached[tag]
		open = len(standing) == 2 && standing[0].open() && standing[1].open()
		return nil
	})
	return open, err
}

// Bandwidth returns the bandwidth that is kept beside the connection's meters, 0 if it is not on the node.
func (d *Datapath) Bandwidth(tag int) (mbps int, err error) {
	if err := checkTag("datapath.Bandwidth", tag); err != nil {
		return 0, err
	}
	err = d.in("datapath.Bandwidth", func() error {
		if standing := d.attached[tag]; len(standing) == 2 {
			mbps = int(standing[0].value.BandwidthMbps)
		}
		return nil
	})
	return mbps, err
}

// Stop ends a connection's traffic: the gate is closed, its frames become strays, its meters stand still. They
// can be read until Remove. Ensure undoes it, and leaves the gate closed.
func (d *Datapath) Stop(tag int) error {
	if err := checkTag("datapath.Stop", tag); err != nil {
		return err
	}
	return d.in("datapath.Stop", func() error { return d.stop(tag) })
}

func (d *Datapath) stop(tag int) error {
	d.unasked(tag)
	delete(d.made, tag)
	for _, entry := range slices.Clone(d.attached[tag]) {
		// The interface first: once the attachment is gone, nothing tells whose it was.
		err := ignoreMissing(d.objects.Interfaces.Delete(entry.value.Interface))
		if _, gone := d.netlink.LinkByIndex(int(entry.value.Interface)); gone != nil {
			err = errors.Join(err, d.detach(int(entry.value.Interface), datapathProgInterfaceEgress))
		}
		if err = errors.Join(err, d.deleteAttachment(entry)); err != nil {
			return err
		}
	}
	if err := d.setGateRules(tag, nil); err != nil {
		return err
	}
	synchronise()
	return nil
}

// Remove takes everything of the connection off the node, meters included: read them first, after [Datapath.Stop].
// A connection that is not there is no error.
func (d *Datapath) Remove(tag int) error {
	if err := checkTag("datapath.Remove", tag); err != nil {
		return err
	}
	return d.in("datapath.Remove", func() error {
		delete(d.drift, tag)
		delete(d.routed, tag)
		return errors.Join( // each as far as it goes: what is left is found again by List
			d.stop(tag),
			d.removeInterfaces(tag),
			d.removeRules(tag),
			d.clearTable(tag),
			d.removeMeters(tag),
			d.releasePorts(),
		)
	})
}

// List looks at the whole node, and returns, in ascending order, the tags of which anything is there: an interface, a rule, a
// route, a map entry. The next Ensure of each connection goes by what it has seen.
func (d *Datapath) List() (tags []int, err error) {
	err = d.in("datapath.List", func() error {
		tags, err = d.list()
		return err
	})
	return tags, err
}

func (d *Datapath) list() ([]int, error) {
	if err := d.look(); err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	for tag := range d.attached {
		seen[tag] = true
	}
	for tag := range d.pairs {
		seen[tag] = true
	}
	for name := range d.survey.links {
		seen[tagOfName(name)] = true
	}
	for tag := range d.survey.rules {
		seen[tag] = true
	}
	// Other routes of a connection cannot outlive its interfaces.
	routes, err := d.listRoutes(0, unix.RTN_UNREACHABLE)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if tag := r.Table - TableBase; tag >= MinTag && tag <= MaxTag {
			seen[tag] = true
		}
	}
	delete(seen, 0) // of other interfaces
	return slices.Sorted(maps.Keys(seen)), nil
}

// Destroy removes all connections, programs, maps and pins of this node. Only Close may be called after it.
func (d *Datapath) Destroy() error {
	tags, err := d.List()
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := d.Remove(tag); err != nil {
			return err
		}
	}
	return d.in("datapath.Destroy", func() error {
		return errors.Join(d.removeWall(), unpinAll(d.pins))
	})
}

// in runs f in the datapath's namespace and gives its error the operation's name.
func (d *Datapath) in(op string, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.enter(f)
	var known *domain.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return domain.Errorf(domain.Internal, op, "the node could not be changed: %w", err)
}

func (d *Datapath) enter(f func() error) error {
	if !d.namespace.IsOpen() {
		return f()
	}
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own namespace: %w", err)
	}
	defer home.Close()
	if err := netns.Set(d.namespace); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer func() {
		// A thread that cannot go home stays locked, so that it ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// mountPins makes the pin directory, on a bpffs that is mounted if need be.
func mountPins(dir string) error {
	const op = "datapath.Open"
	if !onBPFFS(existingParent(dir)) {
		if err := os.MkdirAll(BPFFSRoot, 0o755); err != nil {
			return domain.Errorf(domain.Unavailable, op, "no place for bpffs: %w", err)
		}
		if err := unix.Mount("bpf", BPFFSRoot, "bpf", 0, "mode=0700"); err != nil {
			return domain.Errorf(domain.Unavailable, op, "bpffs cannot be mounted: %w", err).
				WithHint("run as root: mount -t bpf bpf %s", BPFFSRoot)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return domain.Errorf(domain.Unavailable, op, "the pin directory cannot be made: %w", err)
	}
	if !onBPFFS(dir) {
		return domain.Errorf(domain.Invalid, op, "%s is not on a bpffs", dir).
			WithHint("choose a directory under %s", BPFFSRoot)
	}
	return nil
}

func existingParent(dir string) string {
	for dir != "/" && dir != "." {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

func onBPFFS(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.BPF_FS_MAGIC
}

// unpinAll removes the pin directory. Programs and maps end when the last holder of a descriptor does.
func unpinAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin %s: %w", dir, err)
	}
	return nil
}

// namespaceCookie identifies the current network namespace until the machine is rebooted; bpffs does not live longer.
func namespaceCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}

// synchronise returns when every program run that began before it has ended: MEMBARRIER_CMD_GLOBAL waits for an RCU
// grace period, and tcx programs run inside RCU read sections. It takes some milliseconds.
func synchronise() {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		time.Sleep(50 * time.Millisecond) // a kernel without it (nohz_full); far longer than a program runs
	}
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
