package projections

import (
	"context"
	"math/big"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// maxKnots bounds how many lines a price is made of; past it the last one goes on to the greatest usage.
const maxKnots = 64

// greatestGB is the most usage that a price is found for: see quote.MaxEstimatedGB.
const greatestGB = 1_000_000_000

// curve is a monthly price by usage: a line from each knot to the next. Floating point is enough, since it only orders and
// bounds results: what a result costs is computed from its plan.
type curve struct {
	monthly           int64 // minor units, without usage
	gb, price, slopes []float64
}

// curveOf samples a plan's price at a bandwidth. ok is false if it has none, as only terms of before bandwidths had
// prices of their own can lack.
func curveOf(plan pricing.Plan, mbps int) (c curve, ok bool) {
	price := func(gb float64) (int64, bool) {
		bytes, _ := new(big.Float).Mul(big.NewFloat(gb), big.NewFloat(1e9)).Int(nil)
		return monthly(plan, pricing.Expected{BandwidthMbps: mbps, Bytes: bytes, Running: true})
	}
	if c.monthly, ok = price(0); !ok {
		return c, false
	}
	c.gb, c.price, c.slopes = []float64{0}, []float64{float64(c.monthly)}, []float64{0}
	if !plan.Has(pricing.KindUsage) {
		return c, true
	}
	knots := knotsOf(plan)
	c.gb, c.price, c.slopes = nil, nil, nil
	const justAfter = 1e-6 // GB past a knot: a price may jump there
	for i, at := range knots[:len(knots)-1] {
		end := knots[i+1]
		start, okStart := price(at + justAfter)
		if i == 0 {
			start, okStart = c.monthly, true
		}
		last, okLast := price(end)
		if !okStart || !okLast {
			break // more money than can be billed; the line before goes on
		}
		c.gb, c.price = append(c.gb, at), append(c.price, float64(start))
		c.slopes = append(c.slopes, float64(last-start)/(end-at))
	}
	return c, len(c.gb) > 0
}

// knotsOf are the usages, from 0 to the greatest, between which a plan's price is taken for a line: where tiers and
// allowances end, and steps between that grow with the usage for models that are not made of lines.
func knotsOf(plan pricing.Plan) []float64 {
	const gbPerGiB = 1.073741824
	knots := []float64{0, greatestGB}
	add := func(gb float64) {
		if gb > 0 && gb < greatestGB {
			knots = append(knots, gb)
		}
	}
	coarse := plan.Has(pricing.KindMinimum)
	for _, charge := range plan.Charges {
		if charge.Kind != pricing.KindUsage {
			continue
		}
		scale := 1.0
		if charge.Unit == pricing.UnitGiB {
			scale = gbPerGiB
		}
		included := float(charge.Included)
		add(included * scale)
		for _, tier := range charge.Tiers {
			if tier.UpTo != nil {
				add((included + float(*tier.UpTo)) * scale)
			}
		}
		coarse = coarse || charge.Model == pricing.ModelPackage
	}
	if coarse {
		for gb := 10.0; gb < greatestGB; gb *= 2 {
			add(gb)
		}
	}
	slices.Sort(knots)
	knots = slices.Compact(knots)
	if len(knots) > maxKnots {
		knots = append(knots[:maxKnots-1], greatestGB)
	}
	return knots
}

func float(d domain.Decimal) float64 {
	f, _ := strconv.ParseFloat(d.String(), 64)
	return f
}

// monthly is the provider's price for a full month, in minor units.
func monthly(plan pricing.Plan, expected pricing.Expected) (int64, bool) {
	lines, err := plan.Estimate(expected)
	if err != nil {
		return 0, false
	}
	sum := domain.Money{Currency: plan.Currency}
	for _, l := range lines {
		if l.OneTime {
			continue
		}
		if sum, err = sum.Add(l.Amount); err != nil {
			return 0, false
		}
	}
	return sum.Minor, true
}

// priceColumns are the price rows of offers.
type priceColumns struct {
	ids, currencies      []string
	versions, bandwidths []int
	positions, monthly   []int64
	gb, price, slope     []string
}

// add makes a row for each bandwidth, and one for the smallest under the bandwidth 0.
func (c *priceColumns) add(o offer) {
	smallest := 0
	if len(o.Terms.BandwidthsMbps) > 0 {
		smallest = slices.Min(o.Terms.BandwidthsMbps)
	}
	for _, mbps := range o.Terms.BandwidthsMbps {
		at, ok := curveOf(o.Terms.Plan, mbps)
		if !ok {
			continue
		}
		under := []int{mbps}
		if mbps == smallest {
			under = append(under, 0)
		}
		for _, b := range under {
			c.ids, c.versions, c.positions = append(c.ids, o.ListingID), append(c.versions, o.Version), append(c.positions, o.position)
			c.bandwidths, c.currencies = append(c.bandwidths, b), append(c.currencies, string(o.Terms.Plan.Currency))
			c.monthly = append(c.monthly, at.monthly)
			c.gb, c.price, c.slope = append(c.gb, floatArray(at.gb)), append(c.price, floatArray(at.price)), append(c.slope, floatArray(at.slopes))
		}
	}
}

func (c *priceColumns) insert(ctx context.Context, tx pgx.Tx, table string) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO `+table+`_prices (listing_id, version, bandwidth_mbps, position, currency, monthly, usage_gb, usage_price, usage_slope)
		SELECT id, version, mbps, position, currency, monthly, gb::float8[], price::float8[], slope::float8[]
		FROM unnest($1::text[], $2::int[], $3::int[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[])
			AS t (id, version, mbps, position, currency, monthly, gb, price, slope)`,
		c.ids, c.versions, c.bandwidths, c.positions, c.currencies, c.monthly, c.gb, c.price, c.slope)
	return err
}

// floatArray is PostgreSQL's text form of an array.
func floatArray(values []float64) string {
	b := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
	}
	return string(append(b, '}'))
}
