package provisioning

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/port"
	"crossbill/events"
)

// site is where a connection is to be: its two ports and the node they are on.
type site struct {
	node edgenode.State
	a, z port.State // the customer's, the provider's
}

// obstacle is why a connection can't be had; the zero obstacle is that it can.
type obstacle struct {
	told   string // to both parties: which port and how full it is are only its owner's to know, so neither is named
	detail string // to operators; may be empty
}

// refuse tells the operators why the saga's order can't be carried out, and returns what its parties are told.
func (p *Provisioner) refuse(ctx context.Context, s saga, o obstacle) string {
	p.options.Logger.WarnContext(ctx, "the order can't be carried out", "reason", o.told, "detail", o.detail,
		"order", s.order.ID, "connection", s.connection.ID)
	return short(o.told)
}

// keepObstacle makes an append keep for the operators what the order's parties are not told.
func (s saga) keepObstacle(a *events.Append, o obstacle) {
	if o.detail == "" {
		return
	}
	ask := a.Ask
	a.Ask = func(ctx context.Context, tx pgx.Tx) error {
		if ask != nil {
			if err := ask(ctx, tx); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO order_obstacles (order_id, detail) VALUES ($1, $2) ON CONFLICT (order_id) DO NOTHING`,
			s.order.ID, o.detail)
		return err
	}
}

// parties are whose the two ports of a connection are, in words.
var parties = [2]string{"customer", "provider"}

// full is that a party's port has not enough left, both of it in Mbps.
func full(party string, on port.State, load, wanted int64) obstacle {
	return obstacle{"the " + party + "'s port has not enough bandwidth left",
		fmt.Sprintf("the port %s (%s) has %d Mbps of its %d left, and %d more are needed", on.ID, on.Name, max(int64(on.CapacityMbps)-load, 0), on.CapacityMbps, wanted)}
}

func noVLAN(party string, on port.State) obstacle {
	return obstacle{"the " + party + "'s port has no VLAN left", fmt.Sprintf("the port %s (%s)", on.ID, on.Name)}
}

// allocate chooses what the connection needs and records it, with the reservations in the same transaction. Choosing is
// done outside of it, because the event must be known before the log is locked; if somebody else was given any of it in
// the meantime, the append is refused with a Conflict and the job looks again. When there is nothing left to choose
// from, or the ports can't be joined at all, the order fails with the reason.
func (p *Provisioner) allocate(ctx context.Context, s saga, races int) error {
	c := s.connection
	g := ground{c.CustomerPortID, c.ProviderPortID, c.CustomerBGP, c.ProviderBGP, c.BandwidthMbps}
	place, why, err := p.site(ctx, g)
	if err != nil {
		return err
	}
	var choice built
	if why == (obstacle{}) {
		claim := p.claim()
		defer claim.release()
		choice, why, err = p.choose(ctx, c, g, place, races, claim)
	}
	if err != nil {
		return err
	}
	command := connection.Allocate{EdgeNodeID: choice.EdgeNodeID, EdgeASN: choice.EdgeASN, Tag: choice.Tag, A: choice.A, Z: choice.Z, At: p.now()}
	if why == (obstacle{}) {
		_, err := connection.Decide(c, command)
		why = unfit(err)
	}
	if why != (obstacle{}) {
		return p.undo(ctx, s, p.refuse(ctx, s, why), why)
	}
	return p.append(ctx, s, change{
		connection: []connection.Command{command},
		ask:        func(ctx context.Context, tx pgx.Tx) error { return reserve(ctx, tx, c.ID, choice) },
	})
}

// site loads the ports and their node. why is why they can't be joined.
func (p *Provisioner) site(ctx context.Context, g ground) (place site, why obstacle, err error) {
	if place.a, _, err = events.Load(ctx, p.options.Log, port.Stream(g.customerPort), port.Evolve); err != nil {
		return place, obstacle{}, err
	}
	if place.z, _, err = events.Load(ctx, p.options.Log, port.Stream(g.providerPort), port.Evolve); err != nil {
		return place, obstacle{}, err
	}
	switch {
	case place.a.ID == "":
		return place, obstacle{told: "the customer's port is not registered"}, nil
	case place.z.ID == "":
		return place, obstacle{told: "the provider's port is not registered"}, nil
	case place.a.EdgeNodeID != place.z.EdgeNodeID:
		return place, obstacle{told: "the customer's port and the provider's port are on different edge nodes"}, nil
	}
	if place.node, _, err = events.Load(ctx, p.options.Log, edgenode.Stream(place.a.EdgeNodeID), edgenode.Evolve); err != nil {
		return place, obstacle{}, err
	}
	if place.node.ID == "" {
		return place, obstacle{told: "the ports' edge node is not registered"}, nil
	}
	return place, obstacle{}, nil
}

// choose picks what is free now. skip is how many free ones to leave to others.
func (p *Provisioner) choose(ctx context.Context, c connection.State, g ground, place site, skip int, claim *claim) (choice built, why obstacle, err error) {
	const op = "provisioning.choose"
	db, onePort := p.options.Pool, place.a.ID == place.z.ID
	choice.mbps = g.more(c)
	for i, side := range [2]port.State{place.a, place.z} {
		wanted := int64(choice.mbps[i])
		if onePort {
			wanted = int64(choice.mbps[0]) + int64(choice.mbps[1])
		}
		load, err := portLoad(ctx, db, side.ID)
		if err != nil {
			return choice, obstacle{}, domain.Errorf(domain.Unavailable, op, "the port's load could not be read: %w", err)
		}
		if int64(side.CapacityMbps)-load < wanted {
			return choice, full(parties[i], side, load, wanted), nil
		}
	}
	tag, ok, err := claim.firstFree(ctx, db, reservedTag, place.node.ID, connection.MinTag, connection.MaxTag, skip)
	if err != nil || !ok {
		return choice, obstacle{"the edge node has no room for another connection", fmt.Sprintf("the edge node %s (%s)", place.node.ID, place.node.Name)}, err
	}
	vlanA, ok, err := claim.firstFree(ctx, db, reservedVLAN, place.a.ID, connection.MinVLAN, connection.MaxVLAN, skip)
	if err != nil || !ok {
		return choice, noVLAN(parties[0], place.a), err
	}
	vlanZ, ok, err := claim.firstFree(ctx, db, reservedVLAN, place.z.ID, connection.MinVLAN, connection.MaxVLAN, skip)
	if err != nil || !ok {
		return choice, noVLAN(parties[1], place.z), err
	}
	choice.Build = connection.Build{
		EdgeNodeID: place.node.ID, EdgeASN: place.node.ASN, Tag: tag,
		A: attachment(place.a, vlanA, g.customer),
		Z: attachment(place.z, vlanZ, g.provider),
	}
	choice.capacity = map[string]int{place.a.ID: place.a.CapacityMbps, place.z.ID: place.z.CapacityMbps}
	return choice, obstacle{}, address(&choice.Build, c.Families(), place.node)
}

func attachment(on port.State, vlan int, party connection.BGP) connection.Attachment {
	return connection.Attachment{PortID: on.ID, Interface: on.Interface, VLAN: vlan, ServiceVLAN: on.ServiceVLAN, PeerASN: party.ASN, Prefixes: party.Prefixes}
}

// address gives both attachments the links of their tag, in each family that the connection carries.
func address(c *connection.Build, families []string, node edgenode.State) error {
	if slices.Contains(families, domain.IPv4) {
		a, z, err := links(c.Tag)
		if err != nil {
			return err
		}
		c.A.Address, c.A.PeerAddress = a.address.String(), a.peer.String()
		c.Z.Address, c.Z.PeerAddress = z.address.String(), z.peer.String()
	}
	if slices.Contains(families, domain.IPv6) {
		a, z, err := ipv6Links(c.Tag, node.IPv6LinkPrefix)
		if err != nil {
			return err
		}
		c.A.IPv6Address, c.A.IPv6PeerAddress = a.address.String(), a.peer.String()
		c.Z.IPv6Address, c.Z.IPv6PeerAddress = z.address.String(), z.peer.String()
	}
	return nil
}
