package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/events"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		return []operation{{"sendUsageEvents", "POST", "/v1/usage-events", m.meterKey, aUsageEvent(m.order.ConnectionId, 1)}}
	})
}

// anHourAgo is one instant for the whole run: an event sent again must be the same event.
var anHourAgo = time.Now().UTC().Add(-time.Hour).Truncate(time.Second)

// aUsageEvent is of a minute from some time on, the nth of its meter.
func aUsageEvent(connectionID string, n int) client.UsageEvent {
	from := anHourAgo.Add(time.Duration(n) * time.Second)
	return client.UsageEvent{
		Specversion: "1.0", Id: fmt.Sprintf("e-%d", n), Source: "/meters/1", Type: client.UsageEventTypeComCrossbillUsageV1,
		Data: client.UsageEventData{ConnectionId: connectionID, From: from, To: from.Add(time.Second), BytesIn: 1000, BytesOut: 2000},
	}
}

// meteredBy puts a connection in production since two hours, of a listing that says who meters it. It is written into the
// log as it is: how a connection comes to be is no matter of these tests.
func (m *market) meteredBy(metering string) (connectionID string) {
	m.t.Helper()
	since := m.now().Add(-2 * time.Hour).Truncate(time.Microsecond)
	id := domain.DeriveID(domain.PrefixConnection, since, metering)
	lst := domain.DeriveID(domain.PrefixListing, since, metering)
	parties := events.Metadata{Parties: []string{m.customerID, m.providerID}}
	write := func(stream string, all ...domain.Event) {
		a := events.StreamAppend{Stream: stream, Expected: events.NoStream}
		for _, e := range all {
			a.Events = append(a.Events, events.NewEvent{Event: e, Metadata: parties})
		}
		_, err := m.log.Append(context.Background(), events.Append{Streams: []events.StreamAppend{a}})
		must(m.t, err)
	}
	terms := listing.Terms{Title: "t", PortID: m.providerPort, Metering: metering}
	write(listing.Stream(lst), listing.Drafted{ListingID: lst, ProviderID: m.providerID, Terms: terms, At: since}, listing.Published{ListingID: lst, ProviderID: m.providerID, Version: 1, Terms: terms, At: since})
	write(connection.Stream(id), connection.Requested{
		ConnectionID: id, OrderID: domain.DeriveID(domain.PrefixOrder, since, metering), QuoteID: domain.DeriveID(domain.PrefixQuote, since, metering), CustomerID: m.customerID,
		ProviderID: m.providerID, ListingID: lst, ListingVersion: 1, BandwidthMbps: 100, CustomerPortID: m.customerPort, ProviderPortID: m.providerPort, At: since,
	}, connection.Allocated{ConnectionID: id, EdgeNodeID: m.nodeID, Tag: 1, At: since}, connection.TestingStarted{ConnectionID: id, Deadline: m.now(), At: since},
		connection.CutoverRequested{ConnectionID: id, At: since}, connection.Activated{ConnectionID: id, At: since})
	return id
}

// usage sends a body and returns the statuses of its verdicts.
func (m *market) usage(key, media string, body any, headers ...string) (status int, verdicts string, p client.Problem) {
	m.t.Helper()
	status, p, content := m.do(key, "POST", "/v1/usage-events", body, append([]string{"Content-Type", media}, headers...)...)
	var answer client.UsageVerdicts
	if status == http.StatusOK {
		must(m.t, json.Unmarshal(content, &answer))
	}
	for _, v := range answer.Verdicts {
		verdicts += string(v.Status[0])
	}
	return status, verdicts, p
}

// TestUsageEvents sends usage in every content mode, again, contradicting, and wrong in every way that is not the contract's.
func TestUsageEvents(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	mine, platforms := m.meteredBy(listing.MeteringProvider), m.meteredBy(listing.MeteringPlatform)
	const one, several = "application/cloudevents+json", "application/cloudevents-batch+json"
	expect := func(what, media string, body any, want string, headers ...string) {
		t.Helper()
		status, verdicts, p := m.usage(m.meterKey, media, body, headers...)
		if want == "" {
			m.refused(what, int64(m.head()), status, p, http.StatusUnprocessableEntity, http.StatusNotFound)
		} else if status != http.StatusOK || verdicts != want {
			t.Errorf("%s: %d %s, want %s: %+v", what, status, verdicts, want, p)
		}
	}
	with := func(n int, change func(*client.UsageEvent)) client.UsageEvent {
		e := aUsageEvent(mine, n)
		change(&e)
		return e
	}
	expect("one", one, aUsageEvent(mine, 1), "a")
	expect("one again", one+"; charset=utf-8", aUsageEvent(mine, 1), "d")
	expect("as plain JSON", "application/json", aUsageEvent(mine, 2), "a")
	expect("binary", "application/json", aUsageEvent(mine, 3).Data, "a", "Ce-Specversion", "1.0", "Ce-Id", "e-3", "Ce-Source", "/meters/1", "Ce-Type", "com.crossbill.usage.v1", "Ce-Extension", "x")
	expect("binary, known", one, aUsageEvent(mine, 3), "d")
	expect("contradicting", several, []client.UsageEvent{with(1, func(e *client.UsageEvent) { e.Data.BytesIn++ }), aUsageEvent(mine, 4)}, "ra")
	expect("twice in a batch", several, []client.UsageEvent{aUsageEvent(mine, 5), aUsageEvent(mine, 5), with(5, func(e *client.UsageEvent) { e.Data.BytesOut++ }), aUsageEvent(mine, 2), aUsageEvent(mine, 6)}, "adrda")
	expect("an extension", one, with(7, func(e *client.UsageEvent) { e.AdditionalProperties = map[string]any{"traceparent": "x", "n": 1} }), "a")
	expect("one right and many wrong", several, []any{
		aUsageEvent(mine, 8), 1, map[string]any{}, aUsageEvent(platforms, 9), aUsageEvent(unknownID("con"), 9),
		with(9, func(e *client.UsageEvent) { e.Data.From = e.Data.To }), with(9, func(e *client.UsageEvent) { e.Data.To = e.Data.To.Add(48 * time.Hour) }),
		with(9, func(e *client.UsageEvent) { e.Data.BytesIn = -1 }), with(9, func(e *client.UsageEvent) { e.Data.BytesIn = 1 << 50 }),
		with(9, func(e *client.UsageEvent) { e.Data.From = e.Data.From.Add(-31 * 24 * time.Hour) }), with(9, func(e *client.UsageEvent) { e.Specversion = "0.3" }),
		with(9, func(e *client.UsageEvent) { e.Type = "other" }), with(9, func(e *client.UsageEvent) { e.Id = "" }),
		with(9, func(e *client.UsageEvent) { e.AdditionalProperties = map[string]any{"Not_A_Name": 1} }),
	}, "arrrrrrrrrrrrr")
	expect("of another's connection", one, aUsageEvent(unknownID("con"), 10), "")
	expect("platform's", one, aUsageEvent(platforms, 10), "")
	expect("none", several, []any{}, "")
	expect("too many", several, make([]client.UsageEvent, 1001), "")
	expect("an array as one", one, []client.UsageEvent{aUsageEvent(mine, 10)}, "")
	expect("one as an array", several, aUsageEvent(mine, 10), "")
	expect("another content type", "text/plain", aUsageEvent(mine, 10), "")
	expect("no JSON", one, []byte("{"), "")
	_, strangers := m.mint("other", api.ScopeMeter)
	before := int64(m.head())
	status, _, p := m.usage(strangers, one, aUsageEvent(mine, 11))
	m.refused("by a stranger", before, status, p, http.StatusNotFound)

	// The edge node's meter does not count for it, and the provider's not for the other.
	now := time.Now().UTC()
	verdicts, _, err := client.Decode[client.ReadingVerdicts](m.agent.SendReadings(context.Background(), m.nodeID, client.ReadingBatch{Readings: []client.Reading{aReading(mine, now), aReading(platforms, now)}}))
	must(t, err)
	if verdicts.Verdicts[0].Status != client.ReadingVerdictStatusRejected || verdicts.Verdicts[1].Status != client.ReadingVerdictStatusAccepted {
		t.Errorf("the edge node's readings: %+v", verdicts.Verdicts)
	}
	head := int64(m.head())
	usage, _, err := client.Decode[client.Usage](m.provider.GetUsage(context.Background(), mine, &client.GetUsageParams{AtPosition: &head}))
	must(t, err)
	if usage.Readings != 8 || usage.BytesIn != 8000 || usage.Items[0].Source != client.RecordedReadingSourceProvider {
		t.Errorf("the usage is %+v", usage)
	}
}

// TestReadings_Mixed sends readings that are new, known, contradicting and refused in one batch, and the same at once from
// several agents: each is recorded once, with a verdict of its own.
func TestReadings_Mixed(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	id := m.meteredBy(listing.MeteringPlatform)
	reading := func(n int64) client.Reading {
		r := aReading(id, time.Now().UTC().Add(-time.Minute).Truncate(time.Hour))
		r.Sequence = n
		return r
	}
	send := func(all ...client.Reading) (string, error) {
		answer, _, err := client.Decode[client.ReadingVerdicts](m.agent.SendReadings(context.Background(), m.nodeID, client.ReadingBatch{Readings: all}))
		var verdicts strings.Builder
		for i, v := range answer.Verdicts {
			verdicts.WriteByte(v.Status[0])
			if v.Sequence != all[i].Sequence || v.ConnectionId != all[i].ConnectionId || (v.Status == client.ReadingVerdictStatusRejected) != (v.Problem != nil) {
				t.Errorf("verdict %d is %+v", i, v)
			}
		}
		return verdicts.String(), err
	}
	other, unknown := reading(2), reading(9)
	other.BytesIn++
	unknown.ConnectionId = unknownID("con")
	for _, c := range []struct {
		all  []client.Reading
		want string
	}{
		{[]client.Reading{reading(1), reading(2)}, "aa"},
		{[]client.Reading{reading(1), reading(2)}, "dd"},
		{[]client.Reading{reading(2), reading(1)}, "dd"},
		{[]client.Reading{reading(3), other, reading(1), reading(4), reading(4), unknown}, "ardadr"},
	} {
		if got, err := send(c.all...); err != nil || got != c.want {
			t.Errorf("got %s, want %s (%v)", got, c.want, err)
		}
	}
	var batch []client.Reading
	for n := range int64(200) {
		batch = append(batch, reading(100+n))
	}
	errs := make(chan error)
	const agents = 4
	for agent := range agents {
		go func() {
			_, err := send(batch[agent*20:]...)
			errs <- err
		}()
	}
	for range agents {
		must(t, <-errs)
	}
	head := int64(m.head())
	usage, _, err := client.Decode[client.Usage](m.provider.GetUsage(context.Background(), id, &client.GetUsageParams{AtPosition: &head}))
	must(t, err)
	if usage.Readings != 204 {
		t.Errorf("%d readings are recorded", usage.Readings)
	}
}

// TestReadings_Early sends readings whose time is yet to come beside others: those have their verdicts, and the early ones none,
// so that they are sent again.
func TestReadings_Early(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	id := m.meteredBy(listing.MeteringPlatform)
	reading := func(sequence int64, later time.Duration) client.Reading {
		r := aReading(id, m.now().Add(-2*time.Minute).Truncate(time.Second))
		r.Sequence, r.From, r.To = sequence, r.From.Add(later), r.To.Add(later)
		return r
	}
	send := func(all ...client.Reading) string {
		t.Helper()
		answer, _, err := client.Decode[client.ReadingVerdicts](m.agent.SendReadings(context.Background(), m.nodeID, client.ReadingBatch{Readings: all}))
		must(t, err)
		var verdicts []string
		for _, v := range answer.Verdicts {
			verdicts = append(verdicts, fmt.Sprint(v.Sequence, v.Status))
		}
		return strings.Join(verdicts, " ")
	}
	const ahead = 5 * time.Hour
	early, next, wrong, last := reading(1, ahead), reading(2, 0), reading(3, 0), reading(4, ahead)
	wrong.BytesIn = 1 << 50
	if got := send(early, next, wrong, last); got != "2accepted 3rejected" {
		t.Errorf("the verdicts are %s", got)
	}
	if got := send(early, wrong); got != "3rejected" {
		t.Errorf("beside one that is refused, the verdicts are %s", got)
	}
	kept, _, err := client.Decode[client.RejectedReadingPage](m.operator.ListRejectedReadings(context.Background(), &client.ListRejectedReadingsParams{ReportedBy: &m.nodeID}))
	must(t, err)
	if len(kept.Items) != 1 {
		t.Errorf("%d refused readings are kept", len(kept.Items))
	}
	if status, p, _ := m.do(m.agentKey, "POST", "/v1/edge-nodes/"+m.nodeID+"/readings", client.ReadingBatch{Readings: []client.Reading{early, last}}); status != http.StatusServiceUnavailable || !p.Retryable {
		t.Errorf("when all are early: %d %+v", status, p)
	}
	m.ahead.Add(int64(ahead))
	if got := send(early, next, last); got != "1accepted 2duplicate 4accepted" {
		t.Errorf("when their time has come, the verdicts are %s", got)
	}
}
