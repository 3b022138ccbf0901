// Package pricing is price plans and what they make of a quantity.
//
// It is a leaf: pure arithmetic on exact decimals, the same for a quote's estimate and for billing. It never rounds and
// never sees a clock; proration, rounding and lines are its callers'. Start reading at [Plan], then [Charge.Rate].
package pricing

import "crossbill/domain"

// Kinds of charges.
const (
	KindRecurring = "recurring" // an amount per calendar month
	KindUsage     = "usage"     // a price for what was metered
)

// Metrics of usage charges. In is from the customer into the platform at the customer's port, out is towards the customer.
const (
	MetricBytesIn    = "bytes_in"
	MetricBytesOut   = "bytes_out"
	MetricBytesTotal = "bytes_total"
)

// Units of quantities.
const (
	UnitGB    = "GB"    // 10⁹ bytes
	UnitGiB   = "GiB"   // 2³⁰ bytes
	UnitMonth = "month" // of recurring charges; a charge does not name it
)

// Models of usage charges.
const (
	ModelPerUnit   = "per_unit"  // every unit at one price
	ModelGraduated = "graduated" // each tier's units at the tier's price
)

// Plan is how a provider charges for a service.
type Plan struct {
	Currency domain.Currency `json:"currency"`
	Charges  []Charge        `json:"charges"`
}

// Charge is one line of a plan. Which fields it has depends on its kind and model; see [Plan.Validate].
type Charge struct {
	ID          string         `json:"id"`
	Kind        string         `json:"kind"`
	Description string         `json:"description"`
	Amount      domain.Decimal `json:"amount,omitzero"` // recurring: major units per month
	Metric      string         `json:"metric,omitempty"`
	Unit        string         `json:"unit,omitempty"`
	Model       string         `json:"model,omitempty"`
	UnitPrice   domain.Decimal `json:"unit_price,omitzero"` // per_unit: major units per unit
	Tiers       []Tier         `json:"tiers,omitempty"`     // graduated
	Included    domain.Decimal `json:"included,omitzero"`   // units a month that are free, before all others
}

// Tier is a range of units at one price: those past the tier before, up to and including UpTo.
type Tier struct {
	UpTo  *domain.Decimal `json:"up_to,omitempty"` // nil only in the last tier, which has no top
	Price domain.Decimal  `json:"price"`           // major units per unit
}

// FeeSchedule is what the platform charges for itself.
type FeeSchedule struct {
	BasisPoints int `json:"basis_points"` // hundredths of a percent of the passthrough
}
