package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/events"
)

// The instants whose counts are compared must be quiet on the wire: nobody can say on which side of an instant a frame
// passed that came within these margins of it.
const (
	quietAtOpening  = 0                      // the agent reads meter and clock together; only the sampling's own gap counts
	quietAtBoundary = 250 * time.Millisecond // the agent reads its meter some milliseconds after the boundary
)

// stageTraffic moves traffic and waits for a reading boundary after it that is quiet on the wire.
// It returns the boundary, which becomes the end of the billing period, and the bytes on the wire since production.
func (d *scene) stageTraffic(ctx context.Context, wire *wireSampler) (end time.Time, wireBytes uint64, _ error) {
	moved, err := d.network.transfer(ctx, demoBytes)
	if err != nil {
		return end, 0, fmt.Errorf("transfer: %w", err)
	}
	d.story.say("Customer", "moves %.1f MB of payload to the provider's network", float64(moved)/1e6)
	if moved < demoLeast {
		return end, 0, fmt.Errorf("the transfer moved only %d bytes of %d", moved, demoBytes)
	}
	opening, ok := wire.at(d.production, quietAtOpening)
	if !ok {
		return end, 0, errors.New("a frame passed at the very instant the gate opened, so the wire can't be compared with the meter; run it again")
	}

	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	for boundary := time.Now().Truncate(demoReadingInterval).Add(demoReadingInterval); ; boundary = boundary.Add(demoReadingInterval) {
		select {
		case <-ctx.Done():
			return end, 0, fmt.Errorf("no quiet reading boundary within %s", demoStepTimeout)
		case <-time.After(time.Until(boundary.Add(2 * quietAtBoundary))):
		}
		closing, quiet := wire.at(boundary, quietAtBoundary)
		if !quiet {
			continue
		}
		for {
			usage, _, err := client.Decode[client.Usage](d.customer.GetUsage(ctx, d.connection.Id, &client.GetUsageParams{}))
			if err != nil {
				return end, 0, fmt.Errorf("read the usage: %w", err)
			}
			if usage.LastTo != nil && !usage.LastTo.Before(boundary) {
				d.story.say("Edge", "has delivered its readings (%d) up to %s", usage.Readings, usage.LastTo.Format(time.RFC3339Nano))
				return boundary.UTC(), closing - opening, nil
			}
			select {
			case <-ctx.Done():
				return end, 0, fmt.Errorf("no reading up to %s within %s", boundary.Format(time.RFC3339), demoStepTimeout)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// awaitRun waits until a billing run is completed, and returns it with the position of the log at which its documents are.
func (d *scene) awaitRun(ctx context.Context, id string) (client.BillingRun, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, demoStepTimeout)
	defer cancel()
	for {
		run, position, err := client.Decode[client.BillingRun](d.operator.GetBillingRun(ctx, id))
		switch {
		case err != nil || run.State == client.BillingRunStateCompleted:
			return run, position, err
		case run.State == client.BillingRunStateFailed:
			return run, 0, fmt.Errorf("the run failed: %s", run.Failure.Detail)
		}
		select {
		case <-ctx.Done():
			return run, 0, fmt.Errorf("the run is %s after %s", run.State, demoStepTimeout)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stageBooks closes the period and shows the invoice line by line, with the settlement beside it.
func (d *scene) stageBooks(ctx context.Context, end time.Time, result *demoResult) error {
	start := d.production.Truncate(time.Second)
	asked, _, err := client.Decode[client.BillingRun](d.operator.CreateBillingRun(ctx,
		&client.CreateBillingRunParams{IdempotencyKey: d.idempotencyKey()}, client.NewBillingRun{PeriodStart: start, PeriodEnd: end, GraceHours: new(int)}))
	if err != nil {
		return fmt.Errorf("close the period: %w", err)
	}
	run, position, err := d.awaitRun(ctx, asked.Id)
	if err != nil {
		return fmt.Errorf("close the period: %w", err)
	}
	if len(run.Invoices) != 1 || len(run.Settlements) != 1 {
		return fmt.Errorf("the run made %d invoices and %d settlements, not one of each", len(run.Invoices), len(run.Settlements))
	}
	d.story.say("Operator", "closes the period of %s (a demonstration's month): invoice and settlement from the log up to #%d", end.Sub(start), valueOr(run.LogPosition, 0))

	invoice, _, err := client.Decode[client.Invoice](d.customer.GetInvoice(ctx, run.Invoices[0]))
	if err != nil {
		return fmt.Errorf("read the invoice: %w", err)
	}
	d.story.say("Customer", "receives invoice %s", invoice.Number)
	for _, line := range invoice.Lines {
		d.story.detail("%d  %-11s %-42s %14s", line.Number, line.Kind, line.Description, line.Amount)
		explained, _, err := client.Decode[client.Explanation](d.customer.ExplainInvoiceLine(ctx, invoice.Id, line.Number))
		if err != nil {
			return fmt.Errorf("explain line %d: %w", line.Number, err)
		}
		if !explained.Matches || explained.Recomputed != line.Amount {
			return fmt.Errorf("line %d says %s, its own events say %s", line.Number, line.Amount, explained.Recomputed)
		}
		for _, step := range line.Steps {
			d.story.detail("     %s", step)
		}
		d.story.detail("     computed again from %s", describeEvents(explained.Events))
		if line.Kind == client.InvoiceLineKindPassthrough && valueOr(line.ChargeId, "") == "traffic" {
			if result.BytesBilled, err = bytesOf(valueOr(line.Quantity, "")); err != nil {
				return err
			}
		}
	}
	d.story.detail("   %-54s %14s", "total", invoice.Total)
	settlement, _, err := client.Decode[client.Settlement](d.provider.GetSettlement(ctx, run.Settlements[0]))
	if err != nil {
		return fmt.Errorf("read the settlement: %w", err)
	}
	d.story.say("Provider", "is settled %s: the same items, to the cent; the platform keeps its fee of %s", settlement.Total, invoice.Fee)
	for i, line := range settlement.Lines {
		d.story.detail("%d  %-54s %14s", i+1, line.Description, line.Amount)
	}

	result.Passthrough, result.Settlement = invoice.Passthrough.Amount(), settlement.Total.Amount()
	result.Fee, result.InvoiceTotal, result.Currency = invoice.Fee.Amount(), invoice.Total.Amount(), string(invoice.Currency)
	return d.saveBooks(ctx, invoice, settlement, position)
}

func (d *scene) saveBooks(ctx context.Context, invoice client.Invoice, settlement client.Settlement, position int64) error {
	for name, document := range map[string]any{"invoice.json": invoice, "settlement.json": settlement} {
		content, err := json.MarshalIndent(document, "", "  ")
		if err != nil {
			return err
		}
		if err := d.save(name, append(content, '\n')); err != nil {
			return err
		}
	}
	invoices, err := client.Text(d.customer.ExportInvoices(ctx, &client.ExportInvoicesParams{AtPosition: &position}))
	if err != nil {
		return fmt.Errorf("export the invoices: %w", err)
	}
	settlements, err := client.Text(d.provider.ExportSettlements(ctx, &client.ExportSettlementsParams{AtPosition: &position}))
	if err != nil {
		return fmt.Errorf("export the settlements: %w", err)
	}
	for name, content := range map[string]string{"invoices.csv": invoices, "settlements.csv": settlements} {
		if strings.Count(content, "\n") < 2 {
			return fmt.Errorf("%s has no rows", name)
		}
		if err := d.save(name, []byte(content)); err != nil {
			return err
		}
	}
	d.story.say("Finance", "finds invoices.csv, settlements.csv and both documents as JSON in %s", d.outDir)
	return nil
}

// describeEvents says "14 events: connection.activated #31, reading.recorded #33–#45".
func describeEvents(all []client.EvidenceEvent) string {
	type group struct {
		name        string
		first, last int64
	}
	var groups []group
	for _, e := range all {
		if n := len(groups); n > 0 && groups[n-1].name == e.Type {
			groups[n-1].last = e.Position
			continue
		}
		groups = append(groups, group{e.Type, e.Position, e.Position})
	}
	var words []string
	for _, g := range groups {
		if g.first == g.last {
			words = append(words, fmt.Sprintf("%s #%d", g.name, g.first))
		} else {
			words = append(words, fmt.Sprintf("%s #%d–#%d", g.name, g.first, g.last))
		}
	}
	return fmt.Sprintf("%d events: %s", len(all), strings.Join(words, ", "))
}

// bytesOf turns a billed quantity in GB back into whole bytes; a quantity that isn't whole bytes is an error.
func bytesOf(quantity string) (uint64, error) {
	q, err := domain.ParseDecimal(quantity)
	if err != nil {
		return 0, fmt.Errorf("the billed quantity %q is no number: %w", quantity, err)
	}
	bytes := q.Mul(domain.DecimalFromInt(1_000_000_000))
	whole := bytes.Round(0)
	if bytes.String() != whole.String() || !whole.IsUint64() {
		return 0, fmt.Errorf("the billed quantity %s GB is not a whole number of bytes", quantity)
	}
	return whole.Uint64(), nil
}

// stageProof verifies the whole log against its signed checkpoint.
func (d *scene) stageProof(ctx context.Context, result *demoResult) error {
	note, err := client.Text(d.customer.GetCheckpoint(ctx))
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	key, err := client.Text(d.customer.GetLogKey(ctx))
	if err != nil {
		return fmt.Errorf("read the log's key: %w", err)
	}
	if err := d.save("checkpoint.txt", []byte(note)); err != nil {
		return err
	}
	verified, err := events.Verify(ctx, d.platform.Pool, []byte(note), strings.TrimSpace(key))
	if err != nil {
		return fmt.Errorf("verify the log: %w", err)
	}
	result.LogVerified = true
	result.LogSize = int64(verified.Position)
	result.LogRoot = fmt.Sprintf("%x", verified.Root)
	var after int64
	for {
		page, _, err := client.Decode[client.EventPage](d.operator.ListEvents(ctx, &client.ListEventsParams{After: &after}))
		if err != nil {
			return fmt.Errorf("read the events: %w", err)
		}
		for _, e := range page.Items {
			if e.Position <= result.LogSize {
				result.Events++
			}
		}
		if after = page.NextAfter; len(page.Items) == 0 || after >= result.LogSize {
			break
		}
	}
	d.story.say("Anyone", "verifies the log: %d events hash to the root of the signed checkpoint, %s…", result.LogSize, result.LogRoot[:16])
	return nil
}

// stageTermination terminates the connection; then nothing crosses.
func (d *scene) stageTermination(ctx context.Context) error {
	if _, _, err := client.Decode[client.Connection](d.customer.TerminateConnection(ctx, d.connection.Id,
		&client.TerminateConnectionParams{IdempotencyKey: d.idempotencyKey()}, client.NewTermination{Reason: "the demonstration is over"})); err != nil {
		return fmt.Errorf("terminate: %w", err)
	}
	d.story.say("Customer", "terminates the connection")
	if err := d.awaitConnection(ctx, client.ConnectionStateDecommissioned); err != nil {
		return err
	}
	crossed, err := d.network.ping(ctx)
	if err != nil {
		return fmt.Errorf("ping after termination: %w", err)
	}
	if crossed {
		return errors.New("a ping crossed after the connection was decommissioned")
	}
	d.story.say("Customer", "pings the provider's network: no reply any more")
	return nil
}
