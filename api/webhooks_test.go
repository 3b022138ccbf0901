package api_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/api/webhooks"
)

func init() { operationLists = append(operationLists, webhookOperations) }

func webhookOperations(m *market) []operation {
	hook := "/v1/webhooks/" + unknownID("whk")
	description := "Orders"
	return []operation{
		{"listWebhooks", "GET", "/v1/webhooks", m.adminKey, nil},
		{"createWebhook", "POST", "/v1/webhooks", m.adminKey, client.NewWebhook{Url: "https://93.184.215.14/hook", Types: []string{"order.*"}, Description: &description}},
		{"getWebhook", "GET", hook, m.adminKey, nil},
		{"updateWebhook", "PUT", hook, m.adminKey, client.WebhookTarget{Url: "https://93.184.215.14/hook", Types: []string{"order.*"}, Description: &description}},
		{"deleteWebhook", "DELETE", hook, m.adminKey, nil},
		{"rotateWebhookSecret", "POST", hook + ":rotate-secret", m.adminKey, client.SecretRotation{OverlapSeconds: new(int)}},
		{"disableWebhook", "POST", hook + ":disable", m.adminKey, nil},
		{"enableWebhook", "POST", hook + ":enable", m.adminKey, nil},
		{"replayWebhook", "POST", hook + ":replay", m.adminKey, client.WebhookReplay{After: 1}},
		{"testWebhook", "POST", hook + ":test", m.adminKey, nil},
		{"listWebhookDeliveries", "GET", hook + "/deliveries", m.adminKey, nil},
		{"listWebhookDeadLetters", "GET", hook + "/dead-letters", m.adminKey, nil},
		{"replayWebhookDeadLetter", "POST", hook + "/dead-letters/1:replay", m.adminKey, nil},
	}
}

// target is an organisation's endpoint. It checks each signature and keeps what came.
type target struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	secrets []string
	answer  func(n int) int // the status of the nth request, from 1
	got     []message
}

// message is what arrived: accepted, or not.
type message struct {
	id, eventType, sequence string
	status                  int
	data                    json.RawMessage
}

func newTarget(t *testing.T) *target {
	x := &target{t: t, answer: func(int) int { return http.StatusNoContent }}
	x.server = httptest.NewServer(http.HandlerFunc(x.serve))
	t.Cleanup(x.server.Close)
	return x
}

func (x *target) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	var want []string
	for _, secret := range x.secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			x.t.Error(err)
		}
		mac := hmac.New(sha256.New, key)
		io.WriteString(mac, id+"."+at+"."+string(body))
		want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if got := r.Header.Get("webhook-signature"); got != strings.Join(want, " ") {
		x.t.Errorf("the signature is %q, want %q", got, want)
	}
	var event struct {
		SpecVersion, ID, Source, Type, Subject, Sequence string
		Time                                             time.Time
		Data                                             json.RawMessage
	}
	if err := json.Unmarshal(body, &event); err != nil || event.SpecVersion != "1.0" || event.ID != id || event.Source == "" || event.Subject == "" || event.Time.IsZero() ||
		!strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents+json") {
		x.t.Errorf("no CloudEvent (%v): %s", err, body)
	}
	status := x.answer(len(x.got) + 1)
	x.got = append(x.got, message{id, strings.TrimPrefix(event.Type, "com.crossbill."), event.Sequence, status, event.Data})
	if status/100 == 3 {
		w.Header().Set("Location", x.server.URL+"/elsewhere")
	}
	w.WriteHeader(status)
}

func (x *target) set(change func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change()
}

// accepted are the types of the events that were answered with success, in order.
func (x *target) accepted() (types []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range x.got {
		if m.status/100 == 2 {
			types = append(types, m.eventType)
		}
	}
	return types
}

// all are a copy of what came.
func (x *target) all() []message {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.got)
}

func (x *target) await(what string, done func() bool) {
	x.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("%s: after 20 s there are %v", what, x.accepted())
		}
	}
}

// hooked is a market whose webhooks may go anywhere, with its API for the customer's administrator.
type hooked struct {
	*market
	admin *client.Client
}

func newHooked(t *testing.T) *hooked {
	m := newMarket(t).open()
	handler, err := api.New(api.Options{Log: m.log, Pool: m.pool, Waiter: m.runner, Now: m.now, Webhooks: webhooks.NewSender(true)})
	must(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	m.url = server.URL
	return &hooked{m, m.client(m.adminKey)}
}

// dispatch runs a node's dispatcher until the test or the returned function ends it.
func (h *hooked) dispatch(change ...func(*webhooks.Options)) (stop func()) {
	o := webhooks.Options{
		Log: h.log, Pool: h.pool, Sender: webhooks.NewSender(true), Waiter: h.runner, Now: h.now,
		Retries: []time.Duration{20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond},
	}
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); webhooks.New(o).Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	h.t.Cleanup(stop)
	return stop
}

func (h *hooked) create(x *target, types ...string) client.Webhook {
	h.t.Helper()
	made, _, err := client.Decode[client.WebhookWithSecret](h.admin.CreateWebhook(context.Background(), nil, client.NewWebhook{Url: x.server.URL + "/hook", Types: types}))
	must(h.t, err)
	x.set(func() { x.secrets = []string{made.Secret} })
	return made.Webhook
}

func (h *hooked) get(id string) client.Webhook {
	h.t.Helper()
	w, _, err := client.Decode[client.Webhook](h.admin.GetWebhook(context.Background(), id))
	must(h.t, err)
	return w
}

// wanted are the types of the customer's events past a position that patterns name, in order.
func (h *hooked) wanted(after int64, patterns ...string) (types []string) {
	for _, e := range h.sliceOf(h.customer, patterns, "") {
		if e.Position > after {
			types = append(types, e.Type)
		}
	}
	return types
}

// TestWebhook_Delivers has events sent in order and signed, by two nodes, past failures, redirects and a rotated secret.
func TestWebhook_Delivers(t *testing.T) {
	t.Parallel()
	h, x := newHooked(t), newTarget(t)
	ctx := context.Background()
	x.answer = func(n int) int {
		switch {
		case n%5 == 2:
			return http.StatusInternalServerError
		case n%5 == 4:
			return http.StatusFound // not followed
		}
		return http.StatusOK
	}
	hook := h.create(x, "order.*", "quote.*")
	h.dispatch()
	h.dispatch()
	for range 5 {
		h.place()
	}
	all := func() bool { return slices.Equal(x.accepted(), h.wanted(hook.Delivery.Position, "order.*", "quote.*")) }
	x.await("five orders", func() bool { return len(x.accepted()) >= 15 })
	x.await("the slice", all)
	if state := h.get(hook.Id); state.Delivery.FailedAttempts != 0 || state.Delivery.FailingSince != nil || state.Delivery.DeadLetters != 0 {
		t.Errorf("the progress is %+v", state.Delivery)
	}
	rotated, _, err := client.Decode[client.WebhookWithSecret](h.admin.RotateWebhookSecret(ctx, hook.Id, nil, client.SecretRotation{}))
	must(t, err)
	x.set(func() { x.secrets = []string{rotated.Secret, x.secrets[0]} })
	h.place()
	x.await("after the rotation", func() bool { return len(x.accepted()) >= 18 && all() })
	h.ahead.Store(int64(25 * time.Hour))
	x.set(func() { x.secrets = x.secrets[:1] })
	h.place()
	x.await("after the overlap", func() bool { return len(x.accepted()) >= 21 && all() })

	page, _, err := client.Decode[client.WebhookDeliveryPage](h.admin.ListWebhookDeliveries(ctx, hook.Id, nil))
	must(t, err)
	if len(page.Items) != len(x.got) || page.Items[0].Outcome != client.WebhookDeliveryOutcomeDelivered || page.Items[0].StatusCode == nil || *page.Items[0].StatusCode != 200 {
		t.Errorf("%d attempts are listed of %d, the newest %+v", len(page.Items), len(x.got), page.Items[0])
	}
	// What is in the log of the secret is sealed, and the list of events does not show it.
	for _, e := range h.sliceOf(h.customer, []string{"webhook.*"}, "") {
		if strings.Contains(string(e.Data), "whsec_") {
			t.Errorf("an event shows a secret: %s", e.Data)
		}
	}
}

// TestWebhook_DeadLetters gives events up, lists and replays them, and goes back to an earlier position.
func TestWebhook_DeadLetters(t *testing.T) {
	t.Parallel()
	h, x := newHooked(t), newTarget(t)
	ctx := context.Background()
	down := true
	x.answer = func(int) int {
		if down {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}
	hook := h.create(x, "order.placed", "quote.issued")
	h.dispatch()
	h.place()
	letters := func() []client.WebhookDeadLetter {
		page, _, err := client.Decode[client.WebhookDeadLetterPage](h.admin.ListWebhookDeadLetters(ctx, hook.Id, nil))
		must(t, err)
		return page.Items
	}
	x.await("two dead letters", func() bool { return len(letters()) == 2 })
	dead := letters()
	if dead[0].Type != "quote.issued" || dead[0].Attempts != 4 || dead[0].StatusCode == nil || *dead[0].StatusCode != 503 || dead[1].Type != "order.placed" {
		t.Errorf("the dead letters are %+v", dead)
	}
	_, _, err := client.Decode[struct{}](h.admin.ReplayWebhookDeadLetter(ctx, hook.Id, dead[1].Position, nil))
	must(t, err)
	x.await("a replay that fails", func() bool { l := letters(); return len(l) == 2 && !l[1].Replaying && l[1].Attempts == 5 })
	x.set(func() { down = false })
	_, _, err = client.Decode[struct{}](h.admin.ReplayWebhookDeadLetter(ctx, hook.Id, dead[1].Position, nil))
	must(t, err)
	x.await("a replay", func() bool { return len(letters()) == 1 && slices.Equal(x.accepted(), []string{"order.placed"}) })
	if status, _, _ := h.do(h.adminKey, "POST", fmt.Sprintf("/v1/webhooks/%s/dead-letters/%d:replay", hook.Id, dead[1].Position), nil); status != http.StatusNotFound {
		t.Errorf("replaying what is no dead letter answers %d", status)
	}
	_, _, err = client.Decode[client.Webhook](h.admin.ReplayWebhook(ctx, hook.Id, nil, client.WebhookReplay{After: hook.Delivery.Position}))
	must(t, err)
	x.await("all again", func() bool {
		return slices.Equal(x.accepted(), []string{"order.placed", "quote.issued", "order.placed"})
	})
}

// TestWebhook_Disabled stops a webhook that fails for too long, or whose target is gone, and goes on where it stopped.
func TestWebhook_Disabled(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	ctx := context.Background()
	for reason, status := range map[client.WebhookReason]int{client.WebhookReasonFailing: http.StatusBadGateway, client.WebhookReasonGone: http.StatusGone} {
		x, answer := newTarget(t), status
		x.answer = func(int) int { return answer }
		hook := h.create(x, "order.placed")
		stop := h.dispatch(func(o *webhooks.Options) { o.DisableAfter = 30 * time.Millisecond })
		h.place()
		x.await("disabled", func() bool { return h.get(hook.Id).State == client.WebhookStateDisabled })
		if w := h.get(hook.Id); w.Reason == nil || *w.Reason != reason || w.Detail == nil {
			t.Errorf("disabled for %v: %+v", reason, w)
		}
		var active bool
		must(t, h.pool.QueryRow(ctx, `SELECT active FROM webhook_cursors WHERE webhook_id = $1`, hook.Id).Scan(&active))
		if active {
			t.Errorf("disabled for %v, it is still looked after", reason)
		}
		x.set(func() { answer = http.StatusOK })
		n := len(x.got)
		h.place()
		time.Sleep(200 * time.Millisecond)
		if len(x.got) != n {
			t.Errorf("%s: something was sent to a disabled webhook", reason)
		}
		_, _, err := client.Decode[client.Webhook](h.admin.EnableWebhook(ctx, hook.Id, nil))
		must(t, err)
		x.await("enabled", func() bool { return len(x.accepted()) == 2 })
		response, err := h.admin.DeleteWebhook(ctx, hook.Id, nil)
		must(t, err)
		response.Body.Close()
		if status, _, _ := h.do(h.adminKey, "GET", "/v1/webhooks/"+hook.Id, nil); status != http.StatusNotFound {
			t.Errorf("a deleted webhook answers %d", status)
		}
		stop()
	}
}

// TestWebhook_SlowTarget holds up only itself, and a node that dies in the middle of an attempt loses nothing.
func TestWebhook_SlowTarget(t *testing.T) {
	t.Parallel()
	h, slow, quick := newHooked(t), newTarget(t), newTarget(t)
	hold := make(chan struct{})
	inner := slow.server.Config.Handler
	slow.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
		inner.ServeHTTP(w, r)
	})
	hook := h.create(slow, "order.placed", "quote.*")
	h.create(quick, "order.placed")
	stop := h.dispatch()
	h.place()
	h.place()
	quick.await("the quick one", func() bool { return len(quick.accepted()) == 2 })
	stop() // while the first attempt hangs
	close(hold)
	if _, err := h.pool.Exec(context.Background(), `UPDATE webhook_cursors SET owner = 'dead', leased_until = now() - interval '1 second' WHERE webhook_id = $1`, hook.Id); err != nil {
		t.Fatal(err)
	}
	h.dispatch()
	slow.await("the slow one", func() bool { // the first perhaps twice: whether it arrived, nobody knew
		got := slices.Compact(slow.accepted())
		return slices.Equal(got, h.wanted(hook.Delivery.Position, "order.placed", "quote.*")) && len(got) == 6
	})
}

// TestWebhook_Test sends one event by hand.
func TestWebhook_Test(t *testing.T) {
	t.Parallel()
	h, x := newHooked(t), newTarget(t)
	x.answer = func(n int) int { return []int{200, 404}[n-1] }
	hook := h.create(x, "order.placed")
	before := h.head()
	for _, want := range []int{200, 404} {
		result, _, err := client.Decode[client.WebhookTest](h.admin.TestWebhook(context.Background(), hook.Id))
		must(t, err)
		if result.StatusCode == nil || *result.StatusCode != want || result.Delivered != (want == 200) || result.Delivered == (result.Error != nil) {
			t.Errorf("the test says %+v, want %d", result, want)
		}
	}
	if x.got[0].eventType != "webhook.test" || h.head() != before {
		t.Errorf("sent %v, appended %d", x.got, h.head()-before)
	}
}

// TestWebhook_PrivateTargets are refused when they are named, and when a name turns out to stand for one.
func TestWebhook_PrivateTargets(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open() // whose sender is the real one
	x := newTarget(t)
	before := int64(m.head())
	for _, url := range []string{x.server.URL, "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://169.254.169.254/", "https://10.0.0.1/", "http://93.184.215.14/", "https://[64:ff9b::7f00:1]/"} {
		status, p, _ := m.do(m.adminKey, "POST", "/v1/webhooks", client.NewWebhook{Url: url, Types: []string{"*"}})
		m.refused(url, before, status, p, http.StatusUnprocessableEntity)
	}
	status, p, _ := m.do(m.adminKey, "POST", "/v1/webhooks", client.NewWebhook{Url: "https://93.184.215.14/", Types: []string{"order.plcaed"}})
	m.refused("an unknown type", before, status, p, http.StatusUnprocessableEntity)
	// As if a name had passed the check and then stood for this machine.
	secret := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, url := range []string{x.server.URL, strings.Replace(x.server.URL, "127.0.0.1", "localhost", 1)} {
		r := webhooks.NewSender(false).Send(context.Background(), url, []string{secret}, webhooks.TestMessage([16]byte{1}, unknownID("whk"), time.Now()), time.Now())
		if r.OK || r.Status != 0 || !strings.Contains(r.Error, "not in the public internet") || len(x.got) > 0 {
			t.Errorf("%s: %+v", url, r)
		}
	}
}

// TestWebhook_OthersSeeNothing asks for an existing webhook with another organisation's key, and for too many of one's own.
func TestWebhook_OthersSeeNothing(t *testing.T) {
	t.Parallel()
	h, x := newHooked(t), newTarget(t)
	hook := h.create(x, "*")
	_, stranger := h.mint("other", api.ScopeAdmin)
	before := int64(h.head())
	for _, o := range webhookOperations(h.market) {
		if ids := idsIn(o.path); len(ids) > 0 {
			status, p, _ := h.do(stranger, o.method, strings.Replace(o.path, ids[0], hook.Id, 1), o.body)
			h.refused(o.id, before, status, p, http.StatusNotFound)
		}
	}
	for _, o := range webhookOperations(h.market) { // an operator may look, and change nothing
		if ids := idsIn(o.path); len(ids) > 0 && o.method != "GET" {
			status, p, _ := h.do(h.operatorKey, o.method, strings.Replace(o.path, ids[0], hook.Id, 1), o.body)
			h.refused(o.id+" by an operator", before, status, p, http.StatusForbidden)
		}
	}
	if _, _, body := h.do(stranger, "GET", "/v1/webhooks", nil); strings.Contains(string(body), hook.Id) {
		t.Errorf("a stranger's list is %s", body)
	}
	key := h.idempotencyKey()
	body := client.NewWebhook{Url: x.server.URL, Types: []string{"*"}}
	first, _, err := client.Decode[client.WebhookWithSecret](h.admin.CreateWebhook(context.Background(), &client.CreateWebhookParams{IdempotencyKey: key}, body))
	must(t, err)
	again, _, err := client.Decode[client.WebhookWithSecret](h.admin.CreateWebhook(context.Background(), &client.CreateWebhookParams{IdempotencyKey: key}, body))
	must(t, err)
	if again.Webhook.Id != first.Webhook.Id || again.Secret != "" || first.Secret == "" {
		t.Errorf("repeated, it answers %+v", again)
	}
	key = h.idempotencyKey()
	for _, shown := range []bool{true, false} {
		rotated, _, err := client.Decode[client.WebhookWithSecret](h.admin.RotateWebhookSecret(context.Background(), first.Webhook.Id, &client.RotateWebhookSecretParams{IdempotencyKey: key}, client.SecretRotation{}))
		must(t, err)
		if (rotated.Secret != "") != shown || rotated.Secret == first.Secret {
			t.Errorf("a rotation answers %q, shown: %t", rotated.Secret, shown)
		}
	}
	for range webhooks.MaxWebhooks - 2 {
		h.create(x, "*")
	}
	if status, _, _ := h.do(h.adminKey, "POST", "/v1/webhooks", body); status != http.StatusConflict {
		t.Errorf("one more than may be answers %d", status)
	}
}

// TestWebhook_BackOff waits between attempts as long as it says, and goes on at once when somebody has changed something.
func TestWebhook_BackOff(t *testing.T) {
	t.Parallel()
	h, x := newHooked(t), newTarget(t)
	ctx := context.Background()
	x.answer = func(int) int { return http.StatusServiceUnavailable }
	hook := h.create(x, "quote.issued")
	h.dispatch(func(o *webhooks.Options) { o.Retries = []time.Duration{time.Hour, 3 * time.Hour} })
	h.place()
	attempts := 0
	// attempted awaits one attempt more, of an event of some type, and looks at the pause after it, a fifth more or less.
	attempted := func(what, eventType string, failed int, pause time.Duration) {
		t.Helper()
		attempts++
		x.await(what, func() bool { w := h.get(hook.Id); return len(x.all()) >= attempts && w.Delivery.NextAttemptAt != nil })
		time.Sleep(300 * time.Millisecond)
		all, d := x.all(), h.get(hook.Id).Delivery
		if len(all) != attempts || all[attempts-1].eventType != eventType || d.FailedAttempts != failed {
			t.Fatalf("%s: %d attempts, want %d, the last of %+v; %+v", what, len(all), attempts, all[len(all)-1], d)
		}
		if wait := time.Until(*d.NextAttemptAt); wait < pause*79/100 || wait > pause*121/100 {
			t.Errorf("%s: the next attempt is in %v, want about %v", what, wait, pause)
		}
	}
	attempted("the first", "quote.issued", 1, time.Hour)
	target := client.WebhookTarget{Url: x.server.URL + "/hook", Types: []string{"order.placed"}}
	_, _, err := client.Decode[client.Webhook](h.admin.UpdateWebhook(ctx, hook.Id, nil, target))
	must(t, err)
	attempted("with other types", "order.placed", 2, 3*time.Hour)
	_, _, err = client.Decode[client.Webhook](h.admin.DisableWebhook(ctx, hook.Id, nil))
	must(t, err)
	_, _, err = client.Decode[client.Webhook](h.admin.EnableWebhook(ctx, hook.Id, nil))
	must(t, err)
	attempted("enabled", "order.placed", 1, time.Hour)
	_, _, err = client.Decode[client.Webhook](h.admin.ReplayWebhook(ctx, hook.Id, nil, client.WebhookReplay{After: hook.Delivery.Position}))
	must(t, err)
	attempted("rewound", "order.placed", 1, time.Hour)
	all := x.all()
	if all[1].id != all[2].id || all[1].id != all[3].id || all[0].id == all[1].id {
		t.Errorf("the attempts have the ids %v", all)
	}
	// A dead letter does not wait for what failed after it.
	position, err := strconv.ParseInt(all[0].sequence, 10, 64)
	must(t, err)
	_, err = h.pool.Exec(ctx, `
		INSERT INTO webhook_dead_letters (webhook_id, position, organisation_id, message_id, type, attempts, died_at)
		VALUES ($1, $2, $3, 'x', 'quote.issued', 3, now())`, hook.Id, position, h.customerID)
	must(t, err)
	_, _, err = client.Decode[struct{}](h.admin.ReplayWebhookDeadLetter(ctx, hook.Id, position, nil))
	must(t, err)
	x.await("the dead letter", func() bool { all := x.all(); return len(all) > attempts && all[attempts].id == all[0].id })

	status, p, _ := h.do(h.adminKey, "PUT", "/v1/webhooks/"+hook.Id, target, "If-Match", `"1"`)
	h.refused("a change of an older version", int64(h.head()), status, p, http.StatusConflict)
	response, err := h.admin.DeleteWebhook(ctx, hook.Id, nil)
	must(t, err)
	response.Body.Close()
	var left int
	must(t, h.pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM webhook_cursors) + (SELECT count(*) FROM webhook_deliveries) + (SELECT count(*) FROM webhook_dead_letters)`).Scan(&left))
	if left != 0 {
		t.Errorf("%d rows are left of a deleted webhook", left)
	}
}

// TestWebhook_ChangedMeanwhile changes a webhook while an attempt is under way: what comes of that attempt moves nothing.
func TestWebhook_ChangedMeanwhile(t *testing.T) {
	t.Parallel()
	h, x := newHooked(t), newTarget(t)
	ctx := context.Background()
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	inner := x.server.Config.Handler
	x.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-goOn
		inner.ServeHTTP(w, r)
	})
	hook := h.create(x, "quote.issued", "order.placed")
	h.place()
	h.dispatch()
	<-begun
	_, _, err := client.Decode[client.Webhook](h.admin.DisableWebhook(ctx, hook.Id, nil))
	must(t, err)
	goOn <- struct{}{}
	time.Sleep(300 * time.Millisecond)
	if len(begun) > 0 || h.get(hook.Id).Delivery.Position != hook.Delivery.Position {
		t.Errorf("after it was disabled it goes on: %+v", h.get(hook.Id).Delivery)
	}
	_, _, err = client.Decode[client.Webhook](h.admin.EnableWebhook(ctx, hook.Id, nil))
	must(t, err)
	<-begun
	_, _, err = client.Decode[client.Webhook](h.admin.ReplayWebhook(ctx, hook.Id, nil, client.WebhookReplay{After: hook.Delivery.Position}))
	must(t, err)
	close(goOn)
	want := []string{"quote.issued", "quote.issued", "quote.issued", "order.placed"}
	x.await("all that was taken back", func() bool { return len(x.accepted()) >= len(want) })
	if got := x.accepted(); !slices.Equal(got, want) {
		t.Errorf("there came %v", got)
	}
}

// TestWebhook_KeptAttempts keeps so many attempts and no more.
func TestWebhook_KeptAttempts(t *testing.T) {
	t.Parallel()
	h, x := newHooked(t), newTarget(t)
	ctx := context.Background()
	hook := h.create(x, "order.placed")
	_, err := h.pool.Exec(ctx, `
		INSERT INTO webhook_deliveries (webhook_id, organisation_id, message_id, position, type, attempt, outcome, latency_ms, at)
		SELECT $1, $2, 'old', 1, 'order.placed', n, 'failed', 1, now() FROM generate_series(1, 1010) AS n`, hook.Id, h.customerID)
	must(t, err)
	h.dispatch()
	h.place()
	x.await("one order", func() bool {
		var kept, delivered int
		must(t, h.pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE outcome = 'delivered') FROM webhook_deliveries`).Scan(&kept, &delivered))
		return delivered == 1 && kept == 1000
	})
}
