package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/edge/bgp"
)

var testNode = domain.DeriveID(domain.PrefixEdgeNode, at("00:00:00"), "test")

// served returns the platform behind the contract's HTTP.
func served(p *memoryPlatform) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, err error, value any) {
		if err != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			value = client.Problem{Code: client.ProblemCode(domain.CodeOf(err)), Detail: err.Error(), Status: http.StatusServiceUnavailable, Retryable: true}
		} else if value == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = json.NewEncoder(w).Encode(value)
	}
	prefix := "/v1/edge-nodes/" + testNode
	mux.HandleFunc("GET "+prefix+"/desired-state", func(w http.ResponseWriter, r *http.Request) {
		after, _ := strconv.ParseInt(r.URL.Query().Get("after_revision"), 10, 64)
		if changes := r.URL.Query().Get("changes"); changes != strconv.FormatBool(after > 0) {
			p.set(func(p *memoryPlatform) {
				p.problems = append(p.problems, fmt.Sprintf("what has changed since %d is asked for as %q", after, changes))
			})
		}
		wait, _ := strconv.Atoi(r.URL.Query().Get("wait_seconds"))
		d, err := p.DesiredState(r.Context(), after, time.Duration(wait)*time.Second)
		answer(w, err, wireState(d))
	})
	mux.HandleFunc("POST "+prefix+"/observations", func(w http.ResponseWriter, r *http.Request) {
		var report client.ObservationReport
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
			p.set(func(p *memoryPlatform) { p.problems = append(p.problems, err.Error()) })
		}
		var observations []Observation
		for _, o := range report.Observations {
			observations = append(observations, fromWire(o))
		}
		answer(w, p.Report(r.Context(), Kind(report.Kind), *report.Revision, observations), nil)
	})
	mux.HandleFunc("POST "+prefix+"/readings", func(w http.ResponseWriter, r *http.Request) {
		var batch client.ReadingBatch
		if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
			p.set(func(p *memoryPlatform) { p.problems = append(p.problems, err.Error()) })
		}
		var readings []Reading
		for _, b := range batch.Readings {
			readings = append(readings, Reading{ReadingID: ReadingID{b.ConnectionId, b.Epoch, b.Sequence}, From: b.From, To: b.To, BytesIn: b.BytesIn, BytesOut: b.BytesOut,
				PacketsIn: b.PacketsIn, PacketsOut: b.PacketsOut, DroppedIn: b.DroppedIn, DroppedOut: b.DroppedOut, Source: Kind(b.Source)})
		}
		verdicts, err := p.SendReadings(r.Context(), readings)
		var wire client.ReadingVerdicts
		for _, v := range verdicts {
			status := client.ReadingVerdictStatus("accepted")
			if v.Rejected {
				status = "rejected"
			}
			wire.Verdicts = append(wire.Verdicts, client.ReadingVerdict{ConnectionId: v.Connection, Epoch: v.Epoch, Sequence: v.Sequence, Status: status})
		}
		answer(w, err, wire)
	})
	return mux
}

func wireState(d DesiredState) client.DesiredState {
	v := client.DesiredState{Revision: d.Revision, EdgeNodeId: testNode, Asn: client.ASN(d.ASN), RouterId: d.RouterID.String(),
		ReadingIntervalSeconds: int(d.ReadingInterval / time.Second), Connections: []client.DesiredConnection{}}
	if d.Since != 0 {
		v.SinceRevision, v.Gone = &d.Since, &d.Gone
	}
	end := func(a Attachment) client.DesiredAttachment {
		w := client.DesiredAttachment{Interface: a.Interface, Vlan: a.VLAN, PeerAsn: client.ASN(a.PeerASN), PrefixLimit: a.PrefixLimit}
		if a.ServiceVLAN != 0 {
			w.ServiceVlan = &a.ServiceVLAN
		}
		for _, link := range []struct {
			own        netip.Prefix
			peer       netip.Addr
			ours, they **string
		}{{a.Address, a.Peer, &w.Address, &w.PeerAddress}, {a.IPv6Address, a.IPv6Peer, &w.Ipv6Address, &w.Ipv6PeerAddress}} {
			if own, peer := link.own.String(), link.peer.String(); link.own.IsValid() {
				*link.ours, *link.they = &own, &peer
			}
		}
		for _, p := range a.Prefixes {
			w.Prefixes = append(w.Prefixes, client.Prefix(p.String()))
		}
		if a.Down {
			down := client.AdminStateDown
			w.AdminState = &down
		}
		if a.MD5Secret != "" {
			w.Md5Secret = &a.MD5Secret
		}
		return w
	}
	for _, c := range d.Connections {
		w := client.DesiredConnection{ConnectionId: c.ID, Tag: c.Tag, Phase: client.DesiredConnectionPhase(c.Phase), BandwidthMbps: client.Mbps(c.BandwidthMbps), A: end(c.A), Z: end(c.Z)}
		if c.ProbeID != "" {
			w.ProbeId = &c.ProbeID
		}
		v.Connections = append(v.Connections, w)
	}
	return v
}

func fromWire(v client.Observation) Observation {
	o := Observation{ConnectionID: v.ConnectionId}
	if v.Sessions != nil {
		for _, s := range *v.Sessions {
			o.Sessions = append(o.Sessions, Session{Side: bgp.Side(s.Side), Family: string(*s.Family), State: string(s.State), Since: s.Since, PrefixesReceived: s.PrefixesReceived, PrefixesSent: s.PrefixesSent})
		}
	}
	if v.Probe != nil {
		o.Probe = &Probe{ID: v.Probe.ProbeId, Passed: v.Probe.Passed, Detail: *v.Probe.Detail}
	}
	if v.OpenedAt != nil {
		o.OpenedAt = *v.OpenedAt
	}
	if v.ClosedAt != nil {
		o.ClosedAt = *v.ClosedAt
	}
	if v.SuspendedAt != nil {
		o.SuspendedAt = *v.SuspendedAt
	}
	if v.ResumedAt != nil {
		o.ResumedAt = *v.ResumedAt
	}
	if v.BandwidthMbps != nil {
		o.Bandwidth = *v.BandwidthMbps
	}
	o.Removed = v.Removed != nil && *v.Removed
	if v.Message != nil {
		o.Message = *v.Message
	}
	return o
}

func TestAPI(t *testing.T) {
	t.Parallel()
	p := newMemoryPlatform(time.Second)
	server := httptest.NewServer(served(p))
	defer server.Close()
	api, err := newAPI(server.URL, testNode, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	c := desiredConnection(3, Testing)
	c.BandwidthMbps, c.ProbeID = 100, "prb_1"
	c.A = Attachment{Interface: "eth1", VLAN: 101, ServiceVLAN: 300, Address: netip.MustParsePrefix("100.64.0.1/30"), Peer: netip.MustParseAddr("100.64.0.2"), PeerASN: 65001,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8:a::/48")}, PrefixLimit: 10, MD5Secret: "s3cret",
		IPv6Address: netip.MustParsePrefix("2001:db8::2/127"), IPv6Peer: netip.MustParseAddr("2001:db8::3")}
	c.Z = Attachment{Interface: "eth2", IPv6Address: netip.MustParsePrefix("2001:db8::4/127"), IPv6Peer: netip.MustParseAddr("2001:db8::5"), PeerASN: 65002, Down: true}
	p.want(c)
	d, err := api.DesiredState(t.Context(), 0, 0)
	if err != nil || !reflect.DeepEqual(d, p.desired) {
		t.Errorf("desired state\n  %+v (%v), want\n  %+v", d, err, p.desired)
	}
	without := c
	without.A.Address, without.A.IPv6Address = netip.Prefix{}, netip.Prefix{}
	p.want(without)
	if d, err := api.DesiredState(t.Context(), 0, 0); domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), "/connections/0/a/address") {
		t.Errorf("a side without a link is %+v, %v", d, err)
	}
	// A state that cannot be understood is an error, not a smaller state.
	c.Phase = "limbo"
	p.want(c)
	if d, err := api.DesiredState(t.Context(), 0, 0); domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), "/connections/0/phase") {
		t.Errorf("an unknown phase is %+v, %v", d, err)
	}
	want := Observation{ConnectionID: "con_3", OpenedAt: at("12:00:00"), ClosedAt: at("13:00:00"), SuspendedAt: at("12:10:00"), ResumedAt: at("12:05:00"), Bandwidth: 200, Removed: true, Message: "m",
		Probe: &Probe{ID: "prb_1", Passed: true, Detail: "d"}, Sessions: []Session{{Side: bgp.Z, Family: domain.IPv6, State: "established", Since: at("11:00:00"), PrefixesReceived: 2, PrefixesSent: 3}}}
	if err := api.Report(t.Context(), EBPF, 7, []Observation{want}); err != nil || p.revision != 7 || !reflect.DeepEqual(p.observed("con_3"), want) || p.lastKind != EBPF {
		t.Errorf("reported\n  %+v (%v), want\n  %+v", p.observed("con_3"), err, want)
	}
	r := Reading{ReadingID: ReadingID{"con_3", 2, 5}, From: at("12:00:00"), To: at("12:05:00"), BytesIn: 1, BytesOut: 2, PacketsIn: 3, PacketsOut: 4, DroppedIn: 5, DroppedOut: 6, Source: EBPF}
	if verdicts, err := api.SendReadings(t.Context(), []Reading{r}); err != nil || len(verdicts) != 1 || verdicts[0].ReadingID != r.ReadingID || p.readings[r.ReadingID] != r {
		t.Errorf("verdicts %+v (%v), taken %+v", verdicts, err, p.readings)
	}
	p.set(func(p *memoryPlatform) { p.refuse = func(Reading) string { return "no" } })
	if verdicts, err := api.SendReadings(t.Context(), []Reading{r}); err != nil || !verdicts[0].Rejected {
		t.Errorf("verdicts %+v (%v), want a rejection", verdicts, err)
	}
}

func TestAPIKeepsWhatMayBeSentAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"verdicts":[
			{"connection_id":"c","epoch":1,"sequence":1,"status":"rejected","problem":{"code":"unavailable","status":503,"retryable":true,"detail":"not open yet","title":"t","type":"x"}},
			{"connection_id":"c","epoch":1,"sequence":2,"status":"duplicate"},
			{"connection_id":"c","epoch":1,"sequence":3,"status":"rejected","problem":{"code":"invalid","status":422,"retryable":false,"detail":"wrong","title":"t","type":"x"}}]}`)
	}))
	defer server.Close()
	api, err := newAPI(server.URL, testNode, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := api.SendReadings(t.Context(), []Reading{{}})
	want := []Verdict{{ReadingID: ReadingID{"c", 1, 2}}, {ReadingID: ReadingID{"c", 1, 3}, Rejected: true, Problem: "wrong"}}
	if err != nil || !reflect.DeepEqual(verdicts, want) {
		t.Errorf("verdicts %+v (%v), want %+v", verdicts, err, want)
	}
}

func TestAPITellsRefusalsFromFailures(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status  int
		body    string
		refused bool
		wrong   map[int]string
	}{
		"some readings at fault": {422, `{"code":"invalid","status":422,"detail":"d","title":"t","type":"x","errors":[{"pointer":"/readings/0/from","detail":"late"},{"pointer":"/readings/0/to","detail":"early"},{"pointer":"/readings/12","detail":"unknown"}]}`,
			true, map[int]string{0: "late; early", 12: "unknown"}},
		"the request as a whole":     {409, `{"code":"conflict","status":409,"detail":"d","title":"t","type":"x"}`, true, map[int]string{}},
		"fault in something else":    {422, `{"code":"invalid","status":422,"detail":"d","title":"t","type":"x","errors":[{"pointer":"/readings","detail":"too many"}]}`, true, map[int]string{}},
		"later":                      {503, `{"code":"unavailable","status":503,"detail":"d","title":"t","type":"x"}`, false, nil},
		"a key that is not accepted": {401, `{"code":"unauthorised","status":401,"detail":"d","title":"t","type":"x"}`, false, nil},
		"not the platform at all":    {404, `<html>`, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			}))
			defer server.Close()
			api, err := newAPI(server.URL, testNode, http.DefaultClient)
			if err != nil {
				t.Fatal(err)
			}
			_, err = api.SendReadings(t.Context(), []Reading{{}})
			refused, ok := err.(*RefusedError)
			if err == nil || ok != test.refused {
				t.Fatalf("%v, want refused = %v", err, test.refused)
			}
			if ok && !reflect.DeepEqual(refused.Wrong, test.wrong) {
				t.Errorf("at fault: %v, want %v", refused.Wrong, test.wrong)
			}
		})
	}
}
