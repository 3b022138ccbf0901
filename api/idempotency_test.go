package api_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"crossbill/api/client"
)

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	order := m.newOrder(m.takeQuote())
	status, _, first := m.do(m.customerKey, "POST", "/v1/orders", order, "Idempotency-Key", "one")
	if status != http.StatusAccepted {
		t.Fatalf("status %d: %s", status, first)
	}
	before := m.head()

	status, _, again := m.do(m.customerKey, "POST", "/v1/orders", order, "Idempotency-Key", "one")
	if status != http.StatusAccepted || string(again) != string(first) {
		t.Errorf("the same request again answered %d, not the first answer:\n%s\n%s", status, first, again)
	}
	other := order
	other.PurchaseOrder = nil
	status, p, _ := m.do(m.customerKey, "POST", "/v1/orders", other, "Idempotency-Key", "one")
	m.refused("another request under the key", int64(before), status, p, http.StatusUnprocessableEntity)
	status, p, _ = m.do(m.customerKey, "POST", "/v1/orders", order, "Idempotency-Key", "two")
	m.refused("the order again under another key", int64(before), status, p, http.StatusConflict)
	status, p, _ = m.do(m.strangerKey, "POST", "/v1/orders", order, "Idempotency-Key", "one")
	m.refused("somebody else with the key", int64(before), status, p, http.StatusNotFound)
	if m.head() != before {
		t.Errorf("%d events were appended by repeats", m.head()-before)
	}
}

// TestIdempotentRace sends one request many times at once: one append, and the same answer for all.
func TestIdempotentRace(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	order := m.newOrder(m.takeQuote())
	before := m.head()
	const callers = 12
	answers := make([]string, callers)
	var wait sync.WaitGroup
	for i := range callers {
		wait.Go(func() {
			status, _, body := m.do(m.customerKey, "POST", "/v1/orders", order, "Idempotency-Key", "race")
			if status != http.StatusAccepted {
				t.Errorf("caller %d got %d: %s", i, status, body)
			}
			answers[i] = string(body)
		})
	}
	wait.Wait()
	for i := range answers {
		if answers[i] != answers[0] {
			t.Errorf("caller %d got another answer than caller 0:\n%s\n%s", i, answers[i], answers[0])
		}
	}
	page, _, err := client.Decode[client.EventPage](m.customer.ListEvents(context.Background(), &client.ListEventsParams{After: (*int64)(&before)}))
	must(t, err)
	placed := 0
	for _, e := range page.Items {
		if e.Type == "order.placed" {
			placed++
		}
	}
	if placed != 1 {
		t.Errorf("%d orders were placed", placed)
	}
}

func TestSecretIsShownOnce(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	body := client.NewOrganisation{Name: "Once", Slug: "once", Roles: []client.Role{client.RoleCustomer}}
	params := &client.CreateOrganisationParams{IdempotencyKey: m.idempotencyKey()}
	first, _, err := client.Decode[client.OrganisationWithKey](m.operator.CreateOrganisation(context.Background(), params, body))
	must(t, err)
	again, _, err := client.Decode[client.OrganisationWithKey](m.operator.CreateOrganisation(context.Background(), params, body))
	must(t, err)
	if first.ApiKey.Secret == "" || again.ApiKey.Secret != "" || again.Organisation.Id != first.Organisation.Id {
		t.Errorf("first %+v, again %+v", first, again)
	}
	var stored int
	must(t, m.pool.QueryRow(context.Background(),
		`SELECT count(*) FROM idempotency_keys WHERE position($1::bytea in body) > 0`, []byte(first.ApiKey.Secret)).Scan(&stored))
	if stored != 0 {
		t.Error("the secret is in the database")
	}
}
