package stripe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// Limits of a reconciliation.
const (
	MaxWindow     = 93 * 24 * time.Hour
	MaxFindings   = 10_000
	reconcilePage = 100 // of Stripe's lists, the most it gives

	// unanswered is how long an intention may be without an answer before it is a finding.
	unanswered = time.Hour
)

// Kinds of what is compared.
const (
	KindPayment = "payment"
	KindRefund  = "refund"
	KindPayout  = "payout"
	KindDispute = "dispute"
)

// What can be wrong with it.
const (
	MissingHere  = "missing_here"  // Stripe has it, the log does not
	MissingThere = "missing_there" // the log has it, Stripe does not
	OtherAmount  = "other_amount"  // or currency
	OtherState   = "other_state"
	Unanswered   = "unanswered" // an intention that has had no answer for long
	GivenUp      = "given_up"   // Stripe refused it so often that it is not tried any more
	RestOwed     = "rest_owed"  // too small for Stripe to move: it is moved with what comes to it, or by hand
)

// Finding is one difference between the log and Stripe.
type Finding struct {
	Kind      string `json:"kind"`
	Problem   string `json:"problem"`
	ID        string `json:"id"`        // the payment's or payout's; "" if only Stripe has it
	Reference string `json:"reference"` // Stripe's id; "" if there is none
	Here      string `json:"here"`      // what the log says
	There     string `json:"there"`     // what Stripe says
}

// Reconciliation is what a comparison came to.
type Reconciliation struct {
	From     time.Time `json:"from"`     // inclusive
	To       time.Time `json:"to"`       // exclusive
	Compared int       `json:"compared"` // payments, refunds, payouts and disputes that were held against each other
	Findings []Finding `json:"findings"`
}

// Reconcile compares payments, refunds, payouts with their reversals, and disputes of a window of time in the log with
// those at Stripe, and names every difference. It changes nothing. It reads all payments and payouts of the log once.
//
// What either side has in the window is looked up on the other wherever it lies there, so that nothing is reported for
// having happened at the window's edge. It returns an Invalid error for a window that is malformed or longer than
// [MaxWindow]; a Conflict if there are more than [MaxFindings].
func (m *Mover) Reconcile(ctx context.Context, from, to time.Time) (Reconciliation, error) {
	const op = "stripe.Reconcile"
	var p domain.Problems
	p.Check(to.After(from), "/to", "must be after from")
	p.Check(to.Sub(from) <= MaxWindow, "/to", "must be at most %d days after from", int(MaxWindow.Hours()/24))
	if err := p.Err(op); err != nil {
		return Reconciliation{}, err
	}
	r := &reconciling{Mover: m, ctx: ctx, Reconciliation: Reconciliation{From: from.UTC(), To: to.UTC(), Findings: []Finding{}}, done: make(map[string]bool)}
	if err := r.read(); err != nil {
		return Reconciliation{}, err
	}
	for _, step := range []func() error{r.charges, r.refunds, r.transfers, r.disputes, r.ours, r.shares, r.overpaid} {
		if err := step(); err != nil {
			return Reconciliation{}, failed(op, err)
		}
		if len(r.Findings) > MaxFindings {
			return Reconciliation{}, domain.Errorf(domain.Conflict, op, "there are more than %d differences", MaxFindings).WithHint("compare a shorter time")
		}
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Reference, b.Reference), cmp.Compare(a.Problem, b.Problem))
	})
	return r.Reconciliation, nil
}

// reconciling is one comparison under way.
type reconciling struct {
	*Mover
	Reconciliation
	ctx      context.Context
	payments map[string]payment.State
	payouts  map[string]payout.State
	order    []string             // the payouts' ids, as they were requested
	at       map[string]time.Time // of payments received, refunds, payouts sent and disputes, by Stripe's id

	byIntent, byRefund, byDispute, byTransfer map[string]string // Stripe's ids → ours
	done                                      map[string]bool   // Stripe's ids that were compared
}

func (r *reconciling) find(kind, problem, id, reference, here, there string) {
	r.Findings = append(r.Findings, Finding{kind, problem, id, reference, here, there})
}

func (r *reconciling) within(at time.Time) bool { return !at.Before(r.From) && at.Before(r.To) }

// read folds all payments and payouts.
func (r *reconciling) read() error {
	r.payments, r.payouts, r.at = make(map[string]payment.State), make(map[string]payout.State), make(map[string]time.Time)
	r.byIntent, r.byRefund, r.byDispute, r.byTransfer = make(map[string]string), make(map[string]string), make(map[string]string), make(map[string]string)
	err := r.each("payment", func(id string, e domain.Event) {
		r.payments[id] = payment.Evolve(r.payments[id], e)
		switch e := e.(type) {
		case payment.Opened:
			r.byIntent[e.Reference] = id
		case payment.Received:
			r.byIntent[e.Reference], r.at[e.Reference] = id, e.At
		case payment.Refunded:
			r.byRefund[e.Reference], r.at[e.Reference] = id, e.At
		case payment.Disputed:
			r.byDispute[e.Dispute], r.at[e.Dispute] = id, e.At
		}
	})
	if err != nil {
		return err
	}
	return r.each("payout", func(id string, e domain.Event) {
		r.payouts[id] = payout.Evolve(r.payouts[id], e)
		switch e := e.(type) {
		case payout.Requested:
			r.order = append(r.order, id)
		case payout.Sent:
			r.byTransfer[e.Transfer], r.at[e.Transfer] = id, e.At
		}
	})
}

func (r *reconciling) each(category string, visit func(id string, e domain.Event)) error {
	for after := events.Position(0); ; {
		page, err := r.Log.ReadCategory(r.ctx, category, after, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			visit(strings.TrimPrefix(e.Stream, category+"-"), e.Event)
			after = e.Position
		}
	}
}

func (r *reconciling) created() *stripe.RangeQueryParams {
	return &stripe.RangeQueryParams{GreaterThanOrEqual: r.From.Unix(), LesserThan: r.To.Unix()}
}

func (r *reconciling) page() stripe.ListParams {
	return stripe.ListParams{Context: r.ctx, Limit: stripe.Int64(reconcilePage)}
}

// amounts compares an amount; there is Stripe's.
func (r *reconciling) amounts(kind, id, reference string, here domain.Money, amount int64, currency stripe.Currency) {
	there, err := fromMinorUnits(amount, currency)
	if err != nil || there != here {
		text := there.String()
		if err != nil {
			text = strconv.FormatInt(amount, 10) + " " + string(currency)
		}
		r.find(kind, OtherAmount, id, reference, here.String(), text)
	}
}

func (r *reconciling) charges() error {
	found := r.Client.charges.List(&stripe.ChargeListParams{ListParams: r.page(), CreatedRange: r.created()})
	for found.Next() {
		c := found.Charge()
		if c.Status != stripe.ChargeStatusSucceeded {
			continue
		}
		intent := ""
		if c.PaymentIntent != nil {
			intent = c.PaymentIntent.ID
		}
		r.charge(c, intent)
	}
	return found.Err()
}

func (r *reconciling) charge(c *stripe.Charge, intent string) {
	r.Compared++
	r.done[intent] = true
	id := r.byIntent[intent]
	p := r.payments[id]
	switch {
	case id == "" || p.State != payment.StateReceived:
		r.find(KindPayment, MissingHere, id, intent, p.State, fmt.Sprintf("%s, %s %d %s", c.ID, c.Status, c.Amount, c.Currency))
	default:
		r.amounts(KindPayment, id, intent, p.Amount, c.Amount, c.Currency)
	}
}

func (r *reconciling) refunds() error {
	found := r.Client.refunds.List(&stripe.RefundListParams{ListParams: r.page(), CreatedRange: r.created()})
	for found.Next() {
		r.refund(found.Refund())
	}
	return found.Err()
}

func (r *reconciling) refund(made *stripe.Refund) {
	r.Compared++
	r.done[made.ID] = true
	id := r.byRefund[made.ID]
	for _, one := range r.payments[id].Refunds {
		if one.Reference != made.ID {
			continue
		}
		r.amounts(KindRefund, id, made.ID, one.Amount, made.Amount, made.Currency)
		undone := made.Status == stripe.RefundStatusFailed || made.Status == stripe.RefundStatusCanceled
		if undone != (one.State == payment.NotMade) {
			r.find(KindRefund, OtherState, id, made.ID, one.State, string(made.Status))
		}
		return
	}
	r.find(KindRefund, MissingHere, "", made.ID, "", fmt.Sprintf("%s %d %s", made.Status, made.Amount, made.Currency))
}

func (r *reconciling) transfers() error {
	found := r.Client.transfers.List(&stripe.TransferListParams{ListParams: r.page(), CreatedRange: r.created()})
	for found.Next() {
		r.transfer(found.Transfer())
	}
	return found.Err()
}

func (r *reconciling) transfer(t *stripe.Transfer) {
	r.Compared++
	r.done[t.ID] = true
	id := r.byTransfer[t.ID]
	if id == "" {
		r.find(KindPayout, MissingHere, "", t.ID, "", fmt.Sprintf("%d %s", t.Amount, t.Currency))
		return
	}
	p := r.payouts[id]
	r.amounts(KindPayout, id, t.ID, p.Amount, t.Amount, t.Currency)
	back := domain.Money{Currency: p.Amount.Currency}
	for _, one := range p.Reversals {
		if one.State == payout.Made {
			back.Minor += one.Amount.Minor
		}
	}
	there, err := fromMinorUnits(t.AmountReversed, t.Currency)
	if err != nil || there != back {
		r.find(KindPayout, OtherState, id, t.ID, back.String()+" moved back", there.String()+" moved back")
	}
	if t.Destination != nil && t.Destination.ID != p.Destination {
		r.find(KindPayout, OtherState, id, t.ID, "to "+p.Destination, "to "+t.Destination.ID)
	}
}

func (r *reconciling) disputes() error {
	found := r.Client.disputes.List(&stripe.DisputeListParams{ListParams: r.page(), CreatedRange: r.created()})
	for found.Next() {
		r.dispute(found.Dispute())
	}
	return found.Err()
}

func (r *reconciling) dispute(d *stripe.Dispute) {
	if strings.HasPrefix(string(d.Status), "warning_") { // an inquiry moves nothing
		return
	}
	r.Compared++
	r.done[d.ID] = true
	id := r.byDispute[d.ID]
	for _, one := range r.payments[id].Disputes {
		if one.Reference != d.ID {
			continue
		}
		r.amounts(KindDispute, id, d.ID, one.Amount, d.Amount, d.Currency)
		outcome := ""
		if d.Status == stripe.DisputeStatusWon || d.Status == stripe.DisputeStatusLost {
			outcome = string(d.Status)
		}
		if outcome != one.Outcome {
			r.find(KindDispute, OtherState, id, d.ID, one.Outcome, string(d.Status))
		}
		return
	}
	r.find(KindDispute, MissingHere, "", d.ID, "", fmt.Sprintf("%s %d %s", d.Status, d.Amount, d.Currency))
}

// ours looks up what the log has in the window and Stripe's lists did not show, and names intentions without an end.
func (r *reconciling) ours() error {
	for id, p := range r.payments {
		if p.State == payment.StateReceived {
			if err := r.lookUp(KindPayment, id, p.Reference, func(params stripe.Params) error {
				intent, err := r.Client.intents.Get(p.Reference, &stripe.PaymentIntentParams{Params: params, Expand: []*string{stripe.String("latest_charge")}})
				if err == nil && (intent.Status != stripe.PaymentIntentStatusSucceeded || intent.LatestCharge == nil) {
					r.find(KindPayment, OtherState, id, p.Reference, p.State, string(intent.Status))
				} else if err == nil {
					r.charge(intent.LatestCharge, p.Reference)
				}
				return err
			}); err != nil {
				return err
			}
		}
		for n, one := range p.Refunds {
			if err := r.lookUp(KindRefund, id, one.Reference, func(params stripe.Params) error {
				made, err := r.Client.refunds.Get(one.Reference, &stripe.RefundParams{Params: params})
				if err == nil {
					r.refund(made)
				}
				return err
			}); err != nil {
				return err
			}
			name := fmt.Sprintf("refund %d of %s", n+1, one.Amount)
			r.unfinished(KindRefund, id, one.State == payment.Pending, one.At, name)
		}
		if n := len(p.Refunds); trailing(p.Refunds, func(one payment.Refund) bool { return one.State == payment.NotMade }) >= MaxTries {
			r.find(KindRefund, GivenUp, id, "", p.Refunds[n-1].Amount.String(), "")
		}
		for _, one := range p.Disputes {
			if err := r.lookUp(KindDispute, id, one.Reference, func(params stripe.Params) error {
				d, err := r.Client.disputes.Get(one.Reference, &stripe.DisputeParams{Params: params})
				if err == nil {
					r.dispute(d)
				}
				return err
			}); err != nil {
				return err
			}
		}
	}
	for id, p := range r.payouts {
		if err := r.lookUp(KindPayout, id, p.Transfer, func(params stripe.Params) error {
			t, err := r.Client.transfers.Get(p.Transfer, &stripe.TransferParams{Params: params})
			if err == nil {
				r.transfer(t)
			}
			return err
		}); err != nil {
			return err
		}
		r.unfinished(KindPayout, id, p.State == payout.StatePending, p.ChangedAt, p.Amount.String()+" to "+p.Destination)
		for n, one := range p.Reversals {
			r.unfinished(KindPayout, id, one.State == payout.Pending, one.At, fmt.Sprintf("reversal %d of %s", n+1, one.Amount))
		}
		if n := len(p.Reversals); trailing(p.Reversals, func(one payout.Reversal) bool { return one.State == payout.NotMade }) >= MaxTries {
			r.find(KindPayout, GivenUp, id, p.Transfer, fmt.Sprintf("reversal %d of %s", n, p.Reversals[n-1].Amount), "")
		}
	}
	return nil
}

// trailing returns how many at the end of a list are so.
func trailing[T any](all []T, so func(T) bool) (n int) {
	for n < len(all) && so(all[len(all)-1-n]) {
		n++
	}
	return n
}

// shares names the providers' shares that are not moved any more, and the rests of them that Stripe can't move.
func (r *reconciling) shares() error {
	type share struct{ settlementID, invoiceID string }
	payouts := make(map[share][]payout.State)
	for _, id := range r.order {
		p := r.payouts[id]
		of := share{p.SettlementID, p.InvoiceID}
		payouts[of] = append(payouts[of], p)
	}
	for of, all := range payouts {
		last := all[len(all)-1]
		if len(all) >= MaxPayouts || trailing(all, func(p payout.State) bool { return p.State == payout.StateFailed }) >= MaxTries {
			r.find(KindPayout, GivenUp, last.PayoutID, "", last.Amount.String()+" to "+last.Destination, last.Reason)
		}
		paying := r.payments[last.PaymentID]
		if last.Amount.Currency.Digits() != 3 || paying.InDispute() {
			continue
		}
		s, _, err := load(r.ctx, r.Log, settlement.Stream(of.settlementID), settlement.Evolve)
		if err != nil {
			return err
		}
		rest := payable(sharesOf(s)[of.invoiceID], paying)
		for _, p := range all {
			rest.Minor -= p.Kept().Minor
		}
		if rest.Minor > 0 && movable(rest).Minor == 0 {
			r.find(KindPayout, RestOwed, last.PayoutID, last.Transfer, rest.String(), "")
		}
	}
	return nil
}

// overpaid names the rests of payments that Stripe can't give back.
func (r *reconciling) overpaid() error {
	for id, p := range r.payments {
		if p.State != payment.StateReceived || p.Amount.Currency.Digits() != 3 || p.InDispute() {
			continue
		}
		i, _, err := load(r.ctx, r.Log, invoice.Stream(p.InvoiceID), invoice.Evolve)
		if err != nil {
			return err
		}
		if rest := tooMuch(i, p); rest.Minor > 0 && movable(rest).Minor == 0 {
			r.find(KindRefund, RestOwed, id, p.Reference, rest.String(), "")
		}
	}
	return nil
}

// lookUp fetches what Stripe's lists did not show of what the log has in the window.
func (r *reconciling) lookUp(kind, id, reference string, get func(stripe.Params) error) error {
	if reference == "" || r.done[reference] || !r.within(r.at[reference]) {
		return nil
	}
	err := get(stripe.Params{Context: r.ctx})
	if isMissing(err) {
		r.Compared++
		r.find(kind, MissingThere, id, reference, "", "no such object")
		return nil
	}
	return err
}

func (r *reconciling) unfinished(kind, id string, pending bool, at time.Time, here string) {
	if pending && r.within(at) && r.now().Sub(at) > unanswered {
		r.find(kind, Unanswered, id, "", here, "")
	}
}
