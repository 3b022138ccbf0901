package api

import (
	"context"
	"io"
	"net/http"

	"crossbill/billing"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/projections"
)

// exportPage is how many documents an export reads at a time; it holds no more in memory. A document is at most the payload of
// one event.
const exportPage = 16

// export streams documents, page by page.
type export[D any] struct {
	contentType, name string
	first             []D
	next              func() ([]D, error) // nothing at the end
	open              func(io.Writer) (write func(D) error, end func() error)
}

// write is given the first page, which was read before anything is answered, so that most that can go wrong is still a
// problem. After that a failure cuts the connection: half an export must not look like a whole one.
func (e export[D]) write(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", e.contentType)
	w.Header().Set("Content-Disposition", `attachment; filename="`+e.name+`"`)
	w.WriteHeader(http.StatusOK)
	write, end := e.open(w)
	for page := e.first; len(page) > 0; {
		for _, document := range page {
			if err := write(document); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		var err error
		if page, err = e.next(); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if err := end(); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

const contentCSV = "text/csv; charset=utf-8; header=present"

// pages returns what gives one page of a list after the other, and nothing after the last.
func pages[D any](list func(token string) ([]D, string, error)) func() ([]D, error) {
	token, ended := "", false
	return func() (page []D, err error) {
		if ended {
			return nil, nil
		}
		page, token, err = list(token)
		ended = token == ""
		return page, err
	}
}

type invoiceExport struct{ export[invoice.State] }

func (e invoiceExport) VisitExportInvoicesResponse(w http.ResponseWriter) error { return e.write(w) }

// ExportInvoices exports the caller's invoices, a row for each line.
func (s *Server) ExportInvoices(ctx context.Context, req ExportInvoicesRequestObject) (ExportInvoicesResponseObject, error) {
	p, limit := req.Params, exportPage
	search, err := bookSearch(p.Period, p.Currency, &limit, nil)
	if err != nil {
		return nil, err
	}
	search.State, search.BillingAccountID = string(valueOr(p.State, "")), valueOr(p.BillingAccountId, "")
	next := pages(func(token string) ([]invoice.State, string, error) {
		search.PageToken = token
		return s.Queries.InvoicesOf(ctx, viewer(ctx), search)
	})
	first, err := next()
	if err != nil {
		return nil, err
	}
	return invoiceExport{export[invoice.State]{contentCSV, "invoices.csv", first, next,
		func(w io.Writer) (func(invoice.State) error, func() error) {
			out := billing.NewInvoiceCSV(w)
			return out.Write, out.Flush
		}}}, nil
}

// evidenced is a settlement, and what is known of the items on its invoices.
type evidenced struct {
	settlement.State
	items map[projections.ItemOf]projections.SettledItem
}

type settlementExport struct{ export[evidenced] }

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
	next := pages(func(token string) ([]evidenced, string, error) {
		search.PageToken = token
		found, token, err := s.Queries.SettlementsOf(ctx, viewer(ctx), search)
		page := make([]evidenced, len(found))
		for n, settled := range found {
			if err == nil {
				page[n].State = settled
				page[n].items, err = s.Queries.SettledItems(ctx, viewer(ctx), invoicesOf(settled))
			}
		}
		return page, token, err
	})
	first, err := next()
	if err != nil {
		return nil, err
	}
	return settlementExport{export[evidenced]{contentCSV, "settlements.csv", first, next,
		func(w io.Writer) (func(evidenced) error, func() error) {
			out := billing.NewSettlementCSV(w)
			return func(d evidenced) error {
				return out.Write(d.State, func(l settlement.Line) string {
					return d.items[projections.ItemOf{DocumentID: l.InvoiceID, ItemID: l.ItemID}].EvidenceDigest
				})
			}, out.Flush
		}}}, nil
}

// invoicesOf returns the invoices that a settlement's lines are of.
func invoicesOf(s settlement.State) []string {
	seen := make(map[string]bool)
	var ids []string
	for _, l := range s.Lines {
		if !seen[l.InvoiceID] {
			seen[l.InvoiceID] = true
			ids = append(ids, l.InvoiceID)
		}
	}
	return ids
}
