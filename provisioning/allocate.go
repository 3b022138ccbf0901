package provisioning

import (
	"context"
	"errors"
	"fmt"

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

// allocate chooses what the connection needs and records it, with the reservations in the same transaction. Choosing is
// done outside of it, because the event must be known before the log is locked; if somebody else was given any of it in
// the meantime, the append is refused with a Conflict and the job looks again. When there is nothing left to choose
// from, or the ports can't be joined at all, the order fails with the reason.
func (p *Provisioner) allocate(ctx context.Context, s saga, races int) error {
	place, obstacle, err := p.site(ctx, s.connection)
	if err != nil {
		return err
	}
	var command connection.Allocate
	if obstacle == "" {
		command, obstacle, err = p.choose(ctx, s.connection, place, races)
	}
	if err != nil {
		return err
	}
	if obstacle == "" {
		// What is wrong with a fresh choice is wrong with what was ordered, such as the node's own AS number.
		var refusal *domain.Error
		if _, err := connection.Decide(s.connection, command); errors.As(err, &refusal) && refusal.Code == domain.Invalid {
			obstacle = "the ports can't be joined as ordered"
			for _, f := range refusal.Fields {
				obstacle += "; " + f.Pointer + " " + f.Detail
			}
		}
	}
	if obstacle != "" {
		return p.undo(ctx, s, short(obstacle))
	}
	capacity := map[string]int{place.a.ID: place.a.CapacityMbps, place.z.ID: place.z.CapacityMbps}
	return p.append(ctx, s, change{
		connection: []connection.Command{command},
		ask: func(ctx context.Context, tx pgx.Tx) error {
			return reserve(ctx, tx, s.connection.ID, s.connection.BandwidthMbps, command, capacity)
		},
	})
}

// site loads the ports and their node. obstacle is why they can't be joined; it is for the customer to read.
func (p *Provisioner) site(ctx context.Context, c connection.State) (place site, obstacle string, err error) {
	if place.a, _, err = events.Load(ctx, p.options.Log, port.Stream(c.CustomerPortID), port.Evolve); err != nil {
		return place, "", err
	}
	if place.z, _, err = events.Load(ctx, p.options.Log, port.Stream(c.ProviderPortID), port.Evolve); err != nil {
		return place, "", err
	}
	switch {
	case place.a.ID == "":
		return place, "the customer's port is not registered", nil
	case place.z.ID == "":
		return place, "the provider's port is not registered", nil
	case place.a.EdgeNodeID != place.z.EdgeNodeID:
		return place, "the customer's port and the provider's port are on different edge nodes", nil
	}
	if place.node, _, err = events.Load(ctx, p.options.Log, edgenode.Stream(place.a.EdgeNodeID), edgenode.Evolve); err != nil {
		return place, "", err
	}
	if place.node.ID == "" {
		return place, "the ports' edge node is not registered", nil
	}
	return place, "", nil
}

// choose picks what is free now. skip is how many free ones to leave to others.
func (p *Provisioner) choose(ctx context.Context, c connection.State, place site, skip int) (command connection.Allocate, obstacle string, err error) {
	const op = "provisioning.choose"
	db, onePort := p.options.Pool, place.a.ID == place.z.ID
	for _, side := range []port.State{place.a, place.z} {
		wanted := int64(c.BandwidthMbps)
		if onePort {
			wanted *= 2
		}
		load, err := portLoad(ctx, db, side.ID)
		if err != nil {
			return command, "", domain.Errorf(domain.Unavailable, op, "the port's load could not be read: %w", err)
		}
		if free := int64(side.CapacityMbps) - load; free < wanted {
			return command, fmt.Sprintf("the port %s has %d Mbps of its %d left, and %d are needed", side.Name, max(free, 0), side.CapacityMbps, wanted), nil
		}
	}
	tag, ok, err := firstFree(ctx, db, reservedTag, place.node.ID, connection.MinTag, connection.MaxTag, skip)
	if err != nil || !ok {
		return command, fmt.Sprintf("the edge node %s has no room for another connection", place.node.Name), err
	}
	vlanA, ok, err := firstFree(ctx, db, reservedVLAN, place.a.ID, connection.MinVLAN, connection.MaxVLAN, skip)
	if err != nil || !ok {
		return command, fmt.Sprintf("the port %s has no VLAN left", place.a.Name), err
	}
	skipZ := skip
	if onePort {
		skipZ++
	}
	vlanZ, ok, err := firstFree(ctx, db, reservedVLAN, place.z.ID, connection.MinVLAN, connection.MaxVLAN, skipZ)
	if onePort && vlanZ == vlanA && skip > 0 { // so few are left that there is nothing to skip
		return p.choose(ctx, c, place, 0)
	}
	if err != nil || !ok || onePort && vlanZ == vlanA {
		return command, fmt.Sprintf("the port %s has no VLAN left", place.z.Name), err
	}
	linkA, linkZ, err := links(tag)
	if err != nil {
		return command, "", err
	}
	return connection.Allocate{
		EdgeNodeID: place.node.ID, EdgeASN: place.node.ASN, Tag: tag, At: p.now(),
		A: attachment(place.a, vlanA, linkA, c.CustomerBGP),
		Z: attachment(place.z, vlanZ, linkZ, c.ProviderBGP),
	}, "", nil
}

func attachment(on port.State, vlan int, l link, party connection.BGP) connection.Attachment {
	return connection.Attachment{
		PortID: on.ID, Interface: on.Interface, VLAN: vlan, Address: l.address.String(), PeerAddress: l.peer.String(),
		PeerASN: party.ASN, Prefixes: party.Prefixes,
	}
}
