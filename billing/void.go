package billing

import (
	"context"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// VoidRequest asks for an invoice to be void.
type VoidRequest struct {
	InvoiceID string
	Reason    string
	At        time.Time       // now
	Metadata  events.Metadata // of what is appended; Void sets the parties
}

// VoidResult is an invoice that is void, now or since before.
type VoidResult struct {
	Invoice     invoice.State
	Connections []string        // that it billed; a run over its period bills them again
	Position    events.Position // of the last event that was appended; 0: it was void before
}

// Void makes an issued invoice one that is not to be paid, as if its connections had never been billed by it: what it
// closed and adjusted is open again, its use of the fee's free tier is given back, and the settlements that have its items
// are credited with all of them, in one append. Its number stays taken. The next run over the period bills the connections
// again, by an invoice that names this one.
//
// It returns NotFound for an invoice that does not exist, an Invalid error for a missing reason, a Conflict for an invoice
// that is paid, has a credit note, is void for another reason, or was adjusted by a later invoice, Unavailable if others
// kept coming first, Internal if the books do not balance: then nothing was appended.
func Void(ctx context.Context, log Log, request VoidRequest) (result VoidResult, err error) {
	const op = "billing.Void"
	request.At = domain.Instant(request.At)
	err = retried(ctx, op, func() error {
		result, err = request.void(ctx, log)
		return err
	})
	return result, err
}

func (r VoidRequest) void(ctx context.Context, log Log) (VoidResult, error) {
	c, err := openCorrection(ctx, log, "billing.Void", r.InvoiceID, r.Metadata)
	if err != nil {
		return VoidResult{}, err
	}
	voided, err := invoice.Decide(c.invoice, invoice.Void{Reason: r.Reason, At: r.At})
	if err != nil || len(voided) == 0 {
		return VoidResult{Invoice: c.invoice, Connections: c.connections}, err
	}
	parties := []string{c.invoice.CustomerID}
	c.add(invoice.Stream(r.InvoiceID), c.version, parties, r.InvoiceID, voided...)
	amounts := make(map[int]domain.Money)
	for _, l := range c.invoice.Lines {
		amounts[l.Number] = l.Amount
	}
	cause := settlement.Credited{InvoiceID: r.InvoiceID, Reason: r.Reason, At: r.At}
	if _, err := c.creditSettlements(ctx, cause, amounts); err != nil {
		return VoidResult{}, err
	}
	for _, id := range c.connections {
		reopened, err := billingrun.DecideReopening(c.periods[id].state, billingrun.Reopen{InvoiceID: r.InvoiceID, At: r.At})
		if err != nil {
			return VoidResult{}, err
		}
		c.add(billingrun.PeriodStream(id), c.periods[id].version, nil, r.InvoiceID+" "+id, reopened...)
	}
	if c.invoice.FreeBefore != nil {
		stream := feeallowance.Stream(c.invoice.CustomerID)
		state, version, err := load(ctx, c.log, stream, c.log.upTo, feeallowance.Evolve)
		if err != nil {
			return VoidResult{}, err
		}
		released, err := feeallowance.Decide(state, feeallowance.Release{InvoiceID: r.InvoiceID, At: r.At})
		if err != nil {
			return VoidResult{}, err
		}
		c.add(stream, version, parties, r.InvoiceID, released...)
	}
	for _, e := range voided {
		c.invoice = invoice.Evolve(c.invoice, e)
	}
	position, err := c.commit(ctx)
	return VoidResult{Invoice: c.invoice, Connections: c.connections, Position: position}, err
}
