// Package rating turns what is known of a connection and a period into rated items: what each charge of the plan comes
// to, exactly, rounded once, with its arithmetic.
//
// It is pure: no clock, no log, no floats, and the same input gives the same items on every machine. It knows nothing of
// invoices or events; package billing finds the facts and writes the lines. The rules are those of the rebill document
// ("Money", "Periods and proration", "Charge kinds in a price plan", "Platform fee"). Start reading at [Rate], then [Fee].
package rating

import (
	"fmt"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// prefixItem begins the id of a rated item. The customer's invoice line and the provider's settlement line both have it.
const prefixItem = "itm"

// Input is what one connection is rated by: one plan at one bandwidth over one stretch of time.
type Input struct {
	ConnectionID  string
	Plan          pricing.Plan // validated
	BandwidthMbps int
	Period        Interval   // the whole billing period
	Billable      Interval   // the part of it that is charged by this plan, whole seconds; see [BillableIn]
	Month         Interval   // all that is charged of the period, by whatever plan; zero if that is Billable
	Suspended     []Interval // within Billable, whole seconds, apart and in order
	Activation    bool       // the connection was put into production at the start of Billable
	Usage         Usage      // what was metered in Billable
	Percentile    Percentile // of the buckets that begin in Billable; plans without a percentile charge need none
}

// Item is one charge over one stretch of time, rated.
type Item struct {
	ID          string
	ChargeID    string
	Part        string // of a percentile charge
	Description string
	Quantity    domain.Decimal
	Unit        string
	Exact       domain.Decimal // major units, before the one rounding
	Amount      domain.Money
	Steps       []string // the arithmetic, for people to follow
}

// Rate rates every charge of the plan, in the plan's order. A charge that comes to nothing still gives an item: a
// missing line and a line of nothing are not the same to who checks an invoice. Only a one-time charge gives none where
// it is not due.
//
// It returns an Internal error for an input that its callers may not make (an invalid plan, a billable interval outside
// the period or not in whole seconds), and an Invalid error for an amount past the range of money.
func Rate(in Input) ([]Item, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	plan, err := in.Plan.For(in.BandwidthMbps)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, "rating.Rate", "%s has no price: %w", in.ConnectionID, err)
	}
	months, monthSteps := in.months()
	items := make([]Item, 0, len(plan.Charges)+1)
	usage := domain.Money{Currency: plan.Currency}
	minimum := -1
	for _, c := range plan.Charges {
		item := in.item(c, "")
		var exact domain.Decimal
		var steps []string
		switch c.Kind {
		case pricing.KindOneTime:
			if !in.Activation {
				continue
			}
			item.Quantity = domain.DecimalFromInt(1)
			exact, steps = c.Rate(item.Quantity)
		case pricing.KindRecurring:
			item.Quantity, item.Steps = months, append(item.Steps, monthSteps...)
			exact, steps = c.Rate(months)
		case pricing.KindUsage:
			exact, steps = in.usage(&item, c)
		case pricing.KindPercentile:
			parts, err := in.percentile(c, months, monthSteps)
			if err != nil {
				return nil, err
			}
			items = append(items, parts...)
			continue
		case pricing.KindMinimum:
			minimum = len(items)
			items = append(items, item) // rated when every usage charge is
			continue
		default:
			return nil, domain.Errorf(domain.Internal, "rating.Rate", "no rule for charges of kind %q", c.Kind).
				WithHint("run a version of crossbill that knows it")
		}
		item.Steps = append(item.Steps, steps...)
		if item, err = item.round(exact, plan.Currency); err != nil {
			return nil, err
		}
		if c.Kind == pricing.KindUsage {
			if usage, err = usage.Add(item.Amount); err != nil {
				return nil, err
			}
		}
		items = append(items, item)
	}
	if minimum >= 0 {
		n := slices.IndexFunc(plan.Charges, func(c pricing.Charge) bool { return c.Kind == pricing.KindMinimum })
		exact, steps := plan.Charges[n].TrueUp(months, usage)
		item := items[minimum]
		item.Quantity, item.Steps = months, slices.Concat(item.Steps, monthSteps, steps)
		if items[minimum], err = item.round(exact, plan.Currency); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (in Input) check() error {
	const op = "rating.Rate"
	if err := in.Plan.Validate(); err != nil {
		return domain.Errorf(domain.Internal, op, "the plan of %s is not valid: %w", in.ConnectionID, err)
	}
	month := in.month()
	if in.Billable.Empty() || !in.Billable.Intersect(month).Equal(in.Billable) || !month.Intersect(in.Period).Equal(month) ||
		!in.Period.wholeSeconds() || !in.Billable.wholeSeconds() || !month.wholeSeconds() {
		return domain.Errorf(domain.Internal, op, "%s can't be billable %s of %s in the period %s", in.ConnectionID, in.Billable, month, in.Period)
	}
	last := in.Billable.From
	for _, s := range in.Suspended {
		if s.Empty() || !s.wholeSeconds() || s.From.Before(last) || s.To.After(in.Billable.To) {
			return domain.Errorf(domain.Internal, op, "%s can't be suspended %s where it is billable %s", in.ConnectionID, s, in.Billable)
		}
		last = s.To
	}
	return nil
}

func (in Input) month() Interval {
	if in.Month == (Interval{}) {
		return in.Billable
	}
	return in.Month
}

// split reports whether only a part of the month is charged by this plan.
func (in Input) split() bool { return !in.month().Equal(in.Billable) }

// item begins a charge's item. Where the month is split, its first step says which part it is of.
func (in Input) item(c pricing.Charge, part string) Item {
	i := Item{ID: in.itemID(c.ID, part), ChargeID: c.ID, Part: part, Description: c.Description, Unit: c.QuantityUnit()}
	if part != "" {
		i.Description = c.Describe(part)
	}
	if in.split() {
		i.Steps = []string{fmt.Sprintf("from %s to %s, at %d Mbps", stamp(in.Billable.From), stamp(in.Billable.To), in.BandwidthMbps)}
	}
	return i
}

// usage rates what was metered. Where the month is split, the plan's allowance and tiers are as well, by time.
func (in Input) usage(item *Item, c pricing.Charge) (exact domain.Decimal, steps []string) {
	item.Quantity, steps = in.Usage.quantity(c)
	item.Steps = append(item.Steps, steps...)
	if in.split() && (c.Included.Sign() > 0 || len(c.Tiers) > 1) {
		part, whole := in.Billable.Seconds(), in.month().Seconds()
		c = c.Shared(domain.DecimalFromInt(part).Quo(domain.DecimalFromInt(whole)))
		item.Steps = append(item.Steps, fmt.Sprintf("allowance and tiers for %d of the %d seconds billed in the period", part, whole))
	}
	return c.Rate(item.Quantity)
}

// round sets the item's exact amount and rounds it, the one time that it is rounded.
func (i Item) round(exact domain.Decimal, c domain.Currency) (Item, error) {
	amount, err := domain.RoundMoney(exact, c)
	if err != nil {
		return Item{}, err
	}
	i.Exact, i.Amount = exact, amount
	if amount.Decimal().Cmp(exact) != 0 {
		i.Steps = append(i.Steps, "rounded once, half away from zero: "+amount.String())
	}
	return i, nil
}

// months prorates by the second: the part of the period that is charged by time, in months. The period counts as one
// month. Time in which the connection is suspended counts unless the plan says otherwise.
func (in Input) months() (domain.Decimal, []string) {
	var steps []string
	active, whole := in.Billable.Seconds(), in.Period.Seconds()
	if paused := in.paused(); len(paused) > 0 {
		total := int64(0)
		for _, p := range paused {
			total += p.Seconds()
		}
		steps = append(steps, fmt.Sprintf("%d seconds − %d seconds suspended = %d seconds", active, total, active-total))
		active -= total
	}
	if active == whole {
		return domain.DecimalFromInt(1), nil
	}
	quantity := domain.DecimalFromInt(active).Quo(domain.DecimalFromInt(whole))
	return quantity, append(steps, fmt.Sprintf("%d of the period's %d seconds = %s %s", active, whole, quantity, pricing.UnitMonth))
}

// paused returns the time that is not charged, because the connection was suspended under a plan that says so.
func (in Input) paused() []Interval {
	if in.Plan.BilledWhileSuspended() {
		return nil
	}
	return in.Suspended
}

// itemID derives the id from what the item is about, never from what it comes to: computed again, it is the same item.
// The start of the billable part is in it because a period is billed in parts when a plan changes inside it.
func (in Input) itemID(chargeID, part string) string {
	about := []string{in.ConnectionID, chargeID, stamp(in.Period.From), stamp(in.Period.To), stamp(in.Billable.From)}
	if part != "" {
		about = append(about, part)
	}
	return domain.DeriveID(prefixItem, in.Period.From, about...)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
