package billing

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
)

// Adjustment is what readings that came after a period was closed add to what was billed of a connection for it: each item
// of the period is rated again, by the plan that was in force, and what was billed before is taken off.
type Adjustment struct {
	Period       Period
	UsageVersion int64 // of the stream of readings, up to which it counts

	lines    []invoice.Line
	currency domain.Currency // of the plan
}

// itemKey names what of a connection and period a line bills, whatever invoice it is on.
type itemKey struct {
	kind, charge, part string
	from               int64 // of the stretch; 0: the month is not split
}

func keyOf(l invoice.Line) itemKey {
	k := itemKey{l.Kind, l.ChargeID, l.Part, 0}
	if l.From != nil {
		k.from = l.From.Unix()
	}
	return k
}

// billedBefore is what invoices billed of a connection for a period.
type billedBefore struct {
	amounts   map[itemKey]domain.Money
	originals map[itemKey]invoice.Line // of the invoice that closed the period
	used      pricing.FreeUse          // of the free tier, before the connection's fee
	said      []invoice.Evidence
}

// readBilled reads the invoices that closed and adjusted a connection's period, in that order.
func readBilled(ctx context.Context, log Log, connectionID string, period Period, invoices []string) (billedBefore, error) {
	b := billedBefore{amounts: make(map[itemKey]domain.Money), originals: make(map[itemKey]invoice.Line)}
	for n, id := range invoices {
		page, err := log.ReadStream(ctx, invoice.Stream(id), 0, 1)
		if err != nil {
			return b, err
		}
		if len(page) == 0 {
			return b, domain.Errorf(domain.Internal, "billing.readBilled", "invoice %s is not in the log", id)
		}
		i, ok := page[0].Event.(invoice.Issued)
		if !ok {
			return b, domain.Errorf(domain.Internal, "billing.readBilled", "invoice %s begins with a %s", id, page[0].Type)
		}
		var said ranges
		said.add(page[0])
		b.said = append(b.said, said.evidence()...)
		if n == 0 {
			if b.used, err = usedOn(ctx, log, invoice.Content(i), connectionID); err != nil {
				return b, err
			}
		}
		for _, l := range i.Lines {
			own := l.Adjusts == nil && i.PeriodStart.Equal(period.From) && i.PeriodEnd.Equal(period.To)
			late := l.Adjusts != nil && l.Adjusts.PeriodStart.Equal(period.From) && l.Adjusts.PeriodEnd.Equal(period.To)
			if l.ConnectionID != connectionID || !own && !late {
				continue
			}
			key := keyOf(l)
			sum, seen := b.amounts[key]
			if !seen {
				sum.Currency = l.Amount.Currency
			}
			if b.amounts[key], err = sum.Add(l.Amount); err != nil {
				return b, err
			}
			if own {
				b.originals[key] = l
			}
		}
	}
	return b, nil
}

// usedOn returns what of the free tier was used before a connection's fee on an invoice.
func usedOn(ctx context.Context, log Log, i invoice.Content, connectionID string) (pricing.FreeUse, error) {
	n := slices.IndexFunc(i.Lines, func(l invoice.Line) bool {
		return l.ConnectionID == connectionID && l.Kind == invoice.LineFee && l.Adjusts == nil
	})
	if i.FreeBefore == nil || n < 0 {
		return pricing.FreeUse{}, nil
	}
	return usedBefore(ctx, log, i, n)
}

// adjust returns what a closed period, gathered anew, comes to beyond what was billed; ok is false if that is nothing.
func adjust(ctx context.Context, log Log, f Facts, periods billingrun.PeriodState, closed billingrun.PeriodClosed) (a Adjustment, ok bool, err error) {
	_, invoices := periods.Billed(closed)
	before, err := readBilled(ctx, log, f.Connection.ID, f.Period, invoices)
	if err != nil {
		return a, false, err
	}
	rated, err := f.rated(before.used)
	if err != nil {
		return a, false, err
	}
	a = Adjustment{Period: f.Period, UsageVersion: f.UsageVersion, currency: f.Currency()}
	for _, r := range rated {
		l, changed, err := f.adjusted(r, before)
		if err != nil {
			return a, false, err
		}
		if changed {
			a.lines = append(a.lines, l)
		}
	}
	return a, len(a.lines) > 0, nil
}

// adjusted makes of a line of a closed period, rated anew, the line that bills what was not billed. changed is false if
// that is nothing.
func (f *Facts) adjusted(r ratedLine, before billedBefore) (l invoice.Line, changed bool, err error) {
	l = r.line
	billed, known := before.amounts[keyOf(l)]
	if !known {
		billed = domain.Money{Currency: l.Amount.Currency}
	}
	if billed.Currency != l.Amount.Currency {
		return l, false, domain.Errorf(domain.Conflict, "billing.adjusted", "%s was billed in %s for %s, and is invoiced in %s now", l.ConnectionID,
			billed.Currency, f.Period, l.Amount.Currency).WithHint("set the account's invoice currency back until late readings of that time are billed")
	}
	exact := r.exact.Sub(billed.Decimal())
	amount, err := domain.RoundMoney(exact, billed.Currency)
	if err != nil || amount.Minor == 0 {
		return l, false, err
	}
	l.Steps = append(slices.Clone(l.Steps), "for the period "+f.Period.String()+", which was closed before these readings came: "+
		l.Amount.Amount()+" − "+billed.Amount()+" billed before = "+amount.String())
	l.Exact, l.Amount = exact.String(), amount
	if was, ok := before.originals[keyOf(l)]; ok {
		l.Quantity = lessQuantity(l.Quantity, was.Quantity)
	}
	l.Description = shortened("Adjustment for "+f.Period.From.Format(time.DateOnly)+" to "+f.Period.To.Format(time.DateOnly)+": "+l.Description, invoice.MaxDescription)
	l.ItemID = domain.DeriveID("itm", f.Period.From, l.ItemID, strconv.Itoa(len(before.said))) // the nth invoice that bills the item
	l.Adjusts = &invoice.Adjustment{PeriodStart: f.Period.From, PeriodEnd: f.Period.To, Billed: billed}
	l.Evidence = append(slices.Clone(l.Evidence), before.said...)
	return l, true, nil
}

// lessQuantity returns now − before, or now where one of them is cut.
func lessQuantity(now, before string) string {
	a, err := domain.ParseDecimal(now)
	b, err2 := domain.ParseDecimal(before)
	if err != nil || err2 != nil || strings.HasSuffix(now, "…") {
		return now
	}
	return a.Sub(b).String()
}

// isLate reports whether a closed period has readings that it is not billed for.
func isLate(periods billingrun.PeriodState, closed billingrun.PeriodClosed, newest int64) bool {
	billed, _ := periods.Billed(closed)
	return newest > billed
}

// ofPeriod is the period that was closed.
func ofPeriod(c billingrun.PeriodClosed) Period {
	return Period{From: c.PeriodStart.UTC(), To: c.PeriodEnd.UTC()}
}
