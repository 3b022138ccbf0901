package provisioning

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/domain/port"
	"crossbill/events"
)

// nextOfChange is [Next] for an order that brings a connection to another bandwidth or plan. The edge node's word that it
// applies the bandwidth puts the change into force; until then the old terms are.
func nextOfChange(o order.State, c connection.State, now time.Time, policy Policy) Step {
	if c.Change != nil && c.Change.OrderID == o.ID {
		by := c.Change.RequestedAt.Add(policy.ChangeWithin)
		switch {
		case c.Rebuild != nil && o.State != order.StateInProgress && c.Rebuild.AbandonedAt == nil:
			return Step{Kind: AbandonRebuild, Reason: endedReason(o)}
		case c.Rebuild != nil:
			return nextOfRebuild(c, now, policy)
		case c.Leaving != nil: // the order that made the connection sees to that first
			return Step{Kind: Wait}
		case o.State != order.StateInProgress:
			return Step{Kind: AbandonChange, Reason: endedReason(o)}
		case !c.Change.InPlace:
			return Step{Kind: AbandonChange, Reason: short(c.RebuildFailure)}
		case c.Termination != nil && !now.Before(c.Termination.EffectiveAt):
			return Step{Kind: AbandonChange, Reason: "the connection is to have ended by " + stamp(c.Termination.EffectiveAt)}
		case !now.Before(by):
			return Step{Kind: AbandonChange, Reason: "the edge node did not apply the change by " + stamp(by)}
		case c.Change.BandwidthMbps == c.BandwidthMbps:
			return Step{Kind: ConfirmChange}
		}
		return Step{Kind: Wait, Until: by}
	}
	asked := c.ChangeOrderID == o.ID
	switch o.State {
	case order.StateAwaitingApproval, order.StateAcknowledged, order.StateAwaitingProvider:
		step := beforeTheEdge(o, c, now)
		if step.Kind == Undo { // there is nothing to undo
			step.Kind = FailOrder
		}
		return step
	case order.StateInProgress:
		if asked && c.QuoteID == o.QuoteID {
			return Step{Kind: CompleteOrder}
		}
		if asked { // the connection ended before it was in force
			return Step{Kind: FailOrder, Reason: "the connection is being taken down"}
		}
		var refusal *domain.Error
		if err := c.Changeable("provisioning.Next", now); errors.As(err, &refusal) {
			return Step{Kind: FailOrder, Reason: short(refusal.Message + ": " + refusal.Hint)}
		}
		return Step{Kind: RequestChange}
	case order.StateCancelling:
		return Step{Kind: FailOrder, Reason: endedReason(o)}
	}
	return Step{Kind: Done}
}

// nextOfRemoval is [Next] for an order that ends a connection, now or at a date.
func nextOfRemoval(o order.State, c connection.State, now time.Time, policy Policy) Step {
	if o.Final() {
		return Step{Kind: Done}
	}
	switch c.State {
	case connection.StateDecommissionRequested:
		return nextOfEnd(c, now, policy)
	case connection.StateDecommissioned:
		return Step{Kind: CompleteOrder}
	}
	t := c.Termination
	switch {
	case t == nil || t.OrderID != o.ID:
		return Step{Kind: Done}
	case now.Before(t.EffectiveAt):
		return Step{Kind: Wait, Until: t.EffectiveAt}
	}
	return Step{Kind: RequestTermination, Reason: t.Reason}
}

// requestChange asks for the change of an accepted order. What a wider connection needs of its ports is reserved in the
// same append; what a narrower one gives back stays reserved until the edge node applies it.
func (p *Provisioner) requestChange(ctx context.Context, s saga, races int) error {
	o, c, now := s.order, s.connection, p.now()
	if o.Rebuild != nil {
		return p.requestRebuild(ctx, s, races)
	}
	capacity, why, err := p.roomFor(ctx, c, o.BandwidthMbps)
	if err != nil {
		return err
	}
	if why != (obstacle{}) {
		return p.append(ctx, s, change{order: []order.Command{s.giveUp(p.refuse(ctx, s, why), now)}, obstacle: why})
	}
	step := change{connection: []connection.Command{connection.RequestChange{
		OrderID: o.ID, QuoteID: o.QuoteID, ListingVersion: o.ListingVersion, BandwidthMbps: o.BandwidthMbps, InPlace: true, At: now}}}
	if o.BandwidthMbps > c.BandwidthMbps {
		step.ask = func(ctx context.Context, tx pgx.Tx) error { return hold(ctx, tx, c.ID, o.BandwidthMbps, capacity) }
	}
	return p.append(ctx, s, step)
}

// roomFor returns the capacity of a connection's ports, and why it can't have the bandwidth.
func (p *Provisioner) roomFor(ctx context.Context, c connection.State, mbps int) (capacity map[string]int, why obstacle, err error) {
	capacity = make(map[string]int, 2)
	for i, id := range [2]string{c.CustomerPortID, c.ProviderPortID} {
		on, _, err := events.Load(ctx, p.options.Log, port.Stream(id), port.Evolve)
		if err != nil {
			return nil, obstacle{}, err
		}
		if capacity[id] = on.CapacityMbps; mbps <= c.BandwidthMbps {
			continue
		}
		load, err := portLoad(ctx, p.options.Pool, id)
		if err != nil {
			return nil, obstacle{}, domain.Errorf(domain.Unavailable, "provisioning.roomFor", "the port's load could not be read: %w", err)
		}
		more := int64(mbps - c.BandwidthMbps)
		if c.CustomerPortID == c.ProviderPortID {
			more *= 2
		}
		if int64(on.CapacityMbps)-load < more {
			return nil, full(parties[i], on, load, more), nil
		}
	}
	return capacity, obstacle{}, nil
}
