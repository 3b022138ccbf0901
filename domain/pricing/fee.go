package pricing

import (
	"slices"

	"crossbill/domain"
)

// FeeSchedule is what the platform charges for itself: a share of the passthrough of each connection and month.
type FeeSchedule struct {
	BasisPoints int `json:"basis_points"` // hundredths of a percent of the passthrough
	FeeTerms
}

// FeeTerms are the bounds of a fee and what is free of it. The zero value has none. Amounts of money are by currency, at
// most one of each; in a currency without one, there is no such bound.
type FeeTerms struct {
	Floors []domain.Money `json:"floors,omitempty"` // the least fee of a connection and month
	Caps   []domain.Money `json:"caps,omitempty"`   // the highest

	// The free tier is counted for each customer and month, in each currency apart, in the order of its invoices and of
	// their connections: the first connections bear no fee at all, and the first amount of passthrough that is left is
	// taken off what the fee is a share of.
	FreeConnections int            `json:"free_connections,omitempty"`
	FreePassthrough []domain.Money `json:"free_passthrough,omitempty"`
}

// FreeUse is what of a customer's free tier was used in a month, in one currency. The zero value is nothing.
type FreeUse struct {
	Connections int          `json:"connections"`
	Passthrough domain.Money `json:"passthrough"`
}

// Add adds connections and their passthrough.
func (u FreeUse) Add(connections int, passthrough domain.Money) (FreeUse, error) {
	if u.Passthrough.Currency == "" {
		u.Passthrough.Currency = passthrough.Currency
	}
	sum, err := u.Passthrough.Add(passthrough)
	return FreeUse{u.Connections + connections, sum}, err
}

// None reports whether the terms say nothing.
func (t FeeTerms) None() bool {
	return len(t.Floors) == 0 && len(t.Caps) == 0 && !t.HasFreeTier()
}

// HasFreeTier reports whether anything is free of the fee.
func (t FeeTerms) HasFreeTier() bool { return t.FreeConnections > 0 || len(t.FreePassthrough) > 0 }

// FreeAmount returns the passthrough of a month that is free of the fee in a currency; zero if none is.
func (t FeeTerms) FreeAmount(c domain.Currency) domain.Money {
	free, _ := in(t.FreePassthrough, c)
	return free
}

func in(amounts []domain.Money, c domain.Currency) (domain.Money, bool) {
	n := slices.IndexFunc(amounts, func(m domain.Money) bool { return m.Currency == c })
	if n < 0 {
		return domain.Money{Currency: c}, false
	}
	return amounts[n], true
}

// Rate returns the exact fee, in major units, on a passthrough that is rounded already, and the arithmetic that leads to
// it. What is free is taken off before.
func (f FeeSchedule) Rate(passthrough domain.Money) (amount domain.Decimal, steps []string) {
	amount, steps = f.Share(passthrough)
	return f.Bound(amount, passthrough.Currency, steps)
}

// Share returns the fee before its bounds.
func (f FeeSchedule) Share(passthrough domain.Money) (amount domain.Decimal, steps []string) {
	share := domain.DecimalFromInt(int64(f.BasisPoints)).Quo(domain.DecimalFromInt(10_000))
	amount = passthrough.Decimal().Mul(share)
	return amount, []string{passthrough.Amount() + " × " + f.Percent() + " = " + amount.String()}
}

// Bound holds a fee to the least and the highest of its currency.
func (f FeeSchedule) Bound(amount domain.Decimal, c domain.Currency, steps []string) (domain.Decimal, []string) {
	if floor, ok := in(f.Floors, c); ok && amount.Cmp(floor.Decimal()) < 0 {
		amount, steps = floor.Decimal(), append(steps, "at least "+floor.Amount())
	}
	if most, ok := in(f.Caps, c); ok && amount.Cmp(most.Decimal()) > 0 {
		amount, steps = most.Decimal(), append(steps, "at most "+most.Amount())
	}
	return amount, steps
}

// Percent returns the fee's share as people read it: "3 %".
func (f FeeSchedule) Percent() string {
	return domain.DecimalFromInt(int64(f.BasisPoints)).Quo(domain.DecimalFromInt(100)).String() + " %"
}

// Limits on a fee schedule.
const (
	MaxBasisPoints     = 10_000 // the whole passthrough
	MaxFreeConnections = 1000
)

// Check records everything that is wrong with the schedule that is found at the JSON pointer at.
func (f FeeSchedule) Check(p *domain.Problems, at string) {
	p.Check(f.BasisPoints >= 0 && f.BasisPoints <= MaxBasisPoints, at+"/basis_points", "must be 0 to %d", MaxBasisPoints)
	p.Check(f.FreeConnections >= 0 && f.FreeConnections <= MaxFreeConnections, at+"/free_connections", "must be 0 to %d", MaxFreeConnections)
	checkAmounts(p, at+"/floors", f.Floors)
	checkAmounts(p, at+"/caps", f.Caps)
	checkAmounts(p, at+"/free_passthrough", f.FreePassthrough)
	for i, most := range f.Caps {
		floor, ok := in(f.Floors, most.Currency)
		p.Check(!ok || floor.Minor <= most.Minor, domain.Pointer(at+"/caps", i), "is below the floor of the same currency")
	}
}

// checkAmounts records amounts that are negative, too large, in an unknown currency, or in that of an earlier one.
func checkAmounts(p *domain.Problems, at string, amounts []domain.Money) {
	for i, m := range amounts {
		here := domain.Pointer(at, i)
		if !m.Currency.Valid() {
			p.Add(here+"/currency", "%.10q is not a currency that Crossbill bills in", string(m.Currency))
			continue
		}
		p.Check(m.Minor >= 0, here+"/amount", "must not be negative")
		p.Check(m.Decimal().Cmp(domain.DecimalFromInt(MaxAmount)) <= 0, here+"/amount", "must be at most %d", MaxAmount)
		p.Check(!slices.ContainsFunc(amounts[:i], func(o domain.Money) bool { return o.Currency == m.Currency }), here+"/currency",
			"%s has an amount already", m.Currency)
	}
}
