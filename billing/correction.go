package billing

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/invoice"
	"crossbill/domain/numberseries"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/events"
)

// correction is an issued invoice with all that falls with it, as the log was at one position: what its connections are
// billed for, and the settlements that have its items.
type correction struct {
	log     *preloaded
	invoice invoice.State
	version int64

	connections []string
	periods     map[string]versioned[billingrun.PeriodState] // by connection
	settledBy   map[string]string                            // by connection, of those with passthrough
	settlements map[string]versioned[settlement.State]

	append events.Append // of what was decided
	meta   events.Metadata
}

type versioned[S any] struct {
	state   S
	version int64
}

// openCorrection reads an invoice. It returns NotFound for one that is not in the log.
func openCorrection(ctx context.Context, log Log, op, invoiceID string, meta events.Metadata) (*correction, error) {
	head, err := log.Head(ctx)
	if err != nil {
		return nil, err
	}
	c := &correction{
		log: preload(log, head.Position), meta: meta, periods: make(map[string]versioned[billingrun.PeriodState]),
		settledBy: make(map[string]string), settlements: make(map[string]versioned[settlement.State]),
	}
	if c.invoice, c.version, err = load(ctx, c.log, invoice.Stream(invoiceID), c.log.upTo, invoice.Evolve); err != nil {
		return nil, err
	}
	if c.version == 0 {
		return nil, domain.Missing(op, "invoice")
	}
	c.connections = connectionsOf(invoice.Issued(c.invoice.Content))
	if err := c.readPeriods(ctx); err != nil {
		return nil, err
	}
	return c, c.readSettlements(ctx, op)
}

func (c *correction) readPeriods(ctx context.Context) error {
	var streams []string
	for _, id := range c.connections {
		streams = append(streams, billingrun.PeriodStream(id))
	}
	if err := c.log.add(ctx, streams); err != nil {
		return err
	}
	for _, id := range c.connections {
		var p versioned[billingrun.PeriodState]
		err := scan(ctx, c.log, billingrun.PeriodStream(id), 1, maxVersion, c.log.upTo, func(e events.Recorded) error {
			p.state, p.version = billingrun.EvolvePeriod(p.state, e.Event), e.Version
			switch e := e.Event.(type) {
			case billingrun.PeriodClosed:
				c.settled(e)
			case billingrun.PeriodAdjusted:
				c.settled(billingrun.PeriodClosed(e))
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.periods[id] = p
	}
	return nil
}

func (c *correction) settled(p billingrun.PeriodClosed) {
	if p.InvoiceID == c.invoice.InvoiceID && p.SettlementID != "" {
		c.settledBy[p.ConnectionID] = p.SettlementID
	}
}

func (c *correction) readSettlements(ctx context.Context, op string) error {
	var streams []string
	ids := slices.Compact(slices.Sorted(maps.Values(c.settledBy)))
	for _, id := range ids {
		streams = append(streams, settlement.Stream(id))
	}
	if err := c.log.add(ctx, streams); err != nil {
		return err
	}
	for _, id := range ids {
		s, version, err := load(ctx, c.log, settlement.Stream(id), c.log.upTo, settlement.Evolve)
		if err != nil {
			return err
		}
		if version == 0 {
			return domain.Errorf(domain.Internal, op, "settlement %s is not in the log", id).WithHint("verify the log")
		}
		c.settlements[id] = versioned[settlement.State]{s, version}
	}
	return nil
}

// add appends events to a stream at a version. about tells the events from others of their types.
func (c *correction) add(stream string, version int64, parties []string, about string, all ...domain.Event) {
	s := events.StreamAppend{Stream: stream, Expected: events.ExpectedVersion(version)}
	if version == 0 {
		s.Expected = events.NoStream
	}
	for n, e := range all {
		m := c.meta
		m.Parties = parties
		of := []string{e.EventType(), about}
		if n > 0 { // several periods of one connection
			of = append(of, strconv.Itoa(n))
		}
		s.Events = append(s.Events, events.NewEvent{ID: domain.DeriveEventID(of...), Event: e, Metadata: m})
	}
	if len(all) > 0 {
		c.append.Streams = append(c.append.Streams, s)
	}
}

// numbers gives documents the next numbers of a series. The append only succeeds if those are still the next: so they have
// no gaps.
func (c *correction) numbers(ctx context.Context, series string, documentIDs ...string) ([]int64, error) {
	stream := numberseries.Stream(Issuer, series)
	last, err := lastOf(ctx, c.log.Log, stream, numberseries.Evolve)
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for _, id := range documentIDs {
		taken, err := numberseries.Decide(*last, numberseries.Take{Series: series, DocumentID: id})
		if err != nil {
			return nil, defect(err)
		}
		if len(taken) != 1 { // a series whose last number is this document's: the append that took it came first
			return nil, lostRace{domain.Errorf(domain.Conflict, "billing.numbers", "%s has a number already", id).WithHint("try again")}
		}
		c.add(stream, last.Last, nil, id, taken...)
		*last = numberseries.Evolve(*last, taken[0])
		numbers = append(numbers, last.Last)
	}
	return numbers, nil
}

// creditSettlements takes amounts, by the numbers of the invoice's lines, off the settlements that have them. cause names why,
// and has no lines yet. It returns the settlements' ids, sorted.
func (c *correction) creditSettlements(ctx context.Context, cause settlement.Credited, amounts map[int]domain.Money) ([]string, error) {
	credits := make(map[string]*settlement.Credited)
	for _, l := range c.invoice.Lines {
		amount, ok := amounts[l.Number]
		if !ok || l.Kind != invoice.LinePassthrough {
			continue
		}
		id := c.settledBy[l.ConnectionID]
		if id == "" {
			return nil, domain.Errorf(domain.Internal, "billing.creditSettlements", "line %d of %s is on no settlement", l.Number, c.invoice.InvoiceID).WithHint("verify the log")
		}
		if credits[id] == nil {
			credit := cause
			credit.Total = domain.Money{Currency: c.invoice.Currency}
			credits[id] = &credit
		}
		credits[id].Lines = append(credits[id].Lines, settlement.CreditedLine{ItemID: l.ItemID, Amount: amount})
		credits[id].Total.Minor += amount.Minor // no more than the invoice's own sum
	}
	ids := slices.Sorted(maps.Keys(credits))
	documents := make([]string, len(ids))
	for n, id := range ids {
		documents[n] = id + "/" + cmp.Or(cause.CreditNoteID, cause.InvoiceID)
	}
	numbers, err := c.numbers(ctx, numberseries.SelfCredits, documents...)
	if err != nil {
		return nil, err
	}
	for n, id := range ids {
		s, credit := c.settlements[id], credits[id]
		credit.Number = numberseries.Format(numberseries.SelfCredits, cause.At, numbers[n])
		if credit.Taxes, credit.Tax, err = taxOffSettlement(s.state, credit.Lines); err != nil {
			return nil, err
		}
		decided, err := settlement.Decide(s.state, settlement.Credit{Credit: *credit})
		if err != nil {
			return nil, defect(err)
		}
		c.add(settlement.Stream(id), s.version, []string{s.state.ProviderID}, documents[n], decided...)
		for _, e := range decided {
			s.state, s.version = settlement.Evolve(s.state, e), s.version+1
		}
		c.settlements[id] = s
	}
	return ids, nil
}

func taxOffSettlement(s settlement.State, lines []settlement.CreditedLine) ([]tax.Subtotal, domain.Money, error) {
	before, now := make(map[string]int64), make(map[string]int64)
	category := make(map[string]string, len(s.Lines))
	for _, l := range s.Lines {
		category[l.ItemID] = l.TaxCategory
		before[l.TaxCategory] += s.ByItem[l.ItemID].Minor
	}
	for _, l := range lines {
		now[category[l.ItemID]] += l.Amount.Minor
	}
	return taxOff(s.Taxes, before, now, s.Currency)
}

// taxOff returns the tax on what is taken off a document, by category in minor units: that of all that was taken off by
// now, rounded once, less that of what was taken off before. So the whole of a document takes off exactly its tax.
func taxOff(taxes []tax.Subtotal, before, now map[string]int64, currency domain.Currency) (back []tax.Subtotal, sum domain.Money, err error) {
	for _, s := range taxes {
		taken, ok := now[s.Category]
		if !ok {
			continue
		}
		was, err := s.Of(domain.Money{Minor: before[s.Category], Currency: currency})
		if err != nil {
			return nil, sum, err
		}
		is, err := s.Of(domain.Money{Minor: before[s.Category] + taken, Currency: currency})
		if err != nil {
			return nil, sum, err
		}
		is.Taxable.Minor, is.Tax.Minor = taken, is.Tax.Minor-was.Tax.Minor
		sum = domain.Money{Minor: sum.Minor + is.Tax.Minor, Currency: currency}
		back = append(back, is)
	}
	return back, sum, nil
}

// commit asserts that the books of the invoice balance after what was decided, and appends it. Its error is a lostRace where
// somebody else wrote what it was decided on.
func (c *correction) commit(ctx context.Context) (events.Position, error) {
	var settlements []settlement.State
	for _, s := range c.settlements {
		settlements = append(settlements, itemsOf(s.state, c.invoice.InvoiceID))
	}
	if err := CheckNoMarginLeft([]invoice.State{c.invoice}, settlements); err != nil {
		return 0, err
	}
	written, err := c.log.Append(ctx, c.append)
	if domain.CodeOf(err) == domain.Conflict {
		return 0, lostRace{err}
	}
	return written.Last, err
}

// itemsOf returns what of a settlement is an invoice's.
func itemsOf(s settlement.State, invoiceID string) settlement.State {
	all := s.Lines
	s.Lines, s.Total = nil, domain.Money{Currency: s.Currency}
	for _, l := range all {
		if l.InvoiceID == invoiceID {
			s.Lines = append(s.Lines, l)
			s.Total.Minor += l.Amount.Minor
		}
	}
	return s
}
