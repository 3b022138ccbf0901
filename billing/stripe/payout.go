package stripe

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
	"crossbill/domain/connectedaccount"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// payOut moves the shares that an invoice brings in to the providers, and back what is theirs no more. paying is the
// payment that paid the invoice; without one, nothing is theirs yet. What was paid otherwise than through Stripe is not
// moved through it.
func (m *Mover) payOut(ctx context.Context, i invoice.State, paying payment.State, w *wait) error {
	ids, err := m.SettlementsOf(ctx, i.InvoiceID)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		s, version, err := load(ctx, m.Log, settlement.Stream(id), settlement.Evolve)
		if err == nil && version > 0 {
			err = m.payShare(ctx, i, s, paying, w)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// payShare moves one share. Payouts follow one another: there is a next one only after the one before is decided, so that
// what was moved is always known before more is.
func (m *Mover) payShare(ctx context.Context, i invoice.State, s settlement.State, paying payment.State, w *wait) error {
	payouts, err := m.payoutsOf(ctx, s, i)
	if err != nil {
		return err
	}
	var kept int64
	for n := range payouts {
		if payouts[n], err = m.finish(ctx, payouts[n]); err != nil {
			return err
		}
		kept += payouts[n].Kept().Minor
	}
	owed := movable(payable(sharesOf(s)[i.InvoiceID], paying)) // of a rest nothing is with the provider
	switch {
	case kept > owed.Minor:
		return m.takeBack(ctx, s, i, paying, payouts, kept-owed.Minor, w)
	case kept < owed.Minor && !paying.InDispute():
		return m.pay(ctx, i, s, paying, payouts, domain.Money{Minor: owed.Minor - kept, Currency: s.Currency}, w)
	}
	return nil
}

func (m *Mover) payoutsOf(ctx context.Context, s settlement.State, i invoice.State) (all []payout.State, _ error) {
	for n := 1; n <= MaxPayouts; n++ {
		p, version, err := load(ctx, m.Log, payout.Stream(payout.ID(s.SettlementID, i.InvoiceID, s.At, n)), payout.Evolve)
		if err != nil || version == 0 {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

// finish makes the transfer and the reversals of a payout that have no answer yet.
func (m *Mover) finish(ctx context.Context, p payout.State) (payout.State, error) {
	if p.State == payout.StatePending {
		made, err := m.makeTransfer(ctx, p)
		if reason, ok := refused(err); ok {
			return m.recordPayout(ctx, p.PayoutID, "", payout.Fail{Reason: reason, At: m.now()})
		}
		if err != nil {
			return p, failed("stripe.transfer", err)
		}
		if p, err = m.recordPayout(ctx, p.PayoutID, "", payout.Send{Transfer: made.ID, At: m.now()}); err != nil {
			return p, err
		}
	}
	for n, r := range p.Reversals {
		if r.State != payout.Pending {
			continue
		}
		made, err := m.makeReversal(ctx, p, n+1)
		if reason, ok := refused(err); ok {
			p, err = m.recordPayout(ctx, p.PayoutID, "", payout.FailReversal{Reversal: n + 1, Reason: reason, At: m.now()})
			if err != nil {
				return p, err
			}
			continue
		}
		if err != nil {
			return p, failed("stripe.reversal", err)
		}
		if p, err = m.recordPayout(ctx, p.PayoutID, "", payout.Reverse{Reversal: n + 1, Reference: made.ID, At: m.now()}); err != nil {
			return p, err
		}
	}
	return p, nil
}

// pay makes the next payout. One that was refused is tried without the charge that it draws on the next time, and with it
// the time after: a share with the provider's own tax on top can be more than the charge has left.
func (m *Mover) pay(ctx context.Context, i invoice.State, s settlement.State, paying payment.State, payouts []payout.State, amount domain.Money, w *wait) error {
	refusals := 0
	source := paying.Charge
	if n := len(payouts); n > 0 && payouts[n-1].State == payout.StateFailed {
		for _, p := range slices.Backward(payouts) {
			if p.State != payout.StateFailed {
				break
			}
			refusals++
		}
		if payouts[n-1].Source != "" {
			source = ""
		}
		if !m.due(refusals, payouts[n-1].ChangedAt, w) {
			return nil
		}
	}
	if _, err := minorUnits(amount); err != nil || len(payouts) == MaxPayouts {
		return err
	}
	account, _, err := load(ctx, m.Log, connectedaccount.Stream(s.ProviderID), connectedaccount.Evolve)
	if err != nil {
		return err
	}
	if !account.Transfers { // it is looked at again when the account changes
		w.until(m.now().Add(lastPause))
		return nil
	}
	id := payout.ID(s.SettlementID, i.InvoiceID, s.At, len(payouts)+1)
	decided, err := payout.Decide(payout.State{}, payout.Request{Payout: payout.Requested{
		PayoutID: id, ProviderID: s.ProviderID, SettlementID: s.SettlementID, InvoiceID: i.InvoiceID, PaymentID: paying.PaymentID,
		Processor: payment.Stripe, Destination: account.Account, Source: source, Amount: amount, At: m.now(),
	}})
	if err != nil {
		return err
	}
	_, err = m.Log.Append(ctx, events.Append{Streams: []events.StreamAppend{appendTo(payout.Stream(id), 0, "", []string{s.ProviderID}, decided...)}})
	if errors.As(err, new(*events.VersionConflict)) { // somebody else is at it
		w.until(m.now().Add(firstPause))
		return nil
	}
	if err != nil {
		return err
	}
	w.until(m.now().Add(firstPause)) // a credit may have come meanwhile, or a refusal
	_, err = m.finish(ctx, payout.Evolve(payout.State{}, decided[0]))
	return err
}

// takeBack reverses what is the provider's no more, the newest payout first.
func (m *Mover) takeBack(ctx context.Context, s settlement.State, i invoice.State, paying payment.State, payouts []payout.State, amount int64, w *wait) error {
	credit := creditOf(s, i, paying)
	for _, p := range slices.Backward(payouts) {
		part := min(amount, p.Kept().Minor)
		if part <= 0 || p.State == payout.StatePending {
			continue
		}
		refusals := 0
		for _, r := range slices.Backward(p.Reversals) {
			if r.State != payout.NotMade {
				break
			}
			refusals++
		}
		if refusals > 0 && !m.due(refusals, p.Reversals[len(p.Reversals)-1].At, w) {
			continue
		}
		p, err := m.recordPayout(ctx, p.PayoutID, "", payout.RequestReversal{Credit: credit, Amount: domain.Money{Minor: part, Currency: s.Currency}, At: m.now()})
		if err != nil {
			return err
		}
		w.until(m.now().Add(firstPause))
		if _, err = m.finish(ctx, p); err != nil {
			return err
		}
		amount -= part
	}
	return nil
}

// creditOf names what a reversal is for: the lost dispute, or the last credit of the settlement that is about the invoice.
func creditOf(s settlement.State, i invoice.State, paying payment.State) string {
	for _, d := range paying.Disputes {
		if d.Outcome == payment.DisputeLost {
			return d.Reference
		}
	}
	for _, c := range slices.Backward(s.Credits) {
		switch {
		case c.CreditNoteID != "" && slices.Contains(i.CreditNotes, c.CreditNoteID):
			return c.CreditNoteID
		case c.InvoiceID == i.InvoiceID:
			return c.InvoiceID
		}
	}
	return s.SettlementID // what another of its invoices takes off is set off
}

// recordPayout decides on a payout. Only the provider and the platform see payouts.
func (m *Mover) recordPayout(ctx context.Context, id, cause string, c payout.Command) (payout.State, error) {
	return record(ctx, m.Log, decision[payout.State]{
		stream: payout.Stream(id), evolve: payout.Evolve, cause: cause,
		decide:  func(s payout.State) ([]domain.Event, error) { return payout.Decide(s, c) },
		parties: func(s payout.State) []string { return []string{s.ProviderID} },
	})
}

func (m *Mover) makeTransfer(ctx context.Context, p payout.State) (*stripe.Transfer, error) {
	if m.now().Sub(p.ChangedAt) > keyTrusted {
		params := &stripe.TransferListParams{TransferGroup: &p.InvoiceID}
		params.Context = ctx
		found := m.Client.transfers.List(params)
		for found.Next() {
			if one := found.Transfer(); one.Metadata[MetadataPayout] == p.PayoutID {
				return one, nil
			}
		}
		if err := found.Err(); err != nil {
			return nil, err
		}
	}
	amount, err := minorUnits(p.Amount)
	if err != nil {
		return nil, err
	}
	params := &stripe.TransferParams{
		Amount: &amount, Currency: currencyOf(p.Amount.Currency), Destination: &p.Destination, TransferGroup: &p.InvoiceID,
		Metadata: map[string]string{MetadataPayout: p.PayoutID, MetadataSettlement: p.SettlementID, MetadataInvoice: p.InvoiceID, MetadataPayment: p.PaymentID},
	}
	if p.Source != "" {
		params.SourceTransaction = &p.Source
	}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-" + p.PayoutID)
	return m.Client.transfers.New(params)
}

func (m *Mover) makeReversal(ctx context.Context, p payout.State, n int) (*stripe.TransferReversal, error) {
	r := p.Reversals[n-1]
	if m.now().Sub(r.At) > keyTrusted {
		params := &stripe.TransferReversalListParams{ID: &p.Transfer}
		params.Context = ctx
		found := m.Client.reversals.List(params)
		for found.Next() {
			if one := found.TransferReversal(); one.Metadata[MetadataReversal] == strconv.Itoa(n) {
				return one, nil
			}
		}
		if err := found.Err(); err != nil {
			return nil, err
		}
	}
	amount, err := minorUnits(r.Amount)
	if err != nil {
		return nil, err
	}
	params := &stripe.TransferReversalParams{
		ID: &p.Transfer, Amount: &amount,
		Metadata: map[string]string{MetadataPayout: p.PayoutID, MetadataReversal: strconv.Itoa(n), MetadataCreditNote: r.Credit},
	}
	params.Context = ctx
	params.SetIdempotencyKey("crossbill-" + p.PayoutID + "-reversal-" + strconv.Itoa(n))
	return m.Client.reversals.New(params)
}
