package billing

import (
	"context"
	"fmt"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// close issues what is open, as few appends as fit, the last of them with the run's own event.
func (r *run) close(ctx context.Context) (RunResult, error) {
	invoices, err := r.invoices()
	if err != nil {
		return RunResult{}, err
	}
	numbers, version, err := load(ctx, r.log, invoice.NumberStream(Issuer), r.upTo, invoice.EvolveNumber)
	if err != nil {
		return RunResult{}, err
	}
	if version != numbers.Last {
		return RunResult{}, domain.Errorf(domain.Internal, "billing.Run", "invoice number %d is version %d of its stream", numbers.Last, version)
	}
	result := RunResult{
		RunID: r.id, PeriodStart: r.request.PeriodStart, PeriodEnd: r.request.PeriodEnd, LogPosition: int64(r.upTo), Issued: len(invoices),
		Invoices: []string{}, Settlements: []string{},
	}
	result.add(r.found)
	for first := true; first || len(invoices) > 0; first = false {
		n, err := r.fitting(invoices)
		if err != nil {
			return RunResult{}, err
		}
		c := closing{run: r, invoices: invoices[:n]}
		invoices = invoices[n:]
		if numbers, err = c.number(numbers); err != nil {
			return RunResult{}, err
		}
		if c.settlements, err = settle(c.invoices); err != nil {
			return RunResult{}, err
		}
		for _, i := range c.invoices {
			result.Invoices = append(result.Invoices, i.InvoiceID)
		}
		for _, s := range c.settlements {
			result.Settlements = append(result.Settlements, s.SettlementID)
		}
		if result.Position, err = c.issue(ctx, result, len(invoices) == 0); err != nil {
			return RunResult{}, err
		}
	}
	return result, nil
}

// invoices makes the invoices of the open connections, with everything but their numbers.
func (r *run) invoices() ([]invoice.Issued, error) {
	facts := make([]Facts, 0, len(r.open))
	for _, c := range r.open {
		facts = append(facts, c.Facts)
	}
	all, err := drafts(facts)
	if err != nil {
		return nil, err
	}
	if len(all)+len(r.found) > maxRunDocuments {
		return nil, domain.Errorf(domain.Invalid, "billing.Run", "the run would issue %d invoices; the limit is %d", len(all), maxRunDocuments).
			WithHint("close the period in several runs, each with some of the connections")
	}
	for n := range all {
		i := &all[n]
		i.RunID, i.At = r.id, r.request.At
		// A run that is continued after a crash meets the same customer again with other connections.
		i.InvoiceID = domain.DeriveID(domain.PrefixInvoice, i.PeriodStart, i.RunID, i.CustomerID, string(i.Currency), i.Lines[0].ConnectionID)
	}
	return all, nil
}

// fitting returns how many of the invoices fit into one append.
func (r *run) fitting(invoices []invoice.Issued) (int, error) {
	bytes, streams := 0, 0
	for n, i := range invoices {
		size, err := sizeOf(i)
		if err != nil {
			return 0, err
		}
		bytes += size
		streams += 3 + 2*len(connectionsOf(i)) // its number, itself and its use of the free tier; each connection's period, and at worst a settlement of its own
		if n > 0 && (bytes > maxCloseBytes || streams > maxCloseStreams) {
			return n, nil
		}
	}
	return len(invoices), nil
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

// closing is one append of a run.
type closing struct {
	*run
	invoices    []invoice.Issued
	settlements []settlement.Issued
	numbers     []domain.Event
	firstNumber int64 // the last number that was taken before
}

// number gives the invoices their numbers. They follow on the last one taken, and the append only succeeds if that is
// still the last: so numbers have no gaps.
func (c *closing) number(last invoice.NumberState) (invoice.NumberState, error) {
	c.firstNumber = last.Last
	for n := range c.invoices {
		i := &c.invoices[n]
		taken, err := invoice.DecideNumber(last, invoice.TakeNumber{InvoiceID: i.InvoiceID})
		if err != nil {
			return last, defect(err)
		}
		if len(taken) != 1 {
			return last, domain.Errorf(domain.Internal, "billing.Run", "invoice %s has a number already", i.InvoiceID)
		}
		last = invoice.EvolveNumber(last, taken[0])
		c.numbers = append(c.numbers, taken[0])
		i.Number = formatNumber(i.At, last.Last)
	}
	return last, nil
}

// formatNumber writes an invoice number: the year of issue (UTC) for people, and the number, which counts on over years.
func formatNumber(at time.Time, number int64) string {
	return fmt.Sprintf("CB-%04d-%06d", at.UTC().Year(), number)
}

// issue asserts that the books balance, appends, and asserts it again on what the log holds.
func (c *closing) issue(ctx context.Context, result RunResult, last bool) (events.Position, error) {
	if err := CheckNoMargin(c.invoices, c.settlements); err != nil {
		return 0, err
	}
	a, err := c.appends(result, last)
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
func (c *closing) appends(result RunResult, last bool) (events.Append, error) {
	var a events.Append
	add := func(stream string, expected events.ExpectedVersion, parties []string, about string, all ...domain.Event) {
		s := events.StreamAppend{Stream: stream, Expected: expected}
		for _, e := range all {
			m := c.request.Metadata
			m.Parties = parties
			s.Events = append(s.Events, events.NewEvent{ID: domain.DeriveEventID(e.EventType(), about), Event: e, Metadata: m})
		}
		a.Streams = append(a.Streams, s)
	}
	for n, i := range c.invoices {
		issued, err := invoice.Decide(invoice.State{}, invoice.Issue{Invoice: i})
		if err != nil {
			return a, defect(err)
		}
		add(invoice.NumberStream(Issuer), events.ExpectedVersion(c.firstNumber+int64(n)), nil, i.InvoiceID, c.numbers[n])
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
	for _, s := range c.settlements {
		issued, err := settlement.Decide(settlement.State{}, settlement.Issue{Settlement: s})
		if err != nil {
			return a, defect(err)
		}
		add(settlement.Stream(s.SettlementID), events.NoStream, []string{s.ProviderID}, s.SettlementID, issued...)
	}
	for _, p := range c.periods() {
		closed, err := billingrun.DecidePeriod(p.open.periods, billingrun.ClosePeriod{Period: p.closed})
		if err != nil {
			return a, defect(err)
		}
		// One invoice has a connection at most once, so the two name the period.
		add(billingrun.PeriodStream(p.closed.ConnectionID), events.ExpectedVersion(p.open.version), nil,
			p.closed.InvoiceID+" "+p.closed.ConnectionID, closed...)
	}
	if last {
		completed, err := billingrun.Decide(billingrun.State{}, billingrun.Complete{
			RunID: c.id, PeriodStart: c.request.PeriodStart, PeriodEnd: c.request.PeriodEnd, LogPosition: int64(c.upTo),
			Invoices: result.Invoices, Settlements: result.Settlements, At: c.request.At,
		})
		if err != nil {
			return a, defect(err)
		}
		add(billingrun.Stream(c.id), events.NoStream, nil, c.id, completed...)
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

// closedPeriod is an open connection and what closes its period.
type closedPeriod struct {
	open   openConnection
	closed billingrun.PeriodClosed
}

func (c *closing) periods() []closedPeriod {
	settledBy := make(map[string]string)
	for _, s := range c.settlements {
		for _, l := range s.Lines {
			settledBy[l.ConnectionID] = s.SettlementID
		}
	}
	var all []closedPeriod
	for _, i := range c.invoices {
		for _, id := range connectionsOf(i) {
			open := c.open[id]
			all = append(all, closedPeriod{open, billingrun.PeriodClosed{
				ConnectionID: id, PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd, UsageVersion: open.UsageVersion,
				InvoiceID: i.InvoiceID, SettlementID: settledBy[id], RunID: c.id, At: i.At,
			}})
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
	invoices := make([]invoice.Issued, len(c.invoices))
	for n, i := range c.invoices {
		state, _, err := load(ctx, c.log, invoice.Stream(i.InvoiceID), maxPosition, invoice.Evolve)
		if err != nil {
			return err
		}
		invoices[n] = invoice.Issued(state.Content)
	}
	settlements := make([]settlement.Issued, len(c.settlements))
	for n, s := range c.settlements {
		state, _, err := load(ctx, c.log, settlement.Stream(s.SettlementID), maxPosition, settlement.Evolve)
		if err != nil {
			return err
		}
		settlements[n] = settlement.Issued(state.Content)
	}
	return CheckNoMargin(invoices, settlements)
}
