// Package connectedaccount is a provider's account at the payment processor: what its payouts are moved to, and whether it
// can take any.
//
// The processor identifies the provider and asks it for what the law wants to know; none of that is here. Start reading at
// [State], then [Decide].
package connectedaccount

import (
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/payment"
)

// Limits on a connected account.
const (
	MaxReference    = 255 // characters, as the processor's ids have
	MaxRequirements = 100
)

// Requested says that an account is about to be made.
type Requested struct {
	OrganisationID string         `json:"organisation_id"`
	Processor      string         `json:"processor"`
	Country        domain.Country `json:"country"` // where the provider is established
	At             time.Time      `json:"at"`
}

// Opened says under which reference the processor has it.
type Opened struct {
	OrganisationID string    `json:"organisation_id"`
	Account        string    `json:"account"` // acct_…
	At             time.Time `json:"at"`
}

// Changed says what the account can do now.
type Changed struct {
	OrganisationID string    `json:"organisation_id"`
	Transfers      bool      `json:"transfers"`    // it takes payouts
	BankPayouts    bool      `json:"bank_payouts"` // what is on it can be paid to the provider's bank account
	Requirements   []string  `json:"requirements"` // that the processor still waits for, as it names them
	At             time.Time `json:"at"`
}

// EventType is the name in the log.
func (Requested) EventType() string { return "connected_account.requested" }

// EventType is the name in the log.
func (Opened) EventType() string { return "connected_account.opened" }

// EventType is the name in the log.
func (Changed) EventType() string { return "connected_account.changed" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Requested{}, Opened{}, Changed{}} }

// Stream names the stream of an organisation's account.
func Stream(organisationID string) string { return "connected_account-" + organisationID }

// State is an organisation's account. The zero State is one that does not exist.
type State struct {
	OrganisationID string         `json:"organisation_id"`
	Processor      string         `json:"processor"`
	Country        domain.Country `json:"country"`
	Account        string         `json:"account,omitempty"` // "": it may be made already: nobody knows until the processor answered
	Transfers      bool           `json:"transfers"`
	BankPayouts    bool           `json:"bank_payouts"`
	Requirements   []string       `json:"requirements"`
	RequestedAt    time.Time      `json:"requested_at"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Requested:
		return State{OrganisationID: e.OrganisationID, Processor: e.Processor, Country: e.Country, Requirements: []string{}, RequestedAt: e.At}
	case Opened:
		s.Account = e.Account
	case Changed:
		s.Transfers, s.BankPayouts, s.Requirements = e.Transfers, e.BankPayouts, slices.Clone(e.Requirements)
	}
	return s
}

// Command is what can be asked of a connected account.
type Command interface{ command() }

// Request is the intention to make one. One that is there already stays as it is.
type Request struct {
	OrganisationID string
	Processor      string
	Country        domain.Country
	At             time.Time
}

// Open records the processor's reference. The same again does nothing.
type Open struct {
	Account string
	At      time.Time
}

// Change records what the account can do now. The same again does nothing.
type Change struct {
	Transfers    bool
	BankPayouts  bool
	Requirements []string
	At           time.Time
}

func (Request) command() {}
func (Open) command()    {}
func (Change) command()  {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, NotFound for an
// account that does not exist, and a Conflict for one that is in another country or has another reference.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "connectedaccount.Decide"
	var p domain.Problems
	if c, ok := c.(Request); ok {
		p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
		p.OneOf("/processor", c.Processor, payment.Stripe)
		p.Country("/country", c.Country)
		p.Time("/at", c.At)
		switch {
		case len(p) > 0:
			return nil, p.Err(op)
		case s.OrganisationID != "" && s.Country != c.Country:
			return nil, domain.Differs(op, "connected account of", s.OrganisationID, "country")
		case s.OrganisationID != "":
			return nil, nil
		}
		return []domain.Event{Requested{c.OrganisationID, c.Processor, c.Country, domain.Instant(c.At)}}, nil
	}
	if s.OrganisationID == "" {
		return nil, domain.Missing(op, "connected account")
	}
	switch c := c.(type) {
	case Open:
		p.Text("/account", c.Account, MaxReference)
		p.Time("/at", c.At)
		switch {
		case len(p) > 0:
			return nil, p.Err(op)
		case s.Account == c.Account:
			return nil, nil
		case s.Account != "":
			return nil, domain.Differs(op, "connected account of", s.OrganisationID, "reference")
		}
		return []domain.Event{Opened{s.OrganisationID, c.Account, domain.Instant(c.At)}}, nil
	case Change:
		p.Check(len(c.Requirements) <= MaxRequirements, "/requirements", "must hold at most %d", MaxRequirements)
		for i, r := range c.Requirements {
			p.Text(domain.Pointer("/requirements", i), r, MaxReference)
		}
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.Account == "" {
			return nil, domain.Errorf(domain.Conflict, op, "the account of %s is not known yet", s.OrganisationID).WithHint("open it first")
		}
		requirements := append([]string{}, c.Requirements...)
		slices.Sort(requirements)
		if s.Transfers == c.Transfers && s.BankPayouts == c.BankPayouts && slices.Equal(s.Requirements, requirements) {
			return nil, nil
		}
		return []domain.Event{Changed{s.OrganisationID, c.Transfers, c.BankPayouts, requirements, domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
