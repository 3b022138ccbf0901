// Package stripefake is a Stripe in memory, for tests of what must hold whatever fails: it remembers what was made, keeps
// idempotency keys as Stripe does, moves money between balances, tells of it by signed webhooks, and fails on demand,
// before or after it did what it was asked.
//
// It knows the few operations that billing/stripe uses, and of those the rules that guard money: a charge is not refunded
// beyond its amount, a transfer does not draw more on a charge than it holds, a reversal takes back no more than was moved.
// The shapes of requests are held by stripe-mock's tests, not here. Start reading at [Server].
package stripefake

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Object is one of Stripe's objects, as its JSON.
type Object = map[string]any

// Fault says how a request fails.
type Fault int

// Ways to fail.
const (
	None   Fault = iota
	Before       // the connection is lost before anything happened
	After        // it happened, and the answer is lost
	Busy         // 503, and nothing happened
)

// Event is a webhook that is to be delivered.
type Event struct {
	ID, Type, Account string
	Body              []byte
}

// Server is a Stripe. Fail and Now may be set before it is used.
type Server struct {
	*httptest.Server
	Fail func(method, path string) Fault
	Now  func() time.Time
	// Unsearchable hides new things from searches, as Stripe's index does for a while.
	Unsearchable bool

	mu      sync.Mutex
	n       int
	objects map[string]Object // by id
	order   []string
	answers map[string]answer // by idempotency key
	events  []Event
}

type answer struct {
	request string
	status  int
	body    []byte
}

// New starts a server. Its caller closes it.
func New() *Server {
	s := &Server{objects: make(map[string]Object), answers: make(map[string]answer), Now: time.Now}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	fault := None
	if s.Fail != nil {
		fault = s.Fail(r.Method, r.URL.Path)
	}
	switch fault {
	case Before:
		panic(http.ErrAbortHandler)
	case Busy:
		write(w, http.StatusServiceUnavailable, failure("api_error", "", "busy"))
		return
	}
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	if r.Method == http.MethodGet {
		form = r.URL.Query()
	}
	status, answered := s.once(r, form)
	if fault == After { // the answer breaks off: a connection that ends before it has begun is tried again by net/http itself
		w.Header().Set("Content-Length", strconv.Itoa(len(answered)+1))
		w.WriteHeader(status)
		_, _ = w.Write(answered[:len(answered)/2])
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answered)
}

// once answers a request with a key as it was answered the first time, and refuses the key for another request
// (docs.stripe.com/api/idempotent_requests).
func (s *Server) once(r *http.Request, form url.Values) (int, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	request := r.Method + " " + r.URL.Path + "?" + form.Encode()
	if known, ok := s.answers[key]; ok && key != "" && r.Method == http.MethodPost {
		if known.request != request {
			return http.StatusBadRequest, failure("idempotency_error", "", "Keys for idempotent requests can only be used with the same parameters they were first used with.")
		}
		return known.status, known.body
	}
	status, object := s.do(r.Method, strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/"), form, r.Header.Get("Stripe-Account"))
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	if raw, ok := object.([]byte); ok {
		body = raw
	}
	if key != "" && r.Method == http.MethodPost {
		s.answers[key] = answer{request, status, body}
	}
	return status, body
}

// Forget drops all idempotency keys, as Stripe does after a day.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = make(map[string]answer)
}

func failure(kind, code, message string) []byte {
	body, _ := json.Marshal(Object{"error": Object{"type": kind, "code": code, "message": message}})
	return body
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func refuse(code, message string) (int, any) {
	return http.StatusBadRequest, failure("invalid_request_error", code, message)
}

func (s *Server) do(method string, path []string, form url.Values, account string) (int, any) {
	kind := path[0]
	switch {
	case method == http.MethodGet && len(path) == 2 && path[1] == "search":
		return http.StatusOK, s.search(kind, form.Get("query"))
	case method == http.MethodGet && len(path) == 1 && kind == "balance_transactions":
		return http.StatusOK, s.bankTransactions(account, form.Get("payout"))
	case method == http.MethodGet && len(path) == 1:
		return http.StatusOK, s.list(kind, form)
	case method == http.MethodGet && len(path) == 3:
		return http.StatusOK, s.list("transfer_reversals", url.Values{"transfer": {path[1]}})
	case method == http.MethodGet:
		if o := s.objects[path[1]]; o != nil {
			return http.StatusOK, s.shown(o)
		}
		return http.StatusNotFound, failure("invalid_request_error", "resource_missing", "No such "+kind+": "+path[1])
	}
	switch kind {
	case "customers":
		return http.StatusOK, s.add("cus", "customer", form, nil)
	case "payment_intents":
		return s.intent(path, form)
	case "refunds":
		return s.refund(form)
	case "transfers":
		return s.transfer(path, form)
	case "accounts":
		return http.StatusOK, s.add("acct", "account", form, Object{"capabilities": Object{"transfers": "inactive"}, "payouts_enabled": false,
			"requirements": Object{"currently_due": []string{"external_account", "tos_acceptance.date"}}})
	case "account_links":
		return http.StatusOK, Object{"object": "account_link", "url": "https://connect.stripe.example/" + form.Get("account"), "expires_at": s.Now().Unix() + 300}
	}
	return refuse("", "unknown operation "+method+" "+strings.Join(path, "/"))
}

// add makes an object of a request's metadata, and whatever else is given.
func (s *Server) add(prefix, kind string, form url.Values, more Object) Object {
	s.n++
	metadata := Object{}
	for name := range form {
		if inner, ok := strings.CutPrefix(name, "metadata["); ok {
			metadata[strings.TrimSuffix(inner, "]")] = form.Get(name)
		}
	}
	o := Object{"id": fmt.Sprintf("%s_%d", prefix, s.n), "object": kind, "created": s.Now().Unix(), "metadata": metadata}
	maps.Copy(o, more)
	s.objects[o["id"].(string)] = o
	s.order = append(s.order, o["id"].(string))
	return o
}

func (s *Server) intent(path []string, form url.Values) (int, any) {
	amount, _ := strconv.ParseInt(form.Get("amount"), 10, 64)
	if len(path) == 1 {
		if amount < 50 && form.Get("currency") == "usd" {
			return refuse("amount_too_small", "Amount must be at least $0.50 usd")
		}
		o := s.add("pi", "payment_intent", form, Object{"amount": amount, "amount_received": int64(0), "currency": form.Get("currency"),
			"customer": form.Get("customer"), "status": "requires_payment_method", "transfer_group": form.Get("transfer_group")})
		o["client_secret"] = o["id"].(string) + "_secret"
		return http.StatusOK, o
	}
	o := s.objects[path[1]]
	if o == nil {
		return http.StatusNotFound, failure("invalid_request_error", "resource_missing", "No such payment_intent")
	}
	if status := o["status"]; status == "succeeded" || status == "processing" || status == "canceled" {
		return refuse("payment_intent_unexpected_state", "This PaymentIntent is "+status.(string))
	}
	if len(path) == 3 {
		o["status"] = "canceled"
		s.tell("payment_intent.canceled", o, "")
	} else {
		o["amount"] = amount
	}
	return http.StatusOK, o
}

func (s *Server) refund(form url.Values) (int, any) {
	intent := s.objects[form.Get("payment_intent")]
	amount, _ := strconv.ParseInt(form.Get("amount"), 10, 64)
	if intent == nil || intent["status"] != "succeeded" {
		return refuse("charge_not_refundable", "nothing was charged")
	}
	c := s.objects[intent["latest_charge"].(string)]
	switch {
	case c["disputed"] == true:
		return refuse("charge_disputed", "the charge is disputed")
	case c["amount_refunded"].(int64)+amount > c["amount"].(int64):
		return refuse("charge_already_refunded", "more than is left of the charge")
	}
	c["amount_refunded"] = c["amount_refunded"].(int64) + amount
	o := s.add("re", "refund", form, Object{"amount": amount, "currency": c["currency"], "charge": c["id"], "payment_intent": intent["id"], "status": "succeeded"})
	s.tell("refund.created", o, "")
	return http.StatusOK, o
}

func (s *Server) transfer(path []string, form url.Values) (int, any) {
	amount, _ := strconv.ParseInt(form.Get("amount"), 10, 64)
	if len(path) == 3 {
		t := s.objects[path[1]]
		if t["amount_reversed"].(int64)+amount > t["amount"].(int64) {
			return refuse("", "more than is left of the transfer")
		}
		t["amount_reversed"] = t["amount_reversed"].(int64) + amount
		return http.StatusOK, s.add("trr", "transfer_reversal", form, Object{"amount": amount, "currency": t["currency"], "transfer": t["id"]})
	}
	destination := s.objects[form.Get("destination")]
	if destination == nil || destination["capabilities"].(Object)["transfers"] != "active" {
		return refuse("insufficient_capabilities_for_transfer", "the destination can't take transfers")
	}
	if source := form.Get("source_transaction"); source != "" {
		c := s.objects[source]
		drawn := amount
		for _, o := range s.objects {
			if o["object"] == "transfer" && o["source_transaction"] == source {
				drawn += o["amount"].(int64)
			}
		}
		if drawn > c["amount"].(int64) {
			return refuse("", "Transfers using this transaction as a source must not exceed its amount")
		}
	}
	t := s.add("tr", "transfer", form, Object{"amount": amount, "amount_reversed": int64(0), "currency": form.Get("currency"),
		"destination": form.Get("destination"), "transfer_group": form.Get("transfer_group")})
	if source := form.Get("source_transaction"); source != "" {
		t["source_transaction"] = source
	}
	py := s.add("py", "charge", url.Values{}, Object{"amount": amount, "amount_refunded": int64(0), "currency": t["currency"], "account": form.Get("destination"),
		"source_transfer": t["id"]})
	t["destination_payment"] = py["id"]
	s.tell("transfer.created", t, "")
	return http.StatusOK, t
}

// shown is an object with what its readers expand.
func (s *Server) shown(o Object) Object {
	if o["object"] != "payment_intent" || o["latest_charge"] == nil {
		return o
	}
	o = maps.Clone(o)
	o["latest_charge"] = s.objects[o["latest_charge"].(string)]
	return o
}

func (s *Server) search(kind, query string) Object {
	found := []Object{}
	key, value, _ := strings.Cut(query, ":")
	key = strings.TrimSuffix(strings.TrimPrefix(key, "metadata['"), "']")
	for _, id := range s.order {
		o := s.objects[id]
		if !s.Unsearchable && o["object"].(string)+"s" == kind && o["metadata"].(Object)[key] == strings.Trim(value, "'") {
			found = append(found, o)
		}
	}
	return Object{"object": "search_result", "url": "/v1/" + kind + "/search", "has_more": false, "data": found}
}

// list pages like Stripe: the newest first, after starting_after, at most limit.
func (s *Server) list(kind string, form url.Values) Object {
	limit := 10
	if n, err := strconv.Atoi(form.Get("limit")); err == nil {
		limit = n
	}
	from, _ := strconv.ParseInt(form.Get("created[gte]"), 10, 64)
	to, err := strconv.ParseInt(form.Get("created[lt]"), 10, 64)
	if err != nil {
		to = 1 << 62
	}
	found, more, skipping := []Object{}, false, form.Get("starting_after") != ""
	for _, id := range slices.Backward(s.order) {
		if skipping {
			skipping = id != form.Get("starting_after")
			continue
		}
		o := s.objects[id]
		created := o["created"].(int64)
		if o["object"].(string)+"s" != kind || created < from || created >= to || o["source_transfer"] != nil {
			continue
		}
		same := true
		for _, field := range []string{"customer", "payment_intent", "transfer_group", "transfer"} {
			same = same && (form.Get(field) == "" || o[field] == form.Get(field))
		}
		if !same {
			continue
		}
		if len(found) == limit {
			more = true
			break
		}
		found = append(found, s.shown(o))
	}
	return Object{"object": "list", "url": "/v1/" + kind, "has_more": more, "data": found}
}

// tell queues a webhook.
func (s *Server) tell(kind string, o Object, account string) {
	s.n++
	e := Object{"id": fmt.Sprintf("evt_%d", s.n), "object": "event", "type": kind, "created": s.Now().Unix(), "api_version": "2020-03-02",
		"data": Object{"object": o}}
	if account != "" {
		e["account"] = account
	}
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	s.events = append(s.events, Event{e["id"].(string), kind, account, body})
}

// Events returns the webhooks that were made since the last call.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.events
	s.events = nil
	return all
}

// All returns copies of all objects of a kind, in the order they were made.
func (s *Server) All(kind string) (all []Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.order {
		if o := s.objects[id]; o["object"] == kind {
			all = append(all, maps.Clone(o))
		}
	}
	return all
}

// Change changes an object from outside, as somebody does on Stripe's own pages.
func (s *Server) Change(id string, change func(Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.objects[id])
}

// Pay has the payer pay an intent. It reports whether that could be: what is paid or cancelled can't.
func (s *Server) Pay(intentID string, fee int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[intentID]
	if o["status"] != "requires_payment_method" {
		return false
	}
	c := s.add("ch", "charge", url.Values{}, Object{"amount": o["amount"], "amount_refunded": int64(0), "currency": o["currency"], "payment_intent": intentID,
		"status": "succeeded", "metadata": o["metadata"],
		"balance_transaction": Object{"id": "txn_" + intentID, "object": "balance_transaction", "fee": fee, "currency": o["currency"]}})
	o["status"], o["amount_received"], o["latest_charge"] = "succeeded", o["amount"], c["id"]
	s.tell("payment_intent.succeeded", o, "")
	return true
}

// Decline has an attempt of the payer's fail.
func (s *Server) Decline(intentID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[intentID]; o["status"] == "requires_payment_method" {
		o["last_payment_error"] = Object{"code": "card_declined", "type": "card_error"}
		s.tell("payment_intent.payment_failed", o, "")
	}
}

// FailRefund has a refund come back.
func (s *Server) FailRefund(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[id]
	if o["status"] != "succeeded" {
		return
	}
	o["status"], o["failure_reason"] = "failed", "expired_or_canceled_card"
	c := s.objects[o["charge"].(string)]
	c["amount_refunded"] = c["amount_refunded"].(int64) - o["amount"].(int64)
	s.tell("refund.failed", o, "")
}

// Dispute has the payer's bank take back an amount of what an intent brought in.
func (s *Server) Dispute(intentID string, amount int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.objects[s.objects[intentID]["latest_charge"].(string)]
	c["disputed"] = true
	o := s.add("du", "dispute", url.Values{}, Object{"amount": amount, "currency": c["currency"], "charge": c["id"], "payment_intent": intentID,
		"reason": "product_not_received", "status": "needs_response"})
	s.tell("charge.dispute.created", o, "")
	return o["id"].(string)
}

// CloseDispute decides a dispute: "won" or "lost".
func (s *Server) CloseDispute(id, status string, fee int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[id]
	o["status"] = status
	o["balance_transactions"] = []Object{{"id": "txn_" + id, "object": "balance_transaction", "fee": fee, "currency": o["currency"]}}
	if status == "won" {
		s.objects[o["charge"].(string)]["disputed"] = false
	}
	s.tell("charge.dispute.closed", o, "")
}

// Enable lets an account take transfers, or not any more.
func (s *Server) Enable(accountID string, enabled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[accountID]
	status, due := "active", []string{}
	if !enabled {
		status, due = "inactive", []string{"external_account"}
	}
	o["capabilities"], o["payouts_enabled"], o["requirements"] = Object{"transfers": status}, enabled, Object{"currently_due": due}
	s.tell("account.updated", o, accountID)
}

// PayBank pays everything on an account to its bank account.
func (s *Server) PayBank(accountID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.add("po", "payout", url.Values{}, Object{"status": "paid", "account": accountID})
	for _, id := range s.order {
		if py := s.objects[id]; py["source_transfer"] != nil && py["account"] == accountID && py["payout"] == nil {
			py["payout"] = o["id"]
		}
	}
	s.tell("payout.paid", o, accountID)
	return o["id"].(string)
}

func (s *Server) bankTransactions(account, payoutID string) Object {
	found := []Object{}
	for _, id := range s.order {
		if py := s.objects[id]; py["source_transfer"] != nil && py["account"] == account && py["payout"] == payoutID {
			found = append(found, Object{"id": "txn_" + id, "object": "balance_transaction", "type": "payment", "source": py})
		}
	}
	return Object{"object": "list", "url": "/v1/balance_transactions", "has_more": false, "data": found}
}

// Remove takes an object away, as if it had never been.
func (s *Server) Remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, id)
	s.order = slices.DeleteFunc(s.order, func(other string) bool { return other == id })
}
