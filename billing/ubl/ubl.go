// Package ubl writes documents as UBL 2.1: invoices (380), credit notes (381), self-billed invoices (389) and self-billed
// credit notes (261). A document claims what it meets and no more ([ProfileOf]): Peppol BIS Billing 3 or BIS Self-Billing 3,
// EN 16931 alone, or UBL alone, where what those need is not known.
//
// It writes a line at a time and holds no document in memory. It computes nothing but a unit price that is exact. Start
// reading at [Write].
package ubl

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"crossbill/billing/document"
	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

// ContentType of what is written.
const ContentType = "application/xml; charset=utf-8"

const (
	namespaceUBL       = "urn:oasis:names:specification:ubl:schema:xsd:"
	maxPriceDecimals   = 8    // of a unit price; an amount that needs more has none
	creditTransfer     = "30" // UNTDID 4461
	invoicedObject     = "130"
	customizationCore  = "urn:cen.eu:en16931:2017"
	customizationBills = customizationCore + "#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0"
	customizationSelf  = customizationCore + "#compliant#urn:fdc:peppol.eu:2017:poacc:selfbilling:3.0"
	profileBills       = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
	profileSelf        = "urn:fdc:peppol.eu:2017:poacc:selfbilling:01:1.0"
)

// Write writes a document. It returns an Unavailable error if the output does not take it.
func Write(w io.Writer, d *document.Document) error {
	root, object := "Invoice", "InvoiceLine"
	if d.Credit() {
		root, object = "CreditNote", "CreditNoteLine"
	}
	x := newWriter(w)
	x.raw(`<?xml version="1.0" encoding="UTF-8"?>`)
	x.open(root, "xmlns", namespaceUBL+root+"-2", "xmlns:cac", namespaceUBL+"CommonAggregateComponents-2", "xmlns:cbc", namespaceUBL+"CommonBasicComponents-2")
	header(x, d)
	party(x, "cac:AccountingSupplierParty", d, d.Seller, true)
	party(x, "cac:AccountingCustomerParty", d, d.Buyer, false)
	payment(x, d)
	totals(x, d)
	for l := range d.Lines() {
		line(x, object, d, l)
	}
	x.close()
	if err := x.flush(); err != nil {
		return domain.Errorf(domain.Unavailable, "ubl.Write", "the document could not be written: %w", err)
	}
	return nil
}

// Profile is what a document claims to meet.
type Profile struct {
	Customization string // BT-24; empty: UBL 2.1 alone
	Process       string // BT-23; empty: none
}

// ProfileOf returns what a document meets. EN 16931 needs both parties' names and countries, a tax, and who is registered for
// it; it has no amounts with three decimals (BR-DEC). Peppol needs both parties' electronic addresses too.
func ProfileOf(d *document.Document) Profile {
	switch {
	case !meetsEN16931(d):
		return Profile{}
	case !peppolAddress(d.Seller) || !peppolAddress(d.Buyer):
		return Profile{Customization: customizationCore}
	case d.SelfBilled():
		return Profile{customizationSelf, profileSelf}
	}
	return Profile{customizationBills, profileBills}
}

func meetsEN16931(d *document.Document) bool {
	known := func(p document.Party) bool {
		return p.Name != "" && p.Address != nil && p.Address.Country != "" && p.Address.Country != domain.Erased
	}
	if !known(d.Seller) || !known(d.Buyer) || d.Number == "" || d.Currency.Digits() > 2 || len(d.Taxes) == 0 {
		return false
	}
	for _, s := range d.Taxes {
		switch s.Category {
		case taxrate.CategoryIntraCommunity: // of goods: nobody says here where they went (BR-IC-12)
			return false
		case taxrate.CategoryOutside: // BR-O-11
			if len(d.Taxes) > 1 {
				return false
			}
			continue
		case taxrate.CategoryReverseCharge: // BR-AE-02
			if d.BuyerVATID() == "" {
				return false
			}
		}
		if d.VATID() == "" && (s.Category == taxrate.CategoryExport || d.Seller.OtherTaxID() == "") { // BR-S-02, BR-G-02 and their like
			return false
		}
	}
	return true
}

// peppolAddress reports whether a party can be found over Peppol, whose schemes all have four digits.
func peppolAddress(p document.Party) bool { return p.EndpointID != "" && len(p.EndpointScheme) == 4 }

func header(x *writer, d *document.Document) {
	profile := ProfileOf(d)
	x.text("cbc:CustomizationID", profile.Customization)
	x.text("cbc:ProfileID", profile.Process)
	x.text("cbc:ID", cmp.Or(d.Number, d.ID))
	x.text("cbc:IssueDate", date(d.At))
	if d.Credit() {
		x.text("cbc:CreditNoteTypeCode", d.Type)
	} else {
		if d.DueAt != nil {
			x.text("cbc:DueDate", date(*d.DueAt))
		}
		x.text("cbc:InvoiceTypeCode", d.Type)
	}
	x.text("cbc:Note", note(d))
	x.text("cbc:DocumentCurrencyCode", string(d.Currency))
	x.text("cbc:BuyerReference", d.BuyerReference)
	period(x, d.PeriodStart, d.PeriodEnd)
	if d.PurchaseOrder != "" {
		x.open("cac:OrderReference")
		x.text("cbc:ID", d.PurchaseOrder)
		x.close()
	}
	if d.Preceding.Number != "" {
		x.open("cac:BillingReference")
		x.open("cac:InvoiceDocumentReference")
		x.text("cbc:ID", d.Preceding.Number)
		if !d.Preceding.At.IsZero() {
			x.text("cbc:IssueDate", date(d.Preceding.At))
		}
		x.close()
		x.close()
	}
	if d.Proof != "" {
		x.open("cac:AdditionalDocumentReference")
		x.text("cbc:ID", d.ID)
		x.text("cbc:DocumentDescription", "Proof of the events that this document was computed from")
		x.open("cac:Attachment")
		x.open("cac:ExternalReference")
		x.text("cbc:URI", d.Proof)
		x.close()
		x.close()
		x.close()
	}
}

// note is all that is said of the document in words: Peppol takes one note at most (PEPPOL-EN16931-R002).
func note(d *document.Document) string {
	said := []string{d.Status, d.Reason}
	if d.Replaces != "" {
		said = append(said, "It takes the place of the void invoice "+d.Replaces+".")
	}
	if !d.SelfBilled() {
		said = append(said, "At the providers' own prices, without margin: "+d.Passthrough.String()+". Platform fee: "+d.Fee.String()+".")
	}
	var sentences []string
	for _, s := range said {
		if s = strings.TrimSpace(s); s != "" {
			sentences = append(sentences, strings.TrimSuffix(s, ".")+".")
		}
	}
	return strings.Join(sentences, " ")
}

// period writes days, of which the last is inclusive.
func period(x *writer, from, to time.Time) {
	x.open("cac:InvoicePeriod")
	x.text("cbc:StartDate", date(from))
	x.text("cbc:EndDate", date(to.Add(-time.Nanosecond)))
	x.close()
}

func party(x *writer, element string, d *document.Document, p document.Party, seller bool) {
	x.open(element)
	x.open("cac:Party")
	if p.EndpointID != "" {
		x.text("cbc:EndpointID", p.EndpointID, "schemeID", p.EndpointScheme)
	}
	if p.ID != "" {
		x.open("cac:PartyIdentification")
		x.text("cbc:ID", p.ID)
		x.close()
	}
	address(x, p)
	if !d.NotSubject() { // BR-O-02: what is not subject to VAT names no VAT identifier
		vat := d.BuyerVATID()
		if seller {
			vat = d.VATID()
		}
		taxScheme(x, vat, "VAT")
	}
	if seller {
		taxScheme(x, p.OtherTaxID(), "TAX")
	}
	if p.Name != "" {
		x.open("cac:PartyLegalEntity")
		x.text("cbc:RegistrationName", p.Name)
		registration, scheme := registered(p)
		x.text("cbc:CompanyID", registration, scheme...)
		x.close()
	}
	if c := p.Contact; c != nil {
		x.open("cac:Contact")
		x.text("cbc:Name", c.Name)
		x.text("cbc:ElectronicMail", c.Email)
		x.close()
	}
	x.close()
	x.close()
}

func taxScheme(x *writer, id, scheme string) {
	if id == "" {
		return
	}
	x.open("cac:PartyTaxScheme")
	x.text("cbc:CompanyID", id)
	scheming(x, scheme)
	x.close()
}

func scheming(x *writer, scheme string) {
	x.open("cac:TaxScheme")
	x.text("cbc:ID", scheme)
	x.close()
}

// registers are the schemes of electronic addresses whose identifiers are those of a company register or the like: of France,
// Sweden, the Netherlands, Denmark, Norway, Iceland, Belgium and Finland.
var registers = []string{"0002", "0007", "0106", "0184", "0192", "0196", "0208", "0212"}

// registered returns what a party is in a register of companies (BT-30), and the scheme of the register where it is known: it
// is the electronic address itself, or the country's rules need it said (NL-R-003: the KVK; DK-R-014: the CVR).
func registered(p document.Party) (id string, scheme []string) {
	switch {
	case slices.Contains(registers, p.EndpointScheme) && (p.Registration == "" || p.Registration == p.EndpointID):
		return p.EndpointID, []string{"schemeID", p.EndpointScheme}
	case p.Address != nil && p.Address.Country == "NL":
		return p.Registration, []string{"schemeID", "0106"}
	case p.Address != nil && p.Address.Country == "DK":
		return p.Registration, []string{"schemeID", "0184"}
	}
	return p.Registration, nil
}

func address(x *writer, p document.Party) {
	a := p.Address
	if a == nil {
		return
	}
	lines := make([]string, 3)
	copy(lines, a.Lines)
	x.open("cac:PostalAddress")
	x.text("cbc:StreetName", lines[0])
	x.text("cbc:AdditionalStreetName", lines[1])
	x.text("cbc:CityName", a.City)
	x.text("cbc:PostalZone", a.PostalCode)
	x.text("cbc:CountrySubentity", a.Region)
	if lines[2] != "" {
		x.open("cac:AddressLine")
		x.text("cbc:Line", strings.Join(a.Lines[2:], ", "))
		x.close()
	}
	x.open("cac:Country")
	x.text("cbc:IdentificationCode", string(a.Country))
	x.close()
	x.close()
}

func payment(x *writer, d *document.Document) {
	if iban := d.Payee.IBAN; iban != "" && !d.Credit() && d.Due.Minor > 0 {
		x.open("cac:PaymentMeans")
		x.text("cbc:PaymentMeansCode", creditTransfer)
		x.text("cbc:PaymentID", d.Number)
		x.open("cac:PayeeFinancialAccount")
		x.text("cbc:ID", iban)
		if d.Payee.BIC != "" {
			x.open("cac:FinancialInstitutionBranch")
			x.text("cbc:ID", d.Payee.BIC)
			x.close()
		}
		x.close()
		x.close()
	}
	x.open("cac:PaymentTerms")
	x.text("cbc:Note", d.Terms())
	x.close()
}

func totals(x *writer, d *document.Document) {
	if len(d.Taxes) > 0 {
		x.open("cac:TaxTotal")
		amount(x, "cbc:TaxAmount", d.Tax)
		for _, s := range d.Taxes {
			x.open("cac:TaxSubtotal")
			amount(x, "cbc:TaxableAmount", s.Taxable)
			amount(x, "cbc:TaxAmount", s.Tax)
			x.open("cac:TaxCategory")
			category(x, s.Treatment)
			code, reason := document.Exemption(s.Treatment)
			x.text("cbc:TaxExemptionReasonCode", code)
			x.text("cbc:TaxExemptionReason", reason)
			scheming(x, "VAT")
			x.close()
			x.close()
		}
		x.close()
	}
	x.open("cac:LegalMonetaryTotal")
	amount(x, "cbc:LineExtensionAmount", d.Net)
	amount(x, "cbc:TaxExclusiveAmount", d.Net)
	amount(x, "cbc:TaxInclusiveAmount", d.Total)
	amount(x, "cbc:PayableAmount", d.Total)
	x.close()
}

// category writes a category's code and its rate, which what is not subject to tax has none of (BR-O-05).
func category(x *writer, t tax.Treatment) {
	x.text("cbc:ID", t.Category)
	if t.Category != taxrate.CategoryOutside {
		x.text("cbc:Percent", t.Percent.String())
	}
}

func line(x *writer, element string, d *document.Document, l document.Line) {
	x.open("cac:" + element)
	x.text("cbc:ID", strconv.Itoa(l.Number))
	quantity, unit, price := priced(l)
	quantityElement := "cbc:InvoicedQuantity"
	if d.Credit() {
		quantityElement = "cbc:CreditedQuantity"
	}
	x.text(quantityElement, quantity, "unitCode", unit)
	amount(x, "cbc:LineExtensionAmount", l.Amount)
	if l.From != nil && l.To != nil && l.Adjusts == nil { // PEPPOL-EN16931-R110: a closed period is none of the document's
		period(x, *l.From, *l.To)
	}
	x.open("cac:DocumentReference")
	x.text("cbc:ID", l.ConnectionID)
	x.text("cbc:DocumentTypeCode", invoicedObject)
	x.close()

	x.open("cac:Item")
	x.text("cbc:Name", cmp.Or(l.Description, l.ItemID))
	if l.ListingID != "" {
		x.open("cac:SellersItemIdentification")
		x.text("cbc:ID", l.ListingID)
		x.close()
	}
	for _, s := range d.Taxes {
		if s.Category == l.TaxCategory {
			x.open("cac:ClassifiedTaxCategory")
			category(x, s.Treatment)
			scheming(x, "VAT")
			x.close()
		}
	}
	properties(x, d, l)
	x.close()

	x.open("cac:Price")
	x.text("cbc:PriceAmount", price, "currencyID", string(l.Amount.Currency))
	x.close()
	x.close()
}

// properties says what the model has no element for (BG-32).
func properties(x *writer, d *document.Document, l document.Line) {
	property := func(name, value string) {
		if strings.TrimSpace(value) == "" {
			return
		}
		x.open("cac:AdditionalItemProperty")
		x.text("cbc:Name", name)
		x.text("cbc:Value", value)
		x.close()
	}
	kind := "Provider's price"
	if l.Kind == invoice.LineFee {
		kind = "Platform fee"
	}
	property("Kind", kind)
	property("Connection", d.Name(l.ConnectionID))
	property("Provider", d.Name(l.ProviderID))
	if l.Quantity != "" {
		property("Quantity", l.Quantity+" "+l.Unit)
	}
	property("Amount before rounding", l.Exact)
	property("Converted", l.Conversion)
	if l.Adjusts != nil {
		property("Corrects the period from", date(*l.Adjusts))
	}
	property("Item", l.ItemID)
	if len(l.Evidence) > 0 {
		property("Evidence digest", invoice.EvidenceDigest(l.Evidence))
	}
}

// unitCodes are the units of charges as UN/ECE Recommendation 20 has them.
var unitCodes = map[string]string{
	pricing.UnitGB: "E34", pricing.UnitGiB: "E62", pricing.UnitMonth: "MON", pricing.UnitOnce: one, pricing.UnitMbpsMonth: "E20",
}

// one is the unit of what is not counted in any other.
const one = "C62"

// priced returns a line's quantity, unit and unit price. Quantity times price must be the amount but for its rounding
// (PEPPOL-EN16931-R120 allows 0.02), and a price is never negative (BR-27). Where tiers, allowances or a part of a month leave
// no such price that has an end, the line is one unit at the whole amount, and its true quantity is a property; so is a
// correction, whose amount is what the period's quantity costs more than it did.
func priced(l document.Line) (quantity, unit, price string) {
	amount := l.Amount
	quantity = "1"
	if amount.Minor < 0 {
		quantity, amount = "-1", amount.Neg()
	}
	code, known := unitCodes[l.Unit]
	counted, err := domain.ParseDecimal(l.Quantity)
	if !known || err != nil || counted.Sign() <= 0 || l.Adjusts != nil {
		return quantity, one, amount.Amount()
	}
	exact, err := domain.ParseDecimal(l.Exact)
	if err != nil || exact.Sign() < 0 {
		return quantity, one, amount.Amount()
	}
	each := exact.Quo(counted)
	off := exact.Sub(amount.Decimal())
	if !each.Fits(maxPriceDecimals) || off.Cmp(slack) > 0 || slack.Add(off).Sign() < 0 {
		return quantity, one, amount.Amount()
	}
	return l.Quantity, code, each.String()
}

var slack = domain.MustDecimal("0.02")

func amount(x *writer, element string, m domain.Money) {
	x.text(element, m.Amount(), "currencyID", string(m.Currency))
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }
