package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/domain/reading"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{{"listRejectedReadings", "GET", "/v1/rejected-readings", m.operatorKey, nil}}
	})
}

// pointers writes what a problem points at, in order.
func pointers(p client.Problem) string {
	var all []string
	if p.Errors != nil {
		for _, e := range *p.Errors {
			all = append(all, e.Pointer+" "+e.Detail)
		}
	}
	return strings.Join(all, "; ")
}

// TestBadPlans drafts listings with price plans that are wrong: each is refused with where and why, and nothing is appended.
func TestBadPlans(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	tier := func(upTo, price string) string {
		if upTo == "" {
			return fmt.Sprintf(`{"price":%q}`, price)
		}
		return fmt.Sprintf(`{"up_to":%q,"price":%q}`, upTo, price)
	}
	usage := func(unit string, tiers ...string) string {
		return fmt.Sprintf(`{"currency":"USD","charges":[{"id":"t","kind":"usage","description":"T","metric":"bytes_total","unit":%q,"model":"graduated","tiers":[%s]}]}`,
			unit, strings.Join(tiers, ","))
	}
	recurring := func(currency, amount string) string {
		return fmt.Sprintf(`{"currency":%q,"charges":[{"id":"p","kind":"recurring","description":"P","amount":%q}]}`, currency, amount)
	}
	for _, test := range []struct{ name, plan, want string }{
		{"overlapping tiers", usage("GB", tier("1000", "0.05"), tier("500", "0.03"), tier("", "0.01")), "/plan/charges/0/tiers/1/up_to overlaps the tier before"},
		{"two tiers with one top", usage("GB", tier("1000", "0.05"), tier("1000", "0.03"), tier("", "0.01")), "/plan/charges/0/tiers/1/up_to overlaps the tier before"},
		{"no last tier", usage("GB", tier("1000", "0.05")), "/plan/charges/0/tiers/0/up_to must be left out"},
		{"a negative price", usage("GB", tier("", "-0.05")), "/plan/charges/0/tiers/0/price must"},
		{"a negative amount", recurring("USD", "-1"), "/plan/charges/0/amount must"},
		{"an unknown unit", usage("TB", tier("", "0.05")), "/plan/charges/0/unit "},
		{"an unknown currency", recurring("XXX", "1"), "/plan/currency "},
	} {
		data, err := json.Marshal(m.terms())
		must(t, err)
		var terms map[string]json.RawMessage
		must(t, json.Unmarshal(data, &terms))
		terms["plan"] = json.RawMessage(test.plan)
		before := int64(m.head())
		status, p, _ := m.do(m.providerKey, "POST", "/v1/listings", terms)
		m.refused(test.name, before, status, p, http.StatusUnprocessableEntity)
		if got := pointers(p); p.Code != client.ProblemCode(domain.Invalid) || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s %q, want %q", test.name, p.Code, got, test.want)
		}
	}
}

// TestBadReadings sends readings and usage events that can't be: each is refused with where and why, alone and beside one that
// is right, which is counted; none is in the log, and each is kept, once, for operators to look at.
func TestBadReadings(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	edges, providers := m.meteredBy(listing.MeteringPlatform), m.meteredBy(listing.MeteringProvider)
	kept := func(reporter string) []client.RejectedReading {
		t.Helper()
		page, _, err := client.Decode[client.RejectedReadingPage](m.operator.ListRejectedReadings(ctx, &client.ListRejectedReadingsParams{ReportedBy: &reporter}))
		must(t, err)
		return page.Items
	}
	counted := func() (n int64) { // readings in the log; what else the market appends meanwhile is its own
		t.Helper()
		streams := []string{reading.Stream(edges), reading.Stream(providers)}
		versions, err := m.log.Versions(ctx, streams)
		must(t, err)
		return versions[streams[0]] + versions[streams[1]]
	}
	type numbers struct {
		from, to time.Time
		in, out  int64
	}
	at := anHourAgo
	right := numbers{at, at.Add(time.Second), 1000, 2000}
	for n, test := range []struct {
		name   string
		change func(*numbers)
		want   string // where and why
	}{
		{"from the future", func(r *numbers) { r.from, r.to = at.Add(48*time.Hour), at.Add(48*time.Hour+time.Second) }, "/to must not be in the future"},
		{"to before from", func(r *numbers) { r.from, r.to = r.to, r.from }, "/to must be after from"},
		{"of no time", func(r *numbers) { r.to = r.from }, "/to must be after from"},
		{"of more than a month", func(r *numbers) { r.from = r.to.Add(-32 * 24 * time.Hour) }, "/to must be at most"},
		{"before billing began", func(r *numbers) { r.from = at.Add(-3 * time.Hour) }, "/from must not be before billing began"},
		{"negative", func(r *numbers) { r.in = -1 }, "/bytes_in "},
		{"faster than the port", func(r *numbers) { r.out = 1 << 40 }, "/bytes_out is more than the port can carry in that time"},
	} {
		bad := right
		test.change(&bad)
		ofNode := func(sequence int64, v numbers) client.Reading {
			r := aReading(edges, at)
			r.Sequence, r.From, r.To, r.BytesIn, r.BytesOut = sequence, v.from, v.to, v.in, v.out
			return r
		}
		event := func(id int, v numbers) client.UsageEvent {
			e := aUsageEvent(providers, id)
			e.Data.From, e.Data.To, e.Data.BytesIn, e.Data.BytesOut = v.from, v.to, v.in, v.out
			return e
		}
		for _, door := range []struct {
			name, key, path, prefix, reporter string
			bad, mixed                        any
		}{
			{"edge", m.agentKey, "/v1/edge-nodes/" + m.nodeID + "/readings", "/readings/0", m.nodeID, client.ReadingBatch{Readings: []client.Reading{ofNode(int64(100+n), bad)}},
				client.ReadingBatch{Readings: []client.Reading{ofNode(int64(100+n), bad), ofNode(int64(200+n), right)}}},
			{"provider", m.meterKey, "/v1/usage-events", "/0", m.providerID, []client.UsageEvent{event(100+n, bad)}, []client.UsageEvent{event(100+n, bad), event(200+n, right)}},
		} {
			what := door.name + ", " + test.name
			media := "application/json"
			want := door.prefix + test.want
			if door.name == "provider" {
				media, want = "application/cloudevents-batch+json", door.prefix+"/data"+test.want
			}
			before, known := counted(), len(kept(door.reporter))
			status, p, _ := m.do(door.key, "POST", door.path, door.bad, "Content-Type", media)
			if got := pointers(p); status != http.StatusUnprocessableEntity || counted() != before || p.Code != client.ProblemCode(domain.Invalid) || !strings.HasPrefix(got, want) {
				t.Errorf("%s: %d %s %q, want %q, and %d readings", what, status, p.Code, got, want, counted()-before)
			}
			status, _, content := m.do(door.key, "POST", door.path, door.mixed, "Content-Type", media)
			if status == http.StatusOK && (counted() != before+1 || !strings.Contains(string(content), `"status":"rejected","problem"`)) {
				t.Errorf("%s beside one that is right: %d readings, %s", what, counted()-before, content)
			} else if status != http.StatusOK && (test.name != "negative" || door.name != "edge") { // that is the contract's to refuse, and all of the body
				t.Errorf("%s beside one that is right: %d", what, status)
			}
			all := kept(door.reporter)
			if len(all) != known+1 || all[0].Times != 2 || all[0].LastAt.Before(all[0].FirstAt) || !strings.HasPrefix(strings.TrimPrefix(pointers(all[0].Problem), "/data"), test.want) {
				t.Errorf("%s: kept are %d more: %+v", what, len(all)-known, all[:min(1, len(all))])
			} else if !strings.Contains(all[0].Sent, fmt.Sprintf(`"bytes_in":%d`, bad.in)) || bad.in >= 0 && all[0].ConnectionId == nil {
				t.Errorf("%s: it is kept as %s of %v", what, all[0].Sent, all[0].ConnectionId)
			}
		}
	}

	// The same identity with other numbers.
	first := aReading(edges, at)
	_, _, err := client.Decode[client.ReadingVerdicts](m.agent.SendReadings(ctx, m.nodeID, client.ReadingBatch{Readings: []client.Reading{first}}))
	must(t, err)
	first.BytesIn++
	before := counted()
	status, p, _ := m.do(m.agentKey, "POST", "/v1/edge-nodes/"+m.nodeID+"/readings", client.ReadingBatch{Readings: []client.Reading{first}})
	if status != http.StatusConflict || p.Detail == "" || counted() != before {
		t.Errorf("other numbers under the same identity: %d %+v", status, p)
	}
	if all := kept(m.nodeID); all[0].Problem.Code != client.ProblemCode(domain.Conflict) || !strings.Contains(all[0].Sent, fmt.Sprintf(`"bytes_in":%d`, first.BytesIn)) {
		t.Errorf("kept is %+v", all[0])
	}

	// Of one reporter the newest are kept.
	_, err = m.pool.Exec(ctx, `
		INSERT INTO rejected_readings (digest, reported_by, connection_id, sent, problem, first_at, last_at)
		SELECT n::text::bytea, $1, '', n::text, (SELECT problem FROM rejected_readings LIMIT 1), now(), now() FROM generate_series(1, 10000) AS n`, m.nodeID)
	must(t, err)
	first.BytesIn++
	m.do(m.agentKey, "POST", "/v1/edge-nodes/"+m.nodeID+"/readings", client.ReadingBatch{Readings: []client.Reading{first}})
	var ofNode, oldest int64
	must(t, m.pool.QueryRow(ctx, `SELECT count(*), min(sent::bigint) FILTER (WHERE sent NOT LIKE '{%') FROM rejected_readings WHERE reported_by = $1`, m.nodeID).Scan(&ofNode, &oldest))
	if len(kept(m.providerID)) != 7 || ofNode != 10_000 || oldest != 2 {
		t.Errorf("kept of the node are %d, from the %d. on, and %d of the provider", ofNode, oldest, len(kept(m.providerID)))
	}
	if status, _, _ := m.do(m.providerKey, "GET", "/v1/rejected-readings", nil); status != http.StatusForbidden {
		t.Errorf("a provider lists what was refused: %d", status)
	}
	page, _, err := client.Decode[client.RejectedReadingPage](m.operator.ListRejectedReadings(ctx, &client.ListRejectedReadingsParams{Limit: ptr(3)}))
	must(t, err)
	if len(page.Items) != 3 || page.NextPageToken == nil {
		t.Errorf("a page of three is %d long", len(page.Items))
	}
}

// TestOpenPeriods runs billing over periods that are not over: refused, and nothing is appended.
func TestOpenPeriods(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	hour := m.now().UTC().Truncate(time.Hour)
	for _, test := range []struct {
		name  string
		run   client.NewBillingRun
		code  domain.Code
		where string
		hint  bool
	}{
		{"open", client.NewBillingRun{GraceHours: noGrace, PeriodStart: hour, PeriodEnd: hour.Add(time.Hour)}, domain.Invalid, "/period_end must not be in the future: an open period can't be billed", false},
		{"open for late readings", client.NewBillingRun{PeriodStart: hour.Add(-2 * time.Hour), PeriodEnd: hour}, domain.Conflict, "", true},
		{"ends before it starts", client.NewBillingRun{GraceHours: noGrace, PeriodStart: hour, PeriodEnd: hour.Add(-time.Hour)}, domain.Invalid, "/period_end must be after period_start", false},
		{"longer than a month", client.NewBillingRun{GraceHours: noGrace, PeriodStart: hour.Add(-32 * 24 * time.Hour), PeriodEnd: hour}, domain.Invalid, "/period_end must be at most 31 days after", false},
	} {
		before := int64(m.head())
		status, p, _ := m.do(m.operatorKey, "POST", "/v1/billing-runs", test.run)
		m.refused(test.name, before, status, p, http.StatusUnprocessableEntity, http.StatusConflict)
		if p.Code != client.ProblemCode(test.code) || !strings.HasPrefix(pointers(p), test.where) || (p.Hint != nil) != test.hint {
			t.Errorf("%s: %+v %s", test.name, p, pointers(p))
		}
	}
}
