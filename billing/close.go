package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/domain/numberseries"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// close goes through the connections, batch by batch, and says in the end that the run is complete.
func (r *run) close(ctx context.Context) (RunResult, error) {
	head, err := r.log.Head(ctx)
	if err != nil {
		return RunResult{}, err
	}
	r.upTo = head.Position
	if r.id = r.request.RunID; r.id == "" {
		r.id = r.derivedID()
	}
	done, position, err := r.completed(ctx, r.id)
	if err != nil {
		return RunResult{}, err
	}
	if done.RunID != "" {
		if r.request.RunID != "" {
			return resultOf(done, position), nil
		}
		r.id = r.derivedID(strconv.FormatInt(int64(r.upTo), 10)) // for what the first did not know of
	}
	result := RunResult{
		PeriodStart: r.request.PeriodStart, PeriodEnd: r.request.PeriodEnd, LogPosition: int64(r.upTo), Invoices: []string{}, Settlements: []string{},
	}
	if err := r.closeAll(ctx, &result); err != nil {
		return RunResult{}, err
	}
	result.RunID, result.Issued, result.Problems = r.id, r.issued, r.problems
	if r.issued == 0 {
		if len(r.problems) > 0 {
			return result, r.problems[0].Err
		}
		if done.RunID != "" {
			r.id = done.RunID
		}
		if existing, ok, err := r.existing(ctx, done, position); ok || err != nil {
			return existing, err
		}
	}
	result.add(r.found)
	result.Position, err = r.complete(ctx, result)
	return result, err
}

// closeAll bills batch after batch. While one is issued, the next is read: it is of other customers, so nothing in it
// depends on what is being appended. Where another run came first, it looks again.
func (r *run) closeAll(ctx context.Context, result *RunResult) error {
	ctx, stop := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	if err := r.meters.CatchUp(ctx, r.upTo); err != nil {
		return err
	}
	numbers := new(series)
	s := r.survey(ctx, usage.Billable{})
	for lost := 0; ; {
		if s.err != nil {
			return s.err
		}
		var ahead chan surveyed
		if !s.last && !s.goesOn {
			ahead = make(chan surveyed, 1)
			after := s.end
			reading.Go(func() { ahead <- r.survey(ctx, after) })
		}
		err := r.bill(ctx, s.batch, numbers, result)
		switch {
		case errors.As(err, new(lostRace)) && lost < maxRunAttempts:
			lost++
			if ahead != nil {
				<-ahead // it is read again, after what is tried again
			}
			*numbers = series{}
			if err := r.catchUp(ctx); err != nil {
				return err
			}
			s = r.survey(ctx, s.after)
			continue
		case errors.As(err, new(lostRace)):
			return domain.Errorf(domain.Unavailable, "billing.Run", "other runs came first %d times", lost+1).WithHint("run it again")
		case ctx.Err() != nil:
			return domain.Errorf(domain.Unavailable, "billing.Run", "the caller gave up: %w", ctx.Err())
		case err != nil || s.last:
			return err
		}
		lost = 0
		if ahead != nil {
			s = <-ahead
			continue
		}
		// What the customer's next invoice goes on from has just been appended.
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		s = r.survey(ctx, s.end)
	}
}

// catchUp brings the meters to the end of the log.
func (r *run) catchUp(ctx context.Context) error {
	head, err := r.log.Head(ctx)
	if err != nil {
		return err
	}
	return r.meters.CatchUp(ctx, head.Position)
}

// bill issues a batch. What it appended before it lost a race stays, and is found when the batch is surveyed again.
func (r *run) bill(ctx context.Context, b *batch, numbers *series, result *RunResult) error {
	invoices, err := b.invoices()
	if err != nil {
		return err
	}
	for len(invoices) > 0 {
		n := b.fitting(invoices)
		c := closing{batch: b, numbers: numbers}
		for _, i := range invoices[:n] {
			c.invoices = append(c.invoices, i.Issued)
		}
		invoices = invoices[n:]
		if err := c.prepare(ctx); err != nil {
			return err
		}
		if result.Position, err = c.issue(ctx); err != nil {
			return err
		}
		for _, i := range c.invoices {
			result.Invoices = append(result.Invoices, i.InvoiceID)
		}
		for _, s := range c.settlements {
			result.Settlements = append(result.Settlements, s.SettlementID)
		}
		r.issued += n
		result.LogPosition = max(result.LogPosition, int64(b.upTo))
	}
	r.found.add(b.found, r.id)
	r.problems = append(r.problems, b.problems...)
	return nil
}

// wholeCustomers leaves out the last customer of a page that may have more connections than are in it, unless there is no other.
func wholeCustomers(some []usage.Billable, last bool) []usage.Billable {
	if n := slices.IndexFunc(some, func(b usage.Billable) bool { return b.CustomerID == some[len(some)-1].CustomerID }); !last && n > 0 {
		return some[:n]
	}
	return some
}

// complete says that the run is complete and what it issued.
func (r *run) complete(ctx context.Context, result RunResult) (events.Position, error) {
	c := billingrun.Complete{
		RunID: r.id, PeriodStart: r.request.PeriodStart, PeriodEnd: r.request.PeriodEnd, LogPosition: result.LogPosition,
		Invoices: result.Invoices, Settlements: result.Settlements, At: r.request.At,
	}
	if len(c.Invoices)+len(c.Settlements) > maxRunDocuments {
		c.InvoiceCount, c.SettlementCount, c.Invoices, c.Settlements = len(c.Invoices), len(c.Settlements), nil, nil
	}
	completed, err := billingrun.Decide(billingrun.State{}, c)
	if err != nil {
		return 0, defect(err)
	}
	s := events.StreamAppend{Stream: billingrun.Stream(r.id), Expected: events.NoStream, Events: []events.NewEvent{{
		ID: domain.DeriveEventID(completed[0].EventType(), r.id), Event: completed[0], Metadata: r.request.Metadata,
	}}}
	written, err := r.log.Append(ctx, events.Append{Streams: []events.StreamAppend{s}})
	if domain.CodeOf(err) == domain.Conflict { // another process did the same run
		_, position, err := r.completed(ctx, r.id)
		return position, err
	}
	return written.Last, err
}

// invoices makes the invoices of the open connections, with everything but their numbers.
func (b *batch) invoices() ([]draft, error) {
	facts := make([]Facts, 0, len(b.open))
	for _, c := range b.open {
		facts = append(facts, c.Facts)
	}
	all, err := drafts(facts)
	if err != nil {
		return nil, err
	}
	for n := range all {
		i := &all[n]
		i.RunID, i.At = b.id, b.request.At
		i.DueAt = b.open[i.Lines[0].ConnectionID].Terms.dueAt(i.At)
		// A run that is continued after a crash meets the same customer again with other connections.
		i.InvoiceID = domain.DeriveID(domain.PrefixInvoice, i.PeriodStart, i.RunID, i.CustomerID, string(i.Currency), i.Lines[0].ConnectionID)
		i.Reissue = b.replaced(i.Issued)
	}
	return all, nil
}

// replaced returns the newest void invoice in whose place an invoice comes; "" if it does not.
func (b *batch) replaced(i invoice.Issued) string {
	var newest billingrun.PeriodReopened
	for _, id := range connectionsOf(i) {
		c := b.open[id]
		billed := [][2]time.Time{{i.PeriodStart, i.PeriodEnd}}
		for _, a := range c.Adjustments {
			billed = append(billed, [2]time.Time{a.Period.From, a.Period.To})
		}
		if r, ok := c.periods.Replaces(billed...); ok && r.At.After(newest.At) {
			newest = r
		}
	}
	return newest.InvoiceID
}

// fitting returns how many of the invoices fit into one append.
func (b *batch) fitting(invoices []draft) int {
	bytes, streams := 0, 0
	for n, i := range invoices {
		bytes += i.bytes
		streams += 4 + 2*len(connectionsOf(i.Issued)) // its number, itself and its use of the free tier; each connection's period, and at worst a settlement of its own
		if n > 0 && (bytes > maxCloseBytes || streams > maxCloseStreams) {
			return n
		}
	}
	return len(invoices)
}

// connectionsOf returns the connections on an invoice, in the order of its lines.
func connectionsOf(i invoice.Issued) []string {
	var ids []string
	for _, l := range i.Lines {
		if len(ids) == 0 || ids[len(ids)-1] != l.ConnectionID {
			ids = append(ids, l.ConnectionID)
		}
	}
	return ids
}

// series are the last numbers that documents took, once they were read.
type series struct {
	invoice     *invoice.NumberState
	settlements *numberseries.State
}

// closing is one append of a run.
type closing struct {
	*batch
	invoices    []invoice.Issued
	settlements []settlement.Issued
	numbers     *series

	firstInvoice, firstSettlement     int64 // the last numbers that were taken before
	invoiceNumbers, settlementNumbers []domain.Event
}

// prepare gives the invoices their numbers and makes the settlements. Numbers follow on the last ones taken, and the append
// only succeeds if those are still the last: so they have no gaps.
func (c *closing) prepare(ctx context.Context) (err error) {
	if c.numbers.invoice == nil {
		if c.numbers.invoice, err = lastOf(ctx, c.log, invoice.NumberStream(Issuer), invoice.EvolveNumber); err != nil {
			return err
		}
		if c.numbers.settlements, err = lastOf(ctx, c.log, numberseries.Stream(Issuer, numberseries.SelfBilled), numberseries.Evolve); err != nil {
			return err
		}
	}
	last := *c.numbers.invoice
	c.firstInvoice = last.Last
	for n := range c.invoices {
		i := &c.invoices[n]
		taken, err := invoice.DecideNumber(last, invoice.TakeNumber{InvoiceID: i.InvoiceID})
		if err != nil || len(taken) != 1 {
			return defect(errors.Join(err, fmt.Errorf("invoice %s takes %d numbers", i.InvoiceID, len(taken))))
		}
		last = invoice.EvolveNumber(last, taken[0])
		c.invoiceNumbers = append(c.invoiceNumbers, taken[0])
		i.Number = formatNumber(i.At, last.Last)
	}
	if c.settlements, err = settle(ctx, c.book, c.invoices); err != nil {
		return err
	}
	lastSettled := *c.numbers.settlements
	c.firstSettlement = lastSettled.Last
	for n := range c.settlements {
		s := &c.settlements[n]
		taken, err := numberseries.Decide(lastSettled, numberseries.Take{Series: numberseries.SelfBilled, DocumentID: s.SettlementID})
		if err != nil || len(taken) != 1 {
			return defect(errors.Join(err, fmt.Errorf("settlement %s takes %d numbers", s.SettlementID, len(taken))))
		}
		lastSettled = numberseries.Evolve(lastSettled, taken[0])
		c.settlementNumbers = append(c.settlementNumbers, taken[0])
		s.Number = numberseries.Format(numberseries.SelfBilled, s.At, lastSettled.Last)
	}
	c.numbers.invoice, c.numbers.settlements = &last, &lastSettled
	return nil
}

// lastOf returns the state after the last event of a stream of which each event says all.
func lastOf[S any](ctx context.Context, log Log, stream string, evolve func(S, domain.Event) S) (*S, error) {
	state := new(S)
	versions, err := log.Versions(ctx, []string{stream})
	if err != nil || versions[stream] == 0 {
		return state, err
	}
	page, err := log.ReadStream(ctx, stream, versions[stream]-1, 1)
	if err == nil && (len(page) != 1 || page[0].Version != versions[stream]) {
		err = domain.Errorf(domain.Internal, "billing.lastOf", "stream %s has no version %d", stream, versions[stream]).WithHint("verify the log")
	}
	if err != nil {
		return state, err
	}
	*state = evolve(*state, page[0].Event)
	return state, nil
}

// formatNumber writes an invoice number: the year of issue (UTC) for people, and the number, which counts on over years.
func formatNumber(at time.Time, number int64) string {
	return fmt.Sprintf("CB-%04d-%06d", at.UTC().Year(), number)
}

// issue asserts that the books balance, appends, and asserts it again on what the log holds.
func (c *closing) issue(ctx context.Context) (events.Position, error) {
	if err := CheckNoMargin(c.invoices, c.settlements); err != nil {
		return 0, err
	}
	a, err := c.appends()
	if err != nil {
		return 0, err
	}
	written, err := c.log.Append(ctx, a)
	if domain.CodeOf(err) == domain.Conflict {
		return 0, lostRace{err}
	}
	if err != nil {
		return 0, err
	}
	return written.Last, c.readBack(ctx)
}

// appends decides every event of the closing.
func (c *closing) appends() (events.Append, error) {
	var a events.Append
	add := func(stream string, expected events.ExpectedVersion, parties []string, about string, all ...domain.Event) {
		s := events.StreamAppend{Stream: stream, Expected: expected}
		for n, e := range all {
			m := c.request.Metadata
			m.Parties = parties
			of := []string{e.EventType(), about}
			if n > 0 { // several periods that one invoice adjusts
				of = append(of, strconv.Itoa(n))
			}
			s.Events = append(s.Events, events.NewEvent{ID: domain.DeriveEventID(of...), Event: e, Metadata: m})
		}
		a.Streams = append(a.Streams, s)
	}
	for n, i := range c.invoices {
		issued, err := invoice.Decide(invoice.State{}, invoice.Issue{Invoice: i})
		if err != nil {
			return a, defect(err)
		}
		add(invoice.NumberStream(Issuer), events.ExpectedVersion(c.firstInvoice+int64(n)), nil, i.InvoiceID, c.invoiceNumbers[n])
		add(invoice.Stream(i.InvoiceID), events.NoStream, []string{i.CustomerID}, i.InvoiceID, issued...)
	}
	for _, i := range c.invoices {
		if i.FreeBefore == nil {
			continue
		}
		version, used, err := c.allowance(i)
		if err != nil {
			return a, err
		}
		add(feeallowance.Stream(i.CustomerID), events.ExpectedVersion(version), []string{i.CustomerID}, i.InvoiceID, used...)
	}
	for n, s := range c.settlements {
		add(numberseries.Stream(Issuer, numberseries.SelfBilled), events.ExpectedVersion(c.firstSettlement+int64(n)), nil, s.SettlementID, c.settlementNumbers[n])
		issued, err := settlement.Decide(settlement.State{}, settlement.Issue{Settlement: s})
		if err != nil {
			return a, defect(err)
		}
		add(settlement.Stream(s.SettlementID), events.NoStream, []string{s.ProviderID}, s.SettlementID, issued...)
	}
	for _, p := range c.periods() {
		closed, err := p.decide()
		if err != nil {
			return a, defect(err)
		}
		// One invoice has a connection at most once, so the two name the period.
		add(billingrun.PeriodStream(p.connection), events.ExpectedVersion(p.open.version), nil, p.invoice+" "+p.connection, closed...)
	}
	return a, nil
}

// allowance decides what an invoice uses of its customer's free tier, and returns the version of the customer's stream
// that it goes on from. The append only succeeds if that is still the last: no two invoices use the same.
func (c *closing) allowance(i invoice.Issued) (version int64, used []domain.Event, err error) {
	after, err := useOf(*i.FreeBefore, i.Lines)
	if err != nil {
		return 0, nil, err
	}
	passthrough, err := after.Passthrough.Add(i.FreeBefore.Passthrough.Neg())
	if err != nil {
		return 0, nil, err
	}
	for _, id := range connectionsOf(i) {
		version = max(version, c.open[id].freeVersion) // those without a free tier did not look
	}
	version += c.allowances[i.CustomerID]
	c.allowances[i.CustomerID]++
	used, err = feeallowance.Decide(feeallowance.State{}, feeallowance.Use{Used: feeallowance.Used{
		CustomerID: i.CustomerID, PeriodStart: i.PeriodStart, InvoiceID: i.InvoiceID, Connections: after.Connections - i.FreeBefore.Connections,
		Passthrough: passthrough, RunID: i.RunID, At: i.At,
	}})
	if err != nil {
		return 0, nil, defect(err)
	}
	return version, used, nil
}

// accounted is what of a connection an append bills: its period, adjustments of closed ones, or both.
type accounted struct {
	open                openConnection
	connection, invoice string
	closed              *billingrun.PeriodClosed
	adjusted            []billingrun.PeriodAdjusted
}

func (a accounted) decide() (all []domain.Event, err error) {
	if a.closed != nil {
		if all, err = billingrun.DecidePeriod(a.open.periods, billingrun.ClosePeriod{Period: *a.closed}); err != nil {
			return nil, err
		}
	}
	for _, adjusted := range a.adjusted {
		more, err := billingrun.DecideAdjustment(a.open.periods, billingrun.AdjustPeriod{Adjustment: adjusted})
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func (c *closing) periods() []accounted {
	settledBy := make(map[string]string)
	for _, s := range c.settlements {
		for _, l := range s.Lines {
			settledBy[l.ConnectionID] = s.SettlementID
		}
	}
	var all []accounted
	for _, i := range c.invoices {
		for _, id := range connectionsOf(i) {
			a := accounted{open: c.open[id], connection: id, invoice: i.InvoiceID}
			closed := billingrun.PeriodClosed{
				ConnectionID: id, PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd, UsageVersion: a.open.UsageVersion,
				InvoiceID: i.InvoiceID, SettlementID: settledBy[id], RunID: c.id, At: i.At,
			}
			if !a.open.Billable.Empty() {
				a.closed = &closed
			}
			for _, adjusted := range a.open.Adjustments {
				again := billingrun.PeriodAdjusted(closed)
				again.PeriodStart, again.PeriodEnd, again.UsageVersion = adjusted.Period.From, adjusted.Period.To, adjusted.UsageVersion
				a.adjusted = append(a.adjusted, again)
			}
			all = append(all, a)
		}
	}
	return all
}

// defect makes an error of the domain ours: it refused what was computed here, not what was asked for.
func defect(err error) error {
	return domain.Errorf(domain.Internal, "billing.Run", "what was computed can't be issued: %w", err)
}

// readBack asserts on what the log holds, not on what was meant: that the documents are there and the books balance.
func (c *closing) readBack(ctx context.Context) error {
	streams := make([]string, 0, len(c.invoices)+len(c.settlements))
	for _, i := range c.invoices {
		streams = append(streams, invoice.Stream(i.InvoiceID))
	}
	for _, s := range c.settlements {
		streams = append(streams, settlement.Stream(s.SettlementID))
	}
	read := preload(c.log, maxPosition)
	if err := read.add(ctx, streams); err != nil {
		return err
	}
	invoices := make([]invoice.Issued, len(c.invoices))
	for n, i := range c.invoices {
		state, _, err := load(ctx, read, invoice.Stream(i.InvoiceID), maxPosition, invoice.Evolve)
		if err != nil {
			return err
		}
		invoices[n] = invoice.Issued(state.Content)
	}
	settlements := make([]settlement.Issued, len(c.settlements))
	for n, s := range c.settlements {
		state, _, err := load(ctx, read, settlement.Stream(s.SettlementID), maxPosition, settlement.Evolve)
		if err != nil {
			return err
		}
		settlements[n] = settlement.Issued(state.Content)
	}
	return CheckNoMargin(invoices, settlements)
}
