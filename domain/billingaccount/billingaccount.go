// Package billingaccount is whom an organisation's invoices are made out to: legal name, address, tax identifiers, invoice
// currency, purchase order. An organisation has several, of which one is the default.
//
// It checks that a tax identifier can be one ([CheckTaxID]), never that it is somebody's: only an authority knows that. It
// computes no tax. Start reading at [State], then [Decide].
package billingaccount

import (
	"fmt"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/subject"
)

// States of a billing account. Closed is final.
const (
	StateOpen   = "open"
	StateClosed = "closed"
)

// Kinds of holders.
const (
	HolderCompany = "company"
	HolderPerson  = "person" // a sole trader, say: name and address are somebody's personal data
)

// Address is where invoices are made out to.
type Address struct {
	Lines      []string       `json:"lines,omitempty"` // street and what stands above it
	PostalCode string         `json:"postal_code,omitempty"`
	City       string         `json:"city,omitempty"`
	Region     string         `json:"region,omitempty"`
	Country    domain.Country `json:"country"`
}

// Holder is who owes what is invoiced.
type Holder struct {
	Kind      string   `json:"kind"`
	LegalName string   `json:"legal_name"`
	Address   *Address `json:"address,omitempty"` // nil: not known yet
}

// Contact is who the invoices are sent to. Both texts are taken to be about a person.
type Contact struct {
	Email string `json:"email"`
	Name  string `json:"name,omitempty"`
}

// TaxID is a tax identifier, as [CheckTaxID] returns it.
type TaxID struct {
	Country domain.Country `json:"country"`
	Number  string         `json:"number"`
}

// Details are all of an account that can be changed.
type Details struct {
	Name            string          `json:"name"` // what the organisation calls the account
	Holder          Holder          `json:"holder"`
	TaxIDs          []TaxID         `json:"tax_ids,omitempty"`          // one for each country at most
	InvoiceCurrency domain.Currency `json:"invoice_currency,omitempty"` // "": an invoice in each currency that was bought in
	PurchaseOrder   string          `json:"purchase_order,omitempty"`   // the customer's reference, on every invoice
	Contact         *Contact        `json:"contact,omitempty"`
	// Endpoint is the electronic address that invoices are sent to (EN 16931 BT-49): a scheme of the EAS code list and an
	// identifier in it.
	EndpointScheme string `json:"endpoint_scheme,omitempty"`
	EndpointID     string `json:"endpoint_id,omitempty"`
	// PersonID is the pseudonym of whom the personal texts are about; "" is the account itself. A member's id makes
	// erasing the member reach the account too. After an erasure only another person can be recorded.
	PersonID string `json:"person_id,omitempty"`
}

// Opened says that an organisation has another billing account.
type Opened struct {
	BillingAccountID string    `json:"billing_account_id"`
	OrganisationID   string    `json:"organisation_id"`
	Details          Details   `json:"details"`
	At               time.Time `json:"at"`
}

// Changed says that an account's details are others from now on: all of them, as they then are.
type Changed struct {
	BillingAccountID string    `json:"billing_account_id"`
	OrganisationID   string    `json:"organisation_id"`
	Details          Details   `json:"details"`
	At               time.Time `json:"at"`
}

// MadeDefault says that the account is the organisation's default. It stands beside [DefaultSet], in the account's own
// stream, so that no account can be closed while it becomes the default.
type MadeDefault struct {
	BillingAccountID string    `json:"billing_account_id"`
	At               time.Time `json:"at"`
}

// Closed says that nothing new is billed to the account.
type Closed struct {
	BillingAccountID string    `json:"billing_account_id"`
	At               time.Time `json:"at"`
}

// DefaultSet says which account an organisation's orders are billed to when they name none.
type DefaultSet struct {
	OrganisationID   string    `json:"organisation_id"`
	BillingAccountID string    `json:"billing_account_id"`
	At               time.Time `json:"at"`
}

// EventType is the name in the log.
func (Opened) EventType() string { return "billing_account.opened" }

// EventType is the name in the log.
func (Changed) EventType() string { return "billing_account.changed" }

// EventType is the name in the log.
func (MadeDefault) EventType() string { return "billing_account.made_default" }

// EventType is the name in the log.
func (Closed) EventType() string { return "billing_account.closed" }

// EventType is the name in the log.
func (DefaultSet) EventType() string { return "billing_default.set" }

// MapPersonal implements [domain.Personal].
func (e Opened) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	e.Details = e.Details.mapPersonal(e.OrganisationID, e.BillingAccountID, f)
	return e
}

// MapPersonal implements [domain.Personal].
func (e Changed) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	e.Details = e.Details.mapPersonal(e.OrganisationID, e.BillingAccountID, f)
	return e
}

// mapPersonal maps the contact, and of a holder who is a person all but kind and country. What a company is called, where
// it is, its tax identifiers and its electronic address are no personal data; a person's are.
func (d Details) mapPersonal(organisationID, accountID string, f func(domain.PersonalField) string) Details {
	about := subject.Of(organisationID, d.Person(accountID))
	field := func(name, text string) string {
		if text == "" {
			return ""
		}
		return f(domain.PersonalField{Subject: about, Name: name, Text: text})
	}
	if c := d.Contact; c != nil {
		d.Contact = &Contact{Email: field("contact.email", c.Email), Name: field("contact.name", c.Name)}
	}
	if d.Holder.Kind != HolderPerson {
		return d
	}
	d.Holder.LegalName = field("holder.legal_name", d.Holder.LegalName)
	d.EndpointID = field("endpoint_id", d.EndpointID)
	if a := d.Holder.Address; a != nil {
		mapped := Address{PostalCode: field("holder.postal_code", a.PostalCode), City: field("holder.city", a.City),
			Region: field("holder.region", a.Region), Country: a.Country}
		for i, line := range a.Lines {
			mapped.Lines = append(mapped.Lines, field(fmt.Sprintf("holder.lines.%d", i), line))
		}
		d.Holder.Address = &mapped
	}
	d.TaxIDs = slices.Clone(d.TaxIDs)
	for i, t := range d.TaxIDs {
		d.TaxIDs[i].Number = field("tax_id."+string(t.Country), t.Number)
	}
	return d
}

// Person returns the pseudonym of whom the personal texts are about.
func (d Details) Person(accountID string) string {
	if d.PersonID == "" {
		return accountID
	}
	return d.PersonID
}

// Events returns one zero value of every event type of this package: those of an account's own stream, and DefaultSet.
func Events() []domain.Event {
	return []domain.Event{Opened{}, Changed{}, MadeDefault{}, Closed{}, DefaultSet{}}
}

// Stream names the stream of one billing account.
func Stream(id string) string { return "billing_account-" + id }

// DefaultStream names the stream of an organisation's choice of a default.
func DefaultStream(organisationID string) string { return "billing_default-" + organisationID }

// State is what is known of a billing account. The zero State is one that does not exist.
type State struct {
	ID             string     `json:"id"`
	OrganisationID string     `json:"organisation_id"`
	State          string     `json:"state"`
	Details        Details    `json:"details"`
	OpenedAt       time.Time  `json:"opened_at"`
	ClosedAt       *time.Time `json:"closed_at,omitempty"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Opened:
		return State{ID: e.BillingAccountID, OrganisationID: e.OrganisationID, State: StateOpen, Details: e.Details, OpenedAt: e.At}
	case Changed:
		s.Details = e.Details
	case Closed:
		s.State, s.ClosedAt = StateClosed, &e.At
	}
	return s
}

// DefaultState is an organisation's default account; the zero DefaultState is none.
type DefaultState struct {
	OrganisationID   string `json:"organisation_id"`
	BillingAccountID string `json:"billing_account_id"`
}

// EvolveDefault returns the state after the event.
func EvolveDefault(s DefaultState, e domain.Event) DefaultState {
	if e, ok := e.(DefaultSet); ok {
		return DefaultState{e.OrganisationID, e.BillingAccountID}
	}
	return s
}
