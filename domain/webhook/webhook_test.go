package webhook

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestWebhook(t *testing.T) {
	t.Parallel()
	id, org := scenario.ID(domain.PrefixWebhook, 1), scenario.ID(domain.PrefixOrganisation, 1)
	secret, other := SecretPrefix+strings.Repeat("AAAA", 8), SecretPrefix+strings.Repeat("BBBB", 8)
	target := Target{URL: "https://hooks.example.com/x?y=1", Types: []string{"order.*", "invoice.issued"}, Description: "orders"}
	at := scenario.Noon
	create := Create{WebhookID: id, OrganisationID: org, Target: target, Secret: secret, After: 7, At: at}
	created := Created{id, org, target, secret, 7, at}
	disabled := Disabled{id, ReasonFailing, "503", at}
	with := func(change func(*Create)) Create {
		c := create
		c.Target.Types = append([]string(nil), c.Target.Types...)
		change(&c)
		return c
	}
	cases := []scenario.Case[Command]{
		{Name: "create", When: create, Then: []domain.Event{created}},
		{Name: "create again", Given: []domain.Event{created}, When: create, Code: domain.Conflict},
		{Name: "everything", When: with(func(c *Create) { c.Target.Types = []string{"*"} }), Then: []domain.Event{Created{id, org, Target{target.URL, []string{"*"}, "orders"}, secret, 7, at}}},
		{Name: "anywhere", When: with(func(c *Create) { c.Target.URL, c.Anywhere = "http://127.0.0.1:80/", true }),
			Then: []domain.Event{Created{id, org, Target{"http://127.0.0.1:80/", target.Types, "orders"}, secret, 7, at}}},
		{Name: "a bad pattern", When: with(func(c *Create) { c.Target.Types[1] = "order" }), Code: domain.Invalid, Fields: []string{"/types/1"}},
		{Name: "no pattern", When: with(func(c *Create) { c.Target.Types = nil }), Code: domain.Invalid, Fields: []string{"/types"}},
		{Name: "a short secret", When: with(func(c *Create) { c.Secret = SecretPrefix + "AAAA" }), Code: domain.Invalid, Fields: []string{"/secret"}},
		{Name: "update", Given: []domain.Event{created}, When: Update{Target: target, At: at}, Then: []domain.Event{Updated{id, target, at}}},
		{Name: "rotate", Given: []domain.Event{created}, When: RotateSecret{other, time.Hour, at}, Then: []domain.Event{SecretRotated{id, org, other, at.Add(time.Hour), at}}},
		{Name: "rotate with too long an overlap", Given: []domain.Event{created}, When: RotateSecret{other, MaxOverlap + 1, at}, Code: domain.Invalid, Fields: []string{"/overlap_seconds"}},
		{Name: "disable", Given: []domain.Event{created}, When: Disable{ReasonFailing, "503", at}, Then: []domain.Event{disabled}},
		{Name: "disable again", Given: []domain.Event{created, disabled}, When: Disable{ReasonRequest, "", at}},
		{Name: "disable for nothing", Given: []domain.Event{created}, When: Disable{"", "", at}, Code: domain.Invalid, Fields: []string{"/reason"}},
		{Name: "enable", Given: []domain.Event{created, disabled}, When: Enable{at}, Then: []domain.Event{Enabled{id, at}}},
		{Name: "enable again", Given: []domain.Event{created}, When: Enable{at}},
		{Name: "rewind", Given: []domain.Event{created}, When: Rewind{3, at}, Then: []domain.Event{Rewound{id, 3, at}}},
		{Name: "rewind to before the log", Given: []domain.Event{created}, When: Rewind{-1, at}, Code: domain.Invalid, Fields: []string{"/after"}},
		{Name: "replay", Given: []domain.Event{created}, When: ReplayDeadLetter{3, at}, Then: []domain.Event{DeadLetterReplayed{id, 3, at}}},
		{Name: "replay while disabled", Given: []domain.Event{created, disabled}, When: ReplayDeadLetter{3, at}, Code: domain.Conflict},
		{Name: "delete", Given: []domain.Event{created}, When: Delete{at}, Then: []domain.Event{Deleted{id, at}}},
		{Name: "delete again", Given: []domain.Event{created, Deleted{id, at}}, When: Delete{at}, Code: domain.NotFound},
		{Name: "update what is not there", When: Update{Target: target, At: at}, Code: domain.NotFound},
	}
	for _, bad := range []string{
		"", "hooks.example.com", "http://hooks.example.com/", "ftp://hooks.example.com/", "https://", "https:///x", "https://user:pw@hooks.example.com/",
		"https://hooks.example.com/#x", "https://localhost/", "https://a.localhost/", "https://printer.local/", "https://metadata.google.internal/",
		"https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1%25eth0]/",
		"https://169.254.169.254/latest", "https://intranet/", "https://127.1/", "https://hooks.example.com/" + strings.Repeat("x", MaxURL),
	} {
		cases = append(cases, scenario.Case[Command]{Name: "target " + bad, When: with(func(c *Create) { c.Target.URL = bad }), Code: domain.Invalid, Fields: []string{"/url"}})
	}
	scenario.Run(t, Decide, Evolve, cases)

	s := scenario.Fold(Evolve, domain.Event(created), SecretRotated{id, org, other, at.Add(time.Hour), at})
	if got := s.Secrets(at.Add(time.Minute)); len(got) != 2 || got[0] != other || got[1] != secret {
		t.Errorf("in the overlap it signs with %d secrets", len(got))
	}
	if got := s.Secrets(at.Add(time.Hour)); len(got) != 1 || got[0] != other {
		t.Errorf("after the overlap it signs with %d secrets", len(got))
	}
}

func TestPublicAddress(t *testing.T) {
	t.Parallel()
	for _, public := range []string{"1.1.1.1", "93.184.215.14", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "169.253.0.1", "2606:4700::1111", "2a00::1"} {
		if !PublicAddress(netip.MustParseAddr(public)) {
			t.Errorf("%s is refused", public)
		}
	}
	for _, private := range []string{
		"0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.192", "192.168.0.1", "198.18.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1",
		"2001:db8::1", "2002:7f00:1::", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "3fff::1", "5f00::1",
	} {
		if PublicAddress(netip.MustParseAddr(private)) {
			t.Errorf("%s is let through", private)
		}
	}
}
