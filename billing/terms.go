package billing

import (
	"context"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/exchangerate"
	"crossbill/domain/issuer"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
	"crossbill/events"
)

// Terms are what a document takes from whom it is made out to and by whom: names by reference, tax, currency, when it is
// due. The zero Terms know nothing: no tax, the plan's own currency.
type Terms struct {
	AccountID      string // the billing account; "" if the organisation has none
	AccountVersion int64  // of its stream
	IssuerVersion  int64
	PurchaseOrder  string
	TermsDays      int
	Treatment      *tax.Treatment // nil: the issuer, or the account, is not known

	currency domain.Currency // of the invoice; "": the plan's
}

// dueAt returns when a document that is issued at a time is due; nil if nobody said.
func (t Terms) dueAt(issued time.Time) *time.Time {
	if t.IssuerVersion == 0 {
		return nil
	}
	due := issued.UTC().AddDate(0, 0, t.TermsDays)
	return &due
}

// invoiced returns the currency that a plan of a currency is invoiced in.
func (t Terms) invoiced(plan domain.Currency) domain.Currency {
	if t.currency == "" {
		return plan
	}
	return t.currency
}

// conversion is an exchange rate and the event that says it.
type conversion struct {
	exchangerate.Version
	said ranges
}

// book looks up, as they were at one position of the log, what terms are made of. Each is read once.
type book struct {
	log  Log
	upTo events.Position
	at   time.Time // the end of the period: the rates in force then hold

	issuer      *issuer.State
	accounts    map[string]holderAccount
	defaults    map[string]string
	taxes       map[string]taxrate.State
	conversions map[string]*conversion
}

type holderAccount struct {
	billingaccount.State
	version int64
}

func newBook(log Log, upTo events.Position, period Period) *book {
	return &book{
		log: log, upTo: upTo, at: period.To, accounts: make(map[string]holderAccount), defaults: make(map[string]string),
		taxes: make(map[string]taxrate.State), conversions: make(map[string]*conversion),
	}
}

// customer returns the terms of what the platform invoices to an organisation's billing account; "" is the default one. Its
// error is a Conflict where a rate of tax is missing.
func (b *book) customer(ctx context.Context, organisationID, accountID string) (Terms, error) {
	a, err := b.accountOf(ctx, organisationID, accountID)
	if err != nil {
		return Terms{}, err
	}
	by, err := b.issuedBy(ctx)
	if err != nil {
		return Terms{}, err
	}
	t := Terms{
		AccountID: a.ID, AccountVersion: a.version, IssuerVersion: int64(by.Version), TermsDays: by.Details.TermsDays,
		PurchaseOrder: a.Details.PurchaseOrder, currency: a.Details.InvoiceCurrency,
	}
	if by.Version > 0 {
		t.Treatment, err = b.treat(ctx, by.Details.Party(), partyOf(a.Details))
	}
	return t, err
}

// provider returns the terms of what a provider, in whose name the platform makes it out, invoices to the platform.
func (b *book) provider(ctx context.Context, organisationID string) (Terms, error) {
	a, err := b.accountOf(ctx, organisationID, "")
	if err != nil {
		return Terms{}, err
	}
	by, err := b.issuedBy(ctx)
	if err != nil {
		return Terms{}, err
	}
	t := Terms{AccountID: a.ID, AccountVersion: a.version, IssuerVersion: int64(by.Version)}
	if by.Version > 0 && a.ID != "" && a.Details.Holder.Address != nil {
		t.Treatment, err = b.treat(ctx, partyOf(a.Details), by.Details.Party())
	}
	return t, err
}

func partyOf(d billingaccount.Details) tax.Party {
	var p tax.Party
	if d.Holder.Address != nil {
		p.Country = d.Holder.Address.Country
	}
	for _, id := range d.TaxIDs {
		p.Registered = append(p.Registered, id.Country)
	}
	return p
}

func (b *book) treat(ctx context.Context, seller, buyer tax.Party) (*tax.Treatment, error) {
	var failed error
	t, err := tax.Treat(seller, buyer, func(country domain.Country, category string) (rate taxrate.Version, ok bool) {
		name := taxrate.Stream(country, category)
		s, read := b.taxes[name]
		if !read {
			if s, _, failed = load(ctx, b.log, name, b.upTo, taxrate.Evolve); failed != nil {
				return rate, true
			}
			b.taxes[name] = s
		}
		return s.InForce(b.at.Add(-time.Microsecond)) // the last moment of the period, not the first after it
	})
	if failed != nil {
		return nil, failed
	}
	return &t, err
}

func (b *book) issuedBy(ctx context.Context) (issuer.State, error) {
	if b.issuer == nil {
		s, _, err := load(ctx, b.log, issuer.Stream(Issuer), b.upTo, issuer.Evolve)
		if err != nil {
			return s, err
		}
		b.issuer = &s
	}
	return *b.issuer, nil
}

// accountOf returns a billing account, or an organisation's default one, which may be none.
func (b *book) accountOf(ctx context.Context, organisationID, id string) (a holderAccount, err error) {
	if id == "" {
		known := false
		if id, known = b.defaults[organisationID]; !known {
			d, _, err := load(ctx, b.log, billingaccount.DefaultStream(organisationID), b.upTo, billingaccount.EvolveDefault)
			if err != nil {
				return a, err
			}
			id = d.BillingAccountID
			b.defaults[organisationID] = id
		}
	}
	if id == "" {
		return a, nil
	}
	a, known := b.accounts[id]
	if !known {
		if a.State, a.version, err = load(ctx, b.log, billingaccount.Stream(id), b.upTo, billingaccount.Evolve); err != nil {
			return a, err
		}
		b.accounts[id] = a
	}
	return a, nil
}

// rate returns what a currency was worth in another at the end of the period. It returns a Conflict if nobody said.
func (b *book) rate(ctx context.Context, from, to domain.Currency) (*conversion, error) {
	const op = "billing.rate"
	name := exchangerate.Stream(from, to)
	if c := b.conversions[name]; c != nil {
		return c, nil
	}
	var s exchangerate.State
	byVersion := make(map[int]events.Recorded)
	err := scan(ctx, b.log, name, 1, maxVersion, b.upTo, func(e events.Recorded) error {
		s = exchangerate.Evolve(s, e.Event)
		byVersion[len(s.Versions)] = e
		return nil
	})
	if err != nil {
		return nil, err
	}
	v, ok := s.InForce(b.at.Add(-time.Microsecond))
	if !ok {
		return nil, domain.Errorf(domain.Conflict, op, "no exchange rate from %s to %s was in force at the end of the period, %s", from, to, b.at.Format(time.RFC3339)).
			WithHint("an operator records it: POST /v1/exchange-rates; or the customer chooses %s as the account's invoice currency", from)
	}
	c := &conversion{Version: v}
	c.said.add(byVersion[v.Version])
	b.conversions[name] = c
	return c, nil
}
