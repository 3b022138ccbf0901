package stripe

import (
	"context"
	"time"

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
	"crossbill/domain/connectedaccount"
)

// Onboarding is where a provider tells Stripe who it is, and how far that is.
type Onboarding struct {
	connectedaccount.State
	URL       string // of Stripe's pages; a secret that is good for one visit
	ExpiresAt time.Time
}

// Connect returns the way to a provider's account at Stripe, and makes the account if there is none. Stripe identifies the
// provider on pages of its own; what it is told there never comes here.
//
// Errors: Conflict for an account that is in another country; the others as [Client.CustomerFor].
func (m *Mover) Connect(ctx context.Context, organisationID string, country domain.Country, returnURL, refreshURL string) (Onboarding, error) {
	const op = "stripe.Connect"
	s, err := m.recordAccount(ctx, organisationID, "", connectedaccount.Request{OrganisationID: organisationID, Processor: "stripe", Country: country, At: m.now()})
	if err != nil {
		return Onboarding{}, err
	}
	if s.Account == "" {
		made, err := m.makeAccount(ctx, s)
		if err != nil {
			return Onboarding{}, failed(op, err)
		}
		if s, err = m.recordAccount(ctx, organisationID, "", connectedaccount.Open{Account: made.ID, At: m.now()}); err != nil {
			return Onboarding{}, err
		}
	}
	params := &stripe.AccountLinkParams{
		Account: &s.Account, ReturnURL: &returnURL, RefreshURL: &refreshURL, Type: stripe.String(string(stripe.AccountLinkTypeAccountOnboarding)),
	}
	params.Context = ctx
	link, err := m.Client.links.New(params) // it makes nothing that could be there twice
	if err != nil {
		return Onboarding{}, failed(op, err)
	}
	return Onboarding{State: s, URL: link.URL, ExpiresAt: time.Unix(link.ExpiresAt, 0).UTC()}, nil
}

// makeAccount makes the account that was asked for: one that takes transfers and is paid out by Stripe to the provider's
// bank, with Stripe's own pages for all of it.
func (m *Mover) makeAccount(ctx context.Context, s connectedaccount.State) (*stripe.Account, error) {
	if m.now().Sub(s.RequestedAt) > keyTrusted {
		params := &stripe.AccountListParams{}
		params.Context = ctx
		found := m.Client.accounts.List(params)
		for found.Next() {
			if one := found.Account(); one.Metadata[MetadataOrganisation] == s.OrganisationID {
				return one, nil
			}
		}
		if err := found.Err(); err != nil {
			return nil, err
		}
	}
	params := &stripe.AccountParams{
		Type: stripe.String(string(stripe.AccountTypeExpress)), Country: stripe.String(string(s.Country)),
		Capabilities: &stripe.AccountCapabilitiesParams{Transfers: &stripe.AccountCapabilitiesTransfersParams{Requested: stripe.Bool(true)}},
		Metadata:     map[string]string{MetadataOrganisation: s.OrganisationID},
	}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-account-" + s.OrganisationID)
	return m.Client.accounts.New(params)
}

// Account returns an organisation's account as the log has it; the zero State if there is none.
func (m *Mover) Account(ctx context.Context, organisationID string) (connectedaccount.State, error) {
	s, _, err := load(ctx, m.Log, connectedaccount.Stream(organisationID), connectedaccount.Evolve)
	return s, err
}

// lookAtAccount records what an account can do now. One that is not of this log is none of its business.
func (m *Mover) lookAtAccount(ctx context.Context, id, cause string) error {
	params := &stripe.AccountParams{}
	params.Context = ctx
	a, err := m.Client.accounts.GetByID(id, params)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return failed("stripe.account", err)
	}
	organisationID := a.Metadata[MetadataOrganisation]
	if !domain.ValidID(domain.PrefixOrganisation, organisationID) {
		return nil
	}
	s, err := m.Account(ctx, organisationID)
	if err != nil || s.OrganisationID == "" {
		return err
	}
	if s.Account == "" { // its answer was lost; this is it
		if _, err := m.recordAccount(ctx, organisationID, cause, connectedaccount.Open{Account: a.ID, At: m.now()}); err != nil {
			return err
		}
	} else if s.Account != a.ID {
		return nil
	}
	change := connectedaccount.Change{BankPayouts: a.PayoutsEnabled, At: m.now()}
	change.Transfers = a.Capabilities != nil && a.Capabilities.Transfers == stripe.AccountCapabilityStatusActive
	if a.Requirements != nil {
		for _, r := range a.Requirements.CurrentlyDue[:min(len(a.Requirements.CurrentlyDue), connectedaccount.MaxRequirements)] {
			change.Requirements = append(change.Requirements, line(r, connectedaccount.MaxReference))
		}
	}
	_, err = m.recordAccount(ctx, organisationID, cause, change)
	return err
}

// recordAccount decides on an organisation's account. Only that organisation and the platform see it.
func (m *Mover) recordAccount(ctx context.Context, organisationID, cause string, c connectedaccount.Command) (connectedaccount.State, error) {
	return record(ctx, m.Log, decision[connectedaccount.State]{
		stream: connectedaccount.Stream(organisationID), evolve: connectedaccount.Evolve, cause: cause,
		decide:  func(s connectedaccount.State) ([]domain.Event, error) { return connectedaccount.Decide(s, c) },
		parties: func(connectedaccount.State) []string { return []string{organisationID} },
	})
}
