package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
	"crossbill/events"
)

var (
	march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	// A currency each with two, no and three digits.
	currencies = []domain.Currency{"USD", "JPY", "BHD"}
)

// world is a platform whose documents and payments do at random whatever the domain lets them.
type world struct {
	t           *testing.T
	random      *rand.Rand
	now         time.Time
	period      time.Time
	log         []events.Recorded
	count       int
	invoices    []*invoice.State
	settlements []*settlement.State
	payments    []*payment.State
	payouts     []*payout.State
	bank        map[string]int64 // by invoice
	costs       map[domain.Currency]int64
	disputed    map[string]int64 // by payment and dispute
	done        map[string]int   // how often each step was taken
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), now: march.AddDate(0, 1, 3), period: march, bank: map[string]int64{},
		costs: map[domain.Currency]int64{}, disputed: map[string]int64{}, done: map[string]int{}}
}

// id derives an id that is the same in each history of the same seed.
func (w *world) id(prefix string) string {
	w.count++
	return domain.DeriveID(prefix, w.now, "ledger", fmt.Sprint(w.count))
}

func organisation(role string, n int) string {
	return domain.DeriveID(domain.PrefixOrganisation, march, role, fmt.Sprint(n))
}

// record appends the events.
func (w *world) record(stream string, all ...domain.Event) {
	for _, e := range all {
		position := events.Position(len(w.log) + 1)
		w.log = append(w.log, events.Recorded{Position: position, ID: [16]byte{15: byte(position), 14: byte(position >> 8)}, Stream: stream,
			Type: e.EventType(), Event: e, RecordedAt: w.now})
		w.done[e.EventType()]++
	}
}

// decided fails the test for anything but a refusal: a history is of what the domain allows.
func (w *world) decided(all []domain.Event, err error) ([]domain.Event, bool) {
	if code := domain.CodeOf(err); err != nil && code != domain.Conflict && code != domain.Invalid && code != domain.NotFound {
		w.t.Fatal(err)
	}
	return all, err == nil && len(all) > 0
}

// pick takes one of them, mostly one of the last few, so that much happens to each.
func pick[T any](w *world, all []T) (one T, ok bool) {
	if len(all) == 0 {
		return one, false
	}
	if w.random.IntN(4) > 0 {
		all = all[max(0, len(all)-4):]
	}
	return all[w.random.IntN(len(all))], true
}

// upTo is an amount of 1 to most minor units.
func (w *world) upTo(most int64) int64 { return 1 + w.random.Int64N(max(most, 1)) }

func (w *world) treatment() *tax.Treatment {
	return [...]*tax.Treatment{
		nil,
		{Category: taxrate.CategoryStandard, Country: "NL", Percent: domain.MustDecimal("21"), Version: 1},
		{Category: taxrate.CategoryReverseCharge, Country: "DE", Percent: domain.MustDecimal("0"), Reason: "Reverse charge"},
	}[w.random.IntN(3)]
}

func taxed(t *tax.Treatment, taxable domain.Money) ([]tax.Subtotal, domain.Money) {
	if t == nil {
		return nil, domain.Money{}
	}
	s, err := t.Of(taxable)
	if err != nil {
		panic(err)
	}
	return []tax.Subtotal{s}, s.Tax
}

func category(t *tax.Treatment) string {
	if t == nil {
		return ""
	}
	return t.Category
}

// run is a billing run: some customers' invoices and the settlements of all their lines, in one append.
func (w *world) run() {
	currency, _ := pick(w, currencies)
	money := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: currency} }
	runID, start, end := w.id(domain.PrefixBillingRun), w.period, w.period.AddDate(0, 1, 0)
	byProvider := map[string][]settlement.Line{}
	var issued []invoice.Issued
	for range 1 + w.random.IntN(3) {
		of := w.treatment()
		i := invoice.Issued{InvoiceID: w.id(domain.PrefixInvoice), CustomerID: organisation("customer", w.random.IntN(3)), PeriodStart: start,
			PeriodEnd: end, Currency: currency, Passthrough: money(0), Fee: money(0), LogPosition: 1, RunID: runID, At: w.now}
		i.Number = fmt.Sprintf("CB-%06d", w.count)
		for n := range 1 + w.random.IntN(5) {
			l := invoice.Line{Number: n + 1, ItemID: fmt.Sprintf("item-%d-%d", w.count, n), Kind: invoice.LinePassthrough,
				ProviderID: organisation("provider", w.random.IntN(3)), ConnectionID: w.id(domain.PrefixConnection), ChargeID: "port",
				Description: "Port", Quantity: "1", Unit: "month", Amount: money(w.random.Int64N(100_000)), Steps: []string{"1 × 1"},
				Plan: invoice.PlanRef{ListingID: w.id(domain.PrefixListing), Version: 1}, QuoteID: w.id(domain.PrefixQuote), TaxCategory: category(of),
				Evidence: []invoice.Evidence{{Stream: "connection-1", FromVersion: 1, ToVersion: 1, Count: 1, Digest: fmt.Sprintf("%064x", 1)}}}
			switch {
			case w.random.IntN(3) == 0:
				l.Kind = invoice.LineFee
			case w.random.IntN(5) == 0: // a correction of an earlier period can take off
				l.Amount = l.Amount.Neg()
				l.Adjusts = &invoice.Adjustment{PeriodStart: start.AddDate(0, -1, 0), PeriodEnd: start, Billed: money(5)}
			}
			l.Exact = l.Amount.Amount()
			if l.Kind == invoice.LineFee {
				i.Fee.Minor += l.Amount.Minor
			} else {
				i.Passthrough.Minor += l.Amount.Minor
				line := settlement.Line{ItemID: l.ItemID, InvoiceID: i.InvoiceID, ConnectionID: l.ConnectionID, ChargeID: "port", Description: "Port",
					Amount: l.Amount, InvoiceLine: l.Number}
				if l.Adjusts != nil {
					line.Adjusts = &l.Adjusts.PeriodStart
				}
				byProvider[l.ProviderID] = append(byProvider[l.ProviderID], line)
			}
			i.Lines = append(i.Lines, l)
		}
		i.Taxes, i.Tax = taxed(of, money(i.Passthrough.Minor+i.Fee.Minor))
		i.Total = money(i.Passthrough.Minor + i.Fee.Minor + i.Tax.Minor)
		issued = append(issued, i)
	}
	for _, i := range issued {
		all, err := invoice.Decide(invoice.State{}, invoice.Issue{Invoice: i})
		if err != nil {
			w.t.Fatal(err)
		}
		w.record(invoice.Stream(i.InvoiceID), all...)
		s := invoice.Evolve(invoice.State{}, all[0])
		w.invoices = append(w.invoices, &s)
	}
	for n := range 3 { // in a fixed order
		provider := organisation("provider", n)
		lines := byProvider[provider]
		if len(lines) == 0 {
			continue
		}
		of := w.treatment()
		s := settlement.Issued{SettlementID: w.id(domain.PrefixSettlement), ProviderID: provider, PeriodStart: start, PeriodEnd: end, Currency: currency,
			Lines: lines, Total: money(0), LogPosition: 1, RunID: runID, At: w.now}
		if w.random.IntN(4) > 0 { // older ones have no number
			s.Number = fmt.Sprintf("ST-%06d", w.count)
		}
		for at := range lines {
			lines[at].TaxCategory = category(of)
			s.Total.Minor += lines[at].Amount.Minor
		}
		s.Taxes, s.Tax = taxed(of, s.Total)
		all, err := settlement.Decide(settlement.State{}, settlement.Issue{Settlement: s})
		if err != nil {
			w.t.Fatal(err)
		}
		w.record(settlement.Stream(s.SettlementID), all...)
		state := settlement.Evolve(settlement.State{}, all[0])
		w.settlements = append(w.settlements, &state)
	}
}

// credit takes something off some lines of an invoice, and the same off the settlements; or all, and the invoice is void.
func (w *world) credit(void bool) {
	i, ok := pick(w, w.invoices)
	if !ok {
		return
	}
	money := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: i.Currency} }
	note := creditnote.Issued{CreditNoteID: w.id(domain.PrefixCreditNote), Number: fmt.Sprintf("CN-%06d", w.count), InvoiceID: i.InvoiceID, InvoiceNumber: i.Number,
		CustomerID: i.CustomerID, Reason: "Outage", PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd, Currency: i.Currency,
		Passthrough: money(0), Fee: money(0), At: w.now}
	var on []invoice.CreditedLine
	off := map[string]domain.Money{}
	for _, l := range i.Lines {
		left := l.Amount.Minor - i.ByLine[l.Number].Minor
		amount := money(left)
		if !void {
			if left <= 0 || w.random.IntN(2) == 0 {
				continue
			}
			amount = money(w.upTo(left))
		}
		on = append(on, invoice.CreditedLine{Line: l.Number, Amount: amount})
		if l.Kind == invoice.LinePassthrough {
			off[l.ItemID] = amount
			note.Passthrough.Minor += amount.Minor
		} else {
			note.Fee.Minor += amount.Minor
		}
		note.Lines = append(note.Lines, creditnote.Line{Number: len(on), InvoiceLine: l.Number, ItemID: l.ItemID, Kind: l.Kind, ProviderID: l.ProviderID,
			ConnectionID: l.ConnectionID, Description: l.Description, Exact: amount.Amount(), Amount: amount, Steps: []string{"1"}, TaxCategory: l.TaxCategory})
	}
	var treatment *tax.Treatment
	if len(i.Taxes) > 0 {
		treatment = &i.Taxes[0].Treatment
	}
	note.Taxes, note.Tax = taxed(treatment, money(note.Passthrough.Minor+note.Fee.Minor))
	note.Total = money(note.Passthrough.Minor + note.Fee.Minor + note.Tax.Minor)
	var command invoice.Command = invoice.Credit{CreditNoteID: note.CreditNoteID, Number: note.Number, Lines: on, Total: note.Total, At: w.now}
	if void {
		command = invoice.Void{Reason: "Wrong", At: w.now}
	}
	first, ok := w.decided(invoice.Decide(*i, command))
	if !ok {
		return
	}
	var second []domain.Event
	if !void {
		if second, ok = w.decided(creditnote.Decide(creditnote.State{}, creditnote.Issue{CreditNote: note})); !ok {
			return
		}
	}
	credits := map[int][]domain.Event{}
	for n, s := range w.settlements {
		c := settlement.Credited{Number: fmt.Sprintf("SC-%06d", w.count), Reason: "Outage", Total: money(0), At: w.now}
		if void {
			c.InvoiceID = i.InvoiceID
		} else {
			c.CreditNoteID = note.CreditNoteID
		}
		for _, l := range s.Lines {
			if amount, ok := off[l.ItemID]; ok {
				c.Lines = append(c.Lines, settlement.CreditedLine{ItemID: l.ItemID, Amount: amount})
				c.Total.Minor += amount.Minor
			}
		}
		if len(c.Lines) == 0 {
			continue
		}
		if len(s.Taxes) > 0 {
			c.Taxes, c.Tax = taxed(&s.Taxes[0].Treatment, c.Total)
		}
		if credits[n], ok = w.decided(settlement.Decide(*s, settlement.Credit{Credit: c})); !ok {
			return
		}
	}
	w.record(invoice.Stream(i.InvoiceID), first...)
	*i = invoice.Evolve(*i, first[0])
	w.record(creditnote.Stream(note.CreditNoteID), second...)
	for n, s := range w.settlements {
		for _, e := range credits[n] {
			w.record(settlement.Stream(s.SettlementID), e)
			*s = settlement.Evolve(*s, e)
		}
	}
}

// pay is a payment at the bank, or through the processor: of what is due, of what was due, or of too much.
func (w *world) pay() {
	i, ok := pick(w, w.invoices)
	if !ok {
		return
	}
	due := i.Due()
	if w.random.IntN(3) == 0 {
		all, ok := w.decided(invoice.Decide(*i, invoice.Pay{Reference: fmt.Sprintf("Bank %d", len(w.log)), At: w.now}))
		if ok {
			w.record(invoice.Stream(i.InvoiceID), all...)
			*i = invoice.Evolve(*i, all[0])
			w.bank[i.InvoiceID] = i.PaidAmount.Minor
		}
		return
	}
	amount := domain.Money{Minor: due.Minor + w.random.Int64N(3), Currency: i.Currency}
	if w.random.IntN(4) == 0 {
		amount.Minor = i.Total.Minor
	}
	p := payment.Received{PaymentID: w.id(domain.PrefixPayment), InvoiceID: i.InvoiceID, CustomerID: i.CustomerID, Processor: payment.Stripe,
		Reference: fmt.Sprintf("pi_%d", w.count), Charge: "ch_1", Amount: amount, At: w.now}
	if w.random.IntN(2) == 0 { // in the currency of the platform's balance, which need not be the payment's
		p.ProcessingCost = domain.Money{Minor: w.upTo(300), Currency: [...]domain.Currency{i.Currency, "EUR"}[w.random.IntN(2)]}
	}
	all, ok := w.decided(payment.Decide(payment.State{}, payment.Receive{Payment: p}))
	if !ok {
		return
	}
	w.record(payment.Stream(p.PaymentID), all...)
	s := payment.Evolve(payment.State{}, all[0])
	w.payments = append(w.payments, &s)
	w.costs[p.ProcessingCost.Currency] += p.ProcessingCost.Minor
	if due.Minor <= 0 || amount.Minor < due.Minor {
		return
	}
	if paid, ok := w.decided(invoice.Decide(*i, invoice.Pay{Reference: p.Reference, Amount: due, At: w.now})); ok {
		w.record(invoice.Stream(i.InvoiceID), paid...)
		*i = invoice.Evolve(*i, paid[0])
	}
}

func (w *world) onPayment() {
	p, ok := pick(w, w.payments)
	if !ok {
		return
	}
	some := domain.Money{Minor: w.upTo(p.Kept().Minor), Currency: p.Amount.Currency}
	refund := max(1, len(p.Refunds)-w.random.IntN(2))
	dispute := fmt.Sprintf("du_%d", w.random.IntN(2))
	var c payment.Command
	switch w.random.IntN(9) {
	case 0:
		c = payment.RequestRefund{Amount: some, At: w.now}
	case 1, 2:
		c = payment.RecordRefund{Refund: refund, Reference: fmt.Sprintf("re_%d", refund), At: w.now}
	case 3, 4:
		reference := ""
		if refund <= len(p.Refunds) {
			reference = p.Refunds[refund-1].Reference
		}
		c = payment.FailRefund{Refund: refund, Reference: reference, Reason: "declined", At: w.now}
	case 5:
		c = payment.OpenDispute{Dispute: dispute, Amount: some, Reason: "fraudulent", At: w.now}
	case 6, 7:
		closing := payment.CloseDispute{Dispute: dispute, Outcome: [...]string{payment.DisputeWon, payment.DisputeLost}[w.random.IntN(2)],
			Amount: some, Cost: domain.Money{Minor: w.random.Int64N(2000), Currency: some.Currency}, At: w.now}
		for _, d := range p.Disputes {
			if d.Reference == dispute && w.random.IntN(4) > 0 {
				closing.Amount = d.Amount // as it mostly is
			}
		}
		c = closing
	default:
		c = payment.Cost{Amount: domain.Money{Minor: w.upTo(300), Currency: p.Amount.Currency}, At: w.now}
	}
	all, ok := w.decided(payment.Decide(*p, c))
	if !ok {
		return
	}
	w.record(payment.Stream(p.PaymentID), all...)
	*p = payment.Evolve(*p, all[0])
	switch e := all[0].(type) {
	case payment.Costed:
		w.costs[e.ProcessingCost.Currency] += e.ProcessingCost.Minor
	case payment.DisputeClosed:
		w.costs[e.Cost.Currency] += e.Cost.Minor
	case payment.Disputed:
		w.disputed[p.PaymentID+e.Dispute] = e.Amount.Minor
	}
}

// payOut moves what is owed on a settlement and not moved yet, or goes on with a payout.
func (w *world) payOut() {
	s, ok := pick(w, w.settlements)
	if !ok {
		return
	}
	left := s.Owed().Minor
	for _, p := range w.payouts {
		if p.SettlementID == s.SettlementID {
			left -= p.Kept().Minor
		}
	}
	p, ok := pick(w, w.payouts)
	if !ok || w.random.IntN(4) == 0 {
		if left > 0 {
			id := w.id(domain.PrefixPayout)
			all, ok := w.decided(payout.Decide(payout.State{}, payout.Request{Payout: payout.Requested{PayoutID: id, ProviderID: s.ProviderID,
				SettlementID: s.SettlementID, InvoiceID: s.Lines[0].InvoiceID, PaymentID: w.id(domain.PrefixPayment), Processor: payment.Stripe, Destination: "acct_1",
				Amount: domain.Money{Minor: w.upTo(left), Currency: s.Currency}, At: w.now}}))
			if ok {
				w.record(payout.Stream(id), all...)
				state := payout.Evolve(payout.State{}, all[0])
				w.payouts = append(w.payouts, &state)
			}
		}
		return
	}
	reversal := max(1, len(p.Reversals)-w.random.IntN(2))
	all, ok := w.decided(payout.Decide(*p, [...]payout.Command{
		payout.Send{Transfer: "tr_" + p.PayoutID, At: w.now}, payout.Pay{Reference: "po_1", At: w.now}, payout.Fail{Reason: "closed", At: w.now},
		payout.RequestReversal{Credit: "dispute", Amount: domain.Money{Minor: w.upTo(p.Kept().Minor), Currency: p.Amount.Currency}, At: w.now},
		payout.Send{Transfer: "tr_" + p.PayoutID, At: w.now},
		payout.Reverse{Reversal: reversal, Reference: fmt.Sprintf("trr_%s_%d", p.PayoutID, reversal), At: w.now},
		payout.FailReversal{Reversal: reversal, Reason: "empty", At: w.now},
	}[w.random.IntN(7)]))
	if ok {
		w.record(payout.Stream(p.PayoutID), all...)
		*p = payout.Evolve(*p, all[0])
	}
}

// step does one thing and leaves the log at a place where others may see it.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.random.IntN(20)) * time.Hour)
	if w.random.IntN(15) == 0 {
		w.period = w.period.AddDate(0, 1, 0)
		w.now = w.now.AddDate(0, 1, 0)
	}
	switch n := w.random.IntN(20); {
	case n < 3 || len(w.invoices) == 0:
		w.run()
	case n < 5:
		w.credit(false)
	case n < 6:
		w.credit(true)
	case n < 9:
		w.pay()
	case n < 14:
		w.onPayment()
	default:
		w.payOut()
	}
}

// owed are the balances of all accounts but pass-through as the documents and payments themselves have them, without any entry.
func (w *world) owed() map[balance]int64 {
	sums := map[balance]int64{}
	for _, i := range w.invoices {
		if i.State != invoice.StateVoid {
			sums[balance{"receivable:" + i.CustomerID, i.Currency}] += i.Total.Minor - i.Credited.Minor - w.bank[i.InvoiceID]
			sums[balance{"bank", i.Currency}] += w.bank[i.InvoiceID]
			fee, credited := i.Fee.Minor, int64(0)
			for _, l := range i.Lines {
				credited += i.ByLine[l.Number].Minor
				if l.Kind == invoice.LineFee {
					fee -= i.ByLine[l.Number].Minor
				}
			}
			sums[balance{"revenue:platform-fee", i.Currency}] -= fee
			if len(i.Taxes) > 0 {
				sums[balance{"tax:payable:" + string(i.Taxes[0].Country), i.Currency}] -= i.Tax.Minor - (i.Credited.Minor - credited)
			}
		}
	}
	for _, p := range w.payments {
		kept := p.Amount.Minor
		for _, r := range p.Refunds {
			if r.State == payment.Made {
				kept -= r.Amount.Minor
			}
		}
		for _, d := range p.Disputes {
			switch d.Outcome {
			case payment.DisputeWon: // what came back of it
				kept += d.Amount.Minor - w.disputed[p.PaymentID+d.Reference]
			default:
				kept -= d.Amount.Minor
			}
		}
		sums[balance{"receivable:" + p.CustomerID, p.Amount.Currency}] -= kept
		sums[balance{"clearing:stripe", p.Amount.Currency}] += kept
	}
	for _, s := range w.settlements {
		sums[balance{"payable:" + s.ProviderID, s.Currency}] -= s.Owed().Minor
		if len(s.Taxes) > 0 {
			sums[balance{"tax:recoverable:" + string(s.Taxes[0].Country), s.Currency}] += s.Tax.Minor - s.TaxBack.Minor
		}
	}
	for _, p := range w.payouts {
		if p.State != payout.StateSent && p.State != payout.StatePaid {
			continue
		}
		moved := p.Amount.Minor
		for _, r := range p.Reversals {
			if r.State == payout.Made {
				moved -= r.Amount.Minor
			}
		}
		sums[balance{"payable:" + p.ProviderID, p.Amount.Currency}] += moved
		sums[balance{"clearing:stripe", p.Amount.Currency}] -= moved
	}
	for currency, cost := range w.costs {
		sums[balance{"cost:processing", currency}] += cost
		sums[balance{"clearing:stripe", currency}] -= cost
	}
	return sums
}

// corrected reports whether something was taken off what a provider is owed.
func (w *world) corrected(provider string) bool {
	return slices.ContainsFunc(w.settlements, func(s *settlement.State) bool {
		return s.ProviderID == provider && (len(s.Credits) > 0 || s.Owed().Minor < 0)
	})
}
