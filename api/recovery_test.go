package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/domain/apikey"
)

// recover has the operator recover the customer's organisation.
func (m *market) recover(r client.NewRecovery, headers ...string) (int, client.Problem, client.OrganisationWithKey) {
	m.t.Helper()
	status, p, body := m.do(m.operatorKey, "POST", "/v1/organisations/"+m.customerID+":recover", r, headers...)
	var answer client.OrganisationWithKey
	if status == http.StatusOK {
		must(m.t, json.Unmarshal(body, &answer))
	}
	return status, p, answer
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	first := m.whoami(m.customerKey)
	_, bot := m.issue(m.customerKey, "program", "bot", nil, "trade")

	// The key is the first owner's; others go on, and the organisation reads who did it and why.
	status, p, got := m.recover(client.NewRecovery{Reason: "a fire"}, "Idempotency-Key", "fire")
	if status != http.StatusOK || got.Owner.Id != first.Principal.Id || *got.Owner.Name != "Owner" || got.Organisation.Id != m.customerID {
		t.Fatalf("recovering answers %d %+v: %+v", status, p, got)
	}
	if who := m.whoami(got.ApiKey.Secret); who.Principal != first.Principal || *who.Role != client.MemberRoleOwner || !slices.Equal(who.Scopes, first.Scopes) || who.KeyId != got.ApiKey.Id {
		t.Errorf("the new key is %+v", who)
	}
	m.whoami(bot)
	found := m.sliceOf(m.client(got.ApiKey.Secret), []string{"organisation.recovered", "api_key.issued"}, "")
	about, _ := json.Marshal(found)
	if !bytes.Contains(about, []byte(`"a fire"`)) || !bytes.Contains(about, []byte(got.ApiKey.Id)) || !bytes.Contains(about, []byte(keyID(m.operatorKey))) || bytes.Contains(about, []byte(got.ApiKey.Secret[40:])) {
		t.Errorf("the organisation reads %s", about)
	}
	if again, _, kept := m.recover(client.NewRecovery{Reason: "a fire"}, "Idempotency-Key", "fire"); again != http.StatusOK || kept.ApiKey.Id != got.ApiKey.Id || kept.ApiKey.Secret != "" || kept.Owner.Name != nil {
		t.Errorf("again it answers %d %+v", again, kept)
	}
	if others := m.sliceOf(m.stranger, []string{"organisation.recovered"}, ""); len(others) != 0 {
		t.Errorf("a stranger reads %+v", others)
	}

	own, _, err := client.Decode[client.ApiKey](m.operator.GetApiKey(ctx, keyID(m.operatorKey)))
	must(t, err)
	before := int64(m.head())
	for what, c := range map[string]struct {
		key, id string
		body    any
		want    int
	}{
		"the owner itself":               {m.customerKey, m.customerID, client.NewRecovery{Reason: "a fire"}, http.StatusForbidden},
		"nothing":                        {m.operatorKey, unknownID("org"), client.NewRecovery{Reason: "a fire"}, http.StatusNotFound},
		"without a reason":               {m.operatorKey, m.customerID, map[string]any{"revoke_keys": true}, http.StatusUnprocessableEntity},
		"all keys of the operator's own": {m.operatorKey, own.OrganisationId, client.NewRecovery{Reason: "a fire", RevokeKeys: ptr(true)}, http.StatusForbidden},
	} {
		status, p, _ := m.do(c.key, "POST", "/v1/organisations/"+c.id+":recover", c.body)
		m.refused("recovering "+what, before, status, p, c.want)
	}

	// A new owner, and every other key revoked: those the read model has, and those that are issued meanwhile.
	var wait sync.WaitGroup
	issued := make([][]string, 3)
	for i := range issued {
		wait.Go(func() {
			for status := http.StatusCreated; status == http.StatusCreated && len(issued[i]) < 60; {
				var k client.ApiKeyIssued
				if status, _, k = m.tryIssue(m.customerKey, "program", "bot", nil, "read"); status == http.StatusCreated {
					issued[i] = append(issued[i], k.Secret)
				}
			}
		})
	}
	owner := client.NewRecovery{Reason: "stolen", RevokeKeys: ptr(true)}
	must(t, json.Unmarshal([]byte(`{"name": "Ada", "email": "ada@example.org"}`), &owner.Owner))
	tries := 0
	for tries, status = 1, http.StatusConflict; status == http.StatusConflict && tries < 100; tries++ {
		status, p, got = m.recover(owner)
	}
	wait.Wait()
	if status != http.StatusOK || *got.Owner.Name != "Ada" || got.Owner.Id == first.Principal.Id {
		t.Fatalf("recovering with a new owner answers %d %+v: %+v", status, p, got)
	}
	all := append(slices.Concat(issued...), bot, m.customerKey, m.adminKey)
	t.Logf("%d keys were revoked at request %d", len(all), tries-1)
	for _, key := range all {
		if status, _, _ := m.do(key, "GET", "/v1/whoami", nil); status != http.StatusUnauthorized {
			t.Errorf("a key that was revoked answers %d", status)
		}
	}
	m.whoami(got.ApiKey.Secret)
	keys, _, err := client.Decode[client.ApiKeyPage](m.client(got.ApiKey.Secret).ListApiKeys(ctx, &client.ListApiKeysParams{AtPosition: m.at()}))
	must(t, err)
	for _, k := range keys.Items {
		if want := k.Id == got.ApiKey.Id; (k.State == client.ApiKeyStateActive) != want {
			t.Errorf("the key %s is %s", k.Id, k.State)
		}
	}
	m.whoami(m.providerKey)
}

// TestLiveKeys fills an organisation with keys up to the limit, and has many more asked for at once.
func TestLiveKeys(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	person := apikey.Principal{Kind: apikey.KindPerson, ID: "walker", Name: "Walker"}
	m.mintExpired(m.customerID, person)
	const room = 5
	for range api.MaxLiveKeys - room - 2 { // the owner's, and the harness's with the scope admin
		m.mintFor(m.customerID, "read")
	}
	var wait sync.WaitGroup
	codes := make([]int, 4*room)
	made := make([]client.ApiKeyIssued, len(codes))
	for i := range codes {
		wait.Go(func() {
			for codes[i] == 0 || codes[i] == http.StatusServiceUnavailable {
				codes[i], _, made[i] = m.tryIssue(m.customerKey, "program", fmt.Sprint("bot-", i), nil, "read")
			}
		})
	}
	wait.Wait()
	passed, one := 0, client.ApiKeyIssued{}
	for i, code := range codes {
		switch code {
		case http.StatusCreated:
			passed, one = passed+1, made[i]
		case http.StatusConflict:
		default:
			t.Errorf("a key answers %d", code)
		}
	}
	if passed != room {
		t.Fatalf("%d keys were issued where there was room for %d", passed, room)
	}
	before := int64(m.head())
	status, p, _ := m.tryIssue(m.customerKey, "program", "late", nil, "read")
	m.refused("one key too many", before, status, p, http.StatusConflict)
	if p.Hint == nil {
		t.Errorf("nothing is said of what to do: %+v", p)
	}
	if status, _, got := m.recover(client.NewRecovery{Reason: "a fire"}); status != http.StatusOK || got.ApiKey.Secret == "" {
		t.Errorf("recovering what has all its keys answers %d", status)
	}
	for _, id := range []string{one.ApiKey.Id, keyID(m.adminKey)} {
		if status, _, _ := m.do(m.customerKey, "POST", "/v1/api-keys/"+id+":revoke", nil); status != http.StatusNoContent {
			t.Fatalf("revoking answers %d", status)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for status = 0; status != http.StatusCreated && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) { // the read model follows
		status, p, _ = m.tryIssue(m.customerKey, "program", "late", nil, "read")
	}
	if status != http.StatusCreated {
		t.Errorf("with room again a key answers %d: %+v", status, p)
	}

	// All of them are revoked at once, but for the edge node's.
	started := time.Now()
	status, p, got := m.recover(client.NewRecovery{Reason: "stolen", RevokeKeys: ptr(true)})
	t.Logf("revoking %d keys took %v", api.MaxLiveKeys, time.Since(started))
	if status != http.StatusOK {
		t.Fatalf("revoking all answers %d: %+v", status, p)
	}
	if status, _, _ := m.do(m.customerKey, "GET", "/v1/whoami", nil); status != http.StatusUnauthorized {
		t.Errorf("the revoked key answers %d", status)
	}
	m.whoami(got.ApiKey.Secret)
	m.wants("the edge node", 200, m.agentKey, "GET", "/v1/edge-nodes/"+m.nodeID+"/desired-state", nil)
}
