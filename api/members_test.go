package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
)

func TestMembersAndTheirKeys(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	members := "/v1/organisations/" + m.customerID + "/members"
	ada := m.whoami(m.customerKey)
	if *ada.Role != client.MemberRoleOwner || *ada.Name != "Owner" || ada.Organisation.State != client.OrganisationStateActive {
		t.Errorf("the first key is %+v", ada)
	}
	bob := m.addMember(m.customerKey, "Bobington", client.MemberRoleTrader)
	if *bob.Name != "Bobington" || *bob.Email != "bobington@example.org" {
		t.Errorf("added %+v", bob)
	}
	again := m.addMember(m.customerKey, "Bobington", client.MemberRoleTrader) // the kept answer
	if again.Id != bob.Id || again.Name != nil || again.Email != nil {
		t.Errorf("again %+v", again)
	}
	var rows int
	must(t, m.pool.QueryRow(context.Background(), `
		SELECT (SELECT count(*) FROM idempotency_keys WHERE convert_from(body, 'UTF8') ILIKE '%bobington%')
		     + (SELECT count(*) FROM events WHERE convert_from(payload, 'UTF8') ILIKE '%bobington%')
		     + (SELECT count(*) FROM read_organisations WHERE doc::text ILIKE '%bobington%')
		     + (SELECT count(*) FROM read_api_keys WHERE doc::text ILIKE '%bobington%')`).Scan(&rows))
	if rows != 0 {
		t.Errorf("a person's name is in clear in %d rows", rows)
	}

	key, trader := m.issue(m.customerKey, "person", bob.Id, nil, "trade", "approve")
	before := int64(m.head())
	status, p, _ := m.tryIssue(m.customerKey, "person", bob.Id, nil, "finance")
	m.refused("a trader's key for finance", before, status, p, http.StatusUnprocessableEntity)
	status, p, _ = m.tryIssue(m.customerKey, "person", unknownID("mem"), nil, "read")
	m.refused("a key for nobody", before, status, p, http.StatusUnprocessableEntity)
	status, p, _ = m.tryIssue(trader, "program", "bot", nil, "trade")
	m.refused("a key by a trader", before, status, p, http.StatusForbidden)
	status, p, _ = m.do(m.strangerKey, "POST", members, client.NewMember{Name: "Eve", Role: client.MemberRoleOwner})
	m.refused("a member by a stranger", before, status, p, http.StatusNotFound)
	status, p, _ = m.do(trader, "POST", "/v1/api-keys/"+keyID(m.customerKey)+":revoke", nil)
	m.refused("a trader revokes the owner's key", before, status, p, http.StatusForbidden)
	owner := m.whoami(m.customerKey).Principal.Id
	status, p, _ = m.do(m.customerKey, "POST", members+"/"+owner+":remove", nil)
	m.refused("the last owner leaves", before, status, p, http.StatusConflict)
	status, p, _ = m.do(m.customerKey, "POST", members+"/"+owner+":set-role", client.NewMemberRole{Role: client.MemberRoleViewer})
	m.refused("the last owner is demoted", before, status, p, http.StatusConflict)

	// A role that allows less takes scopes from keys there are; a person who is removed has none.
	if who := m.whoami(trader); strings.Join(who.Scopes, " ") != "trade approve" || *who.Name != "Bobington" {
		t.Errorf("the trader is %+v", who)
	}
	if status, _, _ := m.do(m.customerKey, "POST", members+"/"+bob.Id+":set-role", client.NewMemberRole{Role: client.MemberRoleViewer}); status != http.StatusOK {
		t.Errorf("changing the role answers %d", status)
	}
	if status, _, _ := m.do(trader, "GET", "/v1/orders", nil); status != http.StatusForbidden {
		t.Errorf("a key with no scope left answers %d", status)
	}
	if status, _, _ := m.do(m.customerKey, "POST", members+"/"+bob.Id+":remove", nil); status != http.StatusNoContent {
		t.Errorf("removing answers %d", status)
	}
	if status, _, _ := m.do(trader, "GET", "/v1/whoami", nil); status != http.StatusUnauthorized {
		t.Errorf("a removed person's key answers %d", status)
	}

	// Keys are listed without what opens anything.
	position := int64(m.head())
	_, _, body := m.do(m.customerKey, "GET", fmt.Sprintf("/v1/api-keys?at_position=%d", position), nil)
	secret := trader[strings.LastIndex(trader, "_")+1:]
	if !bytes.Contains(body, []byte(key.Id)) || bytes.Contains(body, []byte(secret)) || bytes.Contains(body, []byte("hash")) {
		t.Errorf("the list of keys is %s", body)
	}
	if _, _, body := m.do(m.strangerKey, "GET", fmt.Sprintf("/v1/api-keys?at_position=%d", position), nil); bytes.Contains(body, []byte(key.Id)) {
		t.Errorf("a stranger's list of keys is %s", body)
	}

	// An expired key is refused, and says so.
	soon := m.now().Add(time.Hour)
	_, _, body = m.do(m.customerKey, "POST", "/v1/api-keys", map[string]any{
		"principal": map[string]string{"kind": "program", "id": "bot"}, "scopes": []string{"read"}, "expires_at": soon.Format(time.RFC3339)})
	var issued client.ApiKeyIssued
	must(t, json.Unmarshal(body, &issued))
	if status, _, _ := m.do(issued.Secret, "GET", "/v1/orders", nil); status != http.StatusOK {
		t.Errorf("a fresh key answers %d", status)
	}
	m.ahead.Add(int64(2 * time.Hour))
	if status, p, _ := m.do(issued.Secret, "GET", "/v1/orders", nil); status != http.StatusUnauthorized || !strings.Contains(p.Detail, "expired") {
		t.Errorf("an expired key answers %d: %s", status, p.Detail)
	}
}

func TestSuspendedAndClosed(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	quote := m.takeQuote()
	placed := m.place()
	before := int64(m.head())
	status, p, _ := m.do(m.operatorKey, "POST", "/v1/organisations/"+m.customerID+":close", nil)
	m.refused("closing what is active", before, status, p, http.StatusConflict)
	suspended, _, err := client.Decode[client.Organisation](m.operator.SuspendOrganisation(ctx, m.customerID, nil, client.Reason{Reason: "unpaid"}))
	must(t, err)
	if suspended.State != client.OrganisationStateSuspended || *suspended.Reason != "unpaid" {
		t.Errorf("suspended %+v", suspended)
	}
	before = int64(m.head())
	status, p, _ = m.do(m.customerKey, "POST", "/v1/orders", m.newOrder(quote))
	m.refused("an order by a suspended customer", before, status, p, http.StatusForbidden)
	if !strings.Contains(p.Detail, "unpaid") {
		t.Errorf("the problem does not say why: %s", p.Detail)
	}
	if status, _, _ := m.do(m.customerKey, "GET", "/v1/orders/"+placed.Id, nil); status != http.StatusOK {
		t.Errorf("reading while suspended answers %d", status)
	}
	status, p, _ = m.do(m.operatorKey, "POST", "/v1/organisations/"+m.customerID+":close", nil)
	m.refused("closing what has a live connection", before, status, p, http.StatusConflict)
	if status, p, _ := m.do(m.operatorKey, "POST", "/v1/organisations/"+m.customerID+":reactivate", nil); status != http.StatusOK {
		t.Errorf("reactivating answers %d: %+v", status, p)
	}
	if status, p, _ := m.do(m.customerKey, "POST", "/v1/orders/"+placed.Id+":cancel", client.Reason{Reason: "enough"}); status != http.StatusOK {
		t.Fatalf("cancelling answers %d: %+v", status, p)
	}
	m.await(placed.ConnectionId, client.ConnectionStateCancelled)

	// From a suspended provider nothing can be ordered.
	if _, _, err := client.Decode[client.Organisation](m.operator.SuspendOrganisation(ctx, m.providerID, nil, client.Reason{Reason: "unpaid"})); err != nil {
		t.Fatal(err)
	}
	before = int64(m.head())
	status, p, _ = m.do(m.customerKey, "POST", "/v1/orders", m.newOrder(quote))
	m.refused("an order from a suspended provider", before, status, p, http.StatusConflict)

	if status, _, _ := m.do(m.operatorKey, "POST", "/v1/organisations/"+m.customerID+":suspend", client.Reason{Reason: "leaving"}); status != http.StatusOK {
		t.Errorf("suspending answers %d", status)
	}
	closed, _, err := client.Decode[client.Organisation](m.operator.CloseOrganisation(ctx, m.customerID, nil))
	must(t, err)
	if closed.State != client.OrganisationStateClosed {
		t.Errorf("closed %+v", closed)
	}
	if status, p, _ := m.do(m.customerKey, "GET", "/v1/orders", nil); status != http.StatusForbidden || !strings.Contains(p.Detail, "closed") {
		t.Errorf("a closed organisation's key answers %d: %s", status, p.Detail)
	}
	position := int64(m.head())
	_, _, body := m.do(m.operatorKey, "GET", fmt.Sprintf("/v1/organisations?state=closed&at_position=%d", position), nil)
	var page client.OrganisationPage
	must(t, json.Unmarshal(body, &page))
	if len(page.Items) != 1 || page.Items[0].Id != m.customerID {
		t.Errorf("closed organisations: %s", body)
	}
}

func TestDelegation(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	member := m.whoami(m.customerKey).Principal.Id
	_, bot := m.issue(m.customerKey, "program", "bot", nil, "trade")
	order := m.newOrder(m.takeQuote())
	before := int64(m.head())
	for _, bad := range [][2]string{{"Crossbill-On-Behalf-Of", "ada@example.org"}, {"Crossbill-On-Behalf-Of", unknownID("mem")},
		{"Crossbill-On-Behalf-Of", strings.Repeat("x", 121)}, {"Crossbill-Reason", strings.Repeat("x", 201)}, {"Crossbill-Reason", "\xff"}} {
		status, p, _ := m.do(bot, "POST", "/v1/orders", order, bad[0], bad[1])
		m.refused("delegation "+bad[1], before, status, p, http.StatusUnprocessableEntity)
	}
	status, _, body := m.do(bot, "POST", "/v1/orders", order, "Crossbill-On-Behalf-Of", member, "Crossbill-Reason", "the office moves")
	if status != http.StatusAccepted {
		t.Fatalf("the order answered %d: %s", status, body)
	}
	page, _, err := client.Decode[client.EventPage](m.customer.ListEvents(context.Background(), &client.ListEventsParams{After: &before}))
	must(t, err)
	found := false
	for _, e := range page.Items {
		if e.Type == "order.placed" {
			found = true
			if *e.Actor != keyID(bot) || *e.OnBehalfOf != member || *e.Reason != "the office moves" {
				t.Errorf("the event is %+v", e)
			}
		}
	}
	if !found {
		t.Errorf("no order was placed: %+v", page.Items)
	}
}
