// Package document is what an invoice, a credit note, a settlement or its credit says to whoever receives it, in one shape
// for every format: who sells to whom, what, for how much, with which tax, and where the proof is.
//
// It computes no amount and reads no log: it is made of documents as they were issued and of the details they name, and
// packages ubl and pdf write it. Start reading at [Document], then [Invoice].
package document

import (
	"iter"
	"slices"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

// Types of documents, the codes of UNTDID 1001 (EN 16931 BT-3).
const (
	TypeInvoice              = "380"
	TypeCreditNote           = "381"
	TypeSelfBilledInvoice    = "389" // what a provider is owed; the platform, which is the buyer, makes it out
	TypeSelfBilledCreditNote = "261"
)

// Document is one document. Times are UTC. Amounts of credit notes are positive: they are what is given back.
type Document struct {
	Type     string
	ID       string // the platform's identifier of it
	Number   string // BT-1
	At       time.Time
	DueAt    *time.Time // nil: no terms are known
	Currency domain.Currency

	PeriodStart time.Time // inclusive
	PeriodEnd   time.Time // exclusive

	Seller, Buyer  Party
	PurchaseOrder  string // BT-13; may be empty
	BuyerReference string // BT-10: what the buyer's account is called here
	Preceding      Reference
	Reason         string // of a credit note
	Payee          Payee
	Replaces       string // the id of the voided invoice that it takes the place of; may be empty
	Status         string // what became of it, in a sentence; empty: it stands as it was issued

	Lines func() iter.Seq[Line] // may be gone through again

	Passthrough domain.Money // what providers get
	Fee         domain.Money // the platform's
	Net         domain.Money // the sum of both, without tax
	Taxes       []tax.Subtotal
	Tax         domain.Money
	Total       domain.Money // with tax
	Due         domain.Money // what of Total is still to be paid, as far as it is known; of credit notes and settlements: Total

	Proof string            // where its proof is; may be empty
	Names map[string]string // of organisations and connections by id; where one is missing the id stands for it
}

// Reference names an earlier document (BG-3).
type Reference struct {
	Number string
	At     time.Time // zero: not known
}

// Payee is where a transfer goes. All of it may be empty.
type Payee struct {
	IBAN, BIC string
}

// Party is a seller or a buyer. What is not known is empty.
type Party struct {
	ID             string // the platform's identifier of it
	Name           string
	Address        *billingaccount.Address
	TaxIDs         []billingaccount.TaxID
	Registration   string
	Contact        *billingaccount.Contact
	EndpointScheme string
	EndpointID     string
}

// Line is one line of a document.
type Line struct {
	Number       int
	Kind         string // invoice.LinePassthrough or invoice.LineFee
	ItemID       string
	ProviderID   string
	ConnectionID string
	ListingID    string
	Description  string
	Quantity     string // as invoice.Line has it; empty where the document does not repeat it
	Unit         string
	Exact        string // before its one rounding; may be empty
	Amount       domain.Money
	From, To     *time.Time // the part of the period that it is for; nil: the whole
	Adjusts      *time.Time // the start of the closed period that it corrects; nil: it is of the document's own
	Conversion   string     // of which amount at which rate it is; empty: no other currency
	TaxCategory  string
	Evidence     []invoice.Evidence
}

// SelfBilled reports whether the buyer makes the document out.
func (d *Document) SelfBilled() bool {
	return d.Type == TypeSelfBilledInvoice || d.Type == TypeSelfBilledCreditNote
}

// Credit reports whether the document gives something back.
func (d *Document) Credit() bool {
	return d.Type == TypeCreditNote || d.Type == TypeSelfBilledCreditNote
}

// Name returns what an organisation or a connection is called: its id where nothing else is known.
func (d *Document) Name(id string) string {
	if name := d.Names[id]; name != "" {
		return name
	}
	return id
}

// LastDay returns the period's last instant, for formats whose periods end with a day.
func (d *Document) LastDay() time.Time { return d.PeriodEnd.Add(-time.Nanosecond) }

// Categories of the document's taxes.
func (d *Document) category(category string) bool {
	return slices.ContainsFunc(d.Taxes, func(s tax.Subtotal) bool { return s.Category == category })
}

// NotSubject reports whether nothing of the document is subject to tax (category O).
func (d *Document) NotSubject() bool { return d.category(taxrate.CategoryOutside) }

// VATID returns the seller's VAT identifier (BT-31): that of its own country, or of the country whose tax is charged, or any.
func (d *Document) VATID() string {
	countries := []domain.Country{d.Seller.country()}
	for _, s := range d.Taxes {
		countries = append(countries, s.Country)
	}
	return d.Seller.vat(countries...)
}

// BuyerVATID returns the buyer's VAT identifier (BT-48): where it owes the tax, that of a member of the EU that is not the
// seller's.
func (d *Document) BuyerVATID() string {
	if d.category(taxrate.CategoryReverseCharge) {
		foreign := Party{Address: d.Buyer.Address}
		for _, id := range d.Buyer.TaxIDs {
			if id.Country != d.Seller.country() && tax.InEU(id.Country) {
				foreign.TaxIDs = append(foreign.TaxIDs, id)
			}
		}
		return foreign.vat(foreign.country())
	}
	return d.Buyer.vat(d.Buyer.country())
}

func (p Party) country() domain.Country {
	if p.Address == nil {
		return ""
	}
	return p.Address.Country
}

// vat returns the first identifier of the countries, in their order, or else the first there is. An identifier without
// its country in front is no VAT identifier (EN 16931 BR-CO-09).
func (p Party) vat(countries ...domain.Country) string {
	any := ""
	for _, id := range slices.Backward(p.TaxIDs) {
		if prefixed(id) {
			any = id.Number
		}
	}
	for _, c := range slices.Backward(countries) {
		for _, id := range p.TaxIDs {
			if id.Country == c && prefixed(id) {
				any = id.Number
			}
		}
	}
	return any
}

func prefixed(id billingaccount.TaxID) bool {
	return strings.HasPrefix(id.Number, string(id.Country)) || id.Country == "GR" && strings.HasPrefix(id.Number, "EL")
}

// OtherTaxID returns a tax identifier that is no VAT identifier (BT-32): that of the party's own country.
func (p Party) OtherTaxID() string {
	for _, id := range p.TaxIDs {
		if id.Country == p.country() && !prefixed(id) {
			return id.Number
		}
	}
	return ""
}

// Source is what a document is made of beside the document itself.
type Source struct {
	Issuer  issuer.State          // as the document names it; zero: not known
	Account *billingaccount.State // the customer's or the provider's, as the document names it; nil: not known
	Party   string                // the organisation's id
	Names   map[string]string     // see [Document.Names]
	Proof   string                // see [Document.Proof]
}

// platform is the issuer as a party.
func (s Source) platform() Party {
	d := s.Issuer.Details
	p := Party{ID: s.Issuer.Issuer, Name: d.LegalName, TaxIDs: d.TaxIDs, Registration: d.Registration, Contact: d.Contact,
		EndpointScheme: d.EndpointScheme, EndpointID: d.EndpointID}
	if s.Issuer.Version > 0 {
		p.Address = &d.Address
	}
	return p
}

// other is the customer or the provider as a party. Without an account its organisation's name is all that is known.
func (s Source) other() Party {
	if s.Account == nil {
		return Party{ID: s.Party, Name: s.Names[s.Party]}
	}
	d := s.Account.Details
	p := Party{ID: s.Party, Name: d.Holder.LegalName, Address: d.Holder.Address, Contact: d.Contact}
	for _, id := range d.TaxIDs {
		if !gone(id.Number) {
			p.TaxIDs = append(p.TaxIDs, id)
		}
	}
	if c := d.Contact; c != nil && gone(c.Email) {
		p.Contact = nil
	}
	if !gone(d.EndpointID) {
		p.EndpointScheme, p.EndpointID = d.EndpointScheme, d.EndpointID
	}
	return p
}

// gone reports whether a text about a person can't be had any more. A name then says so; an identifier can't.
func gone(text string) bool { return text == domain.Erased || text == domain.Unreadable }

func (s Source) reference() string {
	if s.Account != nil {
		return s.Account.ID
	}
	return s.Party
}

// Invoice makes the document of an invoice. Amounts are as it was issued; what became of it is in Status.
func Invoice(i invoice.State, s Source) *Document {
	s.Party = i.CustomerID
	d := &Document{
		Type: TypeInvoice, ID: i.InvoiceID, Number: i.Number, At: i.At, DueAt: i.DueAt, Currency: i.Currency,
		PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd, Seller: s.platform(), Buyer: s.other(),
		PurchaseOrder: i.PurchaseOrder, BuyerReference: s.reference(), Payee: Payee{s.Issuer.Details.IBAN, s.Issuer.Details.BIC},
		Passthrough: i.Passthrough, Fee: i.Fee, Net: sum(i.Passthrough, i.Fee), Taxes: i.Taxes, Tax: orZero(i.Tax, i.Currency), Total: i.Total, Due: i.Due(),
		Proof: s.Proof, Names: s.Names, Replaces: i.Reissue,
		Lines: func() iter.Seq[Line] { return invoiceLines(i.Lines) },
	}
	switch {
	case i.State == invoice.StateVoid:
		d.Status = "Void: nothing of this invoice is owed. " + i.Reason
	case i.State == invoice.StatePaid:
		d.Status = "Paid on " + Day(*i.ClosedAt) + ", reference " + i.Reference
	case i.Credited.Minor != 0:
		d.Status = "Credited since: " + i.Credited.String() + ". To pay: " + i.Due().String()
	}
	return d
}

func invoiceLines(lines []invoice.Line) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		for _, l := range lines {
			line := Line{
				Number: l.Number, Kind: l.Kind, ItemID: l.ItemID, ProviderID: l.ProviderID, ConnectionID: l.ConnectionID, ListingID: l.Plan.ListingID,
				Description: l.Description, Quantity: l.Quantity, Unit: l.Unit, Exact: l.Exact, Amount: l.Amount, From: l.From, To: l.To,
				TaxCategory: l.TaxCategory, Evidence: l.Evidence,
			}
			if l.Adjusts != nil {
				line.Adjusts = &l.Adjusts.PeriodStart
			}
			if c := l.Converted; c != nil {
				line.Conversion = c.Amount + " " + string(c.Currency) + " at " + c.Rate.String()
			}
			if !yield(line) {
				return
			}
		}
	}
}

// CreditNote makes the document of a credit note. invoiced is when the invoice that it corrects was issued; zero: not known.
func CreditNote(n creditnote.Content, invoiced time.Time, s Source) *Document {
	s.Party = n.CustomerID
	return &Document{
		Type: TypeCreditNote, ID: n.CreditNoteID, Number: n.Number, At: n.At, Currency: n.Currency,
		PeriodStart: n.PeriodStart, PeriodEnd: n.PeriodEnd, Seller: s.platform(), Buyer: s.other(),
		PurchaseOrder: n.PurchaseOrder, BuyerReference: s.reference(), Preceding: Reference{n.InvoiceNumber, invoiced}, Reason: n.Reason,
		Passthrough: n.Passthrough, Fee: n.Fee, Net: sum(n.Passthrough, n.Fee), Taxes: n.Taxes, Tax: orZero(n.Tax, n.Currency), Total: n.Total, Due: n.Total,
		Proof: s.Proof, Names: s.Names,
		Lines: func() iter.Seq[Line] {
			return func(yield func(Line) bool) {
				for _, l := range n.Lines {
					if !yield(Line{Number: l.Number, Kind: l.Kind, ItemID: l.ItemID, ProviderID: l.ProviderID, ConnectionID: l.ConnectionID,
						Description: l.Description, Exact: l.Exact, Amount: l.Amount, TaxCategory: l.TaxCategory}) {
						return
					}
				}
			}
		},
	}
}

// Settlement makes the document of a settlement: a self-billed invoice, in which the provider sells to the platform.
func Settlement(v settlement.Content, s Source) *Document {
	d := settled(v, s)
	d.Type, d.Number, d.At = TypeSelfBilledInvoice, v.Number, v.At
	d.Passthrough, d.Net, d.Taxes, d.Tax = v.Total, v.Total, v.Taxes, orZero(v.Tax, v.Currency)
	d.Total = sum(d.Net, d.Tax)
	d.Due = d.Total
	d.Lines = func() iter.Seq[Line] {
		return func(yield func(Line) bool) {
			for n, l := range v.Lines {
				if !yield(settledLine(n+1, v, l, l.Amount)) {
					return
				}
			}
		}
	}
	return d
}

// SettlementCredit makes the document of what was taken off a settlement: a self-billed credit note.
func SettlementCredit(v settlement.Content, c settlement.Credited, s Source) *Document {
	d := settled(v, s)
	d.Type, d.Number, d.At, d.Reason = TypeSelfBilledCreditNote, c.Number, c.At, c.Reason
	d.Preceding = Reference{v.Number, v.At}
	d.Passthrough, d.Net, d.Taxes, d.Tax = c.Total, c.Total, c.Taxes, orZero(c.Tax, v.Currency)
	d.Total = sum(d.Net, d.Tax)
	d.Due = d.Total
	items := make(map[string]settlement.Line, len(v.Lines))
	for _, l := range v.Lines {
		items[l.ItemID] = l
	}
	d.Lines = func() iter.Seq[Line] {
		return func(yield func(Line) bool) {
			for n, l := range c.Lines {
				item := items[l.ItemID]
				item.ItemID = l.ItemID
				if !yield(settledLine(n+1, v, item, l.Amount)) {
					return
				}
			}
		}
	}
	return d
}

func settled(v settlement.Content, s Source) *Document {
	s.Party = v.ProviderID
	return &Document{
		ID: v.SettlementID, Currency: v.Currency, PeriodStart: v.PeriodStart, PeriodEnd: v.PeriodEnd,
		Seller: s.other(), Buyer: s.platform(), BuyerReference: v.RunID, Fee: domain.Money{Currency: v.Currency}, Proof: s.Proof, Names: s.Names,
	}
}

func settledLine(number int, v settlement.Content, l settlement.Line, amount domain.Money) Line {
	return Line{Number: number, Kind: invoice.LinePassthrough, ItemID: l.ItemID, ProviderID: v.ProviderID, ConnectionID: l.ConnectionID,
		Description: l.Description, Amount: amount, TaxCategory: l.TaxCategory, Adjusts: l.Adjusts}
}

// sum adds what was added up when the document was issued: it can't overflow.
func sum(a, b domain.Money) domain.Money {
	return domain.Money{Minor: a.Minor + b.Minor, Currency: a.Currency}
}

func orZero(m domain.Money, c domain.Currency) domain.Money {
	if m == (domain.Money{}) {
		m.Currency = c
	}
	return m
}
