package provisioning

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
)

// nextOfRebuild is [Next] for another build that is to take a connection's place, whatever order or move it is for. The tests
// are those of a new connection; what fails them is given up, and the old build goes on or comes back.
func nextOfRebuild(c connection.State, now time.Time, policy Policy) Step {
	r := c.Rebuild
	switch {
	case r.AbandonedAt != nil:
		return within(c, AwaitRestoration, *r.AbandonedAt, now, policy)
	case r.Build == nil:
		return Step{Kind: StartRebuild, Reason: r.Reason}
	case !c.Elsewhere() && r.StoppedAt == nil:
		if now.Before(*r.Deadline) {
			return Step{Kind: Wait, Until: *r.Deadline}
		}
		return Step{Kind: AbandonRebuild, Reason: "the edge node did not begin by " + stamp(*r.Deadline)}
	}
	step := underTest(c.UnderTest(), now, policy)
	if step.Kind == RequestUndo {
		step.Kind = AbandonRebuild
	}
	return step
}

// nextOfLeaving is [Next] for a build that is in use no more.
func nextOfLeaving(c connection.State, now time.Time, policy Policy) Step {
	if len(c.Awaited()) > 0 {
		return within(c, AwaitRemoval, c.AwaitedSince(), now, policy)
	}
	return Step{Kind: ReleaseBuild}
}

// ground is where a build is to be, and for whom.
type ground struct {
	customerPort, providerPort string
	customer, provider         connection.BGP
	mbps                       int
}

// more returns what a build takes of its two ports beyond what the connection holds of them: two builds on one port carry
// the connection's traffic one after the other.
func (g ground) more(c connection.State) [2]int {
	wanted := [2]int{g.mbps, g.mbps}
	if c.Tag == 0 {
		return wanted
	}
	if g.customerPort == c.CustomerPortID {
		wanted[0] = max(0, g.mbps-c.BandwidthMbps)
	}
	if g.providerPort == c.ProviderPortID {
		wanted[1] = max(0, g.mbps-c.BandwidthMbps)
	}
	return wanted
}

// built is a choice of all that a build needs, with what its reservation takes of its ports.
type built struct {
	connection.Build
	mbps     [2]int
	capacity map[string]int // of the ports, in Mbps
}

// rebuild chooses what another build needs and records it after what has it built; the reservations are made in the same
// append. Of what can't be had it says why.
func (p *Provisioner) rebuild(ctx context.Context, s saga, g ground, start connection.StartRebuild, races int, before ...connection.Command) (why obstacle, err error) {
	place, why, err := p.site(ctx, g)
	if err != nil || why != (obstacle{}) {
		return why, err
	}
	beside, err := ReadBeside(ctx, p.options.Pool, p.options.Log, s.connection.ID, "")
	if err != nil {
		return obstacle{}, err
	}
	if why := beside.crowded(place); why != (obstacle{}) {
		return why, nil
	}
	claim := p.claim()
	defer claim.release()
	choice, why, err := p.choose(ctx, s.connection, g, place, races, claim)
	if err != nil || why != (obstacle{}) {
		return why, err
	}
	start.Build, start.CustomerPortID, start.ProviderPortID = choice.Build, g.customerPort, g.providerPort
	start.At = p.now()
	start.Deadline = start.At.Add(p.options.TestingDeadline)
	commands := append(before, start)
	if _, err := decideAll(s.connection, commands, connection.Decide, connection.Evolve); err != nil {
		if why := unfit(err); why != (obstacle{}) {
			return why, nil
		}
		return obstacle{}, err
	}
	return obstacle{}, p.append(ctx, s, change{
		connection: commands,
		ask:        Both(beside.Stands, func(ctx context.Context, tx pgx.Tx) error { return reserve(ctx, tx, s.connection.ID, choice) }),
	})
}

// unfit returns what is wrong with a fresh choice, which is wrong with what was ordered, such as the node's own AS number.
func unfit(err error) (why obstacle) {
	var refusal *domain.Error
	for next := err; errors.As(next, &refusal); next = errors.Unwrap(refusal) {
		if refusal.Code != domain.Invalid {
			continue
		}
		var told strings.Builder
		told.WriteString("the ports can't be joined as ordered")
		for _, f := range refusal.Fields {
			told.WriteString("; " + f.Pointer + " " + f.Detail)
		}
		return obstacle{told: told.String()}
	}
	return obstacle{}
}

// startMove begins a move that was asked for, or gives it up.
func (p *Provisioner) startMove(ctx context.Context, s saga, races int) error {
	c := s.connection
	g := ground{c.Rebuild.CustomerPortID, c.Rebuild.ProviderPortID, c.CustomerBGP, c.ProviderBGP, c.BandwidthMbps}
	why, err := p.rebuild(ctx, s, g, connection.StartRebuild{Reason: c.Rebuild.Reason}, races)
	if err != nil || why == (obstacle{}) {
		return err
	}
	return p.append(ctx, s, change{connection: []connection.Command{connection.AbandonRebuild{Reason: p.refuse(ctx, s, why), At: p.now()}}})
}

// requestRebuild asks for the change of an accepted order that is not in place.
func (p *Provisioner) requestRebuild(ctx context.Context, s saga, races int) error {
	o, c, now := s.order, s.connection, p.now()
	g := ground{c.CustomerPortID, o.Rebuild.ProviderPortID, c.CustomerBGP, c.ProviderBGP, o.BandwidthMbps}
	start := connection.StartRebuild{Reason: "as the order " + o.ID + " says"}
	if o.ListingVersion != c.ListingVersion { // else what the provider has configured since stands
		g.provider, start.ProviderBGP = o.Rebuild.ProviderBGP, &o.Rebuild.ProviderBGP
	}
	why, err := p.rebuild(ctx, s, g, start, races, connection.RequestChange{
		OrderID: o.ID, QuoteID: o.QuoteID, ListingVersion: o.ListingVersion, BandwidthMbps: o.BandwidthMbps, At: now})
	if err != nil || why == (obstacle{}) {
		return err
	}
	return p.append(ctx, s, change{order: []order.Command{s.giveUp(p.refuse(ctx, s, why), now)}, obstacle: why})
}
