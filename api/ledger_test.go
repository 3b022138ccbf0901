package api_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"crossbill/api/client"
	"crossbill/domain"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{
			{"getTrialBalance", "GET", "/v1/ledger/trial-balance", m.operatorKey, nil},
			{"exportJournal", "GET", "/v1/ledger/journal?from=2026-03-01&to=2026-04-01", m.operatorKey, nil},
		}
	})
}

// TestLedger shows operators, and nobody else, the books that an invoice and its settlement make.
func TestLedger(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	ctx := context.Background()
	trial, _, err := client.Decode[client.TrialBalance](m.operator.GetTrialBalance(ctx, nil))
	must(t, err)
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	if b := trial.Balances; len(b) != 2 || b[0] != (client.LedgerBalance{Account: "payable:" + m.providerID, Amount: usd(-40000)}) ||
		b[1] != (client.LedgerBalance{Account: "receivable:" + m.customerID, Amount: usd(40000)}) {
		t.Errorf("%+v", b)
	}
	if len(trial.Totals) != 1 || trial.Totals[0] != (client.LedgerTotal{Debits: usd(40000), Credits: usd(40000)}) {
		t.Errorf("%+v", trial.Totals)
	}
	before := trial.Position - 3 // the invoice, the settlement, and that the period is closed
	trial, _, err = client.Decode[client.TrialBalance](m.operator.GetTrialBalance(ctx, &client.GetTrialBalanceParams{AtPosition: &before}))
	if must(t, err); len(trial.Balances) != 0 || trial.Position != before || trial.Totals == nil {
		t.Errorf("before the invoice: %+v", trial)
	}

	status, _, journal := m.do(m.operatorKey, "GET", "/v1/ledger/journal", nil)
	if status != http.StatusOK || !strings.Contains(string(journal), "(CB-0000-000001) Invoice CB-0000-000001  ; event:") {
		t.Errorf("%d %s", status, journal)
	}
	if path, err := exec.LookPath("hledger"); err == nil {
		check := exec.CommandContext(ctx, path, "-f", "-", "check", "--strict", "ordereddates")
		check.Stdin, check.Env = bytes.NewReader([]byte(journal)), append(os.Environ(), "LC_ALL=C.UTF-8")
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s", out)
		}
	}
	if status, _, journal := m.do(m.operatorKey, "GET", "/v1/ledger/journal?to=2001-01-01", nil); status != http.StatusOK || strings.Contains(string(journal), "Invoice") {
		t.Errorf("before the first: %d %s", status, journal)
	}
	for query, field := range map[string]string{"from=2026-02-30": "/from", "from=2026-03-02&to=2026-03-02": "/to"} {
		if status, p, _ := m.do(m.operatorKey, "GET", "/v1/ledger/journal?"+query, nil); status != http.StatusUnprocessableEntity || len(*p.Errors) != 1 || (*p.Errors)[0].Pointer != field {
			t.Errorf("%s: %d %+v", query, status, p)
		}
	}
	for _, path := range []string{"/v1/ledger/journal", "/v1/ledger/trial-balance"} {
		if status, _, _ := m.do(m.customerKey, "GET", path, nil); status != http.StatusForbidden {
			t.Errorf("%s for a customer: %d", path, status)
		}
	}
}
