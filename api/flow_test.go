package api_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/events"
)

// TestOrderToInvoice goes the whole way through the API, with the test in the edge agent's place.
func TestOrderToInvoice(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	order := m.place()
	if order.State != client.OrderStateAwaitingProvider {
		t.Fatalf("the order is %s", order.State)
	}
	order, _, err := client.Decode[client.Order](m.provider.AcceptOrder(ctx, order.Id, nil))
	must(t, err)
	if order.State != client.OrderStateInProgress {
		t.Fatalf("the accepted order is %s", order.State)
	}

	edge := &scriptedEdge{m: m}
	edge.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseTesting })
	theirs, _, err := client.Decode[client.Connection](m.provider.GetConnection(ctx, order.ConnectionId))
	must(t, err)
	ours, _, err := client.Decode[client.Connection](m.customer.GetConnection(ctx, order.ConnectionId))
	must(t, err)
	if ours.Attachment == nil || theirs.Attachment == nil || ours.Attachment.PortId != m.customerPort ||
		theirs.Attachment.PortId != m.providerPort || ours.Attachment.PeerAsn != 64512 || ours.Attachment.Asn != 65010 {
		t.Errorf("attachments %+v and %+v", ours.Attachment, theirs.Attachment)
	}
	opened := edge.bringUp()
	m.await(order.ConnectionId, client.ConnectionStateProduction)
	m.awaitOrder(order.Id, client.OrderStateCompleted) // the saga's last event: the log stands still after it

	m.ahead.Add(int64(time.Minute))
	reading := aReading(order.ConnectionId, opened)
	reading.BytesIn, reading.BytesOut = 1_500_000_000, 500_000_000 // 2 GB
	reading.From, reading.To = opened, opened.Add(20*time.Second)
	batch := client.ReadingBatch{Readings: []client.Reading{reading}}
	for i, want := range []client.ReadingVerdictStatus{client.ReadingVerdictStatusAccepted, client.ReadingVerdictStatusDuplicate} {
		verdicts, _, err := client.Decode[client.ReadingVerdicts](m.agent.SendReadings(ctx, m.nodeID, batch))
		must(t, err)
		if verdicts.Verdicts[0].Status != want {
			t.Errorf("delivery %d: %+v", i, verdicts.Verdicts[0])
		}
	}
	before := m.head()
	reading.BytesIn++
	status, p, _ := m.do(m.agentKey, "POST", "/v1/edge-nodes/"+m.nodeID+"/readings", client.ReadingBatch{Readings: []client.Reading{reading}})
	m.refused("the same reading with other numbers", int64(before), status, p, http.StatusConflict)
	next := reading
	next.Sequence, next.BytesIn, next.BytesOut = 2, 0, 0
	next.From, next.To = reading.To, reading.To.Add(time.Second)
	mixed, _, err := client.Decode[client.ReadingVerdicts](m.agent.SendReadings(ctx, m.nodeID, client.ReadingBatch{Readings: []client.Reading{reading, next}}))
	must(t, err)
	if mixed.Verdicts[0].Status != client.ReadingVerdictStatusRejected || mixed.Verdicts[0].Problem == nil || mixed.Verdicts[1].Status != client.ReadingVerdictStatusAccepted {
		t.Errorf("a contradicting and a new reading: %+v", mixed.Verdicts)
	}

	m.bill(order, opened)

	terminated, _, err := client.Decode[client.Connection](m.customer.TerminateConnection(ctx, order.ConnectionId, nil, client.NewTermination{Reason: "done"}))
	must(t, err)
	if terminated.State != client.ConnectionStateDecommissionRequested || terminated.Billing != client.ConnectionBillingStopped {
		t.Errorf("after termination: %s, billing %s", terminated.State, terminated.Billing)
	}
	edge.takeDown()
	m.await(order.ConnectionId, client.ConnectionStateDecommissioned)
	head := int64(m.head())
	orders, _, err := client.Decode[client.OrderPage](m.customer.ListOrders(ctx, &client.ListOrdersParams{AtPosition: &head}))
	must(t, err)
	if ended := orders.Items[0]; ended.Item != client.OrderItemRemove || ended.ConnectionId != order.ConnectionId {
		t.Errorf("the newest order is %+v", ended)
	}
	m.awaitOrder(orders.Items[0].Id, client.OrderStateCompleted) // the last event
	verified, err := events.Verify(ctx, m.pool, nil, "")
	must(t, err)
	if verified.Position != m.head() {
		t.Errorf("verified %d events of %d", verified.Position, m.head())
	}
}

// bill closes a minute that holds the opening and checks the books against the rules' arithmetic.
func (m *market) bill(order client.Order, opened time.Time) {
	m.t.Helper()
	ctx := context.Background()
	start := opened.Truncate(time.Second)
	key := m.idempotencyKey()
	period := client.NewBillingRun{GraceHours: noGrace, PeriodStart: start, PeriodEnd: start.Add(40 * time.Second)}
	asked, position, err := client.Decode[client.BillingRun](m.operator.CreateBillingRun(ctx, &client.CreateBillingRunParams{IdempotencyKey: key}, period))
	must(m.t, err)
	run := m.ended(asked.Id)
	before := m.head()
	status, p, _ := m.do(m.operatorKey, "POST", "/v1/billing-runs",
		client.NewBillingRun{GraceHours: noGrace, PeriodStart: start, PeriodEnd: start.Add(50 * time.Second)}, "Idempotency-Key", *key)
	m.refused("another period under the run's key", int64(before), status, p, http.StatusUnprocessableEntity)
	replayed, at, err := client.Decode[client.BillingRun](m.operator.CreateBillingRun(ctx, &client.CreateBillingRunParams{IdempotencyKey: key}, period))
	must(m.t, err)
	if replayed.Id != run.Id || at != position || m.head() != before {
		m.t.Errorf("the run's request again answers %+v at %d, not %+v at %d", replayed, at, run, position)
	}
	position = int64(before)
	if len(run.Invoices) != 1 || len(run.Settlements) != 1 {
		m.t.Fatalf("the run made %+v", run)
	}
	invoice, _, err := client.Decode[client.Invoice](m.customer.GetInvoice(ctx, run.Invoices[0]))
	must(m.t, err)
	settlement, _, err := client.Decode[client.Settlement](m.provider.GetSettlement(ctx, run.Settlements[0]))
	must(m.t, err)
	// The whole period at 400.00, and 2 GB at 0.05; 3 % of 400.10 is 12.003.
	for what, pair := range map[string][2]string{
		"passthrough": {invoice.Passthrough.String(), "400.10 USD"}, "fee": {invoice.Fee.String(), "12.00 USD"},
		"total": {invoice.Total.String(), "412.10 USD"}, "settlement": {settlement.Total.String(), "400.10 USD"},
		"number": {invoice.Number[:3], "CB-"},
	} {
		if pair[0] != pair[1] {
			m.t.Errorf("%s is %s, want %s", what, pair[0], pair[1])
		}
	}
	m.checkLineBundles(invoice)
	for i, line := range invoice.Lines {
		explained, _, err := client.Decode[client.Explanation](m.customer.ExplainInvoiceLine(ctx, invoice.Id, line.Number))
		must(m.t, err)
		if !explained.Matches || explained.Recomputed != line.Amount || len(explained.Events) == 0 {
			m.t.Errorf("line %d: %+v", i+1, explained)
		}
	}
	m.checkDocuments(invoice, settlement)
	csv, err := client.Text(m.customer.ExportInvoices(ctx, &client.ExportInvoicesParams{AtPosition: &position}))
	must(m.t, err)
	if lines := strings.Count(csv, "\n"); lines != len(invoice.Lines)+1 {
		m.t.Errorf("the CSV has %d lines:\n%s", lines, csv)
	}
	for _, what := range []string{"/v1/invoices/" + invoice.Id, "/v1/invoices/" + invoice.Id + "/lines/1/explain", "/v1/settlements/" + settlement.Id,
		"/v1/invoices/" + invoice.Id + "/document", "/v1/settlements/" + settlement.Id + "/document?format=ubl"} {
		if status, _, _ := m.do(m.strangerKey, "GET", what, nil); status != http.StatusNotFound {
			m.t.Errorf("a stranger gets %d for %s", status, what)
		}
	}
	if status, _, _ := m.do(m.customerKey, "GET", "/v1/invoices/"+invoice.Id+"/lines/99/explain", nil); status != http.StatusNotFound {
		m.t.Errorf("line 99 answers %d", status)
	}
	if status, p, _ := m.do(m.customerKey, "POST", "/v1/invoices/"+invoice.Id+":pay", nil); status != http.StatusServiceUnavailable || !p.Retryable {
		m.t.Errorf("paying without a payment service answers %d: %+v", status, p)
	}
	again := m.close(nil, period)
	if len(again.Invoices) != 1 || again.Invoices[0] != invoice.Id {
		m.t.Errorf("the period again made %+v", again)
	}
	m.billAgain(invoice, settlement)
}

// billAgain makes the invoice void and has its connection billed by another one in its place, once however often it is asked for.
func (m *market) billAgain(before client.Invoice, settled client.Settlement) {
	m.t.Helper()
	ctx := context.Background()
	reissue := true
	request := client.Voiding{Reason: "Wrong address", Reissue: &reissue}
	var first client.BillingRun
	var head events.Position
	for n := range 2 { // the second finds it done
		voided, position, err := client.Decode[client.VoidedInvoice](m.operator.VoidInvoice(ctx, before.Id, nil, request))
		must(m.t, err)
		if voided.Invoice.State != client.InvoiceStateVoid || voided.BillingRun == nil || len(voided.BillingRun.Invoices) != 1 || len(voided.BillingRun.Settlements) != 1 {
			m.t.Fatalf("void and billed again it is %+v", voided)
		}
		if n == 0 {
			if first, head = *voided.BillingRun, m.head(); position != int64(head) {
				m.t.Errorf("the answer says position %d of %d", position, head)
			}
		} else if voided.BillingRun.Invoices[0] != first.Invoices[0] || m.head() != head {
			m.t.Errorf("the second time it is billed again by %v, not %v", voided.BillingRun.Invoices, first.Invoices)
		}
	}
	after, _, err := client.Decode[client.Invoice](m.customer.GetInvoice(ctx, first.Invoices[0]))
	must(m.t, err)
	if after.Id == before.Id || after.Number == before.Number || after.Reissues == nil || *after.Reissues != before.Id || after.Total != before.Total || *after.Due != before.Total {
		m.t.Errorf("the invoice in its place is %+v", after)
	}
	for n, line := range after.Lines {
		if line.ItemId != before.Lines[n].ItemId || line.Amount != before.Lines[n].Amount {
			m.t.Errorf("line %d was %+v and is %+v", n+1, before.Lines[n], line)
		}
		explained, _, err := client.Decode[client.Explanation](m.customer.ExplainInvoiceLine(ctx, after.Id, line.Number))
		must(m.t, err)
		if !explained.Matches {
			m.t.Errorf("line %d: %+v", n+1, explained)
		}
	}
	for id, want := range map[string]domain.Money{settled.Id: {Currency: "USD"}, first.Settlements[0]: settled.Total} {
		s, _, err := client.Decode[client.Settlement](m.provider.GetSettlement(ctx, id))
		must(m.t, err)
		if *s.Owed != want {
			m.t.Errorf("of %s %s is owed, not %s", id, s.Owed, want)
		}
	}
}

// await waits until the connection is in the state.
func (m *market) await(id string, state client.ConnectionState) {
	m.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, _, err := client.Decode[client.Connection](m.customer.GetConnection(context.Background(), id))
		must(m.t, err)
		if c.State == state {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the connection is %s, not %s", c.State, state)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// awaitOrder waits until the order is in the state.
func (m *market) awaitOrder(id string, state client.OrderState) {
	m.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		o, _, err := client.Decode[client.Order](m.customer.GetOrder(context.Background(), id))
		must(m.t, err)
		if o.State == state {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the order is %s, not %s", o.State, state)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// scriptedEdge does over the API what an agent with a healthy node would.
type scriptedEdge struct {
	m        *market
	revision int64
}

// await long-polls the desired state until the one connection in it is as wanted.
func (e *scriptedEdge) await(wanted func(client.DesiredConnection) bool) client.DesiredConnection {
	e.m.t.Helper()
	wait := 5
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		state, _, err := client.Decode[client.DesiredState](e.m.agent.GetDesiredState(context.Background(), e.m.nodeID,
			&client.GetDesiredStateParams{AfterRevision: &e.revision, WaitSeconds: &wait}))
		must(e.m.t, err)
		e.revision = state.Revision
		if len(state.Connections) == 1 && wanted(state.Connections[0]) {
			return state.Connections[0]
		}
	}
	e.m.t.Fatal("the desired state never came")
	panic("unreachable")
}

func (e *scriptedEdge) report(o client.Observation) {
	e.m.t.Helper()
	o.ConnectionId = e.m.order.ConnectionId
	_, _, err := client.Decode[struct{}](e.m.agent.ReportObservations(context.Background(), e.m.nodeID,
		client.ObservationReport{Kind: client.EdgeKindEbpf, Observations: []client.Observation{o}}))
	must(e.m.t, err)
}

// bringUp reports sessions, probe and gate as asked, and returns when the gate opened.
func (e *scriptedEdge) bringUp() time.Time {
	e.m.t.Helper()
	since := e.m.now().Truncate(time.Microsecond)
	e.report(client.Observation{Sessions: &[]client.Session{
		{Side: client.SideA, State: client.SessionStateEstablished, Since: since, PrefixesReceived: 1, PrefixesSent: 2},
		{Side: client.SideZ, State: client.SessionStateEstablished, Since: since, PrefixesReceived: 1, PrefixesSent: 2},
	}})
	probe := e.await(func(c client.DesiredConnection) bool { return c.ProbeId != nil })
	observed := client.Observation{}
	observed.Probe = &struct {
		Detail  *string `json:"detail,omitempty"`
		Passed  bool    `json:"passed"`
		ProbeId string  `json:"probe_id"`
	}{Passed: true, ProbeId: *probe.ProbeId}
	e.report(observed)
	e.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseProduction })
	opened := e.m.now().Truncate(time.Microsecond)
	e.report(client.Observation{OpenedAt: &opened})
	return opened
}

func (e *scriptedEdge) takeDown() {
	e.m.t.Helper()
	e.await(func(c client.DesiredConnection) bool { return c.Phase == client.DesiredConnectionPhaseAbsent })
	closed, removed := e.m.now().Truncate(time.Microsecond), true
	e.report(client.Observation{ClosedAt: &closed, Removed: &removed})
}

// TestEventStream reads an organisation's events as they happen and resumes where it was.
func TestEventStream(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	read := func(after string, want int) (ids []string) {
		response, err := m.customer.ListEvents(ctx, &client.ListEventsParams{}, func(_ context.Context, r *http.Request) error {
			r.Header.Set("Accept", "text/event-stream")
			if after != "" {
				r.Header.Set("Last-Event-ID", after)
			}
			return nil
		})
		must(t, err)
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); len(ids) < want && lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				ids = append(ids, id)
			}
		}
		if len(ids) < want {
			t.Fatalf("the stream ended after %d of %d events", len(ids), want)
		}
		return ids
	}
	go func() {
		time.Sleep(200 * time.Millisecond)
		m.place()
	}()
	all := read("", 9) // registered, key issued, billing account opened and made the default, port, budget; quote issued, order placed, quote accepted (…)
	rest := read(all[2], 3)
	if rest[0] != all[3] || rest[2] != all[5] {
		t.Errorf("resumed after %s: %v, of %v", all[2], rest, all)
	}
}
