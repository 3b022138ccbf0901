package billingaccount

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"crossbill/domain"
)

// Limits on a billing account, in characters where nothing else is said.
const (
	MaxName          = 120
	MaxLegalName     = 200
	MaxAddressLines  = 3 // lines
	MaxAddressText   = 120
	MaxPurchaseOrder = 60
	MaxEmail         = 254 // RFC 5321 section 4.5.3.1.3, as corrected by erratum 1690
	MaxTaxIDs        = 40  // tax identifiers
	MaxPersonID      = 60
)

// Command is what can be asked of a billing account.
type Command interface{ command() }

// Open makes an account.
type Open struct {
	BillingAccountID string
	OrganisationID   string
	Details          Details
	At               time.Time
}

// Change puts other details in the place of all that there are. The same details again do nothing.
type Change struct {
	Details Details
	At      time.Time
}

// MakeDefault makes the account the organisation's default. What it needs to know, Default, is the organisation's choice
// so far; the events of [DecideDefault] belong to the same append.
type MakeDefault struct {
	Default DefaultState
	At      time.Time
}

// Close ends the account: nothing new is billed to it. Default is the organisation's choice: that one can't be closed.
type Close struct {
	Default DefaultState
	At      time.Time
}

func (Open) command()        {}
func (Change) command()      {}
func (MakeDefault) command() {}
func (Close) command()       {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, with pointers
// into the details; NotFound for an account that does not exist; a Conflict for one that exists already, is closed, or is
// to be closed while it is the default.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "billingaccount.Decide"
	if open, ok := c.(Open); ok {
		return open.decide(op, s)
	}
	if s.ID == "" {
		return nil, domain.Missing(op, "billing account")
	}
	var p domain.Problems
	switch c := c.(type) {
	case Change:
		details := c.Details.check(&p)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.State == StateClosed {
			return nil, closed(op, s.ID)
		}
		if reflect.DeepEqual(details, s.Details) {
			return nil, nil
		}
		return []domain.Event{Changed{s.ID, s.OrganisationID, details, domain.Instant(c.At)}}, nil
	case MakeDefault:
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.State == StateClosed {
			return nil, closed(op, s.ID)
		}
		if c.Default.BillingAccountID == s.ID {
			return nil, nil
		}
		return []domain.Event{MadeDefault{s.ID, domain.Instant(c.At)}}, nil
	case Close:
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.State == StateClosed {
			return nil, nil
		}
		if c.Default.BillingAccountID == s.ID {
			return nil, domain.Errorf(domain.Conflict, op, "the billing account %s is the organisation's default", s.ID).
				WithHint("make another one the default first")
		}
		return []domain.Event{Closed{s.ID, domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

func closed(op, id string) error {
	return domain.InState(op, "billing account", id, StateClosed).WithHint("open another one")
}

func (c Open) decide(op string, s State) ([]domain.Event, error) {
	if s.ID != "" {
		return nil, domain.Exists(op, "billing account", s.ID)
	}
	var p domain.Problems
	p.ID("/billing_account_id", domain.PrefixBillingAccount, c.BillingAccountID)
	p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
	details := c.Details.check(&p)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Opened{c.BillingAccountID, c.OrganisationID, details, domain.Instant(c.At)}}, nil
}

// DecideDefault returns the event that makes an account the default of an organisation, or none if it is already.
// Whether the account is the organisation's and open is decided by [Decide].
func DecideDefault(s DefaultState, account State, at time.Time) []domain.Event {
	if s.BillingAccountID == account.ID {
		return nil
	}
	return []domain.Event{DefaultSet{account.OrganisationID, account.ID, domain.Instant(at)}}
}

// check returns the details as they are recorded, with tax identifiers in their one form.
func (d Details) check(p *domain.Problems) Details {
	p.Text("/name", d.Name, MaxName)
	p.OneOf("/holder/kind", d.Holder.Kind, HolderCompany, HolderPerson)
	p.Text("/holder/legal_name", d.Holder.LegalName, MaxLegalName)
	if a := d.Holder.Address; a != nil {
		d.Holder.Address = a.check(p)
	}
	p.Check(d.InvoiceCurrency == "" || d.InvoiceCurrency.Valid(), "/invoice_currency", "%.10q is not a currency that is billed in", string(d.InvoiceCurrency))
	p.OptionalText("/purchase_order", d.PurchaseOrder, MaxPurchaseOrder)
	if c := d.Contact; c != nil {
		p.Check(validEmail(c.Email), "/contact/email", "must be an e-mail address of at most %d characters", MaxEmail)
		p.OptionalText("/contact/name", c.Name, MaxName)
		contact := *c
		d.Contact = &contact
	}
	CheckEndpoint(p, d.EndpointScheme, d.EndpointID)
	p.Check(validPersonID(d.PersonID), "/person_id", "must be a pseudonym of at most %d of a-z, A-Z, 0-9, - and _", MaxPersonID)
	d.TaxIDs = checkTaxIDs(p, d.TaxIDs)
	return d
}

func checkTaxIDs(p *domain.Problems, ids []TaxID) []TaxID {
	if len(ids) > MaxTaxIDs {
		p.Add("/tax_ids", "must be at most %d", MaxTaxIDs)
		return nil
	}
	var checked []TaxID
	for i, id := range ids {
		at := domain.Pointer("/tax_ids", i)
		number, _, err := CheckTaxID(id.Country, id.Number)
		if err != nil {
			p.Add(at+"/number", "%v", err)
		}
		p.Country(at+"/country", id.Country)
		p.Check(!slices.ContainsFunc(ids[:i], func(other TaxID) bool { return other.Country == id.Country }), at+"/country", "has a tax identifier already")
		checked = append(checked, TaxID{id.Country, number})
	}
	return checked
}

func (a *Address) check(p *domain.Problems) *Address {
	p.Check(len(a.Lines) <= MaxAddressLines, "/holder/address/lines", "must be at most %d", MaxAddressLines)
	for i, line := range a.Lines {
		p.Text(domain.Pointer("/holder/address/lines", i), line, MaxAddressText)
	}
	p.OptionalText("/holder/address/postal_code", a.PostalCode, MaxAddressText)
	p.OptionalText("/holder/address/city", a.City, MaxAddressText)
	p.OptionalText("/holder/address/region", a.Region, MaxAddressText)
	p.Country("/holder/address/country", a.Country)
	checked := *a
	checked.Lines = slices.Clone(a.Lines)
	return &checked
}

// validEmail holds an address to what no mail system accepts otherwise: one part on either side of the last @, no blanks
// and nothing that is not printable. Whether anybody reads it is known once a mail was sent.
func validEmail(address string) bool {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || at == len(address)-1 || len(address) > MaxEmail || !strings.Contains(address[at:], ".") {
		return false
	}
	for i := range len(address) {
		if c := address[i]; c <= ' ' || c >= 0x7f || c == ',' || c == ';' || c == '<' || c == '>' {
			return false
		}
	}
	return strings.IndexByte(address[:at], '@') < 0
}

func validPersonID(id string) bool {
	if len(id) > MaxPersonID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
