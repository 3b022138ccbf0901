package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// survey is what stood on the node when it was last looked at as a whole. For each connection Ensure has some forty questions to the
// kernel, and so a node with thousands of them would be busy with nothing else; the survey's answers to all come in a few
// dumps. A connection that it shows to be right is left alone; of one that is not, each thing is asked for anew.
type survey struct {
	links map[string]*standingLink
	rules map[int][]netlink.Rule // by tag
	walls map[int]bool           // by family
	wires map[uint32]datapathWire
	pins  map[string]bool // names of files
	ports map[string]bool // those that were found right

	asked map[int]bool             // tags of which it is not true any more, or that have been asked for
	ends  map[int]map[Side]linkEnd // of connections that were found right, until SetRoutes takes them
}

// standingLink is an interface, with what Ensure sees to.
type standingLink struct {
	net.Interface
	kind          string
	other         int // the other end's index
	ipv4          bool
	ipv6, ipv6Off bool // as it is to be with IPv6, and without
	addresses     []ownAddress
}

// look makes a survey.
func (d *Datapath) look() error {
	s := &survey{links: map[string]*standingLink{}, walls: map[int]bool{}, wires: map[uint32]datapathWire{}, pins: map[string]bool{}, ports: map[string]bool{},
		asked: map[int]bool{}, ends: map[int]map[Side]linkEnd{}}
	d.survey = nil
	if err := d.readAttachments(); err != nil {
		return err
	}
	err := readAll(d.objects.Interfaces, func(ifindex uint32, wire datapathWire) { s.wires[ifindex] = wire })
	if err != nil {
		return fmt.Errorf("interfaces: %w", err)
	}
	pins, err := os.ReadDir(d.pins)
	if err != nil {
		return fmt.Errorf("pin directory: %w", err)
	}
	for _, pin := range pins {
		s.pins[pin.Name()] = true
	}
	if err := sharedSysctls(); err != nil {
		return err
	}
	if err := d.surveyLinks(s); err != nil {
		return err
	}
	if err := d.surveyRules(s); err != nil {
		return err
	}
	d.survey = s
	return nil
}

// unasked returns the survey if it tells of the connection what is still so: once, and not after it was changed.
func (d *Datapath) unasked(tag int) *survey {
	s := d.survey
	if s == nil {
		return nil
	}
	delete(s.ends, tag)
	if s.asked[tag] {
		return nil
	}
	s.asked[tag] = true
	return s
}

// skipStatistics is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h.
const skipStatistics = 1 << 3

// Attributes of linux/if_link.h.
const (
	inetConf  = 1 // IFLA_INET_CONF in AF_INET of IFLA_AF_SPEC
	inet6Conf = 2 // IFLA_INET6_CONF in AF_INET6
)

func (d *Datapath) surveyLinks(s *survey) error {
	byIndex := map[int]*standingLink{}
	messages, err := d.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK,
		nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStatistics)))
	if err != nil {
		return fmt.Errorf("interfaces: %w", err)
	}
	for _, m := range messages {
		l, err := parseLink(m)
		if err != nil {
			return fmt.Errorf("interfaces: %w", err)
		}
		s.links[l.Name], byIndex[l.Index] = l, l
	}
	addresses, err := d.listAddresses(everyInterface)
	for _, a := range addresses {
		if l := byIndex[a.ifindex]; l != nil {
			l.addresses = append(l.addresses, a)
		}
	}
	return err
}

func parseLink(m []byte) (*standingLink, error) {
	header := nl.DeserializeIfInfomsg(m)
	attributes, err := nl.ParseRouteAttr(m[header.Len():])
	if err != nil {
		return nil, err
	}
	l := &standingLink{Interface: net.Interface{Index: int(header.Index)}}
	if header.Flags&unix.IFF_UP != 0 {
		l.Flags = net.FlagUp
	}
	l.ipv6Off = true // of an interface without IPv6 there is nothing to see
	for _, a := range attributes {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.IFLA_IFNAME:
			l.Name = string(bytes.TrimRight(a.Value, "\x00"))
		case unix.IFLA_MTU:
			l.MTU = int(binary.NativeEndian.Uint32(a.Value))
		case unix.IFLA_ADDRESS:
			l.HardwareAddr = a.Value
		case unix.IFLA_LINK:
			l.other = int(binary.NativeEndian.Uint32(a.Value))
		case unix.IFLA_LINKINFO:
			info, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return nil, err
			}
			for _, i := range info {
				if i.Attr.Type == nl.IFLA_INFO_KIND {
					l.kind = string(bytes.TrimRight(i.Value, "\x00"))
				}
			}
		case unix.IFLA_AF_SPEC:
			if err := l.parseSettings(a.Value); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// parseSettings reads what /proc/sys/net shows.
func (l *standingLink) parseSettings(content []byte) error {
	families, err := nl.ParseRouteAttr(content)
	if err != nil {
		return err
	}
	for _, family := range families {
		parts, err := nl.ParseRouteAttr(family.Value)
		if err != nil {
			return err
		}
		for _, part := range parts {
			switch {
			case family.Attr.Type&^unix.NLA_F_NESTED == unix.AF_INET && part.Attr.Type == inetConf:
				l.ipv4 = heldIn(part.Value, ipv4Settings)
			case family.Attr.Type&^unix.NLA_F_NESTED == unix.AF_INET6 && part.Attr.Type == inet6Conf:
				l.ipv6 = heldIn(part.Value, ipv6Settings) && (len(part.Value) <= 4*forceForwarding[0].index || heldIn(part.Value, forceForwarding))
				l.ipv6Off = heldIn(part.Value, ipv6Off)
			}
		}
	}
	return nil
}

// heldIn reports whether all settings are so in an interface's array of them.
func heldIn(array []byte, settings []setting) bool {
	return !slices.ContainsFunc(settings, func(s setting) bool {
		at := 4 * s.index
		return at+4 > len(array) || int32(binary.NativeEndian.Uint32(array[at:])) != s.value
	})
}

func (d *Datapath) surveyRules(s *survey) error {
	all, err := d.allRules()
	if err != nil {
		return err
	}
	s.rules = byTag(all)
	for _, family := range families {
		wall := keyOf(wallRule(family))
		s.walls[family] = slices.ContainsFunc(all, func(r netlink.Rule) bool { return r.Priority == PriorityWall && keyOf(&r) == wall })
	}
	return nil
}

// ruleKey is what a rule selects, and where it leads.
type ruleKey struct {
	family, priority, table int
	iif, src                string
	mark, mask              uint32
	more                    bool // it selects by other things as well
}

func keyOf(r *netlink.Rule) ruleKey {
	k := ruleKey{family: r.Family, priority: r.Priority, table: max(r.Table, 0), iif: r.IifName, mark: r.Mark}
	if r.Src != nil {
		k.src = r.Src.String()
	}
	if r.Mask != nil {
		k.mask = *r.Mask
	}
	k.more = r.Dst != nil || r.OifName != "" || r.Invert || r.Tos != 0 || r.TunID != 0 || r.IPProto != 0 || r.Dport != nil || r.Sport != nil ||
		r.UIDRange != nil || r.SuppressIfgroup != -1 || r.SuppressPrefixlen != -1 || r.Goto != -1
	return k
}

// right returns the connection's interfaces if the survey shows the node as c wants it, and else what is not so, in words that
// name nothing of the node's. It has not looked at the connection's table, which SetRoutes does.
func (d *Datapath) right(s *survey, c Connection) (ends map[Side]linkEnd, wrong string) {
	ports, interfaces := map[Side]net.Interface{}, map[Side]net.Interface{}
	for side, a := range c.sides() {
		port, own := s.links[a.Port], s.links[InterfaceName(c.Tag, side)]
		switch {
		case port == nil:
			return nil, "the port of side " + string(side) + " was gone"
		case !d.portRight(port):
			return nil, "the port of side " + string(side) + " was down, spoke IPv6 or lacked its programs"
		case own == nil:
			return nil, "the interface of side " + string(side) + " was gone"
		}
		if wrong := d.interfaceWrong(own, port, a, c.hasIPv6()); wrong != "" {
			return nil, "the interface of side " + string(side) + " " + wrong
		}
		ports[side], interfaces[side] = port.Interface, own.Interface
		if s.wires[uint32(own.Index)] != wireOf(a, port.Interface) {
			return nil, "the interface of side " + string(side) + " sent to another VLAN"
		}
	}
	a, z := s.links[InterfaceName(c.Tag, SideA)], s.links[InterfaceName(c.Tag, SideZ)]
	if a.other != z.Index || z.other != a.Index {
		return nil, "its interfaces were no pair"
	}
	open, ok := d.attachmentsRight(c, ports, interfaces)
	if !ok {
		return nil, "its VLANs at the ports were others"
	}
	if !s.rulesRight(c, open) {
		return nil, "its routing rules were others"
	}
	return linkEnds(c, interfaces), ""
}

// portRight is what ensurePorts sees to. It looks once at each port.
func (d *Datapath) portRight(port *standingLink) bool {
	if d.survey.ports[port.Name] {
		return true
	}
	var strays []datapathMeter
	right := port.Flags&net.FlagUp != 0 && port.ipv6Off && d.objects.Strays.Lookup(uint32(port.Index), &strays) == nil &&
		d.runs(port.Index, datapathProgPortEgress) && d.runs(port.Index, datapathProgPortIngress)
	d.survey.ports[port.Name] = right
	return right
}

// interfaceWrong returns what is not so of what ensureInterfaces sees to.
func (d *Datapath) interfaceWrong(own, port *standingLink, a Attachment, ipv6 bool) string {
	switch {
	case own.kind != "veth":
		return "was of another kind"
	case own.Flags&net.FlagUp == 0:
		return "was down"
	case own.MTU != a.mtu(port.Interface):
		return "had another MTU"
	case !bytes.Equal(own.HardwareAddr, port.HardwareAddr):
		return "had another hardware address"
	case !own.ipv4 || ipv6 && !own.ipv6 || !ipv6 && !own.ipv6Off:
		return "had other settings (sysctl)"
	case len(own.addresses) != len(a.links()):
		return "had other addresses"
	case !d.runs(own.Index, datapathProgInterfaceEgress):
		return "lacked its program"
	}
	for _, l := range a.links() {
		if !slices.ContainsFunc(own.addresses, func(have ownAddress) bool {
			return have.prefix == l.Address && have.flags&unix.IFA_F_NOPREFIXROUTE != 0
		}) {
			return "had other addresses"
		}
	}
	return ""
}

// runs reports whether the interface has our program, once. Those of others may run beside it.
func (d *Datapath) runs(ifindex int, program string) bool {
	if !d.survey.pins[filepath.Base(d.linkPin(ifindex, program))] {
		return false // without a pin it ends some time later
	}
	_, where := d.hook(program)
	attached, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: where})
	if err != nil {
		return false
	}
	ours := false
	for _, p := range attached.Programs {
		id, ok := p.LinkID()
		switch {
		case ok && id == d.held[hold{ifindex, program}]:
			ours = true
		case programName(p.ID) == program:
			return false
		}
	}
	return ours
}

// attachmentsRight is what ensureAttachments sees to. It reports whether the gate is open, too.
func (d *Datapath) attachmentsRight(c Connection, ports, interfaces map[Side]net.Interface) (open, ok bool) {
	standing := d.attached[c.Tag]
	if len(standing) != 2 || standing[0].open() != standing[1].open() {
		return false, false
	}
	wanted := d.wantedAttachments(c, ports, interfaces)
	for _, e := range standing {
		value, ok := wanted[e.wire]
		value.Generation, value.Flags = e.value.Generation, e.value.Flags
		if !ok || value != e.value {
			return false, false
		}
	}
	return standing[0].open(), true
}

// rulesRight reports whether the connection has its rules, and no others.
func (s *survey) rulesRight(c Connection, open bool) bool {
	var wanted []ruleKey
	for _, a := range c.sides() {
		for _, l := range a.links() {
			wanted = append(wanted, keyOf(ownRule(c.Tag, l.Address.Addr())))
		}
	}
	for _, family := range c.families() {
		if !s.walls[family] {
			return false
		}
		if open {
			wanted = append(wanted, keyOf(gateRule(family, c.Tag, SideA)), keyOf(gateRule(family, c.Tag, SideZ)))
		}
	}
	standing := s.rules[c.Tag]
	return len(standing) == len(wanted) && !slices.ContainsFunc(standing, func(r netlink.Rule) bool { return !slices.Contains(wanted, keyOf(&r)) })
}
