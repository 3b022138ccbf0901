package apikey

import "crossbill/domain"

// Limits are what a principal may commit its organisation to with a key, on its own word. Above them a person is asked.
type Limits struct {
	PerOrder *domain.Money `json:"per_order,omitempty"` // an order's total; nil: any
	PerMonth *domain.Money `json:"per_month,omitempty"` // the totals of the principal's orders of a calendar month in UTC; nil: any
}

// Within reports whether whoever is held to others is held to l no less: a key whose limits are within its maker's gives
// away nothing that the maker has not.
func (l Limits) Within(others Limits) bool {
	return within(l.PerOrder, others.PerOrder) && within(l.PerMonth, others.PerMonth)
}

func within(limit, other *domain.Money) bool {
	if other == nil {
		return true
	}
	return limit != nil && limit.Currency == other.Currency && limit.Minor <= other.Minor
}

func (l Limits) check(p *domain.Problems) {
	for at, limit := range map[string]*domain.Money{"/limits/per_order": l.PerOrder, "/limits/per_month": l.PerMonth} {
		if limit == nil {
			continue
		}
		p.Check(limit.Currency.Valid(), at+"/currency", "is not a currency that is billed in")
		p.Check(limit.Minor >= 0, at+"/amount", "must not be negative")
	}
}

// Maker is who issues or changes a key: what it has not, it can't give.
type Maker struct {
	Principal PrincipalRef
	Scopes    []string
	Limits    Limits
}
