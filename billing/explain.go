package billing

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"

	"crossbill/domain"
	"crossbill/domain/connection"
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
	if err := r.read(ctx, log); err != nil {
		return Explanation{}, err
	}
	if line.Kind == invoice.LineFee && i.FreeBefore != nil {
		var err error
		if r.used, err = usedBefore(ctx, log, i, n); err != nil {
			return Explanation{}, err
		}
	}
	item, err := r.item()
	if err != nil {
		return Explanation{}, err
	}
	again := r.facts.line(item)
	again.Number = line.Number
	if err := same(op, line, again); err != nil {
		return Explanation{}, err
	}
	return Explanation{Line: line, Recomputed: item.Amount, Exact: item.Exact.String(), Steps: again.Steps, Events: r.events}, nil
}

// replay is facts that are filled from a line's evidence.
type replay struct {
	line   invoice.Line
	facts  Facts
	used   pricing.FreeUse // of the free tier, before the line's connection
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
	collected := &f.usage
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
	f.openBuckets()
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
	if known+named != len(r.line.Evidence) {
		return domain.Errorf(domain.Internal, op, "line %d names evidence that has nothing to do with it", r.line.Number)
	}
	return nil
}

// scan adds the events of the line's evidence that are in a stream, and returns how many of its ranges are. Those that
// were collected are the line's own.
func (r *replay) scan(ctx context.Context, log Log, stream string, add func(events.Recorded) error, into *ranges) (named int, err error) {
	for _, e := range r.line.Evidence {
		if e.Stream != stream {
			continue
		}
		named++
		err := scan(ctx, log, e.Stream, e.FromVersion, e.ToVersion, r.facts.Position, func(e events.Recorded) error {
			before := into.all.count
			if err := add(e); err != nil || into.all.count == before {
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
	return state.Before(i.InvoiceID, i.PeriodStart, i.Currency)
}

// item rates the facts and returns the line's item.
func (r *replay) item() (item, error) {
	items, fee, err := r.facts.rate(r.used)
	if err != nil {
		return item{}, err
	}
	for _, i := range append(items, fee) {
		if i.ID == r.line.ItemID {
			return i, nil
		}
	}
	return item{}, domain.Errorf(domain.Internal, "billing.Explain", "the plan of %s has no charge %q", r.line.QuoteID, r.line.ChargeID)
}

// Recompute computes an invoice again from the log up to the invoice's own position, and returns what comes out. It
// returns an Internal error unless that is, byte for byte, the invoice.
func Recompute(ctx context.Context, log Log, i invoice.Issued) (invoice.Issued, error) {
	const op = "billing.Recompute"
	period := Period{From: i.PeriodStart.UTC(), To: i.PeriodEnd.UTC()}
	var facts []Facts
	for _, id := range connectionsOf(i) {
		f, err := Gather(ctx, log, id, period, events.Position(i.LogPosition))
		if err != nil {
			return invoice.Issued{}, err
		}
		if f.Billable.Empty() {
			return invoice.Issued{}, domain.Errorf(domain.Internal, op, "%s is not billable in the period of %s", id, i.Number)
		}
		if f.hasFreeTier() {
			if f.FreeBefore, err = allowanceBefore(ctx, log, invoice.Content(i)); err != nil {
				return invoice.Issued{}, err
			}
		}
		facts = append(facts, f)
	}
	again, err := Compute(facts)
	if err != nil {
		return invoice.Issued{}, err
	}
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
