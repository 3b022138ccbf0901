package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/domain/redundancygroup"
	"crossbill/events"
	"crossbill/provisioning"
)

// CreateRedundancyGroup makes an empty group.
func (s *Server) CreateRedundancyGroup(ctx context.Context, req CreateRedundancyGroupRequestObject) (CreateRedundancyGroupResponseObject, error) {
	if err := s.require(ctx, organisation.RoleCustomer); err != nil {
		return nil, err
	}
	id, err := s.newID(domain.PrefixRedundancyGroup)
	if err != nil {
		return nil, err
	}
	customer := callerFrom(ctx).OrganisationID
	decided, err := redundancygroup.Decide(redundancygroup.State{}, redundancygroup.Create{
		GroupID: id, CustomerID: customer, Name: req.Body.Name, Diversity: string(req.Body.Diversity), At: s.now(),
	})
	if err != nil {
		return nil, err
	}
	answer := groupView(evolved(redundancygroup.State{}, redundancygroup.Evolve, decided), nil)
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(redundancygroup.Stream(id), 0, decided...)}},
		http.StatusCreated, answer, customer)
	if err != nil {
		return nil, err
	}
	return CreateRedundancyGroup201JSONResponse{Body: answer, Headers: CreateRedundancyGroup201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListRedundancyGroups lists the caller's groups; an operator sees all.
func (s *Server) ListRedundancyGroups(ctx context.Context, req ListRedundancyGroupsRequestObject) (ListRedundancyGroupsResponseObject, error) {
	found, next, err := s.Queries.RedundancyGroupsOf(ctx, viewer(ctx), valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := RedundancyGroupPage{Items: []RedundancyGroup{}, NextPageToken: optional(next)}
	for _, g := range found {
		ids := make([]string, len(g.Members))
		for i, m := range g.Members {
			ids[i] = m.ConnectionID
		}
		members, err := s.Queries.ConnectionsByID(ctx, ids)
		if err != nil {
			return nil, err
		}
		page.Items = append(page.Items, groupView(g, members))
	}
	return ListRedundancyGroups200JSONResponse(page), nil
}

// GetRedundancyGroup shows a group to its customer.
func (s *Server) GetRedundancyGroup(ctx context.Context, req GetRedundancyGroupRequestObject) (GetRedundancyGroupResponseObject, error) {
	g, err := s.loadGroup(ctx, req.RedundancyGroupId)
	if err != nil {
		return nil, err
	}
	return GetRedundancyGroup200JSONResponse{Body: groupView(g.state, g.connections()), Headers: GetRedundancyGroup200ResponseHeaders{ETag: etag(g.version)}}, nil
}

// AddToRedundancyGroup takes a connection of the caller's into the group.
func (s *Server) AddToRedundancyGroup(ctx context.Context, req AddToRedundancyGroupRequestObject) (AddToRedundancyGroupResponseObject, error) {
	view, position, err := s.changeGroup(ctx, req.RedundancyGroupId, req.Params.IfMatch, func(g group) (d groupDecision, err error) {
		const op = "api.AddToRedundancyGroup"
		beside, err := s.besides(ctx, g, req.Body.ConnectionId) // before where it is, for that may change until it is read
		if err != nil {
			return d, err
		}
		c, version, err := s.loadConnection(ctx, req.Body.ConnectionId)
		if err != nil {
			return d, err
		}
		if err := onlyFor(ctx, c.CustomerID, "customer of the connection"); err != nil {
			return d, err
		}
		switch {
		case c.Final():
			return d, domain.InState(op, "connection", c.ID, c.State).WithHint("order a new connection into the group")
		case c.Rebuild != nil || c.Leaving != nil:
			return d, domain.Errorf(domain.Conflict, op, "the connection %s is being moved or rebuilt", c.ID).WithHint("add it when that is done or given up")
		}
		on, _, err := events.Load(ctx, s.Log, port.Stream(c.ProviderPortID), port.Evolve)
		if err != nil {
			return d, err
		}
		node, _, err := events.Load(ctx, s.Log, edgenode.Stream(on.EdgeNodeID), edgenode.Evolve)
		if err != nil {
			return d, err
		}
		d.beside = []member{{c, version}}
		d.events, d.ask, err = g.joined(beside, memberOf(c, node), s.now())
		return d, err
	})
	if err != nil {
		return nil, err
	}
	return AddToRedundancyGroup200JSONResponse{Body: view, Headers: AddToRedundancyGroup200ResponseHeaders{CrossbillPosition: position}}, nil
}

// RemoveFromRedundancyGroup takes a connection out of the group.
func (s *Server) RemoveFromRedundancyGroup(ctx context.Context, req RemoveFromRedundancyGroupRequestObject) (RemoveFromRedundancyGroupResponseObject, error) {
	view, position, err := s.changeGroup(ctx, req.RedundancyGroupId, req.Params.IfMatch, func(g group) (d groupDecision, err error) {
		d.events, err = redundancygroup.Decide(g.state, redundancygroup.Remove{ConnectionID: req.Body.ConnectionId, At: s.now()})
		d.ask = provisioning.LeaveGroup(g.state.ID, req.Body.ConnectionId)
		return d, err
	})
	if err != nil {
		return nil, err
	}
	return RemoveFromRedundancyGroup200JSONResponse{Body: view, Headers: RemoveFromRedundancyGroup200ResponseHeaders{CrossbillPosition: position}}, nil
}

// TerminateRedundancyGroup ends the group and all its connections in one append: at exactly the versions that were
// decided on, so that none is left over by a race.
func (s *Server) TerminateRedundancyGroup(ctx context.Context, req TerminateRedundancyGroupRequestObject) (TerminateRedundancyGroupResponseObject, error) {
	var (
		view     RedundancyGroup
		position *int64
	)
	err := again(req.Params.IfMatch, func() error {
		g, err := s.ownGroup(ctx, req.RedundancyGroupId, req.Params.IfMatch)
		if err != nil {
			return err
		}
		now := s.now()
		decided, err := redundancygroup.Decide(g.state, redundancygroup.Terminate{Reason: req.Body.Reason, Live: g.live(), At: now})
		if err != nil {
			return err
		}
		if len(decided) == 0 {
			view = groupView(g.state, g.connections())
			return nil
		}
		a := events.Append{Streams: []events.StreamAppend{appendTo(redundancygroup.Stream(g.state.ID), g.version, decided...)}}
		for i, m := range g.members {
			ending, after, err := s.endMember(ctx, m, req.Body.Reason, now)
			if err != nil {
				return err
			}
			g.members[i].state = after
			a.Streams = append(a.Streams, ending...)
		}
		view = groupView(evolved(g.state, redundancygroup.Evolve, decided), g.connections())
		position, err = s.commit(ctx, a, http.StatusAccepted, view, g.state.CustomerID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return TerminateRedundancyGroup202JSONResponse{Body: view, Headers: TerminateRedundancyGroup202ResponseHeaders{
		CrossbillPosition: position, RetryAfter: lookAgain("")}}, nil
}

// endMember decides how one connection of a terminated group ends: one that was delivered is decommissioned, and of one
// that was not the order is cancelled, from which the saga does the rest.
func (s *Server) endMember(ctx context.Context, m member, reason string, now time.Time) ([]events.StreamAppend, connection.State, error) {
	c := m.state
	parties := unique(c.CustomerID, c.ProviderID)
	switch {
	case c.Final(), c.State == connection.StateDecommissionRequested, c.State == connection.StateCancelling:
		return nil, c, nil
	case c.BillingFrom != nil:
		decided, err := connection.Decide(c, connection.RequestDecommission{Reason: reason, At: now})
		if err != nil {
			return nil, c, err
		}
		return []events.StreamAppend{seenBy(parties, appendTo(connection.Stream(c.ID), m.version, decided...))}, evolved(c, connection.Evolve, decided), nil
	}
	placed, version, err := s.loadOrder(ctx, c.OrderID)
	if err != nil {
		return nil, c, err
	}
	if placed.Final() || placed.State == order.StateCancelling { // its connection is about to follow
		return nil, c, nil
	}
	decided, err := order.Decide(placed, order.Cancel{Reason: reason, At: now})
	if err != nil {
		return nil, c, err
	}
	return []events.StreamAppend{seenBy(parties, appendTo(order.Stream(placed.ID), version, decided...))}, c, nil
}

// A group as it is loaded: with its connections, in the order of its members.
type group struct {
	state   redundancygroup.State
	version int64
	members []member
}

type member struct {
	state   connection.State
	version int64
}

func (g group) connections() map[string]connection.State {
	byID := make(map[string]connection.State, len(g.members))
	for _, m := range g.members {
		byID[m.state.ID] = m.state
	}
	return byID
}

func (g group) live() (ids []string) {
	for _, m := range g.members {
		if !m.state.Final() {
			ids = append(ids, m.state.ID)
		}
	}
	return ids
}

func (s *Server) loadGroup(ctx context.Context, id string) (g group, err error) {
	g.state, g.version, err = load(ctx, s, "redundancy group", id, redundancygroup.Stream(id), redundancygroup.Evolve,
		func(r redundancygroup.State) []string { return []string{r.CustomerID} })
	if err != nil {
		return g, err
	}
	for _, one := range g.state.Members {
		var m member
		if m.state, m.version, err = s.loadConnection(ctx, one.ConnectionID); err != nil {
			return g, err
		}
		g.members = append(g.members, m)
	}
	return g, nil
}

// ownGroup loads a group that the caller is to change.
func (s *Server) ownGroup(ctx context.Context, id string, ifMatch *string) (group, error) {
	g, err := s.loadGroup(ctx, id)
	if err != nil {
		return g, err
	}
	if err := onlyFor(ctx, g.state.CustomerID, "customer"); err != nil {
		return g, err
	}
	return g, checkMatch(ifMatch, g.version)
}

// groupDecision is what is to happen to a group.
type groupDecision struct {
	events []domain.Event
	ask    askFunc  // in the transaction of their append
	beside []member // connections that the view needs besides the members
}

// changeGroup decides on a group and records it.
func (s *Server) changeGroup(ctx context.Context, id string, ifMatch *string, decide func(group) (groupDecision, error)) (view RedundancyGroup, position *int64, _ error) {
	return view, position, again(ifMatch, func() error {
		g, err := s.ownGroup(ctx, id, ifMatch)
		if err != nil {
			return err
		}
		d, err := decide(g)
		if err != nil {
			return err
		}
		g.members = append(g.members, d.beside...)
		view = groupView(evolved(g.state, redundancygroup.Evolve, d.events), g.connections())
		if len(d.events) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(redundancygroup.Stream(id), g.version, d.events...)}, Ask: d.ask},
			http.StatusOK, view, g.state.CustomerID)
		return err
	})
}

// join decides on a connection that an order makes in a group. Two orders at once are one after the other: the group's
// version is in the append.
func (s *Server) join(ctx context.Context, groupID string, c connection.State, node edgenode.State, now time.Time) (events.StreamAppend, askFunc, error) {
	g, err := s.loadGroup(ctx, groupID)
	if domain.CodeOf(err) == domain.NotFound || err == nil && g.state.CustomerID != c.CustomerID {
		var p domain.Problems
		p.Add("/redundancy_group_id", "is not a redundancy group of the customer")
		return events.StreamAppend{}, nil, p.Err("api.join")
	}
	if err != nil {
		return events.StreamAppend{}, nil, err
	}
	beside, err := s.besides(ctx, g, c.ID)
	if err != nil {
		return events.StreamAppend{}, nil, err
	}
	decided, ask, err := g.joined(beside, memberOf(c, node), now)
	if err != nil {
		return events.StreamAppend{}, nil, err
	}
	return seenBy([]string{c.CustomerID}, appendTo(redundancygroup.Stream(groupID), g.version, decided...)), ask, nil
}

// besides reads what the group's members have, and what the connection does that is to join it.
func (s *Server) besides(ctx context.Context, g group, connectionID string) (provisioning.Beside, error) {
	return provisioning.ReadBeside(ctx, s.Pool, s.Log, connectionID, g.state.ID)
}

// joined decides on a member, and has the decision held to what it was decided by.
func (g group) joined(beside provisioning.Beside, m redundancygroup.Member, now time.Time) ([]domain.Event, askFunc, error) {
	decided, err := redundancygroup.Decide(g.state, redundancygroup.Add{Member: m, Others: beside.Of(g.state.ID), At: now})
	return decided, beside.Join(g.state.Diversity, m), err
}

func memberOf(c connection.State, node edgenode.State) redundancygroup.Member {
	return redundancygroup.Member{
		ConnectionID: c.ID, PortID: c.CustomerPortID, ProviderPortID: c.ProviderPortID, EdgeNodeID: node.ID,
		Location: node.Building(),
	}
}

func groupView(g redundancygroup.State, members map[string]connection.State) RedundancyGroup {
	v := RedundancyGroup{
		Id: g.ID, Name: g.Name, Diversity: Diversity(g.Diversity), Reason: optional(g.Reason), CreatedAt: g.CreatedAt, TerminatedAt: g.TerminatedAt,
	}
	v.Connections = make([]GroupedConnection, 0, len(g.Members))
	states := make([]connection.State, 0, len(g.Members))
	for _, m := range g.Members {
		c := members[m.ConnectionID]
		states = append(states, c)
		v.Connections = append(v.Connections, GroupedConnection{
			ConnectionId: m.ConnectionID, PortId: cmp.Or(c.CustomerPortID, m.PortID), EdgeNodeId: cmp.Or(c.EdgeNodeID, m.EdgeNodeID), State: c.State})
	}
	v.State = RedundancyGroupState(g.Health(states))
	return v
}
