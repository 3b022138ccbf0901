package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// Metrics in a connection's table. A lower one wins for the same prefix.
const (
	metricLink  = 0             // the link subnets
	metricRoute = 20            // what SetRoutes installs
	metricEnd   = 4_278_198_272 // the unreachable default: far behind a default route a provider announces
)

var defaultPrefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

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
		Protocol: netlink.RouteProtocol(r.Proto), Type: int(r.Type), Family: unix.AF_INET,
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
func (d *Datapath) ensureTable(c Connection, interfaces map[Side]net.Interface) error {
	for _, route := range linkRoutes(c.Tag, map[Side]linkEnd{
		SideA: {interfaces[SideA].Index, c.A.Address}, SideZ: {interfaces[SideZ].Index, c.Z.Address},
	}) {
		if err := d.netlink.RouteReplace(route.netlink()); err != nil {
			return fmt.Errorf("route %s: %w", route.Prefix, err)
		}
	}
	if _, err := d.addRule(wallRule()); err != nil {
		return err
	}
	changed := false
	for _, a := range c.sides() {
		added, err := d.addRule(ownRule(c.Tag, a.Address.Addr()))
		if err != nil {
			return err
		}
		changed = changed || added
	}
	if !changed {
		return nil
	}
	return d.pruneOwnRules(c)
}

// linkRoutes are the routes of a connection that do not depend on BGP.
func linkRoutes(tag int, links map[Side]linkEnd) []tableRoute {
	routes := []tableRoute{{
		Prefix: defaultPrefix, Metric: metricEnd, Proto: linkProtocol, Type: unix.RTN_UNREACHABLE, Table: TableNumber(tag),
	}}
	for _, l := range links {
		routes = append(routes, tableRoute{
			Prefix: l.address.Masked(), Ifindex: l.ifindex, Metric: metricLink, Proto: linkProtocol,
			Type: unix.RTN_UNICAST, Table: TableNumber(tag),
		})
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
		return d.converge(tag, wanted)
	})
}

// linkEnd is a side's interface and address as they are on the node.
type linkEnd struct {
	ifindex int
	address netip.Prefix
}

func (d *Datapath) liveLinkSubnets(tag int) (map[Side]linkEnd, error) {
	links := map[Side]linkEnd{}
	for _, side := range []Side{SideA, SideZ} {
		link, err := d.netlink.LinkByName(InterfaceName(tag, side))
		if err != nil {
			return nil, domain.Errorf(domain.NotFound, "datapath.SetRoutes", "connection %d has no interface %s: %w",
				tag, InterfaceName(tag, side), err).WithHint("call Ensure first")
		}
		addresses, err := listAddresses(link.Attrs().Index)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			links[side] = linkEnd{link.Attrs().Index, a.prefix}
		}
		if !links[side].address.IsValid() {
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
		p.Check(r.Prefix.IsValid() && r.Prefix.Addr().Is4() && r.Prefix == r.Prefix.Masked(), at+"/prefix", "must be an IPv4 prefix")
		p.Check(!seen[r.Prefix], at+"/prefix", "%s is there twice", r.Prefix)
		p.Check(r.NextHop.IsValid() && (!ok || link.address.Contains(r.NextHop) && link.address.Addr() != r.NextHop),
			at+"/next_hop", "must be the peer's address on the link of side %s", r.Side)
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

// converge makes the table hold exactly the wanted routes.
func (d *Datapath) converge(tag int, wanted []tableRoute) error {
	have, err := listRoutes(TableNumber(tag), 0)
	if err != nil {
		return err
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
		if err := d.netlink.RouteReplace(r.netlink()); err != nil {
			return fmt.Errorf("route %s via %s: %w", r.Prefix, r.NextHop, err)
		}
	}
	return d.deleteRoutes(standing)
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

func (d *Datapath) clearTable(tag int) error { return d.converge(tag, nil) }

// listRoutes lists the routes of a table, or of a type in all tables.
func listRoutes(table int, routeType uint8) ([]tableRoute, error) {
	request := []nl.NetlinkRequestData{&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Type: routeType}}}
	if table != 0 {
		request = append(request, nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(table))))
	}
	messages, err := dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, request...)
	if errors.Is(err, unix.ENOENT) { // the kernel's word for a table that nothing is in
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	return parseRoutes(messages)
}

func parseRoutes(messages [][]byte) ([]tableRoute, error) {
	routes := make([]tableRoute, 0, len(messages))
	for _, m := range messages {
		header := nl.DeserializeRtMsg(m)
		attributes, err := nl.ParseRouteAttr(m[header.Len():])
		if err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
		r := tableRoute{Proto: header.Protocol, Type: header.Type, Table: int(header.Table)}
		destination := netip.IPv4Unspecified()
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
		r.Prefix = netip.PrefixFrom(destination, int(header.Dst_len))
		routes = append(routes, r)
	}
	return routes, nil
}

func (d *Datapath) tagsOfRoutes(seen map[int]bool) error {
	// Other routes of a connection cannot outlive its interfaces.
	routes, err := listRoutes(0, unix.RTN_UNREACHABLE)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if tag := r.Table - TableBase; tag >= MinTag && tag <= MaxTag {
			seen[tag] = true
		}
	}
	return nil
}
