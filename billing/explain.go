package billing

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"crossbill/domain"
	"crossbill/domain/availability"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/exchangerate"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/events"
)

// Explanation shows how a line came about. There is none for a line that does not come out the same.
type Explanation struct {
	Line       invoice.Line
	Recomputed domain.Money // equal to the line's amount
	Exact      string       // before rounding
	Steps      []string     // the arithmetic
	Events     []EvidenceEvent
}

// EvidenceEvent names an event that a line was computed from.
type EvidenceEvent struct {
	Position events.Position
	ID       [16]byte
	Type     string
	Stream   string
	Version  int64
	LeafHash string // lower-case hexadecimal; the line's evidence has a digest over these
}

// Explain computes a line of an invoice again from its own evidence, exactly those events and no others. It returns
// NotFound for a line that the invoice does not have, and an Internal error if the events are not those that the line
// names, or if they come to another amount: both mean that the invoice or the log was altered.
func Explain(ctx context.Context, log Log, i invoice.Content, number int) (Explanation, error) {
	const op = "billing.Explain"
	n := slices.IndexFunc(i.Lines, func(l invoice.Line) bool { return l.Number == number })
	if n < 0 {
		return Explanation{}, domain.Missing(op, "invoice line")
	}
	line := i.Lines[n]
	r := replay{line: line, facts: Facts{Position: events.Position(i.LogPosition), Period: Period{From: i.PeriodStart.UTC(), To: i.PeriodEnd.UTC()}}}
	if line.Adjusts != nil {
		r.facts.Period = Period{From: line.Adjusts.PeriodStart.UTC(), To: line.Adjusts.PeriodEnd.UTC()}
	}
	r.facts.Terms.currency = i.Currency
	if err := r.read(ctx, log); err != nil {
		return Explanation{}, err
	}
	if line.Kind == invoice.LineFee && i.FreeBefore != nil && line.Adjusts == nil {
		var err error
		if r.used, err = usedBefore(ctx, log, i, n); err != nil {
			return Explanation{}, err
		}
	}
	again, err := r.again()
	if err != nil {
		return Explanation{}, err
	}
	again.Number, again.TaxCategory = line.Number, line.TaxCategory
	if err := same(op, line, again); err != nil {
		return Explanation{}, err
	}
	return Explanation{Line: line, Recomputed: again.Amount, Exact: again.Exact, Steps: again.Steps, Events: r.events}, nil
}

// replay is facts that are filled from a line's evidence.
type replay struct {
	line   invoice.Line
	facts  Facts
	used   pricing.FreeUse // of the free tier, before the line's connection
	before billedBefore    // of the period that the line adjusts
	events []EvidenceEvent
}

// read fills the facts in the order that they need each other: what is billed, its prices, its readings.
func (r *replay) read(ctx context.Context, log Log) error {
	const op = "billing.Explain"
	f := &r.facts
	known, err := r.scan(ctx, log, connection.Stream(r.line.ConnectionID), f.addConnection, &f.connection)
	if err != nil {
		return err
	}
	if err := f.setBillable(op); err != nil {
		return err
	}
	if f.Billable.Empty() {
		return domain.Errorf(domain.Internal, op, "line %d is of a connection that its evidence does not bill", r.line.Number)
	}
	read := make(map[string]bool)
	for n := range f.Stretches {
		s := &f.Stretches[n]
		named, err := r.scan(ctx, log, quote.Stream(s.quoteID), s.addQuote, &s.quote)
		if err != nil {
			return err
		}
		if named == 0 {
			continue // another line's price
		}
		if !read[s.quoteID] {
			known += named
		}
		read[s.quoteID] = true
		if err := f.checkQuote(op, s); err != nil {
			return err
		}
	}
	var collected collector = &f.usage
	if r.line.Kind != invoice.LineFee { // its readings are its own stretch's
		n := slices.IndexFunc(f.Stretches, func(s Stretch) bool {
			return s.quoteID == r.line.QuoteID && (r.line.From == nil || s.From.Equal(*r.line.From))
		})
		if n < 0 || !f.Stretches[n].priced() {
			return domain.Errorf(domain.Internal, op, "line %d does not name its price, %q, in its evidence", r.line.Number, r.line.QuoteID)
		}
		collected = &f.Stretches[n].usage
	} else if n := slices.IndexFunc(f.Stretches, func(s Stretch) bool { return !s.priced() }); n >= 0 {
		return domain.Errorf(domain.Internal, op, "line %d does not name the price %q in its evidence", r.line.Number, f.Stretches[n].quoteID)
	}
	f.openUsage()
	named, err := r.scan(ctx, log, reading.Stream(r.line.ConnectionID), f.addReading, collected)
	if err != nil {
		return err
	}
	f.closeBuckets()
	if r.line.Kind == invoice.LineFee && f.hasFreeTier() {
		tier, err := r.scan(ctx, log, feeallowance.Stream(f.Connection.CustomerID), f.addAllowance, &f.allowance)
		if err != nil {
			return err
		}
		named += tier
	}
	settled, err := r.scan(ctx, log, availability.Stream(r.line.ConnectionID), f.addSettled, &f.settled)
	if err != nil {
		return err
	}
	named += settled
	other, err := r.readOthers(ctx, log)
	if err != nil {
		return err
	}
	named += other
	if known+named != len(r.line.Evidence) {
		return domain.Errorf(domain.Internal, op, "line %d names evidence that has nothing to do with it", r.line.Number)
	}
	return nil
}

// readOthers reads what a converted line's rate is, and what was billed before of what a line adjusts.
func (r *replay) readOthers(ctx context.Context, log Log) (named int, err error) {
	if c := r.line.Converted; c != nil {
		r.facts.rate = new(conversion)
		named, err = r.scan(ctx, log, exchangerate.Stream(c.Currency, r.line.Amount.Currency), func(e events.Recorded) error {
			if set, ok := e.Event.(exchangerate.Set); ok {
				r.facts.rate.Version = exchangerate.Version{Version: set.Version, Rate: set.Rate, Source: set.Source, EffectiveFrom: set.EffectiveFrom, At: set.At}
				r.facts.rate.said.add(e)
			}
			return nil
		}, &r.facts.rate.said)
		if err != nil {
			return named, err
		}
	}
	if r.line.Adjusts == nil {
		return named, nil
	}
	var invoices []string
	for _, e := range r.line.Evidence {
		id, is := strings.CutPrefix(e.Stream, invoice.Stream(""))
		if !is {
			continue
		}
		var said ranges
		n, err := r.scan(ctx, log, e.Stream, func(e events.Recorded) error { said.add(e); return nil }, &said)
		if err != nil {
			return named, err
		}
		named += n
		invoices = append(invoices, id)
	}
	if r.before, err = readBilled(ctx, log, r.line.ConnectionID, r.facts.Period, invoices); err == nil {
		r.used = r.before.used
	}
	return named, err
}

// collector is what keeps events as evidence.
type collector interface{ collected() int }

// scan adds the events of the line's evidence that are in a stream, and returns how many of its ranges are. Those that
// were collected are the line's own.
func (r *replay) scan(ctx context.Context, log Log, stream string, add func(events.Recorded) error, into collector) (named int, err error) {
	for _, e := range r.line.Evidence {
		if e.Stream != stream {
			continue
		}
		named++
		err := scan(ctx, log, e.Stream, e.FromVersion, e.ToVersion, r.facts.Position, func(e events.Recorded) error {
			before := into.collected()
			if err := add(e); err != nil || into.collected() == before {
				return err
			}
			r.events = append(r.events, EvidenceEvent{e.Position, e.ID, e.Type, e.Stream, e.Version, hex.EncodeToString(e.LeafHash[:])})
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return named, nil
}

// usedBefore returns what of the customer's free tier was used before the connection of an invoice's line n: on its
// invoices before, which must be what the invoice says, and by the connections above the line.
func usedBefore(ctx context.Context, log Log, i invoice.Content, n int) (pricing.FreeUse, error) {
	before, err := allowanceBefore(ctx, log, i)
	if err != nil {
		return before, err
	}
	if before != *i.FreeBefore {
		return before, domain.Errorf(domain.Internal, "billing.Explain", "%d connections with %s used the free tier before %s, which says %d with %s",
			before.Connections, before.Passthrough, i.Number, i.FreeBefore.Connections, i.FreeBefore.Passthrough).WithHint("verify the log")
	}
	above := i.Lines[:n]
	for len(above) > 0 && above[len(above)-1].ConnectionID == i.Lines[n].ConnectionID {
		above = above[:len(above)-1]
	}
	return useOf(before, above)
}

// allowanceBefore returns what of the customer's free tier was used before an invoice. Another invoice of the same run may
// stand between: so it is what is in the stream before the invoice's own use, and not before the invoice's position.
func allowanceBefore(ctx context.Context, log Log, i invoice.Content) (pricing.FreeUse, error) {
	state, _, err := load(ctx, log, feeallowance.Stream(i.CustomerID), maxPosition, feeallowance.Evolve)
	if err != nil {
		return pricing.FreeUse{}, err
	}
	return state.Before(i.InvoiceID, i.PeriodStart, i.FreeBefore.Passthrough.Currency)
}

// again rates the facts and returns the line.
func (r *replay) again() (invoice.Line, error) {
	items, fee, err := r.facts.rateItems(r.used)
	if err != nil {
		return invoice.Line{}, err
	}
	for _, i := range append(items, fee) {
		if i.stretch == nil && r.line.Kind != invoice.LineFee { // its quotes are not all known
			continue
		}
		l, err := r.facts.line(i)
		if err != nil {
			return invoice.Line{}, err
		}
		if r.line.Adjusts != nil {
			if l.line, _, err = r.facts.adjusted(l, r.before); err != nil {
				return invoice.Line{}, err
			}
		}
		if l.line.ItemID == r.line.ItemID {
			return l.line, nil
		}
	}
	return invoice.Line{}, domain.Errorf(domain.Internal, "billing.Explain", "the plan of %s has no charge %q", r.line.QuoteID, r.line.ChargeID)
}

// Recompute computes an invoice again from the log up to the invoice's own position, and returns what comes out. It
// returns an Internal error unless that is, byte for byte, the invoice.
func Recompute(ctx context.Context, log Log, i invoice.Issued) (invoice.Issued, error) {
	const op = "billing.Recompute"
	period := Period{From: i.PeriodStart.UTC(), To: i.PeriodEnd.UTC()}
	g := gathering{log: log, period: period, upTo: events.Position(i.LogPosition), book: newBook(log, events.Position(i.LogPosition), period)}
	var facts []Facts
	for _, id := range connectionsOf(i) {
		f, err := Gather(ctx, log, id, period, g.upTo)
		if err != nil {
			return invoice.Issued{}, err
		}
		if f.hasFreeTier() {
			if f.FreeBefore, err = allowanceBefore(ctx, log, invoice.Content(i)); err != nil {
				return invoice.Issued{}, err
			}
		}
		periods, _, err := load(ctx, log, billingrun.PeriodStream(id), g.upTo, billingrun.EvolvePeriod)
		if err != nil {
			return invoice.Issued{}, err
		}
		if err := g.complete(ctx, &f, periods, g.gatherRaw); err != nil {
			return invoice.Issued{}, err
		}
		if !f.charges() {
			return invoice.Issued{}, domain.Errorf(domain.Internal, op, "%s is not billable in the period of %s", id, i.Number)
		}
		facts = append(facts, f)
	}
	again, err := Compute(facts)
	if err != nil {
		return invoice.Issued{}, err
	}
	again.DueAt, again.Reissue = facts[0].Terms.dueAt(i.At), i.Reissue
	again.InvoiceID, again.Number, again.RunID, again.At = i.InvoiceID, i.Number, i.RunID, i.At // given to it, not computed
	return again, same(op, i, again)
}

// same returns an Internal error unless two values have the same JSON.
func same(op string, issued, again any) error {
	a, err := json.Marshal(issued)
	if err != nil {
		return domain.Errorf(domain.Internal, op, "it has no JSON: %w", err)
	}
	b, err := json.Marshal(again)
	if err != nil {
		return domain.Errorf(domain.Internal, op, "what was computed again has no JSON: %w", err)
	}
	if string(a) != string(b) {
		return domain.Errorf(domain.Internal, op, "computed again it is not the same: issued %.300s… and now %.300s…", a, b).
			WithHint("the invoice or the log was altered after it was issued: verify the log")
	}
	return nil
}
