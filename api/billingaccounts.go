package api

import (
	"context"
	"net/http"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/events"
)

// firstAccountName is what the account is called that a customer is registered with.
const firstAccountName = "Default"

// firstBillingAccount makes the append of a new organisation's default account, made out to the organisation's name.
func (s *Server) firstBillingAccount(organisationID, name string) ([]events.StreamAppend, error) {
	id, err := s.newID(domain.PrefixBillingAccount)
	if err != nil {
		return nil, err
	}
	opened, err := billingaccount.Decide(billingaccount.State{}, billingaccount.Open{
		BillingAccountID: id, OrganisationID: organisationID, At: s.now(), Details: billingaccount.Details{
			Name: firstAccountName, Holder: billingaccount.Holder{Kind: billingaccount.HolderCompany, LegalName: name},
		},
	})
	if err != nil {
		return nil, err
	}
	account := evolved(billingaccount.State{}, billingaccount.Evolve, opened)
	return []events.StreamAppend{
		appendTo(billingaccount.Stream(id), 0, opened...),
		appendTo(billingaccount.DefaultStream(organisationID), 0, billingaccount.DecideDefault(billingaccount.DefaultState{}, account, s.now())...),
	}, nil
}

func (s *Server) loadBillingAccount(ctx context.Context, id string) (billingaccount.State, int64, error) {
	return load(ctx, s, "billing account", id, billingaccount.Stream(id), billingaccount.Evolve,
		func(a billingaccount.State) []string { return []string{a.OrganisationID} })
}

func (s *Server) loadBillingDefault(ctx context.Context, organisationID string) (billingaccount.DefaultState, int64, error) {
	return events.Load(ctx, s.Log, billingaccount.DefaultStream(organisationID), billingaccount.EvolveDefault)
}

// ownBillingAccount returns an account that the caller's organisation may bill to, or a problem at the pointer.
func (s *Server) ownBillingAccount(ctx context.Context, id, pointer string) (billingaccount.State, error) {
	account, _, err := events.Load(ctx, s.Log, billingaccount.Stream(id), billingaccount.Evolve)
	if err != nil {
		return account, err
	}
	var p domain.Problems
	switch {
	case account.OrganisationID != callerFrom(ctx).OrganisationID: // an account of another is as unknown as none
		p.Add(pointer, "is not a billing account of the organisation")
	case account.State != billingaccount.StateOpen:
		p.Add(pointer, "is a closed billing account")
	}
	return account, p.Err("api.ownBillingAccount")
}

// billedTo is the billing account that an order names, or "" for the default.
func (s *Server) billedTo(ctx context.Context, named *string) (string, error) {
	if named == nil {
		return "", nil
	}
	account, err := s.ownBillingAccount(ctx, *named, "/billing_account_id")
	return account.ID, err
}

// OpenBillingAccount opens an account of the caller's organisation, its first as the default.
func (s *Server) OpenBillingAccount(ctx context.Context, req OpenBillingAccountRequestObject) (OpenBillingAccountResponseObject, error) {
	organisationID := callerFrom(ctx).OrganisationID
	var answer BillingAccount
	var position *int64
	err := again(nil, func() error {
		id, err := s.newID(domain.PrefixBillingAccount)
		if err != nil {
			return err
		}
		opened, err := billingaccount.Decide(billingaccount.State{}, billingaccount.Open{
			BillingAccountID: id, OrganisationID: organisationID, Details: *req.Body, At: s.now(),
		})
		if err != nil {
			return err
		}
		chosen, version, err := s.loadBillingDefault(ctx, organisationID)
		if err != nil {
			return err
		}
		account := evolved(billingaccount.State{}, billingaccount.Evolve, opened)
		a := events.Append{Streams: []events.StreamAppend{appendTo(billingaccount.Stream(id), 0, opened...)}}
		if version == 0 {
			set := billingaccount.DecideDefault(chosen, account, s.now())
			a.Streams = append(a.Streams, appendTo(billingaccount.DefaultStream(organisationID), 0, set...))
			chosen = evolved(chosen, billingaccount.EvolveDefault, set)
		}
		answer = billingAccountView(account, chosen)
		position, err = s.commit(ctx, a, http.StatusCreated, answer, organisationID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return OpenBillingAccount201JSONResponse{Body: answer, Headers: OpenBillingAccount201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListBillingAccounts lists the accounts of the caller's organisation; an operator sees all. The list is found in the read
// model and told from the log, which alone has the texts about persons.
func (s *Server) ListBillingAccounts(ctx context.Context, req ListBillingAccountsRequestObject) (ListBillingAccountsResponseObject, error) {
	found, next, err := s.Queries.BillingAccountsOf(ctx, viewer(ctx), valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := BillingAccountPage{Items: []BillingAccount{}, NextPageToken: optional(next)}
	defaults := make(map[string]billingaccount.DefaultState)
	for _, listed := range found {
		account, _, err := s.loadBillingAccount(ctx, listed.ID)
		if err != nil {
			return nil, err
		}
		chosen, known := defaults[account.OrganisationID]
		if !known {
			if chosen, _, err = s.loadBillingDefault(ctx, account.OrganisationID); err != nil {
				return nil, err
			}
			defaults[account.OrganisationID] = chosen
		}
		page.Items = append(page.Items, billingAccountView(account, chosen))
	}
	return ListBillingAccounts200JSONResponse(page), nil
}

// GetBillingAccount shows an account to its organisation.
func (s *Server) GetBillingAccount(ctx context.Context, req GetBillingAccountRequestObject) (GetBillingAccountResponseObject, error) {
	account, version, err := s.loadBillingAccount(ctx, req.BillingAccountId)
	if err != nil {
		return nil, err
	}
	chosen, _, err := s.loadBillingDefault(ctx, account.OrganisationID)
	if err != nil {
		return nil, err
	}
	return GetBillingAccount200JSONResponse{
		Body: billingAccountView(account, chosen), Headers: GetBillingAccount200ResponseHeaders{ETag: etag(version)},
	}, nil
}

// ChangeBillingAccount replaces the account's details.
func (s *Server) ChangeBillingAccount(ctx context.Context, req ChangeBillingAccountRequestObject) (ChangeBillingAccountResponseObject, error) {
	view, position, err := s.changeBillingAccount(ctx, req.BillingAccountId, req.Params.IfMatch,
		func(billingaccount.DefaultState) billingaccount.Command {
			return billingaccount.Change{Details: *req.Body, At: s.now()}
		})
	if err != nil {
		return nil, err
	}
	return ChangeBillingAccount200JSONResponse{Body: view, Headers: ChangeBillingAccount200ResponseHeaders{CrossbillPosition: position}}, nil
}

// MakeBillingAccountDefault makes the account the one that orders are billed to when they name none.
func (s *Server) MakeBillingAccountDefault(ctx context.Context, req MakeBillingAccountDefaultRequestObject) (MakeBillingAccountDefaultResponseObject, error) {
	view, position, err := s.changeBillingAccount(ctx, req.BillingAccountId, req.Params.IfMatch,
		func(chosen billingaccount.DefaultState) billingaccount.Command {
			return billingaccount.MakeDefault{Default: chosen, At: s.now()}
		})
	if err != nil {
		return nil, err
	}
	return MakeBillingAccountDefault200JSONResponse{Body: view, Headers: MakeBillingAccountDefault200ResponseHeaders{CrossbillPosition: position}}, nil
}

// CloseBillingAccount closes the account, unless it is the default.
func (s *Server) CloseBillingAccount(ctx context.Context, req CloseBillingAccountRequestObject) (CloseBillingAccountResponseObject, error) {
	view, position, err := s.changeBillingAccount(ctx, req.BillingAccountId, req.Params.IfMatch,
		func(chosen billingaccount.DefaultState) billingaccount.Command {
			return billingaccount.Close{Default: chosen, At: s.now()}
		})
	if err != nil {
		return nil, err
	}
	return CloseBillingAccount200JSONResponse{Body: view, Headers: CloseBillingAccount200ResponseHeaders{CrossbillPosition: position}}, nil
}

// changeBillingAccount decides a command on the account as it is, and on the organisation's choice of a default, which
// MakeDefault changes in the same append.
func (s *Server) changeBillingAccount(ctx context.Context, id string, ifMatch *string,
	command func(billingaccount.DefaultState) billingaccount.Command) (view BillingAccount, position *int64, _ error) {
	return view, position, again(ifMatch, func() error {
		account, version, err := s.loadBillingAccount(ctx, id)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, account.OrganisationID, "organisation whose account it is"); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		chosen, choices, err := s.loadBillingDefault(ctx, account.OrganisationID)
		if err != nil {
			return err
		}
		c := command(chosen)
		decided, err := billingaccount.Decide(account, c)
		if err != nil {
			return err
		}
		account = evolved(account, billingaccount.Evolve, decided)
		a := events.Append{Streams: []events.StreamAppend{appendTo(billingaccount.Stream(id), version, decided...)}}
		if _, choice := c.(billingaccount.MakeDefault); choice {
			set := billingaccount.DecideDefault(chosen, account, s.now())
			a.Streams = append(a.Streams, appendTo(billingaccount.DefaultStream(account.OrganisationID), choices, set...))
			chosen = evolved(chosen, billingaccount.EvolveDefault, set)
		}
		view = billingAccountView(account, chosen)
		if len(decided) == 0 {
			return nil
		}
		position, err = s.commit(ctx, a, http.StatusOK, view, account.OrganisationID)
		return err
	})
}

func billingAccountView(s billingaccount.State, chosen billingaccount.DefaultState) BillingAccount {
	v := BillingAccount{
		Id: s.ID, OrganisationId: s.OrganisationID, State: BillingAccountState(s.State), IsDefault: chosen.BillingAccountID == s.ID,
		Details: s.Details, TaxIdChecks: []TaxIDCheck{}, OpenedAt: s.OpenedAt, ClosedAt: s.ClosedAt,
	}
	for _, id := range s.Details.TaxIDs {
		_, checked, err := billingaccount.CheckTaxID(id.Country, id.Number)
		if err != nil { // erased, or of before a rule became stricter
			checked = billingaccount.CheckedNone
		}
		v.TaxIdChecks = append(v.TaxIdChecks, TaxIDCheck{Country: string(id.Country), Checked: TaxIDCheckChecked(checked)})
	}
	return v
}
