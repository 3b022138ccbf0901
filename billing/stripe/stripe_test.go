package stripe

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/invoice"
)

// stripeMock is Stripe's own mock server at the version that the tests hold; it checks requests against Stripe's OpenAPI.
const stripeMock = "github.com/stripe/stripe-mock@v0.190.0"

var mock struct {
	sync.Once
	url  *url.URL
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if mock.stop != nil {
		mock.stop()
	}
	os.Exit(code)
}

// startMock builds stripe-mock, outside this module so that its dependencies are not ours, and runs it for all tests.
func startMock() {
	dir, err := os.MkdirTemp("", "stripe-mock")
	if err != nil {
		mock.err = err
		return
	}
	build := exec.Command("go", "install", stripeMock)
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		mock.err = domain.Errorf(domain.Internal, "startMock", "go install %s: %s: %w", stripeMock, out, err)
		return
	}
	server := exec.Command(filepath.Join(dir, "stripe-mock"), "-http-addr", "127.0.0.1:0")
	output, err := server.StdoutPipe()
	if err == nil {
		server.Stderr = server.Stdout
		err = server.Start()
	}
	if err != nil {
		mock.err = err
		return
	}
	mock.stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.RemoveAll(dir)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if address := regexp.MustCompile(`127\.0\.0\.1:[0-9]+`).FindString(lines.Text()); address != "" {
			mock.url = &url.URL{Scheme: "http", Host: address}
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return
		}
	}
	mock.err = domain.Errorf(domain.Internal, "startMock", "stripe-mock did not say where it listens")
}

// request is what went over the wire.
type request struct {
	method, path, key string
	form              url.Values
}

// wire stands between the client and stripe-mock, keeps what passes, and may fail some of it.
type wire struct {
	mu       sync.Mutex
	requests []request
	fail     func(n int, r request, w http.ResponseWriter) bool // n counts the requests to one path
	*httptest.Server
}

func newWire(t *testing.T) *wire {
	t.Helper()
	mock.Do(startMock)
	if mock.err != nil {
		t.Fatal(mock.err)
	}
	w := &wire{}
	proxy := httputil.NewSingleHostReverseProxy(mock.url)
	w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		in.Body = io.NopCloser(strings.NewReader(string(body)))
		form, _ := url.ParseQuery(string(body))
		if in.Method == http.MethodGet {
			form = in.URL.Query()
		}
		r := request{in.Method, in.URL.Path, in.Header.Get("Idempotency-Key"), form}
		w.mu.Lock()
		w.requests = append(w.requests, r)
		n := 0
		for _, other := range w.requests {
			if other.path == r.path && other.method == r.method {
				n++
			}
		}
		w.mu.Unlock()
		if w.fail == nil || !w.fail(n, r, out) {
			proxy.ServeHTTP(out, in)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *wire) client(t *testing.T, retries int64) *Client {
	t.Helper()
	c, err := New(Options{Key: "sk_test_123", URL: w.URL, Retries: &retries, HTTPClient: &http.Client{Timeout: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// posts returns what was created at a path.
func (w *wire) posts(path string) []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []request
	for _, r := range w.requests {
		if r.method == http.MethodPost && r.path == path {
			all = append(all, r)
		}
	}
	return all
}

var (
	organisation = domain.DeriveID(domain.PrefixOrganisation, time.Unix(0, 0), "customer")
	eventID      = domain.DeriveEventID("invoice.issued", "inv")
)

const wantKey = "crossbill-payment-"

func issued(minor int64, currency domain.Currency) invoice.State {
	return invoice.State{State: invoice.StateIssued, Content: invoice.Content{
		InvoiceID: "inv_test", Number: "CB-2026-000001", Total: domain.Money{Minor: minor, Currency: currency},
	}}
}

func TestPaymentOfAnInvoice(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	c := w.client(t, 0)
	customerID, err := c.CustomerFor(t.Context(), Customer{organisation, "Harbour Analytics"})
	if err != nil || !strings.HasPrefix(customerID, "cus_") {
		t.Fatalf("the customer is %q (%v)", customerID, err)
	}
	customers := w.posts("/v1/customers")
	if len(customers) != 1 || customers[0].key != "crossbill-customer-"+organisation || customers[0].form.Get("name") != "Harbour Analytics" ||
		customers[0].form.Get("metadata["+MetadataOrganisation+"]") != organisation {
		t.Errorf("what made the customer: %+v", customers)
	}
	for range 2 { // a job that runs again
		p, err := c.PaymentFor(t.Context(), customerID, issued(632_86, "USD"), eventID)
		if err != nil || !strings.HasPrefix(p.ID, "pi_") || p.Status == "" || p.ClientSecret == "" {
			t.Fatalf("the payment is %+v (%v)", p, err)
		}
	}
	payments := w.posts("/v1/payment_intents")
	if len(payments) != 2 {
		t.Fatalf("%d requests", len(payments))
	}
	for _, r := range payments {
		if r.key != paymentKey(eventID) || !regexp.MustCompile("^"+wantKey+"[0-9a-f]{32}$").MatchString(r.key) {
			t.Errorf("the idempotency key is %q", r.key)
		}
		for field, want := range map[string]string{
			"amount": "63286", "currency": "usd", "customer": customerID, "metadata[" + MetadataInvoice + "]": "inv_test",
			"metadata[" + MetadataInvoiceNumber + "]": "CB-2026-000001",
		} {
			if got := r.form.Get(field); got != want {
				t.Errorf("%s is %q, not %q", field, got, want)
			}
		}
		if r.form.Has("confirm") {
			t.Error("the payment is confirmed without the payer")
		}
	}
	if other := paymentKey(domain.DeriveEventID("invoice.issued", "other")); other == payments[0].key {
		t.Error("another invoice has the same key")
	}
}

// TestRetriesKeepTheKey: requests that fail are repeated under the same key, whatever way they failed.
func TestRetriesKeepTheKey(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	w.fail = func(n int, r request, out http.ResponseWriter) bool {
		if r.path != "/v1/payment_intents" {
			return false
		}
		switch n {
		case 1:
			out.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(out, `{"error":{"type":"api_error","message":"down"}}`)
		case 2: // the connection is lost
			connection, _, err := out.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			_ = connection.Close()
		default:
			return false
		}
		return true
	}
	if _, err := w.client(t, 2).PaymentFor(t.Context(), "cus_1", issued(5_00, "EUR"), eventID); err != nil {
		t.Fatal(err)
	}
	posts := w.posts("/v1/payment_intents")
	if len(posts) != 3 {
		t.Fatalf("%d requests", len(posts))
	}
	for _, r := range posts {
		if r.key != paymentKey(eventID) {
			t.Errorf("the key is %q", r.key)
		}
	}
}

// TestFound: what search finds is used, unless it is not ours or not over the same amount.
func TestFound(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	amount, status := 5_00, "requires_payment_method"
	w.fail = func(_ int, r request, out http.ResponseWriter) bool {
		var object map[string]any
		switch r.path {
		case "/v1/customers/search":
			if want := "metadata['" + MetadataOrganisation + "']:'" + organisation + "'"; r.form.Get("query") != want {
				t.Errorf("the query is %q", r.form.Get("query"))
			}
			object = map[string]any{"object": "customer", "id": "cus_found", "metadata": map[string]string{MetadataOrganisation: organisation}}
		case "/v1/payment_intents/search":
			object = map[string]any{
				"object": "payment_intent", "id": "pi_found", "amount": amount, "currency": "eur", "status": status, "metadata": map[string]string{MetadataInvoice: "inv_test"},
			}
		default:
			return false
		}
		_ = json.NewEncoder(out).Encode(map[string]any{"object": "search_result", "url": r.path, "has_more": false, "data": []any{object}})
		return true
	}
	c := w.client(t, 0)
	if id, err := c.CustomerFor(t.Context(), Customer{organisation, "Harbour"}); err != nil || id != "cus_found" {
		t.Errorf("the customer is %q (%v)", id, err)
	}
	if p, err := c.PaymentFor(t.Context(), "cus_found", issued(5_00, "EUR"), eventID); err != nil || p.ID != "pi_found" {
		t.Errorf("the payment is %+v (%v)", p, err)
	}
	if len(w.posts("/v1/customers"))+len(w.posts("/v1/payment_intents")) != 0 {
		t.Error("what was found was made again")
	}
	amount = 4_99
	if _, err := c.PaymentFor(t.Context(), "cus_found", issued(5_00, "EUR"), eventID); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a payment over another amount: %v", err)
	}
	status = "canceled"
	if p, err := c.PaymentFor(t.Context(), "cus_found", issued(5_00, "EUR"), eventID); err != nil || p.ID == "pi_found" {
		t.Errorf("after one was cancelled, the payment is %+v (%v)", p, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		code   domain.Code
	}{
		{"an error of Stripe's", 500, `{"error":{"type":"api_error"}}`, domain.Unavailable},
		{"no JSON", 502, `<html>`, domain.Unavailable},
		{"too many requests", 429, `{"error":{"type":"invalid_request_error","code":"rate_limit"}}`, domain.Unavailable},
		{"the same request is running", 409, `{"error":{"type":"idempotency_error"}}`, domain.Unavailable},
		{"the key with other content", 400, `{"error":{"type":"idempotency_error"}}`, domain.Conflict},
		{"a wrong key", 401, `{"error":{"type":"invalid_request_error"}}`, domain.Internal},
		{"a key without the right", 403, `{"error":{"type":"invalid_request_error"}}`, domain.Internal},
		{"a declined card", 402, `{"error":{"type":"card_error","code":"card_declined"}}`, domain.Conflict},
		{"too small an amount", 400, `{"error":{"type":"invalid_request_error","code":"amount_too_small"}}`, domain.Invalid},
		{"a malformed request", 400, `{"error":{"type":"invalid_request_error","code":"parameter_unknown"}}`, domain.Internal},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			w.fail = func(_ int, r request, out http.ResponseWriter) bool {
				if r.method == http.MethodPost {
					out.WriteHeader(test.status)
					_, _ = io.WriteString(out, test.body)
				}
				return r.method == http.MethodPost
			}
			if _, err := w.client(t, 0).PaymentFor(t.Context(), "cus_1", issued(5_00, "EUR"), eventID); domain.CodeOf(err) != test.code {
				t.Errorf("it is %v", err)
			}
			if _, err := w.client(t, 0).CustomerFor(t.Context(), Customer{organisation, "x"}); domain.CodeOf(err) != test.code {
				t.Errorf("for a customer it is %v", err)
			}
		})
	}
	w := newWire(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.client(t, 2).PaymentFor(ctx, "cus_1", issued(5_00, "EUR"), eventID); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("the caller gave up: %v", err)
	}
}

func TestRefusedBeforeStripeIsAsked(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	c := w.client(t, 0)
	paid := issued(5_00, "USD")
	paid.State = invoice.StatePaid
	for name, test := range map[string]struct {
		invoice invoice.State
		code    domain.Code
	}{
		"paid": {paid, domain.Conflict}, "nothing to pay": {issued(0, "USD"), domain.Invalid}, "not there": {invoice.State{}, domain.Conflict},
	} {
		if _, err := c.PaymentFor(t.Context(), "cus_1", test.invoice, eventID); domain.CodeOf(err) != test.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.CustomerFor(t.Context(), Customer{OrganisationID: "' OR"}); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("no organisation: %v", err)
	}
	if len(w.requests) != 0 {
		t.Errorf("Stripe was asked: %v", w.requests)
	}
	if _, err := New(Options{Key: " "}); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("no key: %v", err)
	}
}

func TestMinorUnits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		money domain.Money
		want  int64
	}{
		{domain.Money{Minor: 632_86, Currency: "USD"}, 63286},
		{domain.Money{Minor: 500, Currency: "JPY"}, 500},
		{domain.Money{Minor: 5, Currency: "ISK"}, 500},
		{domain.Money{Minor: 1 << 60, Currency: "ISK"}, 0},
		{domain.Money{Minor: 5_120, Currency: "KWD"}, 5120},
		{domain.Money{Minor: 5_124, Currency: "KWD"}, 0}, // never rounded
		{domain.Money{Minor: 45_00, Currency: "HUF"}, 4500},
		{domain.Money{Minor: 0, Currency: "USD"}, 0},
		{domain.Money{Minor: -1, Currency: "USD"}, 0},
		{domain.Money{Minor: 1, Currency: "XXX"}, 0},
	} {
		got, err := minorUnits(test.money)
		if got != test.want || (test.want == 0) != (domain.CodeOf(err) == domain.Invalid) {
			t.Errorf("%s is %d for Stripe (%v), not %d", test.money, got, err, test.want)
		}
	}
}
