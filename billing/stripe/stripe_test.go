package stripe

import (
	"bufio"
	"context"
	"fmt"
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

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
	"crossbill/domain/connectedaccount"
	"crossbill/domain/invoice"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
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

// mockWorld is a log whose invoice is to be paid, before a Stripe that checks what it is asked against Stripe's OpenAPI.
func mockWorld(t *testing.T, w *wire, retries int64) *world {
	t.Helper()
	m := newWorld(t, newMemlog(t), 3)
	m.Client = w.client(t, retries)
	m.bill(1, 2, 1)
	return m
}

// TestShapes asks everything there is to ask, and stripe-mock finds no fault with it.
func TestShapes(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	m := mockWorld(t, w, 0)
	ctx := t.Context()
	id := m.invoices[0]
	i, version := m.invoice(id)
	var key string
	for range 2 { // whoever asks again
		p, err := m.Collect(ctx, id)
		if err != nil || !strings.HasPrefix(p.Reference, "pi_") || p.ClientSecret == "" {
			t.Fatalf("the payment is %+v (%v)", p, err)
		}
		key = "crossbill-" + p.PaymentID
	}
	if made := w.posts("/v1/payment_intents"); len(made) != 1 || made[0].key != key || made[0].form.Get("metadata["+MetadataInvoice+"]") != id ||
		made[0].form.Has("confirm") || made[0].form.Get("currency") != "usd" {
		t.Errorf("what made the payment: %+v", made)
	}
	if made := w.posts("/v1/customers"); len(made) != 1 || made[0].form.Get("name") != "Customer 1" || made[0].key != "crossbill-customer-"+i.CustomerID {
		t.Errorf("what made the customer: %+v", made)
	}

	// The payment is received, the providers' accounts are open, and then half of the invoice is credited.
	paymentID := payment.ID(id, i.At, 1)
	state, _, _ := load(ctx, m.log, payment.Stream(paymentID), payment.Evolve)
	paid, err := invoice.Decide(i, invoice.Pay{Reference: state.Reference, At: m.clock})
	if err != nil {
		t.Fatal(err)
	}
	m.append(m.stream(payment.Stream(paymentID), payment.Received{PaymentID: paymentID, InvoiceID: id, CustomerID: i.CustomerID, Processor: payment.Stripe,
		Reference: state.Reference, Charge: "ch_1", Amount: i.Due(), At: m.clock}), appendTo(invoice.Stream(id), version, "", nil, paid...))
	for _, provider := range m.providers {
		o, err := m.Connect(ctx, provider, "NL", "https://provider.example/done", "https://provider.example/again")
		if err != nil || o.URL == "" {
			t.Fatalf("connecting: %+v, %v", o, err)
		}
		m.append(m.stream(connectedaccount.Stream(provider), connectedaccount.Changed{OrganisationID: provider, Transfers: true, Requirements: []string{}}))
	}
	if _, err := m.Advance(ctx, id); err != nil {
		t.Fatal(err)
	}
	m.credit(id, true)
	m.clock = m.clock.Add(time.Hour)
	if _, err := m.Advance(ctx, id); err != nil {
		t.Fatal(err)
	}
	for path, fields := range map[string][]string{
		"/v1/transfers": {"amount", "currency", "destination", "source_transaction", "transfer_group"}, "/v1/refunds": {"payment_intent", "amount"},
		"/v1/accounts": {"country"}, "/v1/account_links": {"account", "type"},
	} {
		made := w.posts(path)
		if len(made) == 0 {
			t.Errorf("nothing was posted to %s", path)
		}
		for _, r := range made {
			for _, field := range fields {
				if r.form.Get(field) == "" {
					t.Errorf("%s has no %s: %v", path, field, r.form)
				}
			}
		}
	}
	reversals := 0
	for _, r := range w.requests {
		if r.method == http.MethodPost && strings.HasSuffix(r.path, "/reversals") {
			reversals++
		}
	}
	if reversals == 0 {
		t.Error("nothing was reversed")
	}
	if _, err := m.Reconcile(ctx, began, m.clock); err != nil {
		t.Errorf("the reconciliation: %v", err)
	}
	for _, kind := range []stripe.EventType{"payment_intent.succeeded", "charge.dispute.created", "refund.updated", "account.updated", "payout.paid"} {
		if err := m.observe(ctx, stripe.Event{ID: "evt_1", Type: kind, Account: map[bool]string{true: "acct_1"}[kind == "payout.paid"]}, "x_1"); err != nil {
			t.Errorf("looking at what %s is about: %v", kind, err)
		}
	}
	// What is old is looked up before it is asked again.
	m.clock = m.clock.Add(48 * time.Hour)
	for _, look := range []func() error{
		func() error {
			_, err := m.makeRefund(ctx, payment.State{PaymentID: paymentID, Reference: "pi_1", Amount: cents(5), Refunds: []payment.Refund{{Amount: cents(5), At: began}}}, 1)
			return err
		},
		func() error {
			_, err := m.makeTransfer(ctx, payout.State{PayoutID: "x", InvoiceID: id, Destination: "acct_1", Amount: cents(5), ChangedAt: began})
			return err
		},
		func() error {
			_, err := m.makeReversal(ctx, payout.State{PayoutID: "x", Transfer: "tr_1", Reversals: []payout.Reversal{{Credit: "c", Amount: cents(5), At: began}}}, 1)
			return err
		},
		func() error {
			_, err := m.makeAccount(ctx, connectedaccount.State{OrganisationID: m.providers[0], Country: "NL", RequestedAt: began})
			return err
		},
	} {
		if err := look(); err != nil {
			t.Error(err)
		}
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
	m := mockWorld(t, w, 2)
	if _, err := m.Collect(t.Context(), m.invoices[0]); err != nil {
		t.Fatal(err)
	}
	posts := w.posts("/v1/payment_intents")
	if len(posts) != 3 {
		t.Fatalf("%d requests", len(posts))
	}
	for _, r := range posts {
		if r.key == "" || r.key != posts[0].key {
			t.Errorf("the key is %q", r.key)
		}
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
			if _, err := w.client(t, 0).CustomerFor(t.Context(), Customer{testID(domain.PrefixOrganisation, 1), "x"}); domain.CodeOf(err) != test.code {
				t.Errorf("for a customer it is %v", err)
			}
		})
	}
	w := newWire(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.client(t, 2).CustomerFor(ctx, Customer{testID(domain.PrefixOrganisation, 1), "x"}); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("the caller gave up: %v", err)
	}
}

func TestRefusedBeforeStripeIsAsked(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	m := mockWorld(t, w, 0)
	if _, err := m.Collect(t.Context(), testID(domain.PrefixInvoice, 99)); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("no invoice: %v", err)
	}
	m.credit(m.invoices[0], true)
	if _, err := m.Collect(t.Context(), m.invoices[0]); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("nothing is due: %v", err)
	}
	if _, err := m.Client.CustomerFor(t.Context(), Customer{OrganisationID: "' OR"}); domain.CodeOf(err) != domain.Invalid {
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

func TestFromMinorUnits(t *testing.T) {
	t.Parallel()
	for amount, want := range map[string]domain.Money{"63286 usd": cents(632_86), "500 isk": {Minor: 5, Currency: "ISK"}, "5120 kwd": {Minor: 5120, Currency: "KWD"}} {
		var minor int64
		var currency string
		if _, err := fmt.Sscan(amount, &minor, &currency); err != nil {
			t.Fatal(err)
		}
		got, err := fromMinorUnits(minor, stripe.Currency(currency))
		if there, back := minorUnits(got); err != nil || got != want || back != nil || there != minor {
			t.Errorf("%s is %s (%v), and back %d (%v)", amount, got, err, there, back)
		}
	}
	for _, wrong := range []struct {
		amount   int64
		currency stripe.Currency
	}{{501, "isk"}, {1, "xxx"}, {1, ""}} {
		if m, err := fromMinorUnits(wrong.amount, wrong.currency); err == nil {
			t.Errorf("%d %s is %s", wrong.amount, wrong.currency, m)
		}
	}
}
