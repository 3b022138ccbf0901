package edgeidentity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"crossbill/domain"
)

// PlatformName is the DNS name in the certificate that the platform shows its edge nodes. It is no name that anybody can
// be given: what makes it the platform's is the authority that the nodes trust, whatever the address they reach it at.
const PlatformName = "platform.crossbill.internal"

// JoinToken is what a machine joins with: which node it becomes, the secret that lets it, and the platform it may trust.
type JoinToken struct {
	EdgeNodeID string
	Secret     [32]byte
	Authority  [sha256.Size]byte // of the public key (SubjectPublicKeyInfo) of the platform's authority
}

const tokenPrefix = "cbj_"

// String is the token as it is handed to the machine: "cbj_<body of the node's id>.<secret>.<authority>", in base64url.
func (t JoinToken) String() string {
	return tokenPrefix + strings.TrimPrefix(t.EdgeNodeID, domain.PrefixEdgeNode+"_") +
		"." + base64.RawURLEncoding.EncodeToString(t.Secret[:]) + "." + base64.RawURLEncoding.EncodeToString(t.Authority[:])
}

// SecretHash is what the log has of the token: a plain SHA-256, for the secret has 256 random bits.
func (t JoinToken) SecretHash() string {
	sum := sha256.Sum256(t.Secret[:])
	return hex.EncodeToString(sum[:])
}

// ParseJoinToken reads a token. It returns an Invalid error, without the text, for what is none.
func ParseJoinToken(text string) (t JoinToken, _ error) {
	wrong := domain.Errorf(domain.Invalid, "edgeidentity.ParseJoinToken", "that is no join token").
		WithHint("a join token begins with %s and is in the answer to POST /v1/edge-nodes/{id}/join-tokens", tokenPrefix)
	body, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	parts := strings.Split(body, ".")
	if !ok || len(parts) != 3 {
		return t, wrong
	}
	t.EdgeNodeID = domain.PrefixEdgeNode + "_" + parts[0]
	secret, err1 := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	authority, err2 := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if !domain.ValidID(domain.PrefixEdgeNode, t.EdgeNodeID) || err1 != nil || err2 != nil || len(secret) != len(t.Secret) || len(authority) != len(t.Authority) {
		return JoinToken{}, wrong
	}
	t.Secret, t.Authority = [32]byte(secret), [sha256.Size]byte(authority)
	return t, nil
}
