package edgeidentity

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var (
	node   = scenario.ID(domain.PrefixEdgeNode, 1)
	secret = strings.Repeat("0a", 32)
	other  = strings.Repeat("0b", 32)
)

func certificate(digit string, at time.Time) Certificate {
	return Certificate{Serial: digit, Fingerprint: strings.Repeat(digit, 64), NotBefore: at, NotAfter: at.Add(CertificateLife)}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	at := scenario.After
	token := TokenIssued{node, secret, at(3600), at(0)}
	first, second, third := certificate("1", at(10)), certificate("2", at(20)), certificate("3", at(30))
	joined := Joined{node, secret, first, at(10)}
	renewed := Renewed{node, first.Fingerprint, second, at(20)}
	revoked := Revoked{node, at(40)}
	otherToken := TokenIssued{node, other, at(3600), at(15)}
	var many []domain.Event
	for _, digit := range strings.Split("12345", "") {
		many = append(many, TokenIssued{node, strings.Repeat(digit, 64), at(60), at(0)})
	}
	renew := func(with Certificate, second int) Renew { return Renew{node, with.Fingerprint, third, at(second)} }
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "token", When: IssueToken{node, secret, TokenLife, at(0)}, Then: []domain.Event{token}},
		{Name: "token with everything wrong", When: IssueToken{}, Code: domain.Invalid, Fields: []string{"/edge_node_id", "/secret_hash", "/valid_seconds", "/at"}},
		{Name: "token for too long", When: IssueToken{node, secret, MaxTokenLife + 1, at(0)}, Code: domain.Invalid, Fields: []string{"/valid_seconds"}},
		{Name: "too many tokens", Given: many, When: IssueToken{node, secret, TokenLife, at(59)}, Code: domain.Conflict},
		{Name: "a token once the others have expired", Given: many, When: IssueToken{node, secret, time.Hour, at(60)}, Then: []domain.Event{TokenIssued{node, secret, at(3660), at(60)}}},
		{Name: "joins", Given: []domain.Event{token}, When: Join{node, secret, first, at(10)}, Then: []domain.Event{joined}},
		{Name: "joins with a certificate that is none", Given: []domain.Event{token}, When: Join{node, secret, Certificate{}, at(10)}, Code: domain.Invalid,
			Fields: []string{"/certificate/serial", "/certificate/fingerprint", "/certificate/not_after"}},
		{Name: "joins twice", Given: []domain.Event{token, joined}, When: Join{node, secret, second, at(20)}, Code: domain.Unauthorised},
		{Name: "joins with nobody's token", Given: []domain.Event{token}, When: Join{node, other, first, at(10)}, Code: domain.Unauthorised},
		{Name: "joins with no token", When: Join{node, "", first, at(10)}, Code: domain.Unauthorised},
		{Name: "joins too late", Given: []domain.Event{token}, When: Join{node, secret, first, at(3600)}, Code: domain.Unauthorised},
		{Name: "joins with a revoked token", Given: []domain.Event{token, revoked}, When: Join{node, secret, first, at(50)}, Code: domain.Unauthorised},
		{Name: "another joins", Given: []domain.Event{token, joined, otherToken}, When: Join{node, other, second, at(20)}, Then: []domain.Event{Joined{node, other, second, at(20)}}},
		{Name: "renews", Given: []domain.Event{token, joined}, When: Renew{node, first.Fingerprint, second, at(20)}, Then: []domain.Event{renewed}},
		{Name: "renews with the old one, whose answer was lost", Given: []domain.Event{token, joined, renewed}, When: renew(first, 30), Then: []domain.Event{Renewed{node, first.Fingerprint, third, at(30)}}},
		{Name: "renews with one of before the last", Given: []domain.Event{token, joined, renewed, Renewed{node, second.Fingerprint, third, at(30)}}, When: renew(first, 35), Code: domain.Unauthorised},
		{Name: "the one whose answer was lost is good no more", Given: []domain.Event{token, joined, renewed, Renewed{node, first.Fingerprint, third, at(30)}}, When: renew(second, 35), Code: domain.Unauthorised},
		{Name: "renews after another has joined", Given: []domain.Event{token, joined, otherToken, Joined{node, other, second, at(20)}}, When: renew(first, 30), Code: domain.Unauthorised},
		{Name: "renews with an expired one", Given: []domain.Event{token, joined}, When: renew(first, 11+24*3600), Code: domain.Unauthorised},
		{Name: "renews when revoked", Given: []domain.Event{token, joined, revoked}, When: renew(first, 50), Code: domain.Unauthorised},
		{Name: "renews to nothing", Given: []domain.Event{token, joined}, When: Renew{EdgeNodeID: node, With: first.Fingerprint, At: at(20)}, Code: domain.Invalid,
			Fields: []string{"/certificate/serial", "/certificate/fingerprint", "/certificate/not_after"}},
		{Name: "revoked", Given: []domain.Event{token, joined}, When: Revoke{node, at(40)}, Then: []domain.Event{revoked}},
		{Name: "a token alone is revoked", Given: []domain.Event{token}, When: Revoke{node, at(40)}, Then: []domain.Event{revoked}},
		{Name: "revoked again", Given: []domain.Event{token, joined, revoked}, When: Revoke{node, at(50)}},
		{Name: "nobody is revoked", When: Revoke{node, at(40)}},
		{Name: "joins after a revocation", Given: []domain.Event{token, joined, revoked, TokenIssued{node, other, at(3600), at(50)}},
			When: Join{node, other, second, at(60)}, Then: []domain.Event{Joined{node, other, second, at(60)}}},
	})
	if s := scenario.Fold(Evolve, token, joined, renewed, revoked, TokenIssued{node, other, at(3600), at(50)}, Joined{node, other, third, at(60)}); s.RevokedAt != nil || len(s.Certificates) != 1 {
		t.Errorf("after it has joined again the state is %+v", s)
	}
}

func TestJoinToken(t *testing.T) {
	t.Parallel()
	token := JoinToken{EdgeNodeID: node, Secret: [32]byte{1, 255}, Authority: [32]byte{2, 254}}
	text := token.String()
	if read, err := ParseJoinToken(" " + text + "\n"); err != nil || read != token {
		t.Errorf("%s reads as %+v: %v", text, read, err)
	}
	for _, wrong := range []string{"", "cbj_", "cbk" + text[3:], text + ".x", text[:len(text)-2], text + "=", strings.Replace(text, ".", ",", 1), strings.ToUpper(text)} {
		if _, err := ParseJoinToken(wrong); domain.CodeOf(err) != domain.Invalid || len(wrong) > 8 && strings.Contains(err.Error(), wrong[8:]) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
