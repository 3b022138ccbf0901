package webhooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"crossbill/domain"
	"crossbill/domain/webhook"
)

// Sender makes attempts. It is safe for concurrent use.
type Sender struct {
	client   *http.Client
	resolver *net.Resolver
	// Anywhere lets it send by plain HTTP and into private networks: for tests, and for who knows what is there.
	Anywhere bool
}

// NewSender makes a sender. Unless anywhere is set, it connects to public addresses only.
func NewSender(anywhere bool) *Sender { return newSender(anywhere, net.DefaultResolver) }

func newSender(anywhere bool, resolver *net.Resolver) *Sender {
	dialer := &net.Dialer{Timeout: Timeout / 2, Resolver: resolver}
	if !anywhere {
		dialer.Control = refusePrivate
	}
	return &Sender{Anywhere: anywhere, resolver: resolver, client: &http.Client{
		Timeout:       Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:       nil, // a proxy would connect for us, past the check
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: Timeout / 2,
			MaxIdleConns: maxSending, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxAnswer,
		},
	}}
}

var errPrivate = errors.New("the address is not in the public internet")

// refusePrivate looks at the address that is about to be connected to, after its name was looked up: a name that stands for
// a public address when it is checked and for a private one when it is used gets nowhere.
func refusePrivate(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", errPrivate, address)
	}
	if !webhook.PublicAddress(to.Addr()) {
		return fmt.Errorf("%w: %s", errPrivate, to.Addr())
	}
	return nil
}

// CheckTarget refuses a target whose name stands for a private address now. A name that stands for nothing yet is let
// through: it is looked at again at each attempt. It returns an Invalid error that points at /url.
func (s *Sender) CheckTarget(ctx context.Context, target string) error {
	u, err := url.Parse(target)
	if err != nil || s.Anywhere {
		return nil // the domain has its say
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	found, err := s.resolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil
	}
	var p domain.Problems
	for _, a := range found {
		if !webhook.PublicAddress(a.Unmap()) {
			p.Add("/url", "%.100s stands for an address that is not in the public internet", u.Hostname())
			break
		}
	}
	return p.Err("webhooks.CheckTarget")
}

// Result is what came of an attempt.
type Result struct {
	OK         bool
	Status     int    // HTTP; 0: there was no answer
	Error      string // "" if it is OK
	Latency    time.Duration
	RetryAfter time.Duration // that the target asked for
}

// Send makes one attempt. Whatever goes wrong is in the result. Any 2xx is a success and any redirect a failure.
func (s *Sender) Send(ctx context.Context, target string, secrets []string, m Message, at time.Time) Result {
	begun := time.Now()
	status, retryAfter, err := s.send(ctx, target, secrets, m, at)
	r := Result{OK: err == nil, Status: status, Latency: time.Since(begun), RetryAfter: retryAfter}
	if err != nil {
		r.Error = shortened(err.Error())
	}
	return r
}

func (s *Sender) send(ctx context.Context, target string, secrets []string, m Message, at time.Time) (status int, retryAfter time.Duration, err error) {
	signature, err := Sign(secrets, m.ID, at, m.Body)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(m.Body))
	if err != nil {
		return 0, 0, err
	}
	r.Header.Set("Content-Type", "application/cloudevents+json; charset=UTF-8")
	r.Header.Set("User-Agent", "Crossbill-Webhooks/1")
	r.Header["webhook-id"] = []string{m.ID} // as the specification writes them; HTTP does not mind
	r.Header["webhook-timestamp"] = []string{strconv.FormatInt(at.Unix(), 10)}
	r.Header["webhook-signature"] = []string{signature}
	response, err := s.client.Do(r)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) { // the address, which may hold a token, is known anyway
			err = outer.Err
		}
		return 0, 0, err
	}
	defer response.Body.Close()
	io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)) // so that the connection can be used again
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		retryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if response.StatusCode/100 != 2 {
		return response.StatusCode, retryAfter, fmt.Errorf("the target answered %s", response.Status)
	}
	return response.StatusCode, 0, nil
}

// shortened is a text that a table and an event can hold.
func shortened(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	if runes := []rune(text); len(runes) > maxErrorText {
		text = string(runes[:maxErrorText])
	}
	return text
}
