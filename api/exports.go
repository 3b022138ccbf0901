package api

import (
	"context"
	"net/http"

	"crossbill/billing"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
)

// exportPage is how many documents an export reads at a time; it holds no more in memory.
const exportPage = 100

// csvExport streams documents as CSV, page by page.
type csvExport[D any] struct {
	first []D
	token string
	next  func(token string) ([]D, string, error)
	name  string
	to    func(w http.ResponseWriter) csvDocuments[D]
}

// csvDocuments is what billing's CSV writers have in common.
type csvDocuments[D any] interface {
	Write(document D) error
	Flush() error
}

// write reads the first page before anything is answered, so that most that can go wrong is still a problem. After that
// a failure cuts the connection: half an export must not look like a whole one.
func (e csvExport[D]) write(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Content-Disposition", `attachment; filename="`+e.name+`"`)
	w.WriteHeader(http.StatusOK)
	out := e.to(w)
	page, token := e.first, e.token
	for {
		for _, document := range page {
			if err := out.Write(document); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if token == "" {
			break
		}
		var err error
		if page, token, err = e.next(token); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if err := out.Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

type invoiceExport struct{ csvExport[invoice.State] }

func (e invoiceExport) VisitExportInvoicesResponse(w http.ResponseWriter) error { return e.write(w) }

// ExportInvoices exports the caller's invoices, a row for each line.
func (s *Server) ExportInvoices(ctx context.Context, req ExportInvoicesRequestObject) (ExportInvoicesResponseObject, error) {
	p, limit := req.Params, exportPage
	search, err := bookSearch(p.Period, p.Currency, &limit, nil)
	if err != nil {
		return nil, err
	}
	search.State, search.BillingAccountID = string(valueOr(p.State, "")), valueOr(p.BillingAccountId, "")
	next := func(token string) ([]invoice.State, string, error) {
		search.PageToken = token
		return s.Queries.InvoicesOf(ctx, viewer(ctx), search)
	}
	first, token, err := next("")
	if err != nil {
		return nil, err
	}
	return invoiceExport{csvExport[invoice.State]{first, token, next, "invoices.csv",
		func(w http.ResponseWriter) csvDocuments[invoice.State] { return billing.NewInvoiceCSV(w) }}}, nil
}

type settlementExport struct{ csvExport[settlement.State] }

func (e settlementExport) VisitExportSettlementsResponse(w http.ResponseWriter) error {
	return e.write(w)
}

// ExportSettlements exports what the caller is owed, a row for each line.
func (s *Server) ExportSettlements(ctx context.Context, req ExportSettlementsRequestObject) (ExportSettlementsResponseObject, error) {
	limit := exportPage
	search, err := bookSearch(req.Params.Period, req.Params.Currency, &limit, nil)
	if err != nil {
		return nil, err
	}
	next := func(token string) ([]settlement.State, string, error) {
		search.PageToken = token
		return s.Queries.SettlementsOf(ctx, viewer(ctx), search)
	}
	first, token, err := next("")
	if err != nil {
		return nil, err
	}
	return settlementExport{csvExport[settlement.State]{first, token, next, "settlements.csv",
		func(w http.ResponseWriter) csvDocuments[settlement.State] { return billing.NewSettlementCSV(w) }}}, nil
}
