package ledger_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/billing/ledger"
	"crossbill/domain"
	"crossbill/domain/invoice"
)

// journal writes all that is entered, in the order that an export has.
func (b *books) journal() []byte {
	b.t.Helper()
	var out bytes.Buffer
	j := ledger.NewJournal(&out, 1)
	try := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	accounts, declared := map[string]bool{}, map[domain.Currency]bool{}
	for of := range b.balances {
		accounts[of.account], declared[of.currency] = true, true
	}
	for _, c := range slices.Sorted(maps.Keys(declared)) {
		try(j.Commodity(c))
	}
	for _, a := range slices.Sorted(maps.Keys(accounts)) {
		try(j.Account(a))
	}
	sorted := slices.Clone(b.entered)
	slices.SortStableFunc(sorted, func(a, b ledger.Transaction) int { return a.Date.Compare(b.Date) })
	for _, t := range sorted {
		try(j.Transaction(t))
	}
	try(j.Flush())
	return out.Bytes()
}

// hledger runs it over a journal. It is a package of Debian's (make test installs it); without it the test says so.
func hledger(t *testing.T, journal []byte, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("hledger")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("hledger is not installed")
		}
		t.Skip("hledger is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-f", "-"}, args...)...)
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8", "LC_ALL=C.UTF-8")
	cmd.Stdin = bytes.NewReader(journal)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// hledgerBalances are the balances that are not zero as hledger adds them up.
func hledgerBalances(t *testing.T, journal []byte) map[balance]string {
	t.Helper()
	out, err := hledger(t, journal, "balance", "--flat", "--no-total", "--layout=bare", "-O", "csv")
	if err != nil {
		t.Fatal(out)
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) < 2 || !slices.Equal(rows[0], []string{"account", "commodity", "balance"}) {
		t.Fatalf("%v: %s", err, out)
	}
	found := map[balance]string{}
	for _, row := range rows[1:] {
		found[balance{row[0], domain.Currency(row[1])}] = row[2]
	}
	return found
}

// TestJournal_Hledger has hledger check a journal of every kind of event and every number of digits, strictly, and come to
// the same balances.
func TestJournal_Hledger(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, 5), newBooks(t)
	for range 1200 {
		w.step()
	}
	for n := range w.log { // texts that a journal could take for something else
		if i, ok := w.log[n].Event.(invoice.Issued); ok && n%3 == 0 {
			i.Number += " ) ; | Ünïcode * ! \n\t2026-01-01 x  y:z, (\u2028"
			w.log[n].Event = i
		}
	}
	b.enter(w.log)
	kinds := map[string]bool{}
	for _, e := range b.entered {
		kinds[e.EventType] = true
	}
	if len(kinds) != 14 {
		t.Errorf("the history has entries of the events %v only", slices.Sorted(maps.Keys(kinds)))
	}
	journal := b.journal()
	if out, err := hledger(t, journal, "check", "--strict", "ordereddates"); err != nil {
		t.Fatal(out)
	}
	got := hledgerBalances(t, journal)
	for of, minor := range b.balances {
		want := domain.Money{Minor: minor, Currency: of.currency}.Amount()
		if minor == 0 {
			delete(b.balances, of)
		} else if got[of] != want {
			t.Errorf("%s is %s %s, and hledger has %q", of.account, want, of.currency, got[of])
		}
	}
	if len(got) != len(b.balances) || len(got) < 20 {
		t.Errorf("hledger has %d balances, not %d", len(got), len(b.balances))
	}
	out, err := hledger(t, journal, "register", "pass-through", "--depth", "1", "-O", "csv", "tag:position="+fmt.Sprint(b.entered[0].Position)+"$")
	if err != nil || strings.Count(out, "\n") < 2 {
		t.Errorf("the position is no tag: %s", out)
	}
}

// TestJournal_HledgerRefuses breaks a journal, so that the check above is known to look.
func TestJournal_HledgerRefuses(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t, 5), newBooks(t)
	for range 40 {
		w.step()
	}
	b.enter(w.log)
	whole := string(b.journal())
	lines := strings.SplitAfter(whole, "\n")
	without := func(prefix string) string {
		n := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
		return strings.Join(slices.Delete(slices.Clone(lines), n, n+1), "")
	}
	for name, broken := range map[string]string{
		"a leg less":             without("    receivable:"),
		"an undeclared account":  without("account receivable:"),
		"an undeclared currency": without("commodity"),
		"an earlier date at the end": whole + "\n2001-01-01 Old  ; event:x\n" + lines[slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "    ") })] +
			"    " + ledger.PlatformFee + "\n",
	} {
		if out, err := hledger(t, []byte(broken), "check", "--strict", "ordereddates"); err == nil {
			t.Errorf("%s passes: %s", name, out)
		}
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	var out bytes.Buffer
	j := ledger.NewJournal(&out, 12)
	for _, c := range []domain.Currency{"BHD", "JPY", "USD"} {
		if err := j.Commodity(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"payable:org_p", "revenue:platform-fee"} {
		if err := j.Account(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Account("slush"); domain.CodeOf(err) != domain.Internal {
		t.Errorf("an account of no kind: %v", err)
	}
	err := j.Transaction(ledger.Transaction{Position: 7, EventID: [16]byte{15: 1}, Date: time.Date(2026, 4, 3, 0, 0, 0, 0, time.UTC), Code: "A(1)",
		Description: "Settlement\n; x", Entries: []ledger.Entry{{Account: "pass-through:org_p:2026-03-01", Amount: usd(61443)}, {Account: "payable:org_p", Party: "org_p", Amount: usd(-61443)}}})
	if err == nil {
		err = j.Flush()
	}
	want := `; Crossbill's ledger up to log position 12.
commodity 1.000 BHD
commodity 1. JPY
commodity 1.00 USD
account payable:org_p  ; type: L
account revenue:platform-fee  ; type: R

2026-04-03 (A[1]) Settlement , x  ; event:00000000-0000-0000-0000-000000000001, position:7
    pass-through:org_p:2026-03-01  614.43 USD
    payable:org_p  -614.43 USD
`
	if err != nil || out.String() != want {
		t.Errorf("%v: got\n%s", err, out.String())
	}
}
