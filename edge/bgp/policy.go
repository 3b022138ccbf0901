package bgp

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
)

// globalTable is GoBGP's name for the policies of sessions that are not a route server's.
const globalTable = "global"

// setPolicies writes the import and export rules of the connection as c.want has them.
//
// Import: what we originate; from each peer exactly its registered prefixes; nothing else.
// Export: to each peer all there is but the subnet of its own link (GoBGP itself never sends a route back to the
// router it came from). As only accepted routes are in the table, that is the other side's. The next hop is the node's address on the peer's link,
// which GoBGP does not know: it only has the relay's.
func (c *connection) setPolicies(ctx context.Context) error {
	request := &api.SetPoliciesRequest{}
	importPolicy := &api.Policy{Name: "import", Statements: []*api.Statement{{
		Name:       "import-own",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT},
	}}}
	exportPolicy := &api.Policy{Name: "export"}
	for _, end := range c.want.ends() {
		peer := fmt.Sprintf("peer-%s", end.side)
		link := fmt.Sprintf("link-%s", end.side)
		request.DefinedSets = append(request.DefinedSets,
			&api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: peer, List: []string{c.aliases[end.side].String() + "/32"}},
			prefixSet(link, []netip.Prefix{end.Local.Masked()}))
		if len(end.Prefixes) > 0 { // GoBGP reads an empty set as no condition in places; have no rule instead
			accepted := fmt.Sprintf("accepted-%s", end.side)
			request.DefinedSets = append(request.DefinedSets, prefixSet(accepted, end.Prefixes))
			importPolicy.Statements = append(importPolicy.Statements, &api.Statement{
				Name:       "import-" + string(end.side),
				Conditions: &api.Conditions{NeighborSet: &api.MatchSet{Name: peer}, PrefixSet: &api.MatchSet{Name: accepted}},
				Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT},
			})
		}
		exportPolicy.Statements = append(exportPolicy.Statements, &api.Statement{
			Name:       "export-" + string(end.side),
			Conditions: &api.Conditions{NeighborSet: &api.MatchSet{Name: peer}, PrefixSet: &api.MatchSet{Name: link}},
			Actions:    &api.Actions{RouteAction: api.RouteAction_REJECT},
		}, &api.Statement{
			Name:       "next-hop-" + string(end.side),
			Conditions: &api.Conditions{NeighborSet: &api.MatchSet{Name: peer}},
			Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT, Nexthop: &api.NexthopAction{Address: end.Local.Addr().String()}},
		})
	}
	request.Policies = []*api.Policy{importPolicy, exportPolicy}
	if err := c.server.SetPolicies(ctx, request); err != nil {
		return err
	}
	for _, assignment := range []*api.PolicyAssignment{
		{Name: globalTable, Direction: api.PolicyDirection_IMPORT, Policies: []*api.Policy{{Name: "import"}}, DefaultAction: api.RouteAction_REJECT},
		{Name: globalTable, Direction: api.PolicyDirection_EXPORT, Policies: []*api.Policy{{Name: "export"}}, DefaultAction: api.RouteAction_ACCEPT},
	} {
		if err := c.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: assignment}); err != nil {
			return err
		}
	}
	return nil
}

func prefixSet(name string, prefixes []netip.Prefix) *api.DefinedSet {
	set := &api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: name}
	for _, p := range prefixes {
		bits := uint32(p.Bits())
		set.Prefixes = append(set.Prefixes, &api.Prefix{IpPrefix: p.String(), MaskLengthMin: bits, MaskLengthMax: bits})
	}
	return set
}
