package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/order"
	"crossbill/events"
	"crossbill/provisioning"
)

func init() { operationLists = append(operationLists, accessOperations) }

func accessOperations(m *market) []operation {
	org := "/v1/organisations/" + m.customerID
	per := domain.Money{Minor: 100, Currency: "USD"}
	name := "Bot"
	newKey := client.NewApiKey{Scopes: []client.NewApiKeyScopes{client.NewApiKeyScopesTrade}, Limits: &client.Limits{PerOrder: &per}}
	newKey.Principal.Kind, newKey.Principal.Id, newKey.Principal.Name = client.NewApiKeyPrincipalKindProgram, "bot", &name
	email := "bob@example.org"
	return []operation{
		{"whoAmI", "GET", "/v1/whoami", m.customerKey, nil},
		{"listOrganisations", "GET", "/v1/organisations", m.operatorKey, nil},
		{"renameOrganisation", "POST", org + ":rename", m.customerKey, client.NewName{Name: "Another"}},
		{"suspendOrganisation", "POST", org + ":suspend", m.operatorKey, client.Reason{Reason: "unpaid"}},
		{"reactivateOrganisation", "POST", org + ":reactivate", m.operatorKey, nil},
		{"closeOrganisation", "POST", org + ":close", m.operatorKey, nil},
		{"recoverOrganisation", "POST", org + ":recover", m.operatorKey, client.NewRecovery{Reason: "lost"}},
		{"listMembers", "GET", org + "/members", m.customerKey, nil},
		{"addMember", "POST", org + "/members", m.customerKey, client.NewMember{Name: "Bob", Email: &email, Role: client.MemberRoleTrader}},
		{"setMemberRole", "POST", org + "/members/" + unknownID("mem") + ":set-role", m.customerKey, client.NewMemberRole{Role: client.MemberRoleViewer}},
		{"removeMember", "POST", org + "/members/" + unknownID("mem") + ":remove", m.customerKey, nil},
		{"listApiKeys", "GET", "/v1/api-keys", m.customerKey, nil},
		{"createApiKey", "POST", "/v1/api-keys", m.customerKey, newKey},
		{"getApiKey", "GET", "/v1/api-keys/" + keyID(m.customerKey), m.customerKey, nil},
		{"setApiKeyLimits", "POST", "/v1/api-keys/" + keyID(m.customerKey) + ":set-limits", m.customerKey, client.Limits{PerOrder: &per}},
	}
}

func usd(minor int64) *domain.Money { return &domain.Money{Minor: minor, Currency: "USD"} }

// issue has a key issued by another, for a principal.
func (m *market) issue(by, kind, id string, limits *client.Limits, scopes ...string) (client.ApiKey, string) {
	m.t.Helper()
	status, p, issued := m.tryIssue(by, kind, id, limits, scopes...)
	if status != http.StatusCreated {
		m.t.Fatalf("issuing a key answered %d: %+v", status, p)
	}
	return issued.ApiKey, issued.Secret
}

func (m *market) tryIssue(by, kind, id string, limits *client.Limits, scopes ...string) (int, client.Problem, client.ApiKeyIssued) {
	m.t.Helper()
	status, p, body := m.do(by, "POST", "/v1/api-keys", map[string]any{
		"principal": map[string]string{"kind": kind, "id": id}, "scopes": scopes, "limits": or(limits, client.Limits{}),
	})
	var issued client.ApiKeyIssued
	if status == http.StatusCreated {
		must(m.t, json.Unmarshal(body, &issued))
	}
	return status, p, issued
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func (m *market) whoami(key string) client.WhoAmI {
	m.t.Helper()
	who, _, err := client.Decode[client.WhoAmI](m.client(key).WhoAmI(context.Background()))
	must(m.t, err)
	return who
}

func (m *market) addMember(by string, name string, role client.MemberRole) client.Member {
	m.t.Helper()
	email := strings.ToLower(name) + "@example.org"
	status, p, body := m.do(by, "POST", "/v1/organisations/"+m.customerID+"/members", client.NewMember{Name: name, Email: &email, Role: role}, "Idempotency-Key", "add-"+name)
	if status != http.StatusCreated {
		m.t.Fatalf("adding a member answered %d: %+v", status, p)
	}
	var member client.Member
	must(m.t, json.Unmarshal(body, &member))
	return member
}

// Fifty orders at once, from a program that may commit to ten of them this month: ten pass and forty wait for a person.
func TestFiftyOrdersAgainstALimitOfTen(t *testing.T) {
	t.Parallel()
	const orders, allowed = 50, 10
	m := newMarket(t).open()
	ctx := context.Background()
	sample := m.takeQuote()
	_, bot := m.issue(m.customerKey, "program", "bot", &client.Limits{PerMonth: usd(allowed * sample.Total.Minor)}, "trade")
	_, second := m.issue(m.customerKey, "program", "bot", &client.Limits{PerMonth: usd(allowed * sample.Total.Minor)}, "trade") // of the same principal
	quotes := make([]client.Quote, orders)
	for i := range quotes {
		quotes[i] = m.takeQuote()
	}
	placed := make([]client.Order, orders)
	var wait sync.WaitGroup
	for i := range orders {
		wait.Go(func() {
			key := bot
			if i%2 == 0 {
				key = second
			}
			status, p, body := m.do(key, "POST", "/v1/orders", m.newOrder(quotes[i]), "Idempotency-Key", fmt.Sprint("order-", i))
			if status != http.StatusAccepted {
				t.Errorf("order %d answered %d: %+v", i, status, p)
				return
			}
			if err := json.Unmarshal(body, &placed[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	var passed, waiting []client.Order
	for _, o := range placed {
		switch {
		case o.State == client.OrderStateAwaitingProvider && o.ApprovalNeeded == nil:
			passed = append(passed, o)
		case o.State == client.OrderStateAwaitingCustomerApproval && *o.ApprovalNeeded == client.OrderApprovalNeededAboveMonthLimit:
			waiting = append(waiting, o)
		default:
			t.Errorf("an order is %s, approval needed %v", o.State, o.ApprovalNeeded)
		}
	}
	if len(passed) != allowed || len(waiting) != orders-allowed {
		t.Fatalf("%d passed and %d wait", len(passed), len(waiting))
	}
	if who := m.whoami(bot); len(who.CommittedThisMonth) != 1 || who.CommittedThisMonth[0].Minor != allowed*sample.Total.Minor {
		t.Errorf("the program has committed to %+v", who.CommittedThisMonth)
	}

	// The program's own yes is none, not even with the scope that it can't be given.
	before := int64(m.head())
	approve := func(o client.Order, key string) (int, client.Problem) {
		status, p, _ := m.do(key, "POST", "/v1/orders/"+o.Id+":approve", nil)
		return status, p
	}
	status, p := approve(waiting[0], bot)
	m.refused("a program's approval", before, status, p, http.StatusForbidden)
	status, p, _ = m.tryIssue(m.customerKey, "program", "bot", nil, "approve")
	m.refused("a program's key that approves", before, status, p, http.StatusUnprocessableEntity)
	stolen := m.stolenScope(bot)
	before = int64(m.head())
	status, p = approve(waiting[0], stolen)
	m.refused("a program's approval with a stolen scope", before, status, p, http.StatusForbidden)
	status, p, _ = m.do(stolen, "POST", "/v1/orders/"+waiting[0].Id+":decline", client.Reason{Reason: "no"})
	m.refused("a program's refusal", before, status, p, http.StatusForbidden)
	status, p = approve(passed[0], m.customerKey)
	m.refused("approval of what needs none", before, status, p, http.StatusConflict)
	status, p = approve(waiting[0], m.providerKey)
	m.refused("the provider's approval", before, status, p, http.StatusForbidden)

	// A person's is, and is counted for the person.
	owner := m.whoami(m.customerKey)
	for _, o := range waiting[:2] {
		approved, _, err := client.Decode[client.Order](m.customer.ApproveOrder(ctx, o.Id, nil))
		must(t, err)
		if approved.State != client.OrderStateAwaitingProvider || *approved.ApprovedBy != owner.Principal.Id || !approved.Deadline.After(o.PlacedAt) {
			t.Errorf("approved: %+v", approved)
		}
	}
	declined, _, err := client.Decode[client.Order](m.customer.DeclineOrder(ctx, waiting[2].Id, nil, client.Reason{Reason: "too dear"}))
	must(t, err)
	if declined.State != client.OrderStateCancelled {
		t.Errorf("the declined order is %s", declined.State)
	}
	if who := m.whoami(m.customerKey); who.CommittedThisMonth[0].Minor != 2*sample.Total.Minor {
		t.Errorf("the owner has committed to %+v", who.CommittedThisMonth)
	}
	if who := m.whoami(bot); who.CommittedThisMonth[0].Minor != allowed*sample.Total.Minor {
		t.Errorf("the program has committed to %+v", who.CommittedThisMonth)
	}

	// What ends without a connection is given back: two by the provider, one by the customer, and there is room for three.
	for _, o := range passed[:2] {
		if status, p, _ := m.do(m.providerKey, "POST", "/v1/orders/"+o.Id+":reject", client.Reason{Reason: "full"}); status != http.StatusOK {
			t.Fatalf("rejecting answered %d: %+v", status, p)
		}
	}
	if status, p, _ := m.do(bot, "POST", "/v1/orders/"+passed[2].Id+":cancel", client.Reason{Reason: "enough"}); status != http.StatusOK {
		t.Fatalf("cancelling answered %d: %+v", status, p)
	}
	for i := range 4 {
		var o client.Order
		_, _, body := m.do(bot, "POST", "/v1/orders", m.newOrder(m.takeQuote()))
		must(t, json.Unmarshal(body, &o))
		if want := i < 3; (o.State == client.OrderStateAwaitingProvider) != want {
			t.Errorf("order %d after three were given back is %s", i, o.State)
		}
	}
	m.checkCommitments()
	m.recommit()
}

// recommit computes the commitments again: verified as they are, found wrong when they were changed by hand, and as they
// were again.
func (m *market) recommit() {
	m.t.Helper()
	ctx := context.Background()
	_, held, err := provisioning.RebuildCommitments(ctx, m.pool, m.log, true)
	must(m.t, err)
	if held < 3 {
		m.t.Errorf("only %d orders hold a commitment", held)
	}
	for _, damage := range []string{
		`UPDATE commitments SET minor = minor + 1 WHERE order_id = (SELECT min(order_id) FROM commitments)`,
		`DELETE FROM commitments WHERE order_id = (SELECT min(order_id) FROM commitments)`,
		`INSERT INTO commitments SELECT 'ord_none', organisation_id, principal_kind, principal_id, month, currency, 1 FROM commitments LIMIT 1`,
		`UPDATE commitments SET month = '1999-01'`,
	} {
		_, err := m.pool.Exec(ctx, damage)
		must(m.t, err)
		if _, _, err := provisioning.RebuildCommitments(ctx, m.pool, m.log, true); domain.CodeOf(err) != domain.Conflict {
			m.t.Errorf("after %s it is verified: %v", damage, err)
		}
		_, _, err = provisioning.RebuildCommitments(ctx, m.pool, m.log, false)
		must(m.t, err)
		_, _, err = provisioning.RebuildCommitments(ctx, m.pool, m.log, true)
		must(m.t, err)
		m.checkCommitments()
	}
}

// stolenScope gives a program's key the scope approve past every check, as who can write to the log might.
func (m *market) stolenScope(key string) string {
	m.t.Helper()
	id, token := m.mintAs(m.customerID, apikey.Principal{Kind: apikey.KindProgram, ID: "bot", Name: "Bot"}, "trade", "read")
	_, err := m.pool.Exec(context.Background(), `UPDATE events SET payload = convert_to(replace(convert_from(payload, 'UTF8'), '"read"', '"approve"'), 'UTF8') WHERE stream = $1`, "api_key-"+id)
	must(m.t, err)
	return token
}

// checkCommitments holds the table to the log: it is what the events of orders come to.
func (m *market) checkCommitments() {
	m.t.Helper()
	ctx := context.Background()
	want := map[string]int64{}
	for after := events.Position(0); ; {
		page, err := m.log.ReadAll(ctx, after, 1000)
		must(m.t, err)
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			after = e.Position
			switch e := e.Event.(type) {
			case order.Placed:
				if e.Commitment != nil {
					want[e.OrderID] = e.Commitment.Amount.Minor
				}
			case order.Approved:
				want[e.OrderID] = e.Commitment.Amount.Minor
			case order.Rejected:
				delete(want, e.OrderID)
			case order.Failed:
				delete(want, e.OrderID)
			case order.Cancelled:
				delete(want, e.OrderID)
			}
		}
	}
	rows, err := m.pool.Query(ctx, `SELECT order_id, minor FROM commitments`)
	must(m.t, err)
	defer rows.Close()
	got := 0
	for rows.Next() {
		var id string
		var minor int64
		must(m.t, rows.Scan(&id, &minor))
		if got++; want[id] != minor {
			m.t.Errorf("the commitment of %s is %d, and by the log %d", id, minor, want[id])
		}
	}
	if got != len(want) {
		m.t.Errorf("there are %d commitments, and by the log %d", got, len(want))
	}
}

// The saga gives back what it ends: nobody approved in time, and nobody answered in time.
func TestCommitmentsEndWithTheirOrders(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	_, bot := m.issue(m.customerKey, "program", "bot", &client.Limits{PerOrder: usd(1)}, "trade")
	var waiting client.Order
	_, _, body := m.do(bot, "POST", "/v1/orders", m.newOrder(m.takeQuote()))
	must(t, json.Unmarshal(body, &waiting))
	if waiting.State != client.OrderStateAwaitingCustomerApproval || *waiting.ApprovalNeeded != client.OrderApprovalNeededAboveOrderLimit || waiting.PlacedBy.Id != "bot" {
		t.Fatalf("the order is %+v", waiting)
	}
	own := m.place()
	if who := m.whoami(m.customerKey); who.CommittedThisMonth[0].Minor != m.quote.Total.Minor {
		t.Errorf("the owner has committed to %+v", who.CommittedThisMonth)
	}
	m.checkCommitments()
	m.ahead.Add(int64(100 * time.Hour))
	_, err := m.pool.Exec(context.Background(), `UPDATE river_job SET scheduled_at = now(), state = 'available' WHERE state = 'scheduled'`)
	must(t, err)
	m.awaitOrder(waiting.Id, client.OrderStateFailed)
	m.awaitOrder(own.Id, client.OrderStateFailed)
	m.checkCommitments()
	if who := m.whoami(m.customerKey); len(who.CommittedThisMonth) != 0 {
		t.Errorf("the owner has committed to %+v", who.CommittedThisMonth)
	}
	before := int64(m.head())
	status, p, _ := m.do(m.customerKey, "POST", "/v1/orders/"+waiting.Id+":approve", nil)
	m.refused("approval after the end", before, status, p, http.StatusConflict)
}

// A dry run says that a person would have to approve; limits in another currency are no allowance; and a person whose key
// has limits neither passes them nor approves past them.
func TestLimitsOfAllKinds(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	quote := m.takeQuote()
	eur := &domain.Money{Minor: 1 << 40, Currency: "EUR"}
	for name, c := range map[string]struct {
		limits client.Limits
		want   client.OrderApprovalNeeded
	}{
		"none": {client.Limits{}, ""}, "just enough": {client.Limits{PerOrder: &quote.Total, PerMonth: &quote.Total}, ""},
		"order": {client.Limits{PerOrder: usd(quote.Total.Minor - 1)}, client.OrderApprovalNeededAboveOrderLimit},
		"month": {client.Limits{PerMonth: usd(quote.Total.Minor - 1)}, client.OrderApprovalNeededAboveMonthLimit},
		"euro":  {client.Limits{PerOrder: eur}, client.OrderApprovalNeededOtherCurrency},
	} {
		_, key := m.issue(m.customerKey, "program", "bot-"+strings.Fields(name)[0], &c.limits, "trade")
		before := m.head()
		var o client.Order
		status, _, body := m.do(key, "POST", "/v1/orders?dry_run=true", m.newOrder(quote))
		must(t, json.Unmarshal(body, &o))
		if got := or(o.ApprovalNeeded, ""); status != http.StatusOK || got != c.want || (c.want != "") != (o.State == client.OrderStateAwaitingCustomerApproval) || m.head() != before {
			t.Errorf("%s: the dry run answers %d, %s, %q", name, status, o.State, got)
		}
	}
	owner := m.whoami(m.customerKey).Principal.Id
	key, limited := m.issue(m.customerKey, "person", owner, &client.Limits{PerOrder: usd(1)}, "admin", "trade", "approve")
	var o client.Order
	_, _, body := m.do(limited, "POST", "/v1/orders", m.newOrder(quote))
	must(t, json.Unmarshal(body, &o))
	before := int64(m.head())
	status, p, _ := m.do(limited, "POST", "/v1/orders/"+o.Id+":approve", nil)
	m.refused("approval past the approver's limits", before, status, p, http.StatusForbidden)
	// Nor does it get out of them by itself.
	status, p, _ = m.tryIssue(limited, "program", "other", nil, "trade")
	m.refused("a key without limits by one with", before, status, p, http.StatusForbidden)
	status, p, _ = m.tryIssue(limited, "program", "other", &client.Limits{PerOrder: usd(2)}, "trade")
	m.refused("a key with wider limits", before, status, p, http.StatusForbidden)
	status, p, _ = m.tryIssue(limited, "program", "other", &client.Limits{PerOrder: usd(1)}, "trade", "finance")
	m.refused("a key with a scope that its maker has not", before, status, p, http.StatusForbidden)
	for _, wider := range []client.Limits{{}, {PerOrder: usd(2)}, {PerMonth: usd(1)}, {PerOrder: eur}} {
		status, p, _ = m.do(limited, "POST", "/v1/api-keys/"+key.Id+":set-limits", wider)
		m.refused("wider limits for itself", before, status, p, http.StatusForbidden)
	}
	if status, _, _ = m.do(m.customerKey, "POST", "/v1/api-keys/"+key.Id+":set-limits", client.Limits{PerOrder: &quote.Total}); status != http.StatusOK {
		t.Errorf("the owner's wider limits answer %d", status)
	}
	if status, _, _ = m.do(limited, "POST", "/v1/orders/"+o.Id+":approve", nil); status != http.StatusAccepted { // the next request knows
		t.Errorf("approval within the limits answers %d", status)
	}
	m.checkCommitments()
}
