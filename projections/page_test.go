package projections_test

import (
	"encoding/base64"
	"slices"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/order"
	"crossbill/domain/settlement"
	"crossbill/projections"
)

// pager is one of the lists: how to add the nth item that the viewer sees, and how to read a page of ids.
type pager struct {
	name string
	add  func(b *bench, n int)
	page func(b *bench, limit int, token string) ([]string, string, error)
}

func ids[T any](page []T, id func(T) string) []string {
	all := make([]string, len(page))
	for i, item := range page {
		all[i] = id(item)
	}
	return all
}

// listsOf returns every list that runs from newest to oldest, as the viewer sees it. CloudCo sells to Acme in all of them.
func listsOf(viewer projections.Viewer) []pager {
	return []pager{
		{"orders",
			func(b *bench, n int) { b.record("order-"+id("ord", n), placed(n, acme, cloudCo)) },
			func(b *bench, limit int, token string) ([]string, string, error) {
				page, next, err := b.q.OrdersOf(b.Context(), viewer, projections.OrderFilter{}, limit, token)
				return ids(page, func(s order.State) string { return s.ID }), next, err
			}},
		{"connections",
			func(b *bench, n int) { b.record("connection-"+id("con", n), requested(n, acme, cloudCo)) },
			func(b *bench, limit int, token string) ([]string, string, error) {
				page, next, err := b.q.ConnectionsOf(b.Context(), viewer, false, limit, token)
				return ids(page, func(s connection.State) string { return s.ID }), next, err
			}},
		{"invoices",
			func(b *bench, n int) { b.record("invoice-"+id("inv", n), invoiced(n, acme)) },
			func(b *bench, limit int, token string) ([]string, string, error) {
				page, next, err := b.q.InvoicesOf(b.Context(), viewer, projections.BookSearch{Limit: limit, PageToken: token})
				return ids(page, func(s invoice.State) string { return s.InvoiceID }), next, err
			}},
		{"settlements",
			func(b *bench, n int) { b.record("settlement-"+id("set", n), settled(n, cloudCo)) },
			func(b *bench, limit int, token string) ([]string, string, error) {
				page, next, err := b.q.SettlementsOf(b.Context(), viewer, projections.BookSearch{Limit: limit, PageToken: token})
				return ids(page, func(s settlement.State) string { return s.SettlementID }), next, err
			}},
		{"listings",
			func(b *bench, n int) {
				b.record("listing-"+id("lst", n), published(n, 1, cloudCo, terms("Connect", "A line", "Berlin", 100)))
			},
			func(b *bench, limit int, token string) ([]string, string, error) {
				page, next, err := b.search(projections.ListingSearch{Text: "connect", Limit: limit, PageToken: token})
				return ids(page, func(l projections.Listing) string { return l.ID }), next, err
			}},
	}
}

// TestPages_StableUnderInserts turns the pages of each list while it grows: whoever began sees every item that was
// there, once, newest first, and none of what came later.
func TestPages_StableUnderInserts(t *testing.T) {
	t.Parallel()
	for _, viewer := range []projections.Viewer{projections.Operator(), projections.Party(acme), projections.Party(cloudCo)} {
		b := newBench(t)
		for _, list := range listsOf(viewer) {
			for n := 1; n <= 7; n++ {
				list.add(b, n)
			}
			b.project()
			want, _, err := list.page(b, 0, "")
			if err != nil {
				t.Fatalf("%s: %v", list.name, err)
			}
			if viewer == projections.Party(cloudCo) && list.name == "invoices" || viewer == projections.Party(acme) && list.name == "settlements" {
				if len(want) != 0 {
					t.Errorf("%s: seen by the other party: %v", list.name, want)
				}
				continue
			}
			if len(want) != 7 || want[0][4:] != id("xxx", 7)[4:] {
				t.Fatalf("%s: %v are not the seven, newest first", list.name, want)
			}
			var got []string
			token := ""
			for more, n := true, 8; more; n++ {
				var page []string
				if page, token, err = list.page(b, 3, token); err != nil {
					t.Fatalf("%s: %v", list.name, err)
				}
				got = append(got, page...)
				more = token != ""
				if n > 12 {
					t.Fatalf("%s: the pages do not end", list.name)
				}
				list.add(b, n)
				b.project()
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: turned %v, want %v", list.name, got, want)
			}
		}
	}
}

// TestPages_EndsExactly looks at a list whose last page is full: no token promises a page that would be empty.
func TestPages_EndsExactly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	list := listsOf(projections.Operator())[0]
	for n := 1; n <= 4; n++ {
		list.add(b, n)
	}
	b.project()
	for limit, wantMore := range map[int]bool{3: true, 4: false, 5: false} {
		page, token, err := list.page(b, limit, "")
		if err != nil || len(page) != min(limit, 4) || (token != "") != wantMore {
			t.Errorf("limit %d: %d items, token %q, %v", limit, len(page), token, err)
		}
	}
}

func TestPages_BadLimitsAndTokens(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	lists := listsOf(projections.Party(acme))
	for _, list := range lists {
		for n := 1; n <= 2; n++ {
			list.add(b, n)
		}
	}
	b.record("usage-"+id("con", 1), read(1, 1, 1, 1), read(1, 2, 1, 1))
	b.project()
	lists = append(lists, pager{name: "usage", page: func(b *bench, limit int, token string) ([]string, string, error) {
		u, next, err := b.q.Usage(b.Context(), id("con", 1), limit, token)
		return ids(u.Items, func(r projections.Reading) string { return r.ConnectionID }), next, err
	}})

	tokens := map[string]string{}
	for _, list := range lists[:4] { // Acme has no settlements but sees that it has none
		_, tokens[list.name], _ = list.page(b, 1, "")
	}
	orders := tokens["orders"]
	if orders == "" {
		t.Fatal("no token to spoil")
	}
	raw, _ := base64.RawURLEncoding.DecodeString(orders)
	negative := slices.Clone(raw)
	negative[7] |= 0x80
	format := slices.Clone(raw)
	format[0]++
	_, others, _ := b.q.OrdersOf(t.Context(), projections.Party(cloudCo), projections.OrderFilter{}, 1, "")
	bad := map[string]string{
		"not base64":          "!!!!!!!!!!!!!!!!!!!!",
		"too short":           orders[:16],
		"too long":            orders + orders,
		"position":            "42",
		"padding":             orders + "==",
		"negative place":      base64.RawURLEncoding.EncodeToString(negative),
		"another format":      base64.RawURLEncoding.EncodeToString(format),
		"line break":          orders[:10] + "\n" + orders[10:],
		"of another viewer":   others,
		"zero bytes":          base64.RawURLEncoding.EncodeToString(make([]byte, 15)),
		"of connections":      tokens["connections"],
		"invalid utf-8":       "\xff\xfe",
		"SQL":                 "' OR 1=1 --",
		"twenty spaces":       "                    ",
		"NUL":                 "\x00",
		"standard base64 set": "++++++++++++++++++++",
	}
	for _, list := range lists {
		for name, token := range bad {
			if name == "of connections" && list.name == "connections" || name == "of another viewer" && list.name != "orders" {
				continue
			}
			if token == "" {
				t.Fatalf("%s: no such token was made", name)
			}
			if _, _, err := list.page(b, 1, token); domain.CodeOf(err) != domain.Invalid {
				t.Errorf("%s: token %s: got %v, want Invalid", list.name, name, err)
			}
		}
		for _, limit := range []int{-1, projections.MaxPageSize + 1} {
			if _, _, err := list.page(b, limit, ""); domain.CodeOf(err) != domain.Invalid {
				t.Errorf("%s: limit %d: got %v, want Invalid", list.name, limit, err)
			}
		}
		if _, _, err := list.page(b, projections.MaxPageSize, ""); err != nil {
			t.Errorf("%s: the greatest limit: %v", list.name, err)
		}
	}

	search := projections.ListingSearch{Text: "connect", Limit: 1}
	_, search.PageToken, _ = b.search(search)
	search.Metro = "Berlin"
	if _, _, err := b.search(search); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("the token of another search: got %v, want Invalid", err)
	}
}

// TestLists_Isolation checks that a viewer sees what it is a party of, all of it, once, and nothing else.
func TestLists_Isolation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	// Number 3 has LakeCo on both sides.
	parties := map[int][2]string{1: {acme, cloudCo}, 2: {lakeCo, cloudCo}, 3: {lakeCo, lakeCo}, 4: {acme, lakeCo}}
	for n := 1; n <= 4; n++ {
		customer, provider := parties[n][0], parties[n][1]
		b.record("order-"+id("ord", n), placed(n, customer, provider))
		b.record("connection-"+id("con", n), requested(n, customer, provider))
		b.record("invoice-"+id("inv", n), invoiced(n, customer))
		b.record("settlement-"+id("set", n), settled(n, provider))
	}
	b.project()
	want := map[string]map[string][]int{
		acme:     {"orders": {4, 1}, "connections": {4, 1}, "invoices": {4, 1}, "settlements": nil},
		lakeCo:   {"orders": {4, 3, 2}, "connections": {4, 3, 2}, "invoices": {3, 2}, "settlements": {4, 3}},
		cloudCo:  {"orders": {2, 1}, "connections": {2, 1}, "invoices": nil, "settlements": {2, 1}},
		stranger: {"orders": nil, "connections": nil, "invoices": nil, "settlements": nil},
		"%":      {"orders": nil, "connections": nil, "invoices": nil, "settlements": nil},
	}
	for organisation, lists := range want {
		for _, list := range listsOf(projections.Party(organisation))[:4] {
			var wantIDs []string
			for _, n := range lists[list.name] {
				wantIDs = append(wantIDs, id("xxx", n)[4:])
			}
			// A page of one shows that the two arms of the query are merged in order, whatever the page size.
			for _, limit := range []int{1, 0} {
				var got []string
				token := ""
				for range 10 { // more than there are
					page, next, err := list.page(b, limit, token)
					if err != nil {
						t.Fatal(err)
					}
					for _, item := range page {
						got = append(got, item[4:])
					}
					if token = next; token == "" {
						break
					}
				}
				if !slices.Equal(got, wantIDs) {
					t.Errorf("%s sees the %s %v, want %v (limit %d)", organisation, list.name, got, wantIDs, limit)
				}
			}
		}
	}
	for _, nobody := range []projections.Viewer{{}, projections.Party("")} {
		for _, list := range listsOf(nobody)[:4] {
			if page, _, err := list.page(b, 0, ""); domain.CodeOf(err) != domain.Internal || len(page) > 0 {
				t.Errorf("nobody sees the %s: %v, %v", list.name, page, err)
			}
		}
	}
}
