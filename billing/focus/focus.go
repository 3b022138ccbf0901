// Package focus says what invoices and credit notes say as a FOCUS 1.2 Cost and Usage dataset (FinOps Open Cost and Usage
// Specification), a row for each line and for each tax, as CSV or Parquet.
//
// It is pure: it renders domain values, looks nothing up and computes no price. What a document refers to comes in a
// [Book]. The billed amounts are those of the documents to the minor unit; prices that it shows beside them are the plan's.
// Rows are made and written one at a time, so that a million cost no more memory than one. Start reading at [Book.Invoice];
// what each column means is in columns.go, and for its readers in docs/exports.md.
package focus

import (
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/tax"
)

// Version is that of the specification.
const Version = "1.2"

// Book is what documents refer to. What is missing in it is left null, or called by its id where the dataset must name it.
type Book struct {
	Issuer        string            // who makes out the documents, and whose market it is: the platform's legal name
	Account       string            // the name of the document's billing account
	Organisations map[string]string // names by id
	Offers        map[string]Offer  // what a line's quote was of, by the quote's id
	Items         map[Item]Settled
}

// Offer is what was quoted: the listing's terms and the prices.
type Offer struct {
	Title              string // of the listing, as of the version that was bought
	Category           string // of the listing
	Metro              string
	LocationID         string // "": the place is not registered
	FeeScheduleID      string
	FeeScheduleVersion int
	BandwidthMbps      int
	Charges            []pricing.Charge // at the bandwidth
}

// OfferOf returns what a quote was of. Title, category, metro and location are those of the listing's version. It returns an
// Invalid error for a plan without an amount for the quote's bandwidth.
func OfferOf(q quote.Content, title, category, metro, locationID string) (Offer, error) {
	plan, err := q.Plan.For(q.BandwidthMbps)
	return Offer{title, category, metro, locationID, q.FeeScheduleID, q.FeeScheduleVersion, q.BandwidthMbps, plan.Charges}, err
}

// Item is a rated item on a document: an invoice's, or what a credit note takes off it.
type Item struct{ DocumentID, ItemID string }

// Settled is what the provider is settled for an item. The zero value is nothing yet.
type Settled struct {
	SettlementID string
	Amount       domain.Money // negative for what a credit note takes off
}

// Values of columns that the specification names.
const (
	usage, purchase, credit, taxes  = "Usage", "Purchase", "Credit", "Tax"
	oneTime, recurring, usageBased  = "One-Time", "Recurring", "Usage-Based"
	correction, standard            = "Correction", "Standard"
	networking, connectivity, other = "Networking", "Network Connectivity", "Other (Networking)"
)

// Kinds of documents and rows, in x_ columns.
const (
	DocumentInvoice    = "invoice"
	DocumentCreditNote = "credit_note"
	lineTax            = "tax" // beside invoice.LinePassthrough and invoice.LineFee
)

// Names of what the platform itself sells and collects.
const (
	feeService = "Platform fee"
	taxService = "Tax"
	feeSKU     = "platform-fee"
)

// Invoice gives the rows of an invoice to write, its lines first and then its taxes, and stops at write's first error. A void
// invoice has none: nothing of it is owed, and what is invoiced in its place has an invoice of its own. A row is not kept:
// write must be done with it when it returns. It returns an Internal error for a line whose numbers are none.
func (b *Book) Invoice(i invoice.State, write func(*Row) error) error {
	if i.State == invoice.StateVoid {
		return nil
	}
	sums := make(map[string]costs)
	for _, l := range i.Lines {
		row, err := b.line(i, l)
		if err != nil {
			return err
		}
		sums[l.TaxCategory] = sums[l.TaxCategory].add(row)
		if err := write(row); err != nil {
			return err
		}
	}
	document := b.document(DocumentInvoice, i.InvoiceID, i.Number, i.CustomerID, i.BillingAccountID, i.Currency)
	document.BillingPeriodStart, document.BillingPeriodEnd = i.PeriodStart, i.PeriodEnd
	document.ChargePeriodStart, document.ChargePeriodEnd = i.PeriodStart, i.PeriodEnd
	document.LogPosition, document.RunID, document.PurchaseOrder = i.LogPosition, i.RunID, i.PurchaseOrder
	return b.taxes(document, i.Taxes, sums, 1, write)
}

// CreditNote is [Book.Invoice] for a credit note over an invoice, which must be the one that it names. Its rows are refunds:
// negative, of the category of what they give back, and corrections of a billing period that was invoiced before. They are of
// the month in which the credit note was issued, and are charged for the time that the invoice's line was for.
func (b *Book) CreditNote(c creditnote.State, i invoice.State, write func(*Row) error) error {
	month := time.Date(c.At.UTC().Year(), c.At.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	as := func(row *Row) {
		row.DocumentType, row.DocumentID, row.InvoiceID = DocumentCreditNote, c.CreditNoteID, orID(c.Number, c.CreditNoteID)
		row.CreditedInvoiceID = orID(i.Number, i.InvoiceID)
		row.BillingPeriodStart, row.BillingPeriodEnd = month, month.AddDate(0, 1, 0)
		row.ChargeClass = correction
		row.RunID = ""
	}
	sums := make(map[string]costs)
	for _, l := range c.Lines {
		if l.InvoiceLine < 1 || l.InvoiceLine > len(i.Lines) || i.InvoiceID != c.InvoiceID {
			return domain.Errorf(domain.Internal, "focus.CreditNote", "%s credits a line that %s does not have", c.CreditNoteID, i.InvoiceID)
		}
		row, err := b.line(i, i.Lines[l.InvoiceLine-1])
		if err != nil {
			return err
		}
		as(row)
		row.unpriced()
		row.bill(l.Amount.Neg())
		row.ChargeDescription = "Credit (" + c.Reason + "): " + row.ChargeDescription
		row.settle(b.Items[Item{c.CreditNoteID, l.ItemID}])
		sums[l.TaxCategory] = sums[l.TaxCategory].add(row)
		if err := write(row); err != nil {
			return err
		}
	}
	document := b.document(DocumentCreditNote, c.CreditNoteID, c.Number, c.CustomerID, c.BillingAccountID, c.Currency)
	as(&document)
	document.ChargePeriodStart, document.ChargePeriodEnd = c.PeriodStart, c.PeriodEnd
	document.PurchaseOrder = c.PurchaseOrder
	return b.taxes(document, c.Taxes, sums, -1, write)
}

// document begins a row with what all rows of a document have in common.
func (b *Book) document(kind, id, number, customerID, accountID string, currency domain.Currency) Row {
	account := orID(accountID, customerID)
	return Row{
		BillingAccountID: account, BillingAccountName: orID(b.Account, account), BillingCurrency: string(currency), PricingCurrency: string(currency),
		InvoiceID: orID(number, id), InvoiceIssuerName: b.Issuer,
		ProviderName: b.Issuer, PublisherName: b.Issuer, // but for what others make: see publisher
		DocumentType: kind, DocumentID: id, CustomerID: customerID,
	}
}

func orID(name, id string) string {
	if strings.TrimSpace(name) == "" {
		return id
	}
	return name
}

// line makes the row of an invoice's line.
func (b *Book) line(i invoice.State, l invoice.Line) (*Row, error) {
	row := b.document(DocumentInvoice, i.InvoiceID, i.Number, i.CustomerID, i.BillingAccountID, i.Currency)
	row.BillingPeriodStart, row.BillingPeriodEnd = i.PeriodStart, i.PeriodEnd
	row.ChargePeriodStart, row.ChargePeriodEnd = i.PeriodStart, i.PeriodEnd
	if l.Adjusts != nil {
		row.ChargeClass = correction
		row.ChargePeriodStart, row.ChargePeriodEnd = l.Adjusts.PeriodStart, l.Adjusts.PeriodEnd
	}
	if l.From != nil && l.To != nil {
		row.ChargePeriodStart, row.ChargePeriodEnd = *l.From, *l.To
	}
	offer := b.Offers[l.QuoteID]
	row.ChargeDescription = l.Description
	row.ResourceID, row.ResourceType = l.ConnectionID, "Connection"
	row.RegionID, row.RegionName, row.AvailabilityZone = strings.ToLower(offer.Metro), offer.Metro, offer.LocationID
	row.ServiceCategory = networking
	if l.Kind == invoice.LineFee {
		row.ServiceName, row.ServiceSubcategory = feeService, other
	} else {
		// A marketplace makes a third party's services available, and invoices them (the specification's appendix
		// "Origination of cost data", 3.1 and 3.2): the network provider is the publisher.
		row.PublisherName = orID(b.Organisations[l.ProviderID], l.ProviderID)
		row.ServiceName, row.ServiceSubcategory = orID(offer.Title, l.Plan.ListingID), connectivity
	}
	row.ListingCategory = offer.Category
	row.LineKind, row.InvoiceLine, row.ItemID, row.ChargeID = l.Kind, l.Number, l.ItemID, l.ChargeID
	row.ProviderID, row.ListingID, row.PlanVersion, row.QuoteID = l.ProviderID, l.Plan.ListingID, l.Plan.Version, l.QuoteID
	row.EvidenceDigest, row.TaxCategory = invoice.EvidenceDigest(l.Evidence), l.TaxCategory
	row.LogPosition, row.RunID, row.PurchaseOrder = i.LogPosition, i.RunID, i.PurchaseOrder
	row.settle(b.Items[Item{i.InvoiceID, l.ItemID}])
	row.bill(l.Amount)
	return &row, row.price(l, offer)
}

// costs are what the tax of a category is calculated from, for the costs that are not rounded.
type costs struct{ list, contracted domain.Decimal }

func (c costs) add(r *Row) costs {
	return costs{c.list.Add(r.ListCost), c.contracted.Add(r.ContractedCost)}
}

// taxes gives the rows of a document's taxes; sign is -1 where they are given back.
func (b *Book) taxes(document Row, all []tax.Subtotal, sums map[string]costs, sign int64, write func(*Row) error) error {
	for _, t := range all {
		row := document
		row.ChargeCategory, row.ChargeFrequency = taxes, oneTime
		row.ChargeDescription = strings.TrimSpace(string(t.Country) + " tax at " + t.Percent.String() + " % on " + t.Taxable.String())
		if t.Reason != "" {
			row.ChargeDescription += ": " + t.Reason
		}
		row.ServiceCategory, row.ServiceSubcategory, row.ServiceName = "Other", "Other (Other)", taxService
		row.LineKind, row.TaxCategory = lineTax, t.Category
		row.bill(domain.Money{Minor: sign * t.Tax.Minor, Currency: t.Tax.Currency})
		// The tax of a cost is calculated from that cost of the lines (ContractedCost-C-007, ListCost-C-007).
		rate := t.Percent.Quo(domain.DecimalFromInt(100))
		row.ListCost, row.ContractedCost = cut(sums[t.Category].list.Mul(rate), costScale), cut(sums[t.Category].contracted.Mul(rate), costScale)
		if err := write(&row); err != nil {
			return err
		}
	}
	return nil
}

// bill sets every cost to what is billed; a row with a price has other list and contracted costs.
func (r *Row) bill(amount domain.Money) {
	exact := amount.Decimal()
	r.BilledCost, r.EffectiveCost, r.ListCost, r.ContractedCost, r.PricingCurrencyEffectiveCost = exact, exact, exact, exact, exact
}

func (r *Row) settle(s Settled) {
	if s.SettlementID != "" {
		r.SettlementID, r.SettlementAmount = s.SettlementID, s.Amount.Decimal()
	}
}
