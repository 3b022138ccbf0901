package webhooks

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/webhook"
	"crossbill/events"
)

var secrets = []string{webhook.SecretPrefix + strings.Repeat("AAAA", 8)}

func send(s *Sender, target string) Result {
	return s.Send(context.Background(), target, secrets, Message{ID: "m", Type: TestType, Body: []byte("{}")}, time.Now())
}

// TestMessageOf pins down what is sent to the byte, and what it is signed with: receivers were written against both.
func TestMessageOf(t *testing.T) {
	t.Parallel()
	e := events.Recorded{
		Position: 18, ID: [16]byte{0x01, 0xa2, 15: 7}, Stream: "order-ord_1", Version: 2, Type: "order.placed", Data: []byte(`{"b":1,"a":"\u003cx\u003e"}`),
		RecordedAt: time.Date(2026, 3, 11, 12, 34, 56, 123456000, time.UTC), Metadata: events.Metadata{Traceparent: "00-1-2-01"},
	}
	const want = `{"specversion":"1.0","id":"01a20000-0000-0000-0000-000000000007","source":"/v1/events","type":"com.crossbill.order.placed",` +
		`"subject":"order-ord_1","time":"2026-03-11T12:34:56.123456Z","datacontenttype":"application/json","logposition":"18","streamversion":"2",` +
		`"sequence":"0000000000000000018","traceparent":"00-1-2-01","data":{"b":1,"a":"\u003cx\u003e"}}`
	m, err := MessageOf(e)
	if err != nil || string(m.Body) != want || m.ID != "01a20000-0000-0000-0000-000000000007" || m.Type != "order.placed" {
		t.Errorf("%v: %s %s\n%s\nwant\n%s", err, m.ID, m.Type, m.Body, want)
	}
	// The signature is of: printf '%s' 'msg_1.1614265330.{"a":1}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:00…00 (24 bytes) -binary | base64
	got, err := Sign(secrets, "msg_1", time.Unix(1614265330, 999), []byte(`{"a":1}`))
	if err != nil || got != "v1,xDrRIpj1jMNiV+2McFS5mFTiqB6xyPIrOLZyseDdpwo=" {
		t.Errorf("%v: the signature is %s", err, got)
	}
	if _, err := Sign([]string{"sealed"}, "m", time.Now(), nil); domain.CodeOf(err) != domain.Internal {
		t.Errorf("a secret that can't be read gives %v", err)
	}
}

// nameServer answers each question for an A record with the next of some addresses, the last over and over.
func nameServer(t *testing.T, answers ...string) *net.Resolver {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		for buffer := make([]byte, 512); ; {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			// RFC 1035 section 4: the header, the question as it came, and the answer for the name at byte 12.
			end := 12
			for buffer[end] != 0 {
				end += int(buffer[end]) + 1
			}
			end += 5
			reply := append([]byte{buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, buffer[12:end]...)
			if n >= end && buffer[end-3] == 1 { // A
				a := netip.MustParseAddr(answers[0]).As4()
				reply[7] = 1
				reply = append(append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4), a[:]...)
				if len(answers) > 1 {
					answers = answers[1:]
				}
			}
			server.WriteTo(reply, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// TestRebinding has a name stand for a public address when it is checked, and for this machine when it is used.
func TestRebinding(t *testing.T) {
	t.Parallel()
	reached := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	target := "http://hooks.crossbill-rebinding.net.:" + address.Port() + "/"

	s := newSender(false, nameServer(t, "93.184.215.14", "127.0.0.1"))
	if err := s.CheckTarget(t.Context(), target); err != nil {
		t.Fatalf("a public address is refused: %v", err)
	}
	if r := send(s, target); r.OK || r.Status != 0 || !strings.Contains(r.Error, errPrivate.Error()) || reached {
		t.Errorf("sent: %+v", r)
	}
	err = newSender(false, nameServer(t, "10.1.2.3")).CheckTarget(t.Context(), target)
	if e, ok := err.(*domain.Error); !ok || e.Code != domain.Invalid || len(e.Fields) != 1 || e.Fields[0].Pointer != "/url" {
		t.Errorf("a private address gives %v", err)
	}
	if r := send(newSender(true, nameServer(t, "127.0.0.1")), target); !r.OK || !reached { // or this test shows nothing
		t.Errorf("anywhere: %+v", r)
	}
	if newSender(false, nil).client.Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy would connect for us")
	}
}

// TestAnswers says what is made of what a target answers.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := NewSender(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/later":
			w.Header().Set("Retry-After", r.URL.Query().Get("after"))
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/redirect":
			http.Redirect(w, r, "/ok", http.StatusTemporaryRedirect)
		case "/endless":
			for line := strings.Repeat("x", 32<<10); ; {
				if _, err := io.WriteString(w, line); err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	for after, want := range map[string]time.Duration{"7": 7 * time.Second, "999999": maxRetryAfter, "-7": 0, "0": 0, "soon": 0, "": 0} {
		if r := send(s, server.URL+"/later?after="+url.QueryEscape(after)); r.OK || r.Status != 503 || r.RetryAfter != want || r.Error != "the target answered 503 Service Unavailable" {
			t.Errorf("Retry-After %q: %+v", after, r)
		}
	}
	if r := send(s, server.URL+"/redirect"); r.OK || r.Status != 307 {
		t.Errorf("redirected: %+v", r)
	}
	if r := send(s, server.URL+"/endless"); !r.OK || r.Status != 200 || r.Latency > Timeout/2 {
		t.Errorf("an answer without end: %+v", r)
	}
	server.CloseClientConnections()
	server.Close()
	if r := send(s, server.URL+"/?token=hidden"); r.OK || r.Status != 0 || r.Error == "" || strings.Contains(r.Error, "hidden") {
		t.Errorf("nobody there: %+v", r)
	}
	if got := shortened("a\r\n\x7f\xff" + strings.Repeat("é", maxErrorText)); got != "a   \ufffd"+strings.Repeat("é", maxErrorText-5) {
		t.Errorf("shortened: %q", got)
	}
}

// TestSilentTarget takes no longer than an attempt may: a lease is kept by that.
func TestSilentTarget(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(server.Close)
	t.Cleanup(sync.OnceFunc(func() { close(over) }))
	if r := send(NewSender(true), server.URL); r.OK || r.Error == "" || r.Latency < Timeout || r.Latency > leaseFor {
		t.Errorf("%+v", r)
	}
}

func TestJittered(t *testing.T) {
	t.Parallel()
	least, most := time.Hour, time.Duration(0)
	for range 1000 {
		d := jittered(10 * time.Second)
		least, most = min(least, d), max(most, d)
	}
	if least < 8*time.Second || least > 9*time.Second || most > 12*time.Second || most < 11*time.Second {
		t.Errorf("pauses of 10 s are %v to %v", least, most)
	}
}
