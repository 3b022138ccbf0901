package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// Metrics in a connection's table. A lower one wins for the same prefix.
const (
	metricLink  = 1             // the link subnets; 0 would be 1024 of IPv6
	metricRoute = 20            // what SetRoutes installs
	metricEnd   = 4_278_198_272 // the unreachable default: far behind a default route a provider announces
)

// families are the address families that the kernel knows.
var families = func() []int {
	if _, err := os.Stat(sysctlPath("ipv6")); err != nil {
		return []int{unix.AF_INET}
	}
	return []int{unix.AF_INET, unix.AF_INET6}
}()

func unspecified(family int) netip.Addr {
	if family == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// tableRoute is a route as it stands in a table.
type tableRoute struct {
	Prefix  netip.Prefix
	NextHop netip.Addr // invalid for a link subnet or an unreachable route
	Ifindex int
	Metric  uint32
	Proto   uint8
	Type    uint8
	Table   int
}

// key is what the kernel allows once.
func (r tableRoute) key() string { return fmt.Sprint(r.Prefix, " ", r.Metric) }

func (r tableRoute) netlink() *netlink.Route {
	route := &netlink.Route{
		Dst: ipNet(r.Prefix), LinkIndex: r.Ifindex, Priority: int(r.Metric), Table: r.Table,
		Protocol: netlink.RouteProtocol(r.Proto), Type: int(r.Type), Family: familyOf(r.Prefix.Addr()),
	}
	switch {
	case r.NextHop.IsValid():
		route.Gw = r.NextHop.AsSlice()
	case r.Type == unix.RTN_UNICAST:
		route.Scope = netlink.SCOPE_LINK
	}
	return route
}

// ensureTable gives the connection's table its link subnets and its end, and makes the rules that are always there.
// Rules of addresses that the connection has had go.
func (d *Datapath) ensureTable(c Connection, interfaces map[Side]net.Interface, seen *survey) error {
	ends := linkEnds(c, interfaces)
	for _, route := range linkRoutes(c.Tag, ends) {
		if err := d.netlink.RouteReplace(route.netlink()); err != nil {
			return fmt.Errorf("route %s: %w", route.Prefix, err)
		}
	}
	changed := d.readdressed(c)
	for _, end := range ends {
		for _, address := range end.addresses {
			if _, err := d.addRule(wallRule(familyOf(address.Addr()))); err != nil {
				return err
			}
			added, err := d.addRule(ownRule(c.Tag, address.Addr()))
			if err != nil {
				return err
			}
			changed = changed || added
		}
	}
	if !changed {
		return nil
	}
	return d.pruneOwnRules(c, seen)
}

// linkRoutes are the routes of a connection that do not depend on BGP.
func linkRoutes(tag int, links map[Side]linkEnd) []tableRoute {
	var routes []tableRoute
	for _, family := range families {
		if !slices.ContainsFunc(links[SideA].addresses, func(own netip.Prefix) bool { return familyOf(own.Addr()) == family }) {
			continue
		}
		routes = append(routes, tableRoute{
			Prefix: netip.PrefixFrom(unspecified(family), 0), Metric: metricEnd, Proto: linkProtocol, Type: unix.RTN_UNREACHABLE,
			Table: TableNumber(tag),
		})
	}
	for _, l := range links {
		for _, address := range l.addresses {
			routes = append(routes, tableRoute{
				Prefix: address.Masked(), Ifindex: l.ifindex, Metric: metricLink, Proto: linkProtocol,
				Type: unix.RTN_UNICAST, Table: TableNumber(tag),
			})
		}
	}
	return routes
}

// SetRoutes makes the connection's table hold exactly these routes, beside the link subnets. New routes are in place
// before old ones go. It returns an Invalid error that names every wrong route, and changes nothing then; a NotFound
// error when Ensure has not made the connection.
func (d *Datapath) SetRoutes(tag int, routes []Route) error {
	if err := checkTag("datapath.SetRoutes", tag); err != nil {
		return err
	}
	return d.in("datapath.SetRoutes", func() error {
		links, err := d.liveLinkSubnets(tag)
		if err != nil {
			return err
		}
		wanted, err := wantedRoutes(tag, routes, links)
		if err != nil {
			return err
		}
		changed, err := d.converge(tag, wanted)
		if err != nil {
			return err
		}
		before, sum := d.routed[tag], sumOf(wanted)
		d.routed[tag] = sum
		if !changed {
			return nil
		}
		if before == sum { // it was so
			d.note(tag, "its routing table was another")
		}
		return d.forgetLookups(tag)
	})
}

// sumOf tells sets of routes apart.
func sumOf(routes []tableRoute) (sum uint64) {
	for _, r := range routes {
		sum += maphash.Comparable(routeSeed, r)
	}
	return sum
}

var routeSeed = maphash.MakeSeed()

// Routes returns the routes of a connection that SetRoutes has installed, in no order. It returns a NotFound error when
// Ensure has not made the connection.
func (d *Datapath) Routes(tag int) (routes []Route, err error) {
	if err := checkTag("datapath.Routes", tag); err != nil {
		return nil, err
	}
	err = d.in("datapath.Routes", func() error {
		sides := map[int]Side{}
		for _, side := range []Side{SideA, SideZ} {
			link, err := d.netlink.LinkByName(InterfaceName(tag, side))
			if err != nil {
				return domain.Errorf(domain.NotFound, "datapath.Routes", "connection %d has no interface %s: %w",
					tag, InterfaceName(tag, side), err).WithHint("call Ensure first")
			}
			sides[link.Attrs().Index] = side
		}
		have, err := d.listRoutes(TableNumber(tag), 0)
		if err != nil {
			return err
		}
		for _, r := range have {
			if side, ok := sides[r.Ifindex]; ok && r.Proto == routeProtocol && r.NextHop.IsValid() {
				routes = append(routes, Route{Side: side, Prefix: r.Prefix, NextHop: r.NextHop})
			}
		}
		return nil
	})
	return routes, err
}

// linkEnd is a side's interface and addresses as they are on the node.
type linkEnd struct {
	ifindex   int
	addresses []netip.Prefix
}

// reaches reports whether a peer's address is on one of the side's links.
func (l linkEnd) reaches(peer netip.Addr) bool {
	return slices.ContainsFunc(l.addresses, func(own netip.Prefix) bool { return own.Contains(peer) && own.Addr() != peer })
}

func linkEnds(c Connection, interfaces map[Side]net.Interface) map[Side]linkEnd {
	ends := map[Side]linkEnd{}
	for side, a := range c.sides() {
		end := linkEnd{ifindex: interfaces[side].Index}
		for _, l := range a.links() {
			end.addresses = append(end.addresses, l.Address)
		}
		ends[side] = end
	}
	return ends
}

// liveLinkSubnets finds what Ensure has made, or has just seen to be right.
func (d *Datapath) liveLinkSubnets(tag int) (map[Side]linkEnd, error) {
	if d.survey != nil && d.survey.ends[tag] != nil {
		defer delete(d.survey.ends, tag)
		return d.survey.ends[tag], nil
	}
	links := map[Side]linkEnd{}
	for _, side := range []Side{SideA, SideZ} {
		link, err := d.netlink.LinkByName(InterfaceName(tag, side))
		if err != nil {
			return nil, domain.Errorf(domain.NotFound, "datapath.SetRoutes", "connection %d has no interface %s: %w",
				tag, InterfaceName(tag, side), err).WithHint("call Ensure first")
		}
		addresses, err := d.listAddresses(link.Attrs().Index)
		if err != nil {
			return nil, err
		}
		end := linkEnd{ifindex: link.Attrs().Index}
		for _, a := range addresses {
			end.addresses = append(end.addresses, a.prefix)
		}
		links[side] = end
		if len(end.addresses) == 0 {
			return nil, domain.Errorf(domain.NotFound, "datapath.SetRoutes", "%s has no address", InterfaceName(tag, side)).
				WithHint("call Ensure first")
		}
	}
	return links, nil
}

func wantedRoutes(tag int, routes []Route, links map[Side]linkEnd) ([]tableRoute, error) {
	var p domain.Problems
	p.Check(len(routes) <= MaxRoutes, "/routes", "at most %d routes", MaxRoutes)
	wanted := linkRoutes(tag, links)
	seen := map[netip.Prefix]bool{}
	for i, r := range routes {
		at := fmt.Sprintf("/routes/%d", i)
		link, ok := links[r.Side]
		p.Check(ok, at+"/side", "must be %q or %q", SideA, SideZ)
		p.Check(r.Prefix.IsValid() && !r.Prefix.Addr().Is4In6() && r.Prefix == r.Prefix.Masked(), at+"/prefix", "must be a prefix without host bits")
		p.Check(!seen[r.Prefix], at+"/prefix", "%s is there twice", r.Prefix)
		p.Check(r.NextHop.IsValid() && (!ok || link.reaches(r.NextHop)) && r.NextHop.Is4() == r.Prefix.Addr().Is4(),
			at+"/next_hop", "must be the peer's address on the link of side %s, of the prefix's family", r.Side)
		if len(p) >= maxProblems {
			break
		}
		seen[r.Prefix] = true
		wanted = append(wanted, tableRoute{
			Prefix: r.Prefix, NextHop: r.NextHop, Ifindex: link.ifindex, Metric: metricRoute, Proto: routeProtocol,
			Type: unix.RTN_UNICAST, Table: TableNumber(tag),
		})
	}
	return wanted, p.Err("datapath.SetRoutes")
}

// maxProblems is how many wrong routes an error names.
const maxProblems = 20

// converge makes the table hold exactly the wanted routes, and reports whether it did not.
func (d *Datapath) converge(tag int, wanted []tableRoute) (changed bool, err error) {
	have, err := d.listRoutes(TableNumber(tag), 0)
	if err != nil {
		return false, err
	}
	standing := make(map[string]tableRoute, len(have))
	for _, r := range have {
		standing[r.key()] = r
	}
	for _, r := range wanted {
		old, ok := standing[r.key()]
		delete(standing, r.key())
		if ok && old == r {
			continue
		}
		changed = true
		if err := d.netlink.RouteReplace(r.netlink()); err != nil {
			return true, fmt.Errorf("route %s via %s: %w", r.Prefix, r.NextHop, err)
		}
	}
	return changed || len(standing) > 0, d.deleteRoutes(standing)
}

func (d *Datapath) deleteRoutes(routes map[string]tableRoute) error {
	var problems []error
	for _, r := range routes {
		if err := ignoreMissing(d.netlink.RouteDel(r.netlink())); err != nil {
			problems = append(problems, fmt.Errorf("route %s: %w", r.Prefix, err))
		}
	}
	return errors.Join(problems...)
}

func (d *Datapath) clearTable(tag int) error {
	_, err := d.converge(tag, nil)
	return err
}

// listRoutes lists the routes of a table, or of a type in all tables, of both families.
func (d *Datapath) listRoutes(table int, routeType uint8) (routes []tableRoute, err error) {
	for _, family := range families {
		request := []nl.NetlinkRequestData{&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Type: routeType}}}
		if table != 0 {
			request = append(request, nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(table))))
		}
		messages, err := d.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, request...)
		if errors.Is(err, unix.ENOENT) { // the kernel's word for a table that nothing is in
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
		if routes, err = parseRoutes(routes, messages, unspecified(family)); err != nil {
			return nil, err
		}
	}
	return routes, nil
}

// parseRoutes appends what the messages of one family say.
func parseRoutes(routes []tableRoute, messages [][]byte, everything netip.Addr) ([]tableRoute, error) {
	for _, m := range messages {
		header := nl.DeserializeRtMsg(m)
		attributes, err := nl.ParseRouteAttr(m[header.Len():])
		if err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
		r := tableRoute{Proto: header.Protocol, Type: header.Type, Table: int(header.Table)}
		destination := everything
		for _, a := range attributes {
			switch a.Attr.Type {
			case unix.RTA_DST:
				destination, _ = netip.AddrFromSlice(a.Value)
			case unix.RTA_GATEWAY:
				r.NextHop, _ = netip.AddrFromSlice(a.Value)
			case unix.RTA_OIF:
				r.Ifindex = int(binary.NativeEndian.Uint32(a.Value))
			case unix.RTA_PRIORITY:
				r.Metric = binary.NativeEndian.Uint32(a.Value)
			case unix.RTA_TABLE:
				r.Table = int(binary.NativeEndian.Uint32(a.Value))
			}
		}
		if r.Type != unix.RTN_UNICAST {
			r.Ifindex = 0 // IPv6 names the loopback
		}
		r.Prefix = netip.PrefixFrom(destination, int(header.Dst_len))
		routes = append(routes, r)
	}
	return routes, nil
}
