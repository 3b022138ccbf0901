package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
)

// planAInYAML is the plan of the rebill document's worked example A.
const planAInYAML = `
currency: USD
charges:
  - {id: port, kind: recurring, description: Port, amount: "400.00"}
  - id: traffic
    kind: usage
    description: Traffic
    metric: bytes_total
    unit: GB
    model: graduated
    tiers: [{up_to: "1000", price: "0.05"}, {up_to: "10000", price: "0.03"}, {price: "0.01"}]
`

// TestPriceBacktest rates the plan of worked example A over its March, which was sold flat: 614.43.
func TestPriceBacktest(t *testing.T) {
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
	day := func(n int) time.Time { return time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC) }
	id := func(prefix string) string { return domain.DeriveID(prefix, day(1), "a") }
	record := func(stream string, all ...domain.Event) {
		t.Helper()
		s := events.StreamAppend{Stream: stream, Expected: events.NoStream}
		for _, e := range all {
			s.Events = append(s.Events, events.NewEvent{Event: e})
		}
		if _, err := log.Append(t.Context(), events.Append{Streams: []events.StreamAppend{s}}); err != nil {
			t.Fatal(err)
		}
	}
	con := id(domain.PrefixConnection)
	q := quote.Issued{QuoteID: id(domain.PrefixQuote), CustomerID: "org_c", ProviderID: "org_p", ListingID: id(domain.PrefixListing), ListingVersion: 1, BandwidthMbps: 100,
		Plan: pricing.Plan{Currency: "USD", Charges: []pricing.Charge{{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("310")}}}}
	q.Passthrough.Currency, q.Fee.Currency, q.Total.Currency = "USD", "USD", "USD"
	q.Hash = quote.Hash(q)
	record(quote.Stream(q.QuoteID), q)
	record(connection.Stream(con), connection.Requested{ConnectionID: con, QuoteID: q.QuoteID, CustomerID: q.CustomerID, ProviderID: q.ProviderID, ListingID: q.ListingID,
		ListingVersion: 1, BandwidthMbps: 100, At: day(10)}, connection.Activated{ConnectionID: con, At: day(11)})
	record(reading.Stream(con), reading.Recorded{ConnectionID: con, Epoch: 1, Sequence: 1, From: day(12), To: day(30), BytesIn: 12_345_678_901_234, Source: reading.SourceEBPF})

	file := filepath.Join(dir, "plan.yaml")
	backtest := func(plan string, more ...string) (int, string, string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(plan), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, fails bytes.Buffer
		code := run(t.Context(), append([]string{"price", "backtest", "--plan", file, "--from", "2026-02", "--to", "2026-03", "--database-url", url, "--data-dir", dir}, more...), &out, &fails)
		return code, out.String(), fails.String()
	}
	squeezed := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	want := "MONTH CONNECTION LISTING OWN PLAN THIS PLAN 2026-03 " + con + " " + q.ListingID + " 210.00 USD 614.43 USD total 210.00 USD 614.43 USD"
	if code, out, fails := backtest(planAInYAML); code != 0 || squeezed(out) != want {
		t.Errorf("%d %s %s", code, out, fails)
	}
	inJSON := `{"rows":[{"month":"2026-03","connection_id":"` + con + `","listing_id":"` + q.ListingID + `","own":{"amount":"210.00","currency":"USD"},` +
		`"plan":{"amount":"614.43","currency":"USD"}}],"totals":[{"own":{"amount":"210.00","currency":"USD"},"plan":{"amount":"614.43","currency":"USD"}}]}` + "\n"
	if code, out, fails := backtest(planAInYAML, "--output", "json", "--connection", con, "--listing", q.ListingID); code != 0 || out != inJSON {
		t.Errorf("%d %s %s", code, out, fails)
	}
	if code, out, _ := backtest(planAInYAML, "--output", "json", "--connection", "con_other"); code != 0 || out != `{"rows":[],"totals":[]}`+"\n" {
		t.Errorf("of another connection: %d %s", code, out)
	}
	for _, bad := range []struct{ plan, flags, says string }{
		{strings.Replace(planAInYAML, `"0.05"`, `"-0.05"`, 1), "", "/charges/1/tiers/0/price"},
		{strings.Replace(planAInYAML, `"0.05"`, `0.05`, 1), "", "a decimal must be a JSON string"},
		{strings.Replace(planAInYAML, "metric", "metrics", 1), "", "metrics"},
		{planAInYAML, "--to=2999-01", "--to must be over"},
		{planAInYAML, "--from=2026-04", "--from must not be after --to"},
		{planAInYAML, "--output=csv", "is no output"},
	} {
		if code, out, fails := backtest(bad.plan, strings.Fields(bad.flags)...); code == 0 || !strings.Contains(fails, bad.says) {
			t.Errorf("%q: %d %s %s", bad.says, code, out, fails)
		}
	}
}
