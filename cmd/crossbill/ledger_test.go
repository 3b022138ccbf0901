package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/settlement"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
)

// TestLedgerCheck checks books that balance, without a node, and then some of which a provider does not get all.
func TestLedgerCheck(t *testing.T) {
	t.Parallel()
	url, dir := pgtest.URL(t), t.TempDir()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	log, err := events.Open(t.Context(), pool, codec, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	record := func(stream string, e domain.Event) {
		t.Helper()
		_, err := log.Append(t.Context(), events.Append{Streams: []events.StreamAppend{{Stream: stream, Expected: events.Any, Events: []events.NewEvent{{Event: e}}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	march := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	usd := func(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }
	books := func(n string, settled int64) {
		record(invoice.Stream(n), invoice.Issued{InvoiceID: n, Number: n, CustomerID: "org_c", PeriodStart: march, Currency: "USD",
			Lines: []invoice.Line{{Kind: invoice.LinePassthrough, ProviderID: "org_p", Amount: usd(40000)}}, Passthrough: usd(40000), Fee: usd(1200), Total: usd(41200), At: march})
		record(settlement.Stream(n), settlement.Issued{SettlementID: n, ProviderID: "org_p", PeriodStart: march, Currency: "USD", Total: usd(settled), At: march})
	}
	check := func() (int, string, string) {
		var out, fails bytes.Buffer
		code := run(t.Context(), []string{"ledger", "check", "--database-url", url, "--data-dir", dir}, &out, &fails)
		return code, out.String(), fails.String()
	}
	books("1", 40000)
	if code, out, fails := check(); code != 0 || out != "checked 2 transactions of 5 entries at position 2: each balances, and no margin is kept\n" {
		t.Errorf("%d %s %s", code, out, fails)
	}
	books("2", 39999)
	if code, _, fails := check(); code != 1 || !strings.Contains(fails, "pass-through:org_p:2026-03-01: -1 USD") {
		t.Errorf("a margin of a cent: %d %s", code, fails)
	}
}
