package budget

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Limits on a budget.
const (
	MaxName       = 120  // characters
	MaxThresholds = 10   // thresholds
	MaxThreshold  = 1000 // percent
)

// DefaultThresholds are those of a budget that names none, in percent.
var DefaultThresholds = []int{50, 80, 100}

// Command is what can be asked of a budget.
type Command interface{ command() }

// Open makes a budget. That the scope is the organisation's own is for the caller to see to.
type Open struct {
	BudgetID       string
	OrganisationID string
	Scope          Scope
	Terms          Terms // no thresholds: the default ones
	At             time.Time
}

// Change puts other terms in the place of the present ones. Thresholds that were reached this month stay reached.
type Change struct {
	Terms Terms
	At    time.Time
}

// Close ends the budget.
type Close struct{ At time.Time }

// Evaluate holds what was spent against the thresholds.
type Evaluate struct {
	Spent       domain.Money // in the month of At, until At
	LogPosition int64        // that it was computed from
	At          time.Time
}

func (Open) command()     {}
func (Change) command()   {}
func (Close) command()    {}
func (Evaluate) command() {}

// Decide returns the events that a command makes of a state. Evaluate gives an event for each threshold that is reached and
// was not before in the month: appended with the state's version expected, they happen once however many evaluate.
//
// It returns an Invalid error for wrong fields, NotFound for a budget that does not exist, a Conflict for one that exists
// already or is closed, and an Internal error for what was spent in another currency than the budget's.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "budget.Decide"
	if open, ok := c.(Open); ok {
		return open.decide(op, s)
	}
	if s.ID == "" {
		return nil, domain.Missing(op, "budget")
	}
	var p domain.Problems
	switch c := c.(type) {
	case Change:
		terms := c.Terms.check(&p)
		p.Check(terms.Amount.Currency == s.Terms.Amount.Currency, "/amount/currency", "must stay %s", s.Terms.Amount.Currency)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if s.State == StateClosed {
			return nil, domain.InState(op, "budget", s.ID, StateClosed).WithHint("open another one")
		}
		if terms.equal(s.Terms) {
			return nil, nil
		}
		return []domain.Event{Changed{s.ID, terms, domain.Instant(c.At)}}, nil
	case Close:
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil || s.State == StateClosed {
			return nil, err
		}
		return []domain.Event{Closed{s.ID, domain.Instant(c.At)}}, nil
	case Evaluate:
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil || s.State == StateClosed {
			return nil, err
		}
		return s.evaluate(op, c)
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Open) decide(op string, s State) ([]domain.Event, error) {
	if s.ID != "" {
		return nil, domain.Exists(op, "budget", s.ID)
	}
	var p domain.Problems
	p.ID("/budget_id", domain.PrefixBudget, c.BudgetID)
	p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
	switch c.Scope.Kind {
	case ScopeOrganisation:
		p.Check(c.Scope.ID == c.OrganisationID, "/scope/id", "must be the organisation's own")
	case ScopeBillingAccount:
		p.ID("/scope/id", domain.PrefixBillingAccount, c.Scope.ID)
	case ScopeConnection:
		p.ID("/scope/id", domain.PrefixConnection, c.Scope.ID)
	default:
		p.OneOf("/scope/kind", c.Scope.Kind, ScopeOrganisation, ScopeBillingAccount, ScopeConnection)
	}
	terms := c.Terms.check(&p)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Opened{c.BudgetID, c.OrganisationID, c.Scope, terms, domain.Instant(c.At)}}, nil
}

func (s State) evaluate(op string, c Evaluate) ([]domain.Event, error) {
	amount := s.Terms.Amount
	if c.Spent.Currency != amount.Currency {
		return nil, domain.Errorf(domain.Internal, op, "the budget %s is in %s, what was spent in %s", s.ID, amount.Currency, c.Spent.Currency)
	}
	month := MonthOf(c.At)
	var reached []domain.Event
	for _, percent := range s.Terms.Thresholds {
		if s.Reached(month, percent) || !reaches(c.Spent, amount, percent) {
			continue
		}
		reached = append(reached, ThresholdReached{
			BudgetID: s.ID, OrganisationID: s.OrganisationID, Scope: s.Scope, Name: s.Terms.Name, Month: month, Percent: percent,
			Amount: amount, Spent: c.Spent, LogPosition: c.LogPosition, At: domain.Instant(c.At),
		})
	}
	return reached, nil
}

// reaches reports whether what was spent is at least that many percent of an amount, exactly.
func reaches(spent, amount domain.Money, percent int) bool {
	return spent.Decimal().Mul(domain.DecimalFromInt(100)).Cmp(amount.Decimal().Mul(domain.DecimalFromInt(int64(percent)))) >= 0
}

// check returns the terms as they are recorded: thresholds ascending, the default ones if there are none.
func (t Terms) check(p *domain.Problems) Terms {
	p.Text("/name", t.Name, MaxName)
	p.Check(t.Amount.Currency.Valid(), "/amount/currency", "%.10q is not a currency that is billed in", string(t.Amount.Currency))
	p.Check(t.Amount.Minor > 0, "/amount", "must be above 0")
	if len(t.Thresholds) == 0 {
		t.Thresholds = DefaultThresholds
	}
	if len(t.Thresholds) > MaxThresholds {
		p.Add("/thresholds", "must be at most %d", MaxThresholds)
		return t
	}
	t.Thresholds = slices.Clone(t.Thresholds)
	for i, percent := range t.Thresholds {
		at := domain.Pointer("/thresholds", i)
		p.Check(percent >= 1 && percent <= MaxThreshold, at, "must be 1 to %d", MaxThreshold)
		p.Check(!slices.Contains(t.Thresholds[:i], percent), at, "is listed twice")
	}
	slices.Sort(t.Thresholds)
	return t
}

func (t Terms) equal(o Terms) bool {
	return t.Name == o.Name && t.Amount == o.Amount && slices.Equal(t.Thresholds, o.Thresholds)
}
