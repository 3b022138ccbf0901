package api_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/events"
)

// The walks go over every operation of the contract. What they try is made from the contract and from the examples of
// everyOperation, so an operation that is added is walked as soon as it has an example; TestEveryOperationIsTried wants one.

// described is an operation with what the contract says of it.
type described struct {
	operation
	spec       *openapi3.Operation
	parameters openapi3.Parameters // of its path too
}

// walk returns every operation, the public ones among them.
func (m *market) walk() []described {
	m.t.Helper()
	specs, at := map[string]described{}, map[string]bool{}
	for path, item := range theContract.Paths.Map() {
		for method, spec := range item.Operations() {
			specs[spec.OperationID] = described{
				operation{id: spec.OperationID, method: method, path: path}, spec, append(slices.Clone(item.Parameters), spec.Parameters...),
			}
		}
	}
	var all []described
	for _, o := range everyOperation(m) {
		d, known := specs[o.id]
		if !known {
			m.t.Errorf("the example of %s is of no operation", o.id)
			continue
		}
		d.operation, at[o.id] = o, true
		all = append(all, d)
	}
	for id, d := range specs {
		if !at[id] && slices.Contains(public, id) {
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b described) int { return strings.Compare(a.id, b.id) })
	return all
}

// contentType is what a body of the operation is sent as, "" if it takes none.
func (d described) contentType() string {
	if d.spec.RequestBody == nil {
		return ""
	}
	types := make([]string, 0, 1)
	for name := range d.spec.RequestBody.Value.Content {
		types = append(types, name)
	}
	slices.Sort(types)
	return types[0]
}

// schema is that of the operation's body.
func (d described) schema() *openapi3.Schema {
	if d.spec.RequestBody == nil {
		return nil
	}
	if media := d.spec.RequestBody.Value.Content[d.contentType()]; media.Schema != nil {
		return media.Schema.Value
	}
	return nil
}

// scopes are those of which the operation takes any one.
func (d described) scopes() []string {
	var all []string
	listed, _ := d.spec.Extensions["x-scopes"].([]any)
	for _, s := range listed {
		all = append(all, s.(string))
	}
	return all
}

// anID finds identifiers wherever they stand.
var anID = regexp.MustCompile(`\b[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}\b`)

// keepBooks puts an invoice of the customer's and a settlement of the provider's into the log.
func (m *market) keepBooks() *market {
	m.t.Helper()
	at := time.Now().UTC().Truncate(time.Microsecond)
	m.invoiceID, m.settlementID = domain.DeriveID("inv", at, "walk"), domain.DeriveID("set", at, "walk")
	add := func(stream, party string, e domain.Event) {
		_, err := m.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{{Stream: stream, Expected: events.Any,
			Events: []events.NewEvent{{Event: e, Metadata: events.Metadata{Parties: []string{party}}}}}}})
		must(m.t, err)
	}
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	add(invoice.Stream(m.invoiceID), m.customerID, invoice.Issued{
		InvoiceID: m.invoiceID, Number: "CB-0000-000001", CustomerID: m.customerID, PeriodStart: at.Add(-2 * time.Hour), PeriodEnd: at.Add(-time.Hour),
		Currency: "USD", Lines: []invoice.Line{{Number: 1, ItemID: domain.DeriveID("itm", at, "walk"), Kind: invoice.LinePassthrough, ProviderID: m.providerID,
			ConnectionID: m.order.ConnectionId, ChargeID: "port", Description: "Port", Quantity: "1", Unit: "month", Exact: "400", Amount: usd(40000),
			Steps: []string{"1 month × 400.00"}, Plan: invoice.PlanRef{ListingID: m.listing.Id, Version: 1}, QuoteID: m.quote.Id, Evidence: []invoice.Evidence{}}},
		Passthrough: usd(40000), Fee: usd(0), Total: usd(40000), LogPosition: 10, RunID: domain.DeriveID("run", at, "walk"), At: at,
	})
	add(settlement.Stream(m.settlementID), m.providerID, settlement.Issued{
		SettlementID: m.settlementID, ProviderID: m.providerID, PeriodStart: at.Add(-2 * time.Hour), PeriodEnd: at.Add(-time.Hour), Currency: "USD",
		Lines: []settlement.Line{{ItemID: domain.DeriveID("itm", at, "walk"), InvoiceID: m.invoiceID, ConnectionID: m.order.ConnectionId, ChargeID: "port",
			Description: "Port", Amount: usd(40000)}},
		Total: usd(40000), LogPosition: 10, RunID: domain.DeriveID("run", at, "walk"), At: at,
	})
	add(billingrun.PeriodStream(m.order.ConnectionId), "", billingrun.PeriodClosed{
		ConnectionID: m.order.ConnectionId, PeriodStart: at.Add(-2 * time.Hour), PeriodEnd: at.Add(-time.Hour), InvoiceID: m.invoiceID,
		SettlementID: m.settlementID, RunID: domain.DeriveID("run", at, "walk"), At: at,
	})
	return m
}

// kept counts the answers that are kept under idempotency keys.
func (m *market) kept() (n int) {
	m.t.Helper()
	must(m.t, m.pool.QueryRow(context.Background(), `SELECT count(*) FROM idempotency_keys`).Scan(&n))
	return n
}

// settle waits until nothing is appended any more by the sagas and deadlines of what a test has done so far.
func (m *market) settle() int64 {
	m.t.Helper()
	before := int64(-1)
	for quiet := 0; quiet < 5; quiet++ {
		if now := int64(m.head()); now != before {
			before, quiet = now, 0
		}
		time.Sleep(20 * time.Millisecond)
	}
	return before
}

func TestEveryOperationIsTried(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	for _, o := range everyOperation(&market{key: 0, customerKey: "cbk_x_y"}) {
		tried[o.id] = true
	}
	for id := range contractOperations() {
		if !tried[id] && !slices.Contains(public, id) {
			t.Errorf("no test tries %s", id)
		}
	}
}
