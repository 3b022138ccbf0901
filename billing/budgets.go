package billing

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/budget"
	"crossbill/events"
	"crossbill/projections"
)

// DefaultBudgetInterval is the time between two evaluations of all budgets.
const DefaultBudgetInterval = 5 * time.Minute

const (
	budgetLock    = int64(0x63726f7373627564) // "crossbud", an advisory lock that nobody else takes
	budgetsAtOnce = 200                       // read from the read model at once
	budgetActor   = "budgets"                 // of the alerts, in their events' metadata
)

// BudgetWatch holds what is spent against every open budget, again and again. Any number of nodes may run one on the same
// database: an advisory lock leaves the work to one at a time, and is free again when its node dies; that an alert happens
// once is not its doing but that of the budget's stream. Nothing is remembered between rounds.
type BudgetWatch struct {
	Pool     *pgxpool.Pool
	Log      Log
	Meters   Meters
	Queries  projections.Queries // as the platform sees them
	Interval time.Duration       // default [DefaultBudgetInterval]
	Clock    func() time.Time    // default time.Now
	Logger   *slog.Logger        // default: discard
}

// Run evaluates until ctx ends, and returns its error. A round that fails is logged, and the next one tries again.
func (w BudgetWatch) Run(ctx context.Context) error {
	if w.Interval == 0 {
		w.Interval = DefaultBudgetInterval
	}
	if w.Clock == nil {
		w.Clock = time.Now
	}
	if w.Logger == nil {
		w.Logger = slog.New(slog.DiscardHandler)
	}
	tick := time.NewTicker(w.Interval)
	defer tick.Stop()
	for {
		if _, err := w.Round(ctx); err != nil && ctx.Err() == nil {
			w.Logger.Warn("budgets could not be evaluated", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Round evaluates every open budget once, unless another node is at it, and returns how many alerts that made. A budget
// that can't be evaluated is logged and keeps no other from being.
func (w BudgetWatch) Round(ctx context.Context) (alerts int, _ error) {
	const op = "billing.BudgetWatch.Round"
	conn, err := w.Pool.Acquire(ctx)
	if err != nil {
		return 0, domain.Errorf(domain.Unavailable, op, "no connection: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, budgetLock).Scan(&mine); err != nil || !mine {
		if err != nil {
			err = domain.Errorf(domain.Unavailable, op, "the lock of the budgets can't be asked for: %w", err)
		}
		return 0, err
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, budgetLock) }()

	at := domain.Instant(w.Clock())
	var last budget.State
	for {
		page, err := w.Queries.OpenBudgets(ctx, last, budgetsAtOnce)
		if err != nil || len(page) == 0 {
			return alerts, err
		}
		last = page[len(page)-1]
		for len(page) > 0 {
			n := 1
			for n < len(page) && page[n].OrganisationID == page[0].OrganisationID {
				n++
			}
			made, err := w.organisation(ctx, page[:n], at)
			if alerts += made; ctx.Err() != nil {
				return alerts, ctx.Err()
			}
			if err != nil && w.Logger != nil {
				w.Logger.Warn("an organisation's budgets could not be evaluated", "organisation", page[0].OrganisationID, "error", err)
			}
			page = page[n:]
		}
	}
}

// organisation evaluates budgets of one organisation, for which its connections are looked at once. Where every threshold
// has alerted this month there is nothing to look for.
func (w BudgetWatch) organisation(ctx context.Context, all []budget.State, at time.Time) (alerts int, _ error) {
	var waiting []budget.State
	for _, b := range all {
		if b.Waiting(at) {
			waiting = append(waiting, b)
		}
	}
	if len(waiting) == 0 {
		return 0, nil
	}
	spent, position, err := SpentOn(ctx, w.Log, w.Meters, w.Queries, waiting, at)
	if err != nil {
		return 0, err
	}
	for n, b := range waiting {
		made, err := Alert(ctx, w.Log, b.ID, budget.Evaluate{Spent: spent[n], LogPosition: int64(position), At: at})
		if err != nil {
			return alerts, err
		}
		alerts += made
	}
	return alerts, nil
}

// SpentOn returns what is spent, in the month of an instant and until then, on what each of some budgets of one organisation
// is for, and the position of the log that says so.
func SpentOn(ctx context.Context, log Log, meters Meters, queries projections.Queries, all []budget.State, at time.Time) ([]domain.Money, events.Position, error) {
	chosen, _, err := load(ctx, log, billingaccount.DefaultStream(all[0].OrganisationID), maxPosition, billingaccount.EvolveDefault)
	if err != nil {
		return nil, 0, err
	}
	spent := make([]domain.Money, len(all))
	for n, b := range all {
		spent[n].Currency = b.Terms.Amount.Currency
	}
	month := MonthOf(at)
	search := projections.BilledSearch{Customer: all[0].OrganisationID, From: month.From, To: month.To, Limit: MaxPreview}
	for {
		ids, next, err := queries.Billed(ctx, search)
		if err != nil {
			return nil, 0, err
		}
		p, err := PreviewOf(ctx, log, meters, PreviewRequest{Period: month, ConnectionIDs: ids, At: at})
		if err != nil {
			return nil, 0, err
		}
		for n, b := range all {
			part, err := p.SpentOn(b, chosen.BillingAccountID)
			if err != nil {
				return nil, 0, err
			}
			if spent[n], err = spent[n].Add(part); err != nil {
				return nil, 0, err
			}
		}
		if search.PageToken = next; next == "" {
			return spent, p.Position, nil
		}
	}
}

// Alert appends the alerts that what was spent makes of a budget, and returns how many. Whoever else evaluates the budget
// at the same time, each alert is in the log once.
func Alert(ctx context.Context, log Log, budgetID string, evaluate budget.Evaluate) (int, error) {
	for range maxRunAttempts {
		state, version, err := load(ctx, log, budget.Stream(budgetID), maxPosition, budget.Evolve)
		if err != nil {
			return 0, err
		}
		decided, err := budget.Decide(state, evaluate)
		if err != nil || len(decided) == 0 {
			return 0, err
		}
		s := events.StreamAppend{Stream: budget.Stream(budgetID), Expected: events.ExpectedVersion(version)}
		for _, e := range decided {
			reached := e.(budget.ThresholdReached)
			s.Events = append(s.Events, events.NewEvent{
				ID:    domain.DeriveEventID(e.EventType(), budgetID, reached.Month, strconv.Itoa(reached.Percent)),
				Event: e, Metadata: events.Metadata{Actor: budgetActor, Parties: []string{state.OrganisationID}},
			})
		}
		_, err = log.Append(ctx, events.Append{Streams: []events.StreamAppend{s}})
		if domain.CodeOf(err) != domain.Conflict {
			return len(decided), err
		}
	}
	return 0, domain.Errorf(domain.Unavailable, "billing.Alert", "the budget %s keeps changing", budgetID).WithHint("try again in a moment")
}
