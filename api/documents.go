package api

import (
	"context"
	"net/http"
	"slices"

	"crossbill/billing"
	"crossbill/billing/document"
	"crossbill/billing/pdf"
	"crossbill/billing/ubl"
	"crossbill/domain/billingaccount"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/organisation"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// documentFile is a document as a file of a format: formatPDF or formatUBL.
type documentFile struct {
	document *document.Document
	format   string
	fonts    *pdf.Fonts // for PDF
}

const (
	formatPDF = string(GetInvoiceDocumentParamsFormatPdf)
	formatUBL = string(GetInvoiceDocumentParamsFormatUbl)
)

func (f documentFile) VisitGetInvoiceDocumentResponse(w http.ResponseWriter) error { return f.write(w) }

func (f documentFile) VisitGetCreditNoteDocumentResponse(w http.ResponseWriter) error {
	return f.write(w)
}

func (f documentFile) VisitGetSettlementDocumentResponse(w http.ResponseWriter) error {
	return f.write(w)
}

// write streams the document. A failure on the way cuts the connection: half a document must not look like a whole one.
func (f documentFile) write(w http.ResponseWriter) error {
	contentType, extension := pdf.ContentType, ".pdf"
	if f.format == formatUBL {
		contentType, extension = ubl.ContentType, ".xml"
	}
	name := f.document.Number
	if name == "" {
		name = f.document.ID
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", `attachment; filename="`+fileName(name)+extension+`"`)
	w.WriteHeader(http.StatusOK)
	err := error(nil)
	if f.format == formatUBL {
		err = ubl.Write(w, f.document)
	} else {
		err = pdf.Write(w, f.document, f.fonts)
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// fileName is a document's number without what could mean something else in a header or in a file system.
func fileName(number string) string {
	return string(slices.DeleteFunc([]byte(number), func(c byte) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	}))
}

func (s *Server) documentFile(d *document.Document, format string) (documentFile, error) {
	f := documentFile{document: d, format: format}
	if format == formatUBL {
		return f, nil
	}
	fonts, err := s.fonts()
	f.fonts = fonts
	return f, err
}

// partiesOf returns the organisations that a customer's document names.
func partiesOf[L any](customerID string, lines []L, provider func(L) string) []string {
	parties := []string{customerID}
	for _, l := range lines {
		parties = append(parties, provider(l))
	}
	return parties
}

// GetInvoiceDocument writes an invoice for its customer.
func (s *Server) GetInvoiceDocument(ctx context.Context, req GetInvoiceDocumentRequestObject) (GetInvoiceDocumentResponseObject, error) {
	state, _, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	source, err := s.documentSource(ctx, state.IssuerVersion, state.BillingAccountID, state.BillingAccountVersion, "/v1/invoices/"+state.InvoiceID,
		partiesOf(state.CustomerID, state.Lines, func(l invoice.Line) string { return l.ProviderID })...)
	if err != nil {
		return nil, err
	}
	return s.documentFile(document.Invoice(state, source), string(valueOr(req.Params.Format, GetInvoiceDocumentParamsFormatPdf)))
}

// GetCreditNoteDocument writes a credit note for its customer.
func (s *Server) GetCreditNoteDocument(ctx context.Context, req GetCreditNoteDocumentRequestObject) (GetCreditNoteDocumentResponseObject, error) {
	state, _, err := s.loadCreditNote(ctx, req.CreditNoteId)
	if err != nil {
		return nil, err
	}
	corrected, _, err := s.loadInvoice(ctx, state.InvoiceID)
	if err != nil {
		return nil, err
	}
	source, err := s.documentSource(ctx, state.IssuerVersion, state.BillingAccountID, state.BillingAccountVersion, "/v1/credit-notes/"+state.CreditNoteID,
		partiesOf(state.CustomerID, state.Lines, func(l creditnote.Line) string { return l.ProviderID })...)
	if err != nil {
		return nil, err
	}
	return s.documentFile(document.CreditNote(state.Content, corrected.At, source), string(valueOr(req.Params.Format, GetCreditNoteDocumentParamsFormatPdf)))
}

// GetSettlementDocument writes a settlement, or a credit of one, for its provider.
func (s *Server) GetSettlementDocument(ctx context.Context, req GetSettlementDocumentRequestObject) (GetSettlementDocumentResponseObject, error) {
	state, _, err := load(ctx, s, "settlement", req.SettlementId, settlement.Stream(req.SettlementId), settlement.Evolve,
		func(v settlement.State) []string { return []string{v.ProviderID} })
	if err != nil {
		return nil, err
	}
	source, err := s.documentSource(ctx, state.IssuerVersion, state.ProviderAccountID, state.ProviderAccountVersion, "/v1/settlements/"+state.SettlementID, state.ProviderID)
	if err != nil {
		return nil, err
	}
	d := document.Settlement(state.Content, source)
	if number := valueOr(req.Params.Credit, ""); number != "" {
		n := slices.IndexFunc(state.Credits, func(c settlement.Credited) bool { return c.Number == number })
		if n < 0 {
			return nil, notFound("credit of the settlement with the number", number)
		}
		d = document.SettlementCredit(state.Content, state.Credits[n], source)
	}
	return s.documentFile(d, string(valueOr(req.Params.Format, GetSettlementDocumentParamsFormatPdf)))
}

// documentSource reads the details that a document names as they were then: of who makes it out, and of the billing account
// that it is made out to or in the name of; and the names of organisations, as they are now. path is where the platform serves
// what proves it.
func (s *Server) documentSource(ctx context.Context, issuerVersion int64, accountID string, accountVersion int64, path string, organisations ...string) (source document.Source, err error) {
	if source.Names, err = s.organisationNames(ctx, organisations); err != nil {
		return source, err
	}
	if s.PublicURL != "" {
		source.Proof = s.PublicURL + path
	}
	if issuerVersion > 0 {
		if source.Issuer, _, err = events.Load(ctx, s.Log, issuer.Stream(billing.Issuer), until(issuerVersion, issuer.Evolve)); err != nil {
			return source, err
		}
	}
	if accountID != "" && accountVersion > 0 {
		account, _, err := events.Load(ctx, s.Log, billingaccount.Stream(accountID), until(accountVersion, billingaccount.Evolve))
		if err != nil {
			return source, err
		}
		source.Account = &account
	}
	return source, nil
}

// organisationNames are what the parties of a document are called, by id.
func (s *Server) organisationNames(ctx context.Context, ids []string) (map[string]string, error) {
	ids = unique(slices.Clone(ids)...)
	names := make(map[string]string, len(ids))
	for _, id := range ids {
		state, _, err := events.Load(ctx, s.Log, organisation.Stream(id), organisation.Evolve)
		if err != nil {
			return nil, err
		}
		names[id] = state.Name
	}
	return names, nil
}
