package stripe

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"crossbill/billing/ledger"
	"crossbill/billing/stripe/stripefake"
)

// checkLedger enters the whole history in the ledger. After every event its trial balance is zero; at rest the clearing
// account is what Stripe has, which its own objects say, and what is payable to a provider is what it is owed and has not.
func (w *world) checkLedger() (journal []byte, kinds map[string]bool) {
	w.t.Helper()
	log, ok := w.log.(*memlog)
	if !ok {
		return nil, nil
	}
	balances, keyed, kinds := make(map[string]int64), make(map[string]ledger.Transaction), make(map[string]bool)
	var entered []ledger.Transaction
	for _, e := range log.all {
		switch category, _, _ := strings.Cut(e.Stream, "-"); category {
		case "invoice", "credit_note", "settlement", "payment", "payout":
		default:
			continue
		}
		earlier := make(map[string]ledger.Transaction)
		for _, key := range ledger.Refers(e.Event) {
			if found, ok := keyed[key]; ok {
				earlier[key] = found
			}
		}
		t, err := ledger.Entries(e, earlier)
		if err != nil {
			w.t.Fatalf("event %d: %v", e.Position, err)
		}
		if t.Key != "" {
			keyed[t.Key] = t
		}
		if len(t.Entries) == 0 {
			continue
		}
		entered, kinds[t.EventType] = append(entered, t), true
		var sum int64
		for _, entry := range t.Entries {
			if entry.Amount.Minor != 0 && entry.Amount.Currency != w.currency {
				w.t.Fatalf("event %d (%s) is in %q", e.Position, e.Type, entry.Amount.Currency)
			}
			balances[entry.Account] += entry.Amount.Minor
		}
		for _, balance := range balances {
			sum += balance
		}
		if sum != 0 {
			w.t.Fatalf("after event %d (%s) the trial balance is %d", e.Position, e.Type, sum)
		}
	}
	var there int64 // before what Stripe keeps for itself
	payable := make(map[string]int64)
	for _, o := range w.fake.All("charge") {
		if o["source_transfer"] == nil {
			there += o["amount"].(int64) - o["amount_refunded"].(int64)
		}
	}
	for _, o := range w.fake.All("dispute") {
		if o["status"] == "lost" {
			there -= o["amount"].(int64)
		}
	}
	for _, id := range w.settlements {
		s := w.settlement(id)
		payable[s.ProviderID] -= s.Owed().Minor
	}
	for _, o := range w.fake.All("transfer") {
		moved := o["amount"].(int64) - o["amount_reversed"].(int64)
		there -= moved
		payable[w.settlement(o["metadata"].(stripefake.Object)[MetadataSettlement].(string)).ProviderID] += moved
	}
	if here := balances[ledger.Clearing] + balances[ledger.Processing]; here != there {
		w.t.Errorf("the ledger has %d at Stripe before its costs, and Stripe has %d", here, there)
	}
	for provider, want := range payable {
		if got := balances[ledger.Payable+provider]; got != want {
			w.t.Errorf("the ledger has %d payable to %s, and by settlements and transfers it is %d", got, provider, want)
		}
	}

	var out bytes.Buffer
	j := ledger.NewJournal(&out, 1)
	must(w.t, j.Commodity(w.currency))
	for _, account := range slices.Sorted(maps.Keys(balances)) {
		must(w.t, j.Account(account))
	}
	slices.SortStableFunc(entered, func(a, b ledger.Transaction) int { return a.Date.Compare(b.Date) })
	for _, t := range entered {
		must(w.t, j.Transaction(t))
	}
	must(w.t, j.Flush())
	return out.Bytes(), kinds
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLedgerOfPayments has hledger check, strictly, the books of schedules that have payments, refunds, disputes and payouts
// among them, in two currencies.
func TestLedgerOfPayments(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("hledger")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("hledger is not installed")
	}
	all := make(map[string]bool)
	for seed := uint64(0); seed < 200; seed++ {
		w := newWorld(t, newMemlog(t), 1000+seed)
		if seed%2 == 1 {
			w.currency = "BHD"
		}
		w.run(150, 50)
		journal, kinds := w.checkLedger()
		maps.Copy(all, kinds)
		if path != "" {
			check := exec.CommandContext(t.Context(), path, "-f", "-", "check", "--strict", "ordereddates")
			check.Stdin, check.Env = bytes.NewReader(journal), append(os.Environ(), "LC_ALL=C.UTF-8")
			if out, err := check.CombinedOutput(); err != nil {
				t.Fatalf("hledger: %s\n%.3000s", out, journal)
			}
		}
		missing := slices.DeleteFunc([]string{"payment.received", "payment.refunded", "payment.disputed", "payment.dispute_closed", "payout.sent", "payout.reversed", "credit_note.issued"},
			func(kind string) bool { return all[kind] })
		if len(missing) == 0 && seed >= 3 {
			t.Logf("after %d schedules there were entries of %v", seed+1, slices.Sorted(maps.Keys(all)))
			if path == "" {
				t.Skip("hledger is not installed")
			}
			return
		}
		if seed == 199 {
			t.Errorf("no schedule has %v", missing)
		}
	}
}
