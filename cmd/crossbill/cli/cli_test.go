package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"crossbill/api"
)

func newRoot(t *testing.T) *cobra.Command {
	t.Helper()
	contract, err := api.Contract()
	if err != nil {
		t.Fatal(err)
	}
	root := &cobra.Command{Use: "crossbill", SilenceErrors: true, SilenceUsage: true}
	root.AddGroup(Groups()...)
	root.AddCommand(&cobra.Command{Use: "log"}) // a noun that the program has already
	if err := Add(root, contract); err != nil {
		t.Fatal(err)
	}
	return root
}

// Every operation is a command, but for those of agents.
func TestEveryOperationIsACommand(t *testing.T) {
	t.Parallel()
	contract, err := api.Contract()
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot(t)
	commands, operations := 0, 0
	var count func(c *cobra.Command)
	count = func(c *cobra.Command) {
		if c.Flags().Lookup("output") != nil && !strings.HasPrefix(c.Name(), "watch") {
			commands++
		}
		for _, sub := range c.Commands() {
			count(sub)
		}
	}
	count(root)
	for _, item := range contract.Paths.Map() {
		for _, o := range item.Operations() {
			if !slices.Contains(ungiven, o.OperationID) {
				operations++
			}
		}
	}
	if commands != operations || operations < 30 {
		t.Errorf("%d operations and %d commands", operations, commands)
	}
	for _, id := range ungiven {
		if !slices.ContainsFunc(contract.Paths.InMatchingOrder(), func(path string) bool {
			for _, o := range contract.Paths.Find(path).Operations() {
				if o.OperationID == id {
					return true
				}
			}
			return false
		}) {
			t.Errorf("there is no operation %s to leave out", id)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, method, id, want string }{
		{"/v1/listings", "GET", "searchListings", "listings search"},
		{"/v1/orders", "GET", "listOrders", "orders list"},
		{"/v1/orders", "POST", "placeOrder", "orders place"},
		{"/v1/fee-schedules", "POST", "publishFeeSchedule", "fee-schedules publish"},
		{"/v1/orders/{order_id}", "GET", "getOrder", "orders show"},
		{"/v1/orders/{order_id}:cancel", "POST", "cancelOrder", "orders cancel"},
		{"/v1/connections/{id}/usage", "GET", "getUsage", "connections usage"},
		{"/v1/listings/{id}/versions/{n}", "GET", "getListingVersion", "listings version"},
		{"/v1/listings/{id}/draft", "PUT", "updateListingDraft", "listings update-draft"},
		{"/v1/organisations/{id}/members", "POST", "addMember", "organisations add-member"},
		{"/v1/webhooks/{id}/deliveries/{delivery_id}:replay", "POST", "replayDelivery", "webhooks replay-delivery"},
		{"/v1/invoices/{id}/lines/{line}/explain", "GET", "explainInvoiceLine", "invoices explain"},
		{"/v1/exports/invoices.csv", "GET", "exportInvoices", "exports invoices"},
		{"/v1/log/proof/inclusion", "GET", "getInclusionProof", "log proof-inclusion"},
		{"/v1/log/checkpoint", "GET", "getCheckpoint", "log checkpoint"},
		{"/v1/health", "GET", "getHealth", "health "},
	} {
		noun, verb := nameOf(c.path, c.method, c.id)
		if got := noun + " " + verb; got != c.want {
			t.Errorf("%s %s is %q, want %q", c.method, c.path, got, c.want)
		}
	}
}

// recorded is what a command sent.
type recorded struct {
	method, uri, body string
	header            http.Header
}

// run runs a command against a server that answers every request with the next of the given bodies.
func run(t *testing.T, answers []string, args ...string) (stdout string, sent []recorded, err error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		sent = append(sent, recorded{r.Method, r.URL.RequestURI(), body.String(), r.Header})
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(answers[len(sent)-1]))
	}))
	defer server.Close()
	root := newRoot(t)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetIn(strings.NewReader(`{"quote_id":"q","bgp":{"asn":1,"prefixes":["a"]}}`))
	root.SetArgs(append(args, "--platform", server.URL))
	err = root.ExecuteContext(t.Context())
	return out.String(), sent, err
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method, uri, body string
		args                    []string
	}{
		{"flags make the body", "POST", "/v1/quotes", `{"bandwidth_mbps":100,"estimated_gb":"1.5","listing_id":"lst"}`,
			[]string{"quotes", "create", "--listing-id", "lst", "--bandwidth-mbps", "100", "--estimated-gb", "1.5"}},
		{"a reason of the request and one of the caller", "POST", "/v1/orders/ord:reject", `{"reason":"no room"}`,
			[]string{"orders", "reject", "ord", "--reason", "no room", "--because", "ticket 7", "--on-behalf-of", "mem_1"}},
		{"a name of its own", "POST", "/v1/organisations/org/members/mem:set-role", `{"role":"viewer"}`,
			[]string{"members", "set-role", "org", "mem", "--role", "viewer"}},
		{"flags change the body", "POST", "/v1/orders?dry_run=true", `{"bgp":{"asn":2,"prefixes":["a"]},"max_total":{"amount":"10.00","currency":"USD"},"quote_id":"q"}`,
			[]string{"orders", "place", "--data", "-", "--bgp.asn", "2", "--max-total", "10.00 USD", "--dry-run"}},
		{"places are escaped", "GET", "/v1/orders/a%2Fb%20c", "", []string{"orders", "show", "a/b c"}},
		{"what is wrong as a whole is sent", "POST", "/v1/quotes", `[1]`, []string{"quotes", "create", "--data", "[1]"}},
		{"a body that must be there", "POST", "/v1/quotes", `{}`, []string{"quotes", "create"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, sent, err := run(t, []string{"{}"}, c.args...)
			if err != nil || len(sent) != 1 {
				t.Fatalf("%d requests, %v", len(sent), err)
			}
			if r := sent[0]; r.method != c.method || r.uri != c.uri || r.body != c.body {
				t.Errorf("sent %s %s %s", r.method, r.uri, r.body)
			}
			if key := sent[0].header.Get(idempotencyHeader); (c.method == "POST") != (len(key) == 36) {
				t.Errorf("the idempotency key is %q", key)
			}
			if slices.Contains(c.args, "--because") && (sent[0].header.Get("Crossbill-Reason") != "ticket 7" || sent[0].header.Get("Crossbill-On-Behalf-Of") != "mem_1") {
				t.Errorf("the headers are %v", sent[0].header)
			}
		})
	}
}

// A reconciliation that finds something fails, after it has said what; one that finds nothing does not.
func TestFindingsFail(t *testing.T) {
	t.Parallel()
	args := []string{"payment-reconciliation", "--from", "2026-03-01T00:00:00Z", "--to", "2026-04-01T00:00:00Z"}
	finding := `{"kind":"payout","problem":"missing_there","id":"pyo","reference":"tr_1","here":"","there":"no such object"}`
	for answer, want := range map[string]int{`[]`: 0, `[` + finding + `]`: 1, `7`: 1} {
		out, _, err := run(t, []string{`{"from":"2026-03-01T00:00:00Z","to":"2026-04-01T00:00:00Z","compared":3,"findings":` + answer + `}`}, args...)
		if got := ExitCode(err); got != want || strings.Contains(answer, "tr_1") && !strings.Contains(out, "missing_there") {
			t.Errorf("findings %s: exit code %d, want %d (%v)\n%s", answer, got, want, err, out)
		}
	}
}

// --all reads every page, and heads the table once.
func TestAllPages(t *testing.T) {
	t.Parallel()
	pages := []string{`{"items":[{"id":"a","state":"x"}],"next_page_token":"t2"}`, `{"items":[{"id":"b","state":"y"}]}`}
	out, sent, err := run(t, pages, "orders", "list", "--limit", "1", "--all")
	if err != nil || len(sent) != 2 || sent[1].uri != "/v1/orders?limit=1&page_token=t2" {
		t.Fatalf("%v %+v", err, sent)
	}
	if strings.Count(out, "STATE") != 1 || !strings.Contains(out, "\na ") || !strings.Contains(out, "\nb ") {
		t.Errorf("wrote\n%s", out)
	}
	if _, sent, _ := run(t, pages, "orders", "list"); len(sent) != 1 {
		t.Errorf("without --all there were %d requests", len(sent))
	}
}

// What other organisations wrote can't move the cursor, colour the screen or turn the direction of reading.
func TestTextsAreHarmless(t *testing.T) {
	t.Parallel()
	out, _, err := run(t, []string{`{"id":"a\u001b[2Jb\u009b\u202ec","reason":"line\nbreak"}`}, "orders", "show", "x")
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out, "\x1b\u009b\u202e") || strings.Contains(out, "line\nbreak") {
		t.Errorf("wrote %q", out)
	}
}

// Every name in called is that of an operation, which the rules alone would name otherwise.
func TestCalled(t *testing.T) {
	t.Parallel()
	contract, err := api.Contract()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for path, item := range contract.Paths.Map() {
		for method, o := range item.Operations() {
			name, ok := called[o.OperationID]
			if !ok {
				continue
			}
			found++
			if noun, verb := nameOf(path, method, o.OperationID); noun+" "+verb == name {
				t.Errorf("%s is called %s by the rules", o.OperationID, name)
			}
		}
	}
	if found != len(called) {
		t.Errorf("%d of %d names are of operations", found, len(called))
	}
}
