// Package pricing is price plans and what they make of a quantity.
//
// It is a leaf: pure arithmetic on exact decimals, the same for a quote's estimate and for billing. It never sees a clock,
// and rounds only where it makes an amount of money of a whole line ([Plan.Estimate]); proration and lines are billing's.
// Start reading at [Plan], then [Charge.Rate]. The rules are those of the rebill document ("Charge kinds in a price plan").
package pricing

import (
	"slices"

	"crossbill/domain"
)

// Kinds of charges.
const (
	KindOneTime    = "one_time"   // an amount once, when the connection is put into production
	KindRecurring  = "recurring"  // an amount per calendar month
	KindUsage      = "usage"      // a price for what was metered
	KindPercentile = "percentile" // a price for committed bandwidth, and one for the 95th percentile above it
	KindMinimum    = "minimum"    // what the plan's usage charges come to per calendar month at the least
)

// Metrics of usage charges. In is from the customer into the platform at the customer's port, out is towards the customer.
const (
	MetricBytesIn    = "bytes_in"
	MetricBytesOut   = "bytes_out"
	MetricBytesTotal = "bytes_total"
)

// Units of quantities. A charge names its unit only if it is a usage charge; the others follow from its kind.
const (
	UnitGB        = "GB"         // 10⁹ bytes
	UnitGiB       = "GiB"        // 2³⁰ bytes
	UnitMonth     = "month"      // of recurring charges and minimums
	UnitOnce      = "once"       // of one-time charges
	UnitMbpsMonth = "Mbps-month" // of percentile charges: 10⁶ bits a second for a month
)

// Models of usage charges.
const (
	ModelPerUnit   = "per_unit"  // every unit at one price
	ModelGraduated = "graduated" // each tier's units at the tier's price
	ModelVolume    = "volume"    // all units at the price of the tier that they reach
	ModelPackage   = "package"   // a price for each block of units that is started
)

// Parts of a percentile charge, each a line of its own.
const (
	PartCommit  = "commit"  // the bandwidth that was committed to
	PartOverage = "overage" // the 95th percentile above it
)

// What a plan's time-based charges come to while a connection is suspended.
const (
	SuspendedBilled    = "billed" // as ever; what a plan without a word on it means
	SuspendedNotBilled = "not_billed"
)

// Plan is how a provider charges for a service.
type Plan struct {
	Currency       domain.Currency `json:"currency"`
	WhileSuspended string          `json:"while_suspended,omitempty"` // "" is [SuspendedBilled]
	Charges        []Charge        `json:"charges"`
}

// Charge is one line of a plan. Which fields it has depends on its kind and model; see [Plan.Validate].
type Charge struct {
	ID          string         `json:"id"`
	Kind        string         `json:"kind"`
	Description string         `json:"description"`
	Amount      domain.Decimal `json:"amount,omitzero"`   // one_time: major units; recurring, minimum: major units per month
	Amounts     []Amount       `json:"amounts,omitempty"` // one_time, recurring: by bandwidth, in Amount's place
	Metric      string         `json:"metric,omitempty"`
	Unit        string         `json:"unit,omitempty"`
	Model       string         `json:"model,omitempty"`
	UnitPrice   domain.Decimal `json:"unit_price,omitzero"` // per_unit: major units per unit
	Tiers       []Tier         `json:"tiers,omitempty"`     // graduated, volume
	Included    domain.Decimal `json:"included,omitzero"`   // units a month that are free, before all others

	PackageSize  domain.Decimal `json:"package_size,omitzero"`  // package: units in a block
	PackagePrice domain.Decimal `json:"package_price,omitzero"` // package: major units per started block

	CommitMbps   int            `json:"commit_mbps,omitempty"`  // percentile; 0 commits to nothing
	CommitPrice  domain.Decimal `json:"commit_price,omitzero"`  // percentile: major units per committed Mbps and month
	OveragePrice domain.Decimal `json:"overage_price,omitzero"` // percentile: major units per Mbps above and month
}

// Amount is what a charge comes to at one of a listing's bandwidths.
type Amount struct {
	BandwidthMbps int            `json:"bandwidth_mbps"`
	Amount        domain.Decimal `json:"amount"`
}

// Tier is a range of units at one price: those past the tier before, up to and including UpTo.
type Tier struct {
	UpTo  *domain.Decimal `json:"up_to,omitempty"` // nil only in the last tier, which has no top
	Price domain.Decimal  `json:"price"`           // major units per unit
}

// For returns the plan as it is at a bandwidth: each charge with the one amount that it then has. It returns an Invalid
// error for a bandwidth that a charge has no amount for.
func (p Plan) For(bandwidthMbps int) (Plan, error) {
	charges := slices.Clone(p.Charges)
	for i, c := range charges {
		if c.Amounts == nil {
			continue
		}
		n := slices.IndexFunc(c.Amounts, func(a Amount) bool { return a.BandwidthMbps == bandwidthMbps })
		if n < 0 {
			return Plan{}, domain.Errorf(domain.Invalid, "pricing.Plan.For", "the charge %s has no amount for %d Mbps", c.ID, bandwidthMbps).
				WithHint("ask for one of the bandwidths that the plan has amounts for")
		}
		charges[i].Amount, charges[i].Amounts = c.Amounts[n].Amount, nil
	}
	p.Charges = charges
	return p, nil
}

// Has reports whether the plan has a charge of the kind.
func (p Plan) Has(kind string) bool {
	return slices.ContainsFunc(p.Charges, func(c Charge) bool { return c.Kind == kind })
}

// BilledWhileSuspended reports whether time in which the connection is suspended is charged as any other.
func (p Plan) BilledWhileSuspended() bool { return p.WhileSuspended != SuspendedNotBilled }
