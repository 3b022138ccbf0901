package api_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"crossbill/api/client"
)

func init() { operationLists = append(operationLists, runOperations) }

func runOperations(m *market) []operation {
	return []operation{{"getBillingRun", "GET", "/v1/billing-runs/" + unknownID("run"), m.operatorKey, nil}}
}

// close asks for the close of a period and waits until the run has ended.
func (m *market) close(params *client.CreateBillingRunParams, period client.NewBillingRun) (run client.BillingRun) {
	m.t.Helper()
	run, _, err := client.Decode[client.BillingRun](m.operator.CreateBillingRun(context.Background(), params, period))
	must(m.t, err)
	return m.ended(run.Id)
}

func (m *market) ended(runID string) client.BillingRun {
	m.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		run, _, err := client.Decode[client.BillingRun](m.operator.GetBillingRun(context.Background(), runID))
		must(m.t, err)
		if run.State == client.BillingRunStateCompleted || run.State == client.BillingRunStateFailed {
			return run
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the run is %+v", run)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestBillingRun: a run is asked for, its end is told, and it is the same run however often its period is asked for.
func TestBillingRun(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	ctx := context.Background()
	at := m.now().Add(-time.Hour).Truncate(time.Second)
	period := client.NewBillingRun{GraceHours: noGrace, PeriodStart: at.Add(-time.Hour), PeriodEnd: at}
	params := &client.CreateBillingRunParams{IdempotencyKey: m.idempotencyKey()}
	asked, position, err := client.Decode[client.BillingRun](m.operator.CreateBillingRun(ctx, params, period))
	must(t, err)
	if asked.State != client.BillingRunStateQueued || position == 0 || asked.RequestedAt == nil {
		t.Errorf("asked for, the run is %+v at %d", asked, position)
	}
	ended := m.ended(asked.Id)
	if ended.State != client.BillingRunStateCompleted || ended.EndedAt == nil || ended.InvoiceCount == nil || *ended.InvoiceCount != 0 || ended.Problems != nil || ended.Failure != nil {
		t.Errorf("ended, it is %+v", ended)
	}
	before := m.head()
	replayed, _, err := client.Decode[client.BillingRun](m.operator.CreateBillingRun(ctx, params, period))
	must(t, err)
	if replayed.Id != asked.Id || replayed.State != client.BillingRunStateQueued || m.head() != before {
		t.Errorf("the request again answers %+v", replayed)
	}
	if again := m.close(nil, period); again.Id != asked.Id || again.RequestedAt.Equal(*ended.RequestedAt) {
		t.Errorf("the period again is %+v after %+v", again, ended)
	}

	// One that collides with what is billed fails, and says why.
	m.keepBooks()
	if status, _, _ := m.do(m.customerKey, "GET", "/v1/billing-runs/"+asked.Id, nil); status != http.StatusForbidden {
		t.Errorf("the customer reads the run: %d", status)
	}
	if status, p, _ := m.do(m.operatorKey, "POST", "/v1/billing-runs", client.NewBillingRun{PeriodStart: at.Add(-time.Hour), PeriodEnd: at}); status != http.StatusConflict || p.Hint == nil {
		t.Errorf("within the grace: %d %+v", status, p)
	}
}
