// Package rating turns what is known of a connection and a period into rated items: what each charge of the plan comes
// to, exactly, rounded once, with its arithmetic.
//
// It is pure: no clock, no log, no floats, and the same input gives the same items on every machine. It knows nothing of
// invoices or events; package billing finds the facts and writes the lines. The rules are those of the rebill document
// ("Money", "Periods and proration"). Start reading at [Rate], then [Fee].
package rating

import (
	"fmt"
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// prefixItem begins the id of a rated item. The customer's invoice line and the provider's settlement line both have it.
const prefixItem = "itm"

// Input is what one connection is rated by: one plan over one stretch of time.
type Input struct {
	ConnectionID string
	Plan         pricing.Plan // validated
	Period       Interval     // the whole billing period
	Billable     Interval     // the part of it that is charged, whole seconds; see [BillableIn]
	Usage        Usage        // what was metered in Billable
}

// Item is one charge over one stretch of time, rated.
type Item struct {
	ID          string
	ChargeID    string
	Description string
	Quantity    domain.Decimal
	Unit        string
	Exact       domain.Decimal // major units, before the one rounding
	Amount      domain.Money
	Steps       []string // the arithmetic, for people to follow
}

// Rate rates every charge of the plan, in the plan's order. A charge that comes to nothing still gives an item: a
// missing line and a line of nothing are not the same to who checks an invoice.
//
// It returns an Internal error for an input that its callers may not make (an invalid plan, a billable interval outside
// the period or not in whole seconds), and an Invalid error for an amount past the range of money.
func Rate(in Input) ([]Item, error) {
	const op = "rating.Rate"
	if err := in.Plan.Validate(); err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the plan of %s is not valid: %w", in.ConnectionID, err)
	}
	if in.Billable.Empty() || !in.Billable.Intersect(in.Period).Equal(in.Billable) || !in.Period.wholeSeconds() || !in.Billable.wholeSeconds() {
		return nil, domain.Errorf(domain.Internal, op, "%s can't be billable %s in the period %s", in.ConnectionID, in.Billable, in.Period)
	}
	items := make([]Item, 0, len(in.Plan.Charges))
	for _, c := range in.Plan.Charges {
		item, err := in.rate(c)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (in Input) rate(c pricing.Charge) (Item, error) {
	item := Item{ID: in.itemID(c.ID), ChargeID: c.ID, Description: c.Description, Unit: c.QuantityUnit()}
	switch c.Kind {
	case pricing.KindRecurring:
		item.Quantity, item.Steps = months(in.Billable, in.Period)
	case pricing.KindUsage:
		item.Quantity, item.Steps = in.Usage.quantity(c)
	default:
		return Item{}, domain.Errorf(domain.Internal, "rating.Rate", "no rule for charges of kind %q", c.Kind).
			WithHint("run a version of crossbill that knows it")
	}
	exact, steps := c.Rate(item.Quantity)
	item.Steps = append(item.Steps, steps...)
	return item.round(exact, in.Plan.Currency)
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

// months prorates by the second: the billable part of a period, in months. The period counts as one month.
func months(billable, period Interval) (domain.Decimal, []string) {
	if billable.Equal(period) {
		return domain.DecimalFromInt(1), nil
	}
	active, whole := billable.Seconds(), period.Seconds()
	quantity := domain.DecimalFromInt(active).Quo(domain.DecimalFromInt(whole))
	return quantity, []string{fmt.Sprintf("%d of the period's %d seconds = %s %s", active, whole, quantity, pricing.UnitMonth)}
}

// itemID derives the id from what the item is about, never from what it comes to: computed again, it is the same item.
// The start of the billable part is in it because a period may be billed in parts, when a plan changes inside it.
func (in Input) itemID(chargeID string) string {
	return domain.DeriveID(prefixItem, in.Period.From, in.ConnectionID, chargeID,
		stamp(in.Period.From), stamp(in.Period.To), stamp(in.Billable.From))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
