package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// A connection's L3 interfaces are the two ends of one veth pair. The pair's inside carries nothing: what the stack
// sends is redirected to the port before it enters, and what arrives at the port is redirected past it. A pair needs no
// driver that a small kernel lacks (dummy, 8021q), both ends have a carrier, and they come and go together.
//
// Each end has its port's hardware address, as a VLAN device would, so that the port need not be promiscuous and a peer
// finds the same neighbour after the pair was made anew.

func (c Connection) sides() map[Side]Attachment { return map[Side]Attachment{SideA: c.A, SideZ: c.Z} }

func (c Connection) other(side Side) Attachment {
	if side == SideA {
		return c.Z
	}
	return c.A
}

// families returns the address families that the connection carries.
func (c Connection) families() (carried []int) {
	for _, l := range c.A.links() {
		carried = append(carried, familyOf(l.Address.Addr()))
	}
	return carried
}

// findPorts looks up the two ports.
func (d *Datapath) findPorts(c Connection) (map[Side]net.Interface, error) {
	ports := map[Side]net.Interface{}
	for side, a := range c.sides() {
		link, err := d.netlink.LinkByName(a.Port)
		if err != nil {
			return nil, &PartyError{"the port of side " + string(side) + " is gone", domain.Errorf(domain.NotFound, "datapath.Ensure",
				"no interface %q for side %s: %w", a.Port, side, err).WithHint("name the port as the node's kernel does (ip link)")}
		}
		ports[side] = asInterface(link)
	}
	return ports, nil
}

func asInterface(link netlink.Link) net.Interface {
	attrs := link.Attrs()
	return net.Interface{Index: attrs.Index, Name: attrs.Name, MTU: attrs.MTU, HardwareAddr: attrs.HardwareAddr, Flags: attrs.Flags}
}

// ensurePorts puts meter and demultiplexer on the ports, keeps the node's own IPv6 off them, and sets them up.
func (d *Datapath) ensurePorts(ports map[Side]net.Interface) error {
	for side, port := range ports {
		if err := d.ensurePort(port); err != nil {
			return &PartyError{"the port of side " + string(side) + " can't be set up", fmt.Errorf("port %s: %w", port.Name, err)}
		}
	}
	return nil
}

func (d *Datapath) ensurePort(port net.Interface) error {
	if err := newMeter(d.objects.Strays, uint32(port.Index)); err != nil {
		return err
	}
	for _, program := range []string{datapathProgPortEgress, datapathProgPortIngress} {
		if err := d.attach(port.Index, program); err != nil {
			return err
		}
	}
	if err := setSettings("ipv6/conf/"+port.Name+"/", ipv6Off); err != nil {
		return err
	}
	if port.Flags&net.FlagUp == 0 {
		if err := d.netlink.LinkSetUp(handleOf(port)); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	return nil
}

func handleOf(i net.Interface) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: i.Index, Name: i.Name}}
}

// releasePorts takes the programs off ports that carry no connection any more. The last connection takes the wall with
// it, and map entries and pins that a crash may have left.
func (d *Datapath) releasePorts() error {
	used := map[uint32]bool{}
	for _, sides := range d.attached {
		for _, e := range sides {
			used[e.wire.Port] = true
		}
	}
	var problems []error
	unused, err := unusedKeys(d.objects.Strays, used)
	problems = append(problems, err)
	for _, port := range unused {
		problems = append(problems,
			d.detach(int(port), datapathProgPortIngress),
			d.detach(int(port), datapathProgPortEgress),
			ignoreMissing(d.objects.Strays.Delete(port)))
	}
	if len(d.attached) > 0 {
		return errors.Join(problems...)
	}
	unused, err = unusedKeys(d.objects.Interfaces, nil)
	problems = append(problems, err)
	for _, ifindex := range unused {
		problems = append(problems, ignoreMissing(d.objects.Interfaces.Delete(ifindex)))
	}
	return errors.Join(append(problems, d.sweepLinks(), d.removeWall())...)
}

// unusedKeys lists the keys of a map of interfaces that are not in use.
func unusedKeys(m *ebpf.Map, used map[uint32]bool) ([]uint32, error) {
	var key uint32
	var unused []uint32
	var value any = new(datapathWire)
	if m.Type() == ebpf.PerCPUHash {
		value = new([]datapathMeter)
	}
	entries := m.Iterate()
	for entries.Next(&key, value) {
		if !used[key] {
			unused = append(unused, key)
		}
	}
	return unused, entries.Err()
}

// forgetInterfaces removes what stands in maps and pins for L3 interfaces that are gone.
func (d *Datapath) forgetInterfaces(ifindexes ...int) error {
	var problems []error
	for _, ifindex := range ifindexes {
		problems = append(problems,
			d.detach(ifindex, datapathProgInterfaceEgress),
			ignoreMissing(d.objects.Interfaces.Delete(uint32(ifindex))))
	}
	return errors.Join(problems...)
}

// ensureInterfaces makes the connection's pair of L3 interfaces with their addresses.
func (d *Datapath) ensureInterfaces(c Connection, ports map[Side]net.Interface) (map[Side]net.Interface, error) {
	if err := sharedSysctls(); err != nil {
		return nil, err
	}
	interfaces, err := d.ensurePair(c.Tag, ports)
	if err != nil {
		return nil, err
	}
	for side, a := range c.sides() {
		if err := d.ensureInterface(interfaces[side], ports[side], a.mtu(ports[side]), c.hasIPv6()); err != nil {
			return nil, err
		}
		if err := d.ensureAddresses(interfaces[side], a.links()); err != nil {
			return nil, err
		}
	}
	return interfaces, nil
}

// ensurePair finds the veth pair, or makes it after removing whatever else has one of its names.
func (d *Datapath) ensurePair(tag int, ports map[Side]net.Interface) (map[Side]net.Interface, error) {
	for range 2 {
		a, errA := d.netlink.LinkByName(InterfaceName(tag, SideA))
		z, errZ := d.netlink.LinkByName(InterfaceName(tag, SideZ))
		if errA == nil && errZ == nil && a.Type() == "veth" && z.Type() == "veth" &&
			a.Attrs().ParentIndex == z.Attrs().Index && z.Attrs().ParentIndex == a.Attrs().Index {
			return map[Side]net.Interface{SideA: asInterface(a), SideZ: asInterface(z)}, nil
		}
		if err := d.removeInterfaces(tag); err != nil {
			return nil, err
		}
		err := d.addPair(tag, ports, true)
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) { // somebody else's interface has one of the indices
			err = d.addPair(tag, ports, false)
		}
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", InterfaceName(tag, SideA), err)
		}
	}
	return nil, fmt.Errorf("the pair %s is being changed by somebody else", InterfaceName(tag, SideA))
}

// addPair makes the veth pair, with indices of its own or any. The netlink library has no index for the other end.
func (d *Datapath) addPair(tag int, ports map[Side]net.Interface, indexed bool) error {
	end := func(side Side) (*nl.IfInfomsg, []*nl.RtAttr) {
		header := nl.NewIfInfomsg(unix.AF_UNSPEC)
		if indexed {
			header.Index = interfaceIndex(tag, side)
		}
		return header, []*nl.RtAttr{
			nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(InterfaceName(tag, side))),
			nl.NewRtAttr(unix.IFLA_ADDRESS, ports[side].HardwareAddr),
			nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(ports[side].MTU))),
		}
	}
	own, attributes := end(SideA)
	far, others := end(SideZ)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(far)
	for _, a := range others {
		peer.AddChild(a)
	}
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(own)
	for _, a := range append(attributes, info) {
		request.AddData(a)
	}
	_, err := d.execute(request, 0)
	return err
}

// mtu is how long packets can be at a port.
func (a Attachment) mtu(port net.Interface) int {
	if a.ServiceVLAN != 0 {
		return port.MTU - vlanTagLength
	}
	return port.MTU
}

const vlanTagLength = 4 // IEEE 802.1Q; an interface's MTU leaves room for one tag

func (d *Datapath) ensureInterface(own, port net.Interface, mtu int, ipv6 bool) error {
	if err := d.attach(own.Index, datapathProgInterfaceEgress); err != nil {
		return err
	}
	if err := interfaceSysctls(own.Name); err != nil {
		return err
	}
	if err := ipv6Sysctls(own.Name, ipv6); err != nil {
		return err
	}
	if own.MTU != mtu {
		if err := d.netlink.LinkSetMTU(handleOf(own), mtu); err != nil {
			return fmt.Errorf("MTU of %s: %w", own.Name, err)
		}
	}
	if !bytes.Equal(own.HardwareAddr, port.HardwareAddr) {
		if err := d.netlink.LinkSetHardwareAddr(handleOf(own), port.HardwareAddr); err != nil {
			return fmt.Errorf("address of %s: %w", own.Name, err)
		}
	}
	if own.Flags&net.FlagUp == 0 {
		if err := d.netlink.LinkSetUp(handleOf(own)); err != nil {
			return fmt.Errorf("%s up: %w", own.Name, err)
		}
	}
	return nil
}

// ensureAddresses gives the interface the addresses of its links and no other, but for the kernel's link-local one. The
// links' subnets go into the connection's table, not into the main one, hence NOPREFIXROUTE. An IPv6 address is usable at
// once: nobody else on a link with two ends can have it.
func (d *Datapath) ensureAddresses(own net.Interface, links []Link) error {
	have, err := d.listAddresses(own.Index)
	if err != nil {
		return err
	}
	missing := map[netip.Prefix]bool{}
	for _, l := range links {
		missing[l.Address] = true
	}
	for _, a := range have {
		if missing[a.prefix] && a.flags&unix.IFA_F_NOPREFIXROUTE != 0 {
			delete(missing, a.prefix)
			continue
		}
		if err := ignoreMissing(d.netlink.AddrDel(handleOf(own), &netlink.Addr{IPNet: ipNet(a.prefix)})); err != nil {
			return fmt.Errorf("address %s of %s: %w", a.prefix, own.Name, err)
		}
	}
	for address := range missing {
		wanted := &netlink.Addr{IPNet: ipNet(address), Flags: unix.IFA_F_NOPREFIXROUTE}
		if address.Addr().Is6() {
			wanted.Flags |= unix.IFA_F_NODAD
		}
		if err := d.netlink.AddrReplace(handleOf(own), wanted); err != nil {
			return fmt.Errorf("address %s of %s: %w", address, own.Name, err)
		}
	}
	return nil
}

// removeInterfaces deletes the pair; the other end, addresses and routes through them go with it.
func (d *Datapath) removeInterfaces(tag int) error {
	for _, side := range []Side{SideA, SideZ} {
		link, err := d.netlink.LinkByName(InterfaceName(tag, side))
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find %s: %w", InterfaceName(tag, side), err)
		}
		if err := ignoreMissing(d.netlink.LinkDel(link)); err != nil {
			return fmt.Errorf("delete %s: %w", link.Attrs().Name, err)
		}
		if err := d.forgetInterfaces(link.Attrs().Index, link.Attrs().ParentIndex); err != nil {
			return err
		}
	}
	return nil
}

// tagOfName returns the tag of an L3 interface's name, 0 for other names.
func tagOfName(name string) int {
	digits, ok := strings.CutPrefix(name, "cb")
	if !ok || digits == "" {
		return 0
	}
	tag, err := strconv.Atoi(digits[:len(digits)-1])
	side := Side(digits[len(digits)-1:])
	if err != nil || tag < MinTag || tag > MaxTag || side != SideA && side != SideZ || name != InterfaceName(tag, side) {
		return 0
	}
	return tag
}

// interfaceSysctls makes the interface route IPv4 and speak of nothing but its own address.
func interfaceSysctls(name string) error { return setSettings("ipv4/conf/"+name+"/", ipv4Settings) }

// setting is one of an interface's in /proc/sys/net/ipv4/conf or ipv6/conf, in the order in which they are to be made.
type setting struct {
	key   string
	index int // in the interface's array of them, as linux/ip.h (IPV4_DEVCONF_*, less one) and linux/ipv6.h (DEVCONF_*) number them
	value int32
}

var ipv4Settings = []setting{
	{"forwarding", 0, 1}, // for this interface alone: the node's others stay as they are; it resets some of the others
	{"rp_filter", 7, 0},  // the source is looked up in tables that do not know it
	{"send_redirects", 5, 0},
	{"accept_redirects", 3, 0},
	{"accept_source_route", 8, 0},
	{"arp_ignore", 18, 1},   // answer only for this interface's address
	{"arp_announce", 17, 2}, // and ask only in its name
	{"arp_notify", 21, 1},   // tell the peer when the interface comes up or changes its hardware address
}

var ipv6Settings = []setting{
	{"accept_ra", 3, 0}, {"autoconf", 5, 0}, {"accept_redirects", 4, 0}, {"accept_source_route", 24, -1},
	{"addr_gen_mode", 47, 0}, // from the hardware address
	{"accept_dad", 27, 0},    // it is ours alone on a link with two ends
	{"dad_transmits", 6, 0},
	{"router_solicitations", 7, 0},
	{"ndisc_notify", 29, 1}, // as arp_notify
	{"forwarding", 0, 1},    // so that the way to the next hop may be looked up; for this interface alone
	{"disable_ipv6", 26, 0}, // last, so that it never speaks before it is all so
}

var (
	ipv6Off         = []setting{{"disable_ipv6", 26, 1}}
	forceForwarding = []setting{{"force_forwarding", 59, 1}} // Linux 6.17
)

func setSettings(at string, settings []setting) error {
	for _, s := range settings {
		if err := setSysctl(at+s.key, strconv.Itoa(int(s.value))); err != nil {
			return err
		}
	}
	return nil
}

// ipv6Sysctls makes the interface route IPv6 and learn nothing by itself, or be silent on IPv6. It has a link-local address,
// which the kernel asks for neighbours with when it forwards (RFC 4861 section 7.2.2).
func ipv6Sysctls(name string, ipv6 bool) error {
	const op = "datapath.Ensure"
	at := "ipv6/conf/" + name + "/"
	if !ipv6 {
		return setSettings(at, ipv6Off)
	}
	if _, err := os.Stat(sysctlPath(at + "forwarding")); err != nil {
		return domain.Errorf(domain.Unavailable, op, "the kernel has no IPv6: %w", err)
	}
	if err := setSettings(at, ipv6Settings); err != nil {
		return err
	}
	// What needs the stack is forwarded if the interface may do so by itself (Linux 6.17), or if the node forwards IPv6.
	err := setSettings(at, forceForwarding)
	if _, missing := os.Stat(sysctlPath(at + "force_forwarding")); missing == nil || err != nil {
		return err
	}
	if all, err := os.ReadFile(sysctlPath("ipv6/conf/all/forwarding")); err != nil || strings.TrimSpace(string(all)) != "1" {
		return domain.Errorf(domain.Unavailable, op, "this node does not forward IPv6, and its kernel can't do so on single interfaces").
			WithHint("use Linux 6.17 or later, or set net.ipv6.conf.all.forwarding=1 after seeing to what that does to the node's other interfaces")
	}
	return nil
}

// sharedSysctls relaxes what "all" would impose on our interfaces, and hands a source filter it imposed on the node's
// other interfaces down to each of them. ICMP errors come from the address of the interface where the packet came in,
// so that the rule for our own addresses finds their way back.
func sharedSysctls() error {
	for key, value := range map[string]string{
		"ipv4/conf/all/send_redirects": "0", "ipv4/icmp_errors_use_inbound_ifaddr": "1",
	} {
		if err := setSysctl(key, value); err != nil {
			return err
		}
	}
	all, err := os.ReadFile(sysctlPath("ipv4/conf/all/rp_filter"))
	if err != nil || strings.TrimSpace(string(all)) == "0" {
		return err
	}
	others, err := filepath.Glob(sysctlPath("ipv4/conf/*/rp_filter"))
	if err != nil {
		return err
	}
	for _, path := range others {
		name := filepath.Base(filepath.Dir(path))
		if name == "all" || tagOfName(name) != 0 {
			continue
		}
		own, err := os.ReadFile(path)
		if err != nil {
			continue // the interface has just gone
		}
		if stricter := max(strings.TrimSpace(string(own)), strings.TrimSpace(string(all))); stricter != strings.TrimSpace(string(own)) {
			_ = setSysctl("ipv4/conf/"+name+"/rp_filter", stricter)
		}
	}
	return setSysctl("ipv4/conf/all/rp_filter", "0")
}

func sysctlPath(key string) string { return "/proc/sys/net/" + key }

// setSysctl writes a setting of the current namespace, unless it is so already. A kernel without IPv6 has none to set.
func setSysctl(key, value string) error {
	path := sysctlPath(key)
	have, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(key, "ipv6/") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sysctl: %w", err)
	}
	if strings.TrimSpace(string(have)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("sysctl: %w", err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
