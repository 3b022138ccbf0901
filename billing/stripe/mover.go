package stripe

import (
	"context"
	"errors"
	"time"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/events"
)

// Limits of what is tried.
const (
	MaxPayments = 100 // of one invoice, all but one of them cancelled
	MaxPayouts  = 100 // of one share
	MaxTries    = 12  // of a refund, payout or reversal that Stripe refuses, before people have to look

	firstPause  = time.Minute        // after a refusal; each further one doubles it
	lastPause   = 12 * time.Hour     // at most
	lookAgain   = time.Hour          // at a payment that is open, in case a webhook is lost
	costsWithin = 7 * 24 * time.Hour // what a payment cost is asked for so long

	recordTries = 8    // at an append that meets others
	pageSize    = 1000 // events read at once
)

// Actor is who the events say it was.
const Actor = "stripe"

// Log is what moving money needs of the log; [events.Log] is one.
type Log interface {
	Append(ctx context.Context, a events.Append) (events.Result, error)
	ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]events.Recorded, error)
	ReadCategory(ctx context.Context, category string, after events.Position, limit int) ([]events.Recorded, error)
}

var _ Log = (*events.Log)(nil)

// Mover moves what the books say. It holds nothing of its own: any number may run on one log.
type Mover struct {
	Client *Client
	Log    Log
	// SettlementsOf names the settlements that have lines of an invoice.
	SettlementsOf func(ctx context.Context, invoiceID string) ([]string, error)
	Now           func() time.Time // default time.Now
}

func (m *Mover) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

// Advance does what is to be done for an invoice now: it looks at its open payment, gives back what was paid too much, pays
// out the shares of its settlements and takes back what is not owed any more. It says when to look again; zero is when
// something new happens. It may be called at any time, any number of times, by several at once.
//
// One part that fails keeps no other from being done; the error is that of all. Unavailable: try again.
func (m *Mover) Advance(ctx context.Context, invoiceID string) (again time.Time, err error) {
	i, version, err := load(ctx, m.Log, invoice.Stream(invoiceID), invoice.Evolve)
	if err != nil || version == 0 {
		return time.Time{}, err
	}
	payments, err := m.paymentsOf(ctx, i)
	if err != nil {
		return time.Time{}, err
	}
	var w wait
	var errs []error
	for n, p := range payments {
		if p.State != payment.StateRequested && p.State != payment.StateOpen {
			continue
		}
		if err := m.look(ctx, i, p, &w); err != nil {
			errs = append(errs, err)
		}
		// What was seen may have paid the invoice.
		if payments[n], _, err = load(ctx, m.Log, payment.Stream(p.PaymentID), payment.Evolve); err != nil {
			return time.Time{}, errors.Join(append(errs, err)...)
		}
		if i, _, err = load(ctx, m.Log, invoice.Stream(invoiceID), invoice.Evolve); err != nil {
			return time.Time{}, errors.Join(append(errs, err)...)
		}
	}
	for n, p := range payments {
		if p.State != payment.StateReceived {
			continue
		}
		if payments[n], err = m.giveBack(ctx, i, p, &w); err != nil {
			errs = append(errs, err)
		}
		if err := m.cost(ctx, p, &w); err != nil {
			errs = append(errs, err)
		}
	}
	if err := m.payOut(ctx, i, payingOf(i, payments), &w); err != nil {
		errs = append(errs, err)
	}
	return w.at, errors.Join(errs...)
}

// payingOf returns the payment that paid the invoice; the zero State if none of Stripe's did.
func payingOf(i invoice.State, payments []payment.State) payment.State {
	for _, p := range payments {
		if pays(i, p) {
			return p
		}
	}
	return payment.State{}
}

func pays(i invoice.State, p payment.State) bool {
	return i.State == invoice.StatePaid && p.State == payment.StateReceived && p.Reference == i.Reference
}

// paymentsOf returns every payment of the invoice there ever was.
func (m *Mover) paymentsOf(ctx context.Context, i invoice.State) (all []payment.State, _ error) {
	for n := 1; n <= MaxPayments; n++ {
		p, version, err := load(ctx, m.Log, payment.Stream(payment.ID(i.InvoiceID, i.At, n)), payment.Evolve)
		if err != nil || version == 0 {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

// wait is the earliest time to look again.
type wait struct{ at time.Time }

func (w *wait) until(t time.Time) {
	if w.at.IsZero() || t.Before(w.at) {
		w.at = t
	}
}

// pause returns when something that was refused a number of times, last at a time, is to be tried again. ok is false if it
// was tried often enough.
func pause(refusals int, last time.Time) (at time.Time, ok bool) {
	if refusals == 0 {
		return time.Time{}, true
	}
	length := lastPause
	if refusals < 12 { // 2^11 minutes are more than the longest
		length = min(firstPause<<(refusals-1), lastPause)
	}
	return last.Add(length), refusals < MaxTries
}

// due reports whether it is time to try again, and says when if not.
func (m *Mover) due(refusals int, last time.Time, w *wait) bool {
	at, ok := pause(refusals, last)
	if !ok {
		return false
	}
	if at.After(m.now()) {
		w.until(at)
		return false
	}
	return true
}

// load folds a stream.
func load[S any](ctx context.Context, log Log, stream string, evolve func(S, domain.Event) S) (state S, version int64, err error) {
	for {
		page, err := log.ReadStream(ctx, stream, version, pageSize)
		if err != nil {
			return state, 0, err
		}
		if len(page) == 0 {
			return state, version, nil
		}
		for _, e := range page {
			state, version = evolve(state, e.Event), e.Version
		}
	}
}

// decision is what record makes of one stream.
type decision[S any] struct {
	stream  string
	evolve  func(S, domain.Event) S
	decide  func(S) ([]domain.Event, error)
	parties func(S) []string // of the state after the decision
	cause   string
	id      [16]byte // of the one event; zero: one is minted
}

// record decides on a stream and appends what comes of it, again as often as somebody else appended first. It returns the
// state after it.
func record[S any](ctx context.Context, log Log, d decision[S]) (S, error) {
	for range recordTries {
		state, version, err := load(ctx, log, d.stream, d.evolve)
		if err != nil {
			return state, err
		}
		decided, err := d.decide(state)
		if err != nil || len(decided) == 0 {
			return state, err
		}
		for _, e := range decided {
			state = d.evolve(state, e)
		}
		a := appendTo(d.stream, version, d.cause, d.parties(state), decided...)
		a.Events[0].ID = d.id
		_, err = log.Append(ctx, events.Append{Streams: []events.StreamAppend{a}})
		if lost := (*events.VersionConflict)(nil); errors.As(err, &lost) {
			continue
		}
		return state, err
	}
	var none S
	return none, domain.Errorf(domain.Unavailable, "stripe.record", "%s keeps changing", d.stream).WithHint("try again in a moment")
}

func appendTo(stream string, version int64, cause string, parties []string, decided ...domain.Event) events.StreamAppend {
	a := events.StreamAppend{Stream: stream, Expected: events.ExpectedVersion(version)}
	for _, e := range decided {
		a.Events = append(a.Events, events.NewEvent{Event: e, Metadata: events.Metadata{Actor: Actor, Causation: cause, Parties: parties}})
	}
	return a
}

// recordPayment decides on a payment. Only the customer and the platform see payments.
func (m *Mover) recordPayment(ctx context.Context, id, cause string, c payment.Command) (payment.State, error) {
	return record(ctx, m.Log, decision[payment.State]{
		stream: payment.Stream(id), evolve: payment.Evolve, cause: cause,
		decide:  func(s payment.State) ([]domain.Event, error) { return payment.Decide(s, c) },
		parties: func(s payment.State) []string { return []string{s.CustomerID} },
	})
}
