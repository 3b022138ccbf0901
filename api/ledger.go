package api

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/projections"
)

// GetTrialBalance shows operators what every account comes to.
func (s *Server) GetTrialBalance(ctx context.Context, req GetTrialBalanceRequestObject) (GetTrialBalanceResponseObject, error) {
	at, err := s.ledgerPosition(ctx, req.Params.AtPosition)
	if err != nil {
		return nil, err
	}
	balances, err := s.Platform.TrialBalance(ctx, at)
	if err != nil {
		return nil, err
	}
	answer := GetTrialBalance200JSONResponse{Position: int64(at), Balances: make([]LedgerBalance, len(balances)), Totals: []LedgerTotal{}}
	totals := make(map[domain.Currency]*LedgerTotal)
	for n, b := range balances {
		answer.Balances[n] = LedgerBalance{b.Account, b.Amount}
		total := totals[b.Amount.Currency]
		if total == nil {
			none := domain.Money{Currency: b.Amount.Currency}
			total = &LedgerTotal{Debits: none, Credits: none}
			totals[b.Amount.Currency] = total
		}
		if b.Amount.Minor > 0 {
			total.Debits, err = total.Debits.Add(b.Amount)
		} else {
			total.Credits, err = total.Credits.Add(b.Amount.Neg())
		}
		if err != nil {
			return nil, err
		}
	}
	for _, currency := range slices.Sorted(maps.Keys(totals)) {
		answer.Totals = append(answer.Totals, *totals[currency])
	}
	return answer, nil
}

// ledgerPosition is the position that is asked for, or the log's end, once the ledger is there.
func (s *Server) ledgerPosition(ctx context.Context, asked *int64) (events.Position, error) {
	if asked != nil {
		return events.Position(*asked), nil // awaitPosition has waited for it
	}
	head, err := s.Log.Head(ctx)
	if err != nil {
		return 0, err
	}
	wait, cancel := context.WithTimeout(ctx, MaxWait)
	defer cancel()
	if err := s.Waiter.WaitFor(wait, head.Position, projections.LedgerModel); err != nil {
		return 0, domain.Errorf(domain.Unavailable, "api", "the ledger has not reached position %d yet", head.Position).WithHint("try again in a moment")
	}
	return head.Position, nil
}

// journalExport streams the journal. After it has begun, a failure cuts the connection: half a journal must not look like a whole one.
type journalExport struct {
	write func(io.Writer) error
}

func (e journalExport) VisitExportJournalResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="crossbill.journal"`)
	w.WriteHeader(http.StatusOK)
	if err := e.write(w); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// ExportJournal exports the ledger for operators' accounting.
func (s *Server) ExportJournal(ctx context.Context, req ExportJournalRequestObject) (ExportJournalResponseObject, error) {
	var r projections.JournalRange
	var p domain.Problems
	for _, day := range []struct {
		at    string
		given *Day
		to    *time.Time
	}{{"/from", req.Params.From, &r.From}, {"/to", req.Params.To, &r.To}} {
		if day.given != nil {
			parsed, err := time.Parse(time.DateOnly, *day.given)
			p.Check(err == nil, day.at, "must be a day, as 2026-03-01")
			*day.to = parsed
		}
	}
	p.Check(len(p) > 0 || r.From.IsZero() || r.To.IsZero() || r.From.Before(r.To), "/to", "must be after from")
	if err := p.Err("api.ExportJournal"); err != nil {
		return nil, err
	}
	at, err := s.ledgerPosition(ctx, req.Params.AtPosition)
	if err != nil {
		return nil, err
	}
	r.At = at
	return journalExport{func(w io.Writer) error { return s.Platform.WriteJournal(ctx, w, r) }}, nil
}
