package api

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"

	"crossbill/billing"
	"crossbill/billing/focus"
	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/listing"
	"crossbill/domain/organisation"
	"crossbill/events"
)

// maxRemembered is how many names, and terms of listings, an export remembers before it forgets them all and begins anew.
const maxRemembered = 10_000

// focusDocument is a document with what it refers to: an invoice, or a credit note and the invoice that it is over.
type focusDocument struct {
	invoice invoice.State
	credit  *creditnote.State
	book    focus.Book
}

type focusExport struct{ export[focusDocument] }

func (e focusExport) VisitExportFocusResponse(w http.ResponseWriter) error { return e.write(w) }

// ExportFocus exports the caller's invoices and credit notes of a month as a FOCUS dataset.
func (s *Server) ExportFocus(ctx context.Context, req ExportFocusRequestObject) (ExportFocusResponseObject, error) {
	limit := exportPage
	search, err := bookSearch(&req.Params.Period, nil, &limit, nil)
	if err != nil {
		return nil, err
	}
	r := &focusReader{s: s, names: make(map[string]string), listings: make(map[invoice.PlanRef]listing.Terms)}
	all := []func() ([]focusDocument, error){
		pages(func(token string) ([]focusDocument, string, error) {
			search.PageToken = token
			found, token, err := s.Queries.InvoicesOf(ctx, viewer(ctx), search)
			if err != nil {
				return nil, "", err
			}
			page, err := r.documents(ctx, found, nil)
			return page, token, err
		}),
		pages(func(token string) ([]focusDocument, string, error) {
			search.PageToken = token
			found, token, err := s.Queries.CreditNotesOf(ctx, viewer(ctx), search)
			if err != nil {
				return nil, "", err
			}
			page, err := r.creditNotes(ctx, found)
			return page, token, err
		}),
	}
	next := func() (page []focusDocument, err error) {
		for len(all) > 0 {
			if page, err = all[0](); err != nil || len(page) > 0 {
				return page, err
			}
			all = all[1:]
		}
		return nil, nil
	}
	first, err := next()
	if err != nil {
		return nil, err
	}
	e := focusExport{export[focusDocument]{contentType: contentCSV, name: "focus-" + req.Params.Period + ".csv", first: first, next: next}}
	if valueOr(req.Params.Format, ExportFocusParamsFormatCsv) == ExportFocusParamsFormatParquet {
		e.contentType, e.name = "application/vnd.apache.parquet", "focus-"+req.Params.Period+".parquet"
		e.open = func(w io.Writer) (func(focusDocument) error, func() error) { return intoFocus(focus.NewParquet(w)) }
		return e, nil
	}
	e.open = func(w io.Writer) (func(focusDocument) error, func() error) { return intoFocus(focus.NewCSV(w)) }
	return e, nil
}

func intoFocus(out focus.Writer) (func(focusDocument) error, func() error) {
	return func(d focusDocument) error {
		if d.credit != nil {
			return d.book.CreditNote(*d.credit, d.invoice, out.Write)
		}
		return d.book.Invoice(d.invoice, out.Write)
	}, out.Close
}

// focusReader reads what documents refer to, and remembers what many of them do.
type focusReader struct {
	s        *Server
	names    map[string]string // by stream, and by its version where the name is that of then
	listings map[invoice.PlanRef]listing.Terms
}

// creditNotes reads credit notes' invoices, which are the caller's as they are.
func (r *focusReader) creditNotes(ctx context.Context, notes []creditnote.State) ([]focusDocument, error) {
	var ids []string
	for _, c := range notes {
		ids = append(ids, c.InvoiceID)
	}
	found, err := r.s.Queries.InvoicesByID(ctx, viewer(ctx), ids)
	if err != nil {
		return nil, err
	}
	invoices := make([]invoice.State, len(notes))
	for n, c := range notes {
		of := slices.IndexFunc(found, func(i invoice.State) bool { return i.InvoiceID == c.InvoiceID })
		if of < 0 {
			return nil, domain.Errorf(domain.Unavailable, "api.ExportFocus", "the invoice of %s is not read yet", c.CreditNoteID).WithHint("try again in a moment")
		}
		invoices[n] = found[of]
	}
	return r.documents(ctx, invoices, notes)
}

// documents gathers what a page of invoices refers to, or of credit notes over them.
func (r *focusReader) documents(ctx context.Context, invoices []invoice.State, notes []creditnote.State) ([]focusDocument, error) {
	shared := focus.Book{Organisations: make(map[string]string)}
	quotes, ids := make(map[string]bool), []string{}
	page := make([]focusDocument, len(invoices))
	for n, i := range invoices {
		page[n].invoice = i
		ids = append(ids, i.InvoiceID)
		if notes != nil {
			page[n].credit = &notes[n]
			ids[n] = notes[n].CreditNoteID
		}
		for _, l := range i.Lines {
			quotes[l.QuoteID] = true
			if l.ProviderID != "" && shared.Organisations[l.ProviderID] == "" {
				name, err := r.organisation(ctx, l.ProviderID)
				if err != nil {
					return nil, err
				}
				shared.Organisations[l.ProviderID] = name
			}
		}
	}
	var err error
	if shared.Offers, err = r.offers(ctx, quotes); err != nil {
		return nil, err
	}
	if shared.Items, err = r.items(ctx, ids, invoices); err != nil {
		return nil, err
	}
	for n := range page {
		d := &page[n]
		d.book = shared
		account, version, issued := d.invoice.BillingAccountID, d.invoice.BillingAccountVersion, d.invoice.IssuerVersion
		if d.credit != nil {
			account, version, issued = d.credit.BillingAccountID, d.credit.BillingAccountVersion, d.credit.IssuerVersion
		}
		if d.book.Account, err = r.account(ctx, account, version, d.invoice.CustomerID); err != nil {
			return nil, err
		}
		if d.book.Issuer, err = r.issuer(ctx, issued); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// items reads what documents' items are settled at.
func (r *focusReader) items(ctx context.Context, ids []string, invoices []invoice.State) (map[focus.Item]focus.Settled, error) {
	found, err := r.s.Queries.SettledItems(ctx, viewer(ctx), ids)
	if err != nil {
		return nil, err
	}
	currencies := make(map[string]domain.Currency)
	for n, id := range ids {
		currencies[id] = invoices[n].Currency
	}
	items := make(map[focus.Item]focus.Settled, len(found))
	for of, item := range found {
		if item.SettlementID == "" {
			continue
		}
		amount, err := domain.ParseMoney(item.Amount, currencies[of.DocumentID])
		if err != nil {
			return nil, err
		}
		items[focus.Item(of)] = focus.Settled{SettlementID: item.SettlementID, Amount: amount}
	}
	return items, nil
}

// offers reads what the caller's quotes were of.
func (r *focusReader) offers(ctx context.Context, quotes map[string]bool) (map[string]focus.Offer, error) {
	ids := make([]string, 0, len(quotes))
	for id := range quotes {
		ids = append(ids, id)
	}
	found, err := r.s.Queries.QuotesByID(ctx, viewer(ctx), ids)
	if err != nil {
		return nil, err
	}
	offers := make(map[string]focus.Offer, len(found))
	for _, q := range found {
		terms, err := r.terms(ctx, invoice.PlanRef{ListingID: q.ListingID, Version: q.ListingVersion})
		if err != nil {
			return nil, err
		}
		if offers[q.QuoteID], err = focus.OfferOf(q.Content, terms.Title, terms.Category, terms.Metro, terms.LocationID); err != nil {
			return nil, err
		}
	}
	return offers, nil
}

// terms reads the version of a listing that a quote was made from.
func (r *focusReader) terms(ctx context.Context, of invoice.PlanRef) (listing.Terms, error) {
	if terms, known := r.listings[of]; known {
		return terms, nil
	}
	offered, _, err := events.Load(ctx, r.s.Log, listing.Stream(of.ListingID), listing.Evolve)
	if err != nil {
		return listing.Terms{}, err
	}
	all, _ := offered.TermsOf(of.Version)
	terms := listing.Terms{Title: all.Title, Category: all.Category, Metro: all.Metro, LocationID: all.LocationID} // what is read of them
	if len(r.listings) >= maxRemembered {
		clear(r.listings)
	}
	r.listings[of] = terms
	return terms, nil
}

// organisation reads the name of a provider on an invoice of the caller's, or of the customer itself.
func (r *focusReader) organisation(ctx context.Context, id string) (string, error) {
	stream := organisation.Stream(id)
	if name, known := r.names[stream]; known {
		return name, nil
	}
	o, _, err := events.Load(ctx, r.s.Log, stream, organisation.Evolve)
	return r.remember(stream, o.Name), err
}

// account reads what the customer called a billing account when a document was made out to it. Whoever had no account then
// was billed under the organisation's name.
func (r *focusReader) account(ctx context.Context, id string, version int64, customerID string) (string, error) {
	if id == "" {
		return r.organisation(ctx, customerID)
	}
	key := atVersion(billingaccount.Stream(id), version)
	if name, known := r.names[key]; known {
		return name, nil
	}
	a, _, err := events.Load(ctx, r.s.seen(ctx), billingaccount.Stream(id), until(version, billingaccount.Evolve))
	return r.remember(key, a.Details.Name), err
}

// issuer reads the legal name that a document was issued under.
func (r *focusReader) issuer(ctx context.Context, version int64) (string, error) {
	if version == 0 {
		return billing.Issuer, nil
	}
	key := atVersion(issuer.Stream(billing.Issuer), version)
	if name, known := r.names[key]; known {
		return name, nil
	}
	i, _, err := events.Load(ctx, r.s.Log, issuer.Stream(billing.Issuer), until(version, issuer.Evolve))
	return r.remember(key, i.Details.LegalName), err
}

func (r *focusReader) remember(key, name string) string {
	if len(r.names) >= maxRemembered {
		clear(r.names)
	}
	r.names[key] = name
	return name
}

// until folds a stream's first events and no others; 0 folds all.
func until[S any](version int64, evolve func(S, domain.Event) S) func(S, domain.Event) S {
	folded := int64(0)
	return func(s S, e domain.Event) S {
		if folded++; version > 0 && folded > version {
			return s
		}
		return evolve(s, e)
	}
}

func atVersion(stream string, version int64) string {
	return stream + "@" + strconv.FormatInt(version, 10)
}
