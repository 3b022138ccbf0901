package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// Lab is one set of namespaces. Its methods may be called from several goroutines.
type Lab struct {
	// The two ends of the link between the machine and the PoP: the platform listens on the host's end.
	ManagementHost, ManagementPoP netip.Addr

	record record
	dir    string
	meters *netlink.Handle // in the PoP's namespace, for WireBytes
	ports  map[string]int  // side to the ifindex of the PoP's port

	mu        sync.Mutex
	routers   map[string]*router // by place
	trunks    map[string]*trunk  // by side
	iperfPort atomic.Uint32
}

// namePattern keeps names usable as file names and in interface lists.
var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// reservedPattern finds the words that a lab's namespaces end in: a lab "x-pop" would be taken for a part of lab "x".
var reservedPattern = regexp.MustCompile(`(^|-)(pop|cust|prov)(-|$)`)

// placePattern names the main router of a side, or a further one: "a", "z", "a/second".
var placePattern = regexp.MustCompile(`^[az](/[a-z0-9]{1,16})?$`)

// New makes the namespaces and links. It returns a Conflict error if a live lab has the name; what a dead one of that
// name left is removed. Close the lab to remove it.
func New(ctx context.Context, o Options) (*Lab, error) {
	if !namePattern.MatchString(o.Name) || reservedPattern.MatchString(o.Name) {
		return nil, domain.Errorf(domain.Invalid, "lab.New", "%q is no name for a lab", o.Name).
			WithHint("up to 40 of a-z, 0-9 and -, and none of the words pop, cust, prov")
	}
	claimed, err := claim(o.Name)
	if err != nil {
		return nil, err
	}
	l := &Lab{
		record: claimed, dir: o.Dir, ports: map[string]int{},
		routers: map[string]*router{}, trunks: map[string]*trunk{},
	}
	l.iperfPort.Store(firstIperfPort)
	l.ManagementHost, l.ManagementPoP = managementAddresses(claimed.Slot)
	if l.dir == "" {
		l.dir = runDir(o.Name)
	}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(domain.Errorf(domain.Unavailable, "lab.New", "the lab cannot be made: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	if err := mountBPFFS(); err != nil {
		return err
	}
	for _, place := range []string{PoP, "a", "z"} {
		if err := makeNamespace(ctx, l.namespaceName(place)); err != nil {
			return err
		}
	}
	for side, port := range map[string]string{"a": PortA, "z": PortZ} {
		if err := l.connect(ctx, side, port); err != nil {
			return err
		}
	}
	if err := l.connectManagement(); err != nil {
		return err
	}
	pop, err := netns.GetFromPath(l.Namespace(PoP))
	if err != nil {
		return err
	}
	defer pop.Close()
	if l.meters, err = netlink.NewHandleAt(pop, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	for side, port := range map[string]string{"a": PortA, "z": PortZ} {
		link, err := l.meters.LinkByName(port)
		if err != nil {
			return err
		}
		l.ports[side] = link.Attrs().Index
	}
	return nil
}

// connect joins a router's namespace to the PoP by a veth pair on which every packet is one wire frame.
func (l *Lab) connect(ctx context.Context, side, port string) error {
	err := linkNamespaces(l.Namespace(PoP), port, l.Namespace(side), RouterInterface)
	if err != nil {
		return err
	}
	for place, name := range map[string]string{PoP: port, side: RouterInterface} {
		if err := l.offloadsOff(ctx, place, name); err != nil {
			return err
		}
		if err := inNamespace(l.Namespace(place), func() error { return linkUp(name) }); err != nil {
			return err
		}
	}
	l.trunks[side], err = newTrunk(l.Namespace(side))
	return err
}

// offloadsOff makes the kernel build, tag and checksum every frame before the interface sees it, so that the interface's
// counters are those of the wire. GRO off also keeps veth's receive counters on the frames that were sent.
func (l *Lab) offloadsOff(ctx context.Context, place, name string) error {
	args := []string{"-K", name}
	for _, feature := range []string{"tso", "gso", "gro", "txvlan", "rxvlan", "tx-vlan-stag-hw-insert", "rx-vlan-stag-hw-parse", "tx", "rx", "sg"} {
		args = append(args, feature, "off")
	}
	out, err := l.Command(ctx, place, "ethtool", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ethtool %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (l *Lab) connectManagement() error {
	host := managementInterface(l.record.Slot)
	if err := linkNamespaces(l.Namespace(PoP), "mgmt0", "", host); err != nil {
		return err
	}
	if err := configureAddress(host, netip.PrefixFrom(l.ManagementHost, 30)); err != nil {
		return err
	}
	return inNamespace(l.Namespace(PoP), func() error {
		return configureAddress("mgmt0", netip.PrefixFrom(l.ManagementPoP, 30))
	})
}

// Close removes everything the lab made and ends every process in its namespaces.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []error
	for _, r := range l.routers {
		problems = append(problems, r.stop())
	}
	l.routers = map[string]*router{}
	for _, t := range l.trunks {
		t.close()
	}
	l.trunks = map[string]*trunk{}
	if l.meters != nil {
		l.meters.Close()
		l.meters = nil
	}
	problems = append(problems, tearDown(l.record))
	return errors.Join(problems...)
}

// PinDir is where the datapath of this lab's PoP keeps its pins; Close and Sweep remove it.
func (l *Lab) PinDir() string { return l.record.PinDir }

// Namespace returns the path of a place's network namespace. Places are [PoP], the main routers "a" and "z", and
// further routers, such as "a/second".
func (l *Lab) Namespace(place string) string {
	return filepath.Join(namespaceDir, l.namespaceName(place))
}

func (l *Lab) namespaceName(place string) string {
	side, more, found := strings.Cut(place, "/")
	name := l.record.Name + "-" + map[string]string{PoP: "pop", "a": "cust", "z": "prov"}[side]
	if found {
		name += "-" + more
	}
	return name
}

// Command returns a command that runs a program in a place's network namespace and the caller's mount namespace, so
// that it sees the machine's bpffs. ("ip netns exec" would give it another /sys.) The process is the program itself.
func (l *Lab) Command(ctx context.Context, place, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + l.Namespace(place), "--", name}, args...)...)
}

// WireBytes returns the kernel's own counters of the PoP's port on a side: the bytes that came in from the wire and
// those that went out, VLAN tags included. It takes some tens of microseconds.
func (l *Lab) WireBytes(side string) (rx, tx uint64, err error) {
	s, err := l.wire(side)
	if err != nil {
		return 0, 0, err
	}
	return s.RxBytes, s.TxBytes, nil
}

// WirePackets is [Lab.WireBytes] in frames, with those the port lost in either direction.
func (l *Lab) WirePackets(side string) (rx, tx, lost uint64, err error) {
	s, err := l.wire(side)
	if err != nil {
		return 0, 0, 0, err
	}
	return s.RxPackets, s.TxPackets, s.RxDropped + s.TxDropped, nil
}

func (l *Lab) wire(side string) (*netlink.LinkStatistics, error) {
	link, err := l.meters.LinkByIndex(l.ports[side])
	if err != nil {
		return nil, domain.Errorf(domain.NotFound, "lab.WireBytes", "no port on side %q: %w", side, err)
	}
	return link.Attrs().Statistics, nil
}
