package api

import (
	"context"
	"net/http"

	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/budget"
	"crossbill/domain/connection"
	"crossbill/events"
	"crossbill/projections"
)

func (s *Server) loadBudget(ctx context.Context, id string) (budget.State, int64, error) {
	return load(ctx, s, "budget", id, budget.Stream(id), budget.Evolve,
		func(b budget.State) []string { return []string{b.OrganisationID} })
}

// scopeOf is what a budget of the caller's organisation is for, or a problem if that is not the organisation's.
func (s *Server) scopeOf(ctx context.Context, scope BudgetScope) (budget.Scope, error) {
	own := callerFrom(ctx).OrganisationID
	of := budget.Scope{Kind: string(scope.Kind), ID: valueOr(scope.Id, "")}
	const pointer = "/scope/id"
	switch of.Kind {
	case budget.ScopeOrganisation:
		if of.ID == "" {
			of.ID = own
		}
	case budget.ScopeBillingAccount:
		if _, err := s.ownBillingAccount(ctx, of.ID, pointer); err != nil {
			return of, err
		}
	case budget.ScopeConnection:
		c, _, err := events.Load(ctx, s.Log, connection.Stream(of.ID), connection.Evolve)
		if err != nil {
			return of, err
		}
		if c.CustomerID != own {
			var p domain.Problems
			p.Add(pointer, "is not a connection that the organisation bought")
			return of, p.Err("api.scopeOf")
		}
	}
	return of, nil
}

// OpenBudget opens a budget of the caller's organisation.
func (s *Server) OpenBudget(ctx context.Context, req OpenBudgetRequestObject) (OpenBudgetResponseObject, error) {
	b, organisationID := req.Body, callerFrom(ctx).OrganisationID
	scope, err := s.scopeOf(ctx, b.Scope)
	if err != nil {
		return nil, err
	}
	id, err := s.newID(domain.PrefixBudget)
	if err != nil {
		return nil, err
	}
	opened, err := budget.Decide(budget.State{}, budget.Open{
		BudgetID: id, OrganisationID: organisationID, Scope: scope, At: s.now(),
		Terms: budget.Terms{Name: b.Name, Amount: b.Amount, Thresholds: valueOr(b.Thresholds, nil)},
	})
	if err != nil {
		return nil, err
	}
	answer := budgetView(evolved(budget.State{}, budget.Evolve, opened))
	position, err := s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(budget.Stream(id), 0, opened...)}},
		http.StatusCreated, answer, organisationID)
	if err != nil {
		return nil, err
	}
	return OpenBudget201JSONResponse{Body: answer, Headers: OpenBudget201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListBudgets lists the budgets of the caller's organisation; an operator sees all.
func (s *Server) ListBudgets(ctx context.Context, req ListBudgetsRequestObject) (ListBudgetsResponseObject, error) {
	found, next, err := s.Queries.BudgetsOf(ctx, viewer(ctx), valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := BudgetPage{Items: []Budget{}, NextPageToken: optional(next)}
	for _, b := range found {
		page.Items = append(page.Items, budgetView(b))
	}
	return ListBudgets200JSONResponse(page), nil
}

// GetBudget shows a budget to its organisation.
func (s *Server) GetBudget(ctx context.Context, req GetBudgetRequestObject) (GetBudgetResponseObject, error) {
	state, version, err := s.loadBudget(ctx, req.BudgetId)
	if err != nil {
		return nil, err
	}
	return GetBudget200JSONResponse{Body: budgetView(state), Headers: GetBudget200ResponseHeaders{ETag: etag(version)}}, nil
}

// ChangeBudget replaces the budget's terms.
func (s *Server) ChangeBudget(ctx context.Context, req ChangeBudgetRequestObject) (ChangeBudgetResponseObject, error) {
	b := req.Body
	view, position, err := s.changeBudget(ctx, req.BudgetId, req.Params.IfMatch, budget.Change{
		Terms: budget.Terms{Name: b.Name, Amount: b.Amount, Thresholds: valueOr(b.Thresholds, nil)}, At: s.now(),
	})
	if err != nil {
		return nil, err
	}
	return ChangeBudget200JSONResponse{Body: view, Headers: ChangeBudget200ResponseHeaders{CrossbillPosition: position}}, nil
}

// CloseBudget ends the budget.
func (s *Server) CloseBudget(ctx context.Context, req CloseBudgetRequestObject) (CloseBudgetResponseObject, error) {
	view, position, err := s.changeBudget(ctx, req.BudgetId, req.Params.IfMatch, budget.Close{At: s.now()})
	if err != nil {
		return nil, err
	}
	return CloseBudget200JSONResponse{Body: view, Headers: CloseBudget200ResponseHeaders{CrossbillPosition: position}}, nil
}

func (s *Server) changeBudget(ctx context.Context, id string, ifMatch *string, command budget.Command) (view Budget, position *int64, _ error) {
	return view, position, again(ifMatch, func() error {
		state, version, err := s.loadBudget(ctx, id)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, state.OrganisationID, "organisation whose budget it is"); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		decided, err := budget.Decide(state, command)
		if err != nil {
			return err
		}
		view = budgetView(evolved(state, budget.Evolve, decided))
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(budget.Stream(id), version, decided...)}},
			http.StatusOK, view, state.OrganisationID)
		return err
	})
}

// EvaluateBudget does now what the platform does every few minutes.
func (s *Server) EvaluateBudget(ctx context.Context, req EvaluateBudgetRequestObject) (EvaluateBudgetResponseObject, error) {
	var answer BudgetEvaluation
	var position *int64
	err := again(nil, func() error {
		state, version, err := s.loadBudget(ctx, req.BudgetId)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, state.OrganisationID, "organisation whose budget it is"); err != nil {
			return err
		}
		if state.State == budget.StateClosed {
			return domain.InState("api.EvaluateBudget", "budget", state.ID, state.State).WithHint("open another one")
		}
		now := s.now()
		spent, upTo, err := billing.SpentOn(ctx, s.Log, s.usage(), *s.Queries, []budget.State{state}, now)
		if err != nil {
			return err
		}
		decided, err := budget.Decide(state, budget.Evaluate{Spent: spent[0], LogPosition: int64(upTo), At: now})
		if err != nil {
			return err
		}
		answer = BudgetEvaluation{
			Budget: budgetView(evolved(state, budget.Evolve, decided)), Spent: spent[0], AsOf: now, LogPosition: int64(upTo),
		}
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(budget.Stream(state.ID), version, decided...)}},
			http.StatusOK, answer, state.OrganisationID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return EvaluateBudget200JSONResponse{Body: answer, Headers: EvaluateBudget200ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListBudgetAlerts lists the alerts of the caller's budgets; an operator sees all.
func (s *Server) ListBudgetAlerts(ctx context.Context, req ListBudgetAlertsRequestObject) (ListBudgetAlertsResponseObject, error) {
	p := req.Params
	found, next, err := s.Queries.BudgetAlertsOf(ctx, viewer(ctx), projections.AlertSearch{
		BudgetID: valueOr(p.BudgetId, ""), Month: valueOr(p.Month, ""), Limit: valueOr(p.Limit, 100), PageToken: valueOr(p.PageToken, ""),
	})
	if err != nil {
		return nil, err
	}
	page := BudgetAlertPage{Items: []BudgetAlert{}, NextPageToken: optional(next)}
	for _, e := range found {
		page.Items = append(page.Items, BudgetAlert{
			BudgetId: e.BudgetID, Name: optional(e.Name), Month: e.Month, Percent: e.Percent, Amount: e.Amount, Spent: e.Spent, At: e.At,
		})
	}
	return ListBudgetAlerts200JSONResponse(page), nil
}

func budgetView(s budget.State) Budget {
	v := Budget{
		Id: s.ID, OrganisationId: s.OrganisationID, State: BudgetState(s.State), Name: s.Terms.Name,
		Scope: BudgetScope{Kind: BudgetScopeKind(s.Scope.Kind), Id: &s.Scope.ID}, Amount: s.Terms.Amount,
		Thresholds: append([]int{}, s.Terms.Thresholds...), Alerts: []BudgetAlert{}, OpenedAt: s.OpenedAt, ClosedAt: s.ClosedAt,
	}
	for _, a := range s.Alerts {
		v.Alerts = append(v.Alerts, BudgetAlert{
			BudgetId: s.ID, Name: optional(s.Terms.Name), Month: s.Month, Percent: a.Percent, Amount: a.Amount, Spent: a.Spent, At: a.At,
		})
	}
	return v
}
