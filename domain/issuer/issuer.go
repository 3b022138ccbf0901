// Package issuer is who makes out the invoices: the platform's own legal person, as its invoices name it, its terms of
// payment and where it is paid. It is recorded, not configured, so that an invoice of last year still names what it named.
//
// It never says what is owed. Start reading at [Set], then [Decide].
package issuer

import (
	"reflect"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/tax"
)

// Limits on an issuer.
const (
	MaxTermsDays = 365
	MaxText      = 200 // characters of a registration, a bank's name or an address line
)

// Details are what documents say of their issuer.
type Details struct {
	LegalName    string                  `json:"legal_name"`
	Address      billingaccount.Address  `json:"address"`
	TaxIDs       []billingaccount.TaxID  `json:"tax_ids,omitempty"`      // one for each country at most
	Registration string                  `json:"registration,omitempty"` // in a company register (EN 16931 BT-30)
	Contact      *billingaccount.Contact `json:"contact,omitempty"`      // whom to ask: a role's, such as billing@…
	// Endpoint is the electronic address (EN 16931 BT-34): a scheme of the EAS code list and an identifier in it.
	EndpointScheme string `json:"endpoint_scheme,omitempty"`
	EndpointID     string `json:"endpoint_id,omitempty"`
	IBAN           string `json:"iban,omitempty"` // where a transfer goes (BT-84)
	BIC            string `json:"bic,omitempty"`
	TermsDays      int    `json:"terms_days"` // a document is due so many days after it is issued
}

// Party returns what of the issuer decides on tax.
func (d Details) Party() tax.Party {
	p := tax.Party{Country: d.Address.Country}
	for _, id := range d.TaxIDs {
		p.Registered = append(p.Registered, id.Country)
	}
	return p
}

// Set says what the issuer's details are from now on: all of them. Documents name them by their version.
type Set struct {
	Issuer  string    `json:"issuer"`
	Version int       `json:"version"` // counts from 1; the version of the stream
	Details Details   `json:"details"`
	At      time.Time `json:"at"`
}

// EventType is the name in the log.
func (Set) EventType() string { return "issuer.set" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Set{}} }

// Stream names the stream of an issuer.
func Stream(issuer string) string { return "issuer-" + issuer }

// State is an issuer. The zero State is one that is not known yet: its documents name no tax, no address and no due date.
type State struct {
	Issuer  string    `json:"issuer"`
	Version int       `json:"version"`
	Details Details   `json:"details"`
	At      time.Time `json:"at"`
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Set); ok {
		return State(e)
	}
	return s
}

// Change sets the details.
type Change struct {
	Issuer  string
	Details Details
	At      time.Time
}

// Decide returns the events that a command makes of a state; details that are set already make none. It returns an
// Invalid error for wrong fields.
func Decide(s State, c Change) ([]domain.Event, error) {
	var p domain.Problems
	p.Text("/issuer", c.Issuer, MaxText)
	p.Time("/at", c.At)
	d := c.Details
	p.Text("/legal_name", d.LegalName, MaxText)
	p.Country("/address/country", d.Address.Country)
	for i, line := range d.Address.Lines {
		p.Text(domain.Pointer("/address/lines", i), line, MaxText)
	}
	p.OptionalText("/address/postal_code", d.Address.PostalCode, MaxText)
	p.OptionalText("/address/city", d.Address.City, MaxText)
	p.OptionalText("/address/region", d.Address.Region, MaxText)
	p.OptionalText("/registration", d.Registration, MaxText)
	seen := make(map[domain.Country]bool)
	for i, id := range d.TaxIDs {
		at := domain.Pointer("/tax_ids", i)
		p.Country(at+"/country", id.Country)
		p.Check(!seen[id.Country], at+"/country", "is that of an earlier identifier")
		seen[id.Country] = true
		number, _, err := billingaccount.CheckTaxID(id.Country, id.Number)
		if err != nil {
			p.Add(at+"/number", "can't be a tax identifier of %s", id.Country)
			continue
		}
		d.TaxIDs = append(d.TaxIDs[:i:i], append([]billingaccount.TaxID{{Country: id.Country, Number: number}}, d.TaxIDs[i+1:]...)...)
	}
	if d.Contact != nil {
		p.Text("/contact/email", d.Contact.Email, MaxText)
		p.OptionalText("/contact/name", d.Contact.Name, MaxText)
	}
	billingaccount.CheckEndpoint(&p, d.EndpointScheme, d.EndpointID)
	d.IBAN = strings.ToUpper(strings.ReplaceAll(d.IBAN, " ", ""))
	p.Check(d.IBAN == "" || validIBAN(d.IBAN), "/iban", "is no IBAN: its check digits are wrong (ISO 13616)")
	p.OptionalText("/bic", d.BIC, MaxText)
	p.Check(d.TermsDays >= 0 && d.TermsDays <= MaxTermsDays, "/terms_days", "must be 0 to %d", MaxTermsDays)
	if err := p.Err("issuer.Decide"); err != nil {
		return nil, err
	}
	if s.Version > 0 && reflect.DeepEqual(s.Details, d) {
		return nil, nil
	}
	return []domain.Event{Set{Issuer: c.Issuer, Version: s.Version + 1, Details: d, At: domain.Instant(c.At)}}, nil
}

// validIBAN checks length, characters and the check digits of ISO 7064 (MOD 97-10).
func validIBAN(iban string) bool {
	if len(iban) < 15 || len(iban) > 34 {
		return false
	}
	rest := 0
	for _, c := range iban[4:] + iban[:4] {
		switch {
		case c >= '0' && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		case c >= 'A' && c <= 'Z':
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return rest == 1
}
