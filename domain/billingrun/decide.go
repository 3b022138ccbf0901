package billingrun

import (
	"slices"
	"time"

	"crossbill/domain"
)

// MaxDocuments is how many invoices, and how many settlements, one run may issue.
const MaxDocuments = 1_000_000

// Command is what can be asked of a run.
type Command interface{ command() }

// Complete records what a run issued, which may be nothing.
type Complete struct {
	RunID       string
	PeriodStart time.Time
	PeriodEnd   time.Time // exclusive; not after At
	LogPosition int64
	Invoices    []string
	Settlements []string
	At          time.Time

	InvoiceCount, SettlementCount int // where they are too many to be listed
}

func (Complete) command() {}

// Decide returns the events that a command makes of a state.
// It returns an Invalid error for wrong fields and a Conflict for a run that has completed.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "billingrun.Decide"
	switch c := c.(type) {
	case Complete:
		return c.decide(op, s)
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Complete) decide(op string, s State) ([]domain.Event, error) {
	if s.RunID != "" {
		return nil, domain.Exists(op, "billing run", s.RunID)
	}
	start, end, at := domain.Instant(c.PeriodStart), domain.Instant(c.PeriodEnd), domain.Instant(c.At)
	var p domain.Problems
	p.ID("/run_id", domain.PrefixBillingRun, c.RunID)
	p.Time("/period_start", c.PeriodStart)
	p.Check(end.After(start), "/period_end", "must be after the start")
	p.Time("/at", c.At)
	p.Check(!end.After(at), "/period_end", "must not be in the future")
	p.Check(c.LogPosition >= 1, "/log_position", "must be at least 1")
	checkIDs(&p, "/invoices", domain.PrefixInvoice, c.Invoices)
	p.Check(c.InvoiceCount >= 0 && (c.InvoiceCount == 0 || len(c.Invoices) == 0), "/invoice_count", "must be given instead of the invoices")
	p.Check(c.SettlementCount >= 0 && (c.SettlementCount == 0 || len(c.Settlements) == 0), "/settlement_count", "must be given instead of the settlements")
	checkIDs(&p, "/settlements", domain.PrefixSettlement, c.Settlements)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Completed{
		RunID: c.RunID, PeriodStart: start, PeriodEnd: end, LogPosition: c.LogPosition,
		Invoices: orEmpty(c.Invoices), Settlements: orEmpty(c.Settlements), At: at,
		InvoiceCount: c.InvoiceCount, SettlementCount: c.SettlementCount,
	}}, nil
}

func checkIDs(p *domain.Problems, at, prefix string, ids []string) {
	p.Check(len(ids) <= MaxDocuments, at, "must hold at most %d", MaxDocuments)
	if len(ids) > MaxDocuments {
		return
	}
	seen := make(map[string]bool, len(ids))
	for i, id := range ids {
		p.ID(domain.Pointer(at, i), prefix, id)
		p.Check(!seen[id], domain.Pointer(at, i), "is listed twice")
		seen[id] = true
	}
}

// orEmpty makes no documents read [] and not null.
func orEmpty(ids []string) []string {
	if len(ids) == 0 {
		return []string{}
	}
	return slices.Clone(ids)
}
