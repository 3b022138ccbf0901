package vault

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"

	"crossbill/domain"
)

// A sealed text reads "enc1.<key id in hexadecimal>.<nonce, ciphertext and tag in base64url>".
const (
	sealedPrefix = "enc1."
	nonceSize    = 12
	tagSize      = 16
	padTo        = 32 // bytes: of a text's length only the number of such blocks can be seen
)

// Place is where a sealed text stands. It is authenticated with the text, which therefore opens nowhere else.
type Place struct {
	EventID   [16]byte
	EventType string
	Field     domain.PersonalField // its Text is not part of the place
}

// bytes encodes the place, length-prefixed, so that no two places have the same bytes.
func (p Place) bytes() []byte {
	b := []byte("crossbill personal text 1")
	b = append(b, p.EventID[:]...)
	for _, s := range []string{p.EventType, p.Field.Name, p.Field.Subject} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

// subjectKey encrypts the texts about one subject.
type subjectKey struct {
	id       [8]byte
	raw      []byte // as it is wrapped
	aead     cipher.AEAD
	nonceKey []byte
}

func newSubjectKey(id [8]byte, raw []byte) (*subjectKey, error) {
	if len(raw) != keySize {
		return nil, errors.New("a subject's key has the wrong length")
	}
	k := &subjectKey{id: id, raw: raw}
	var err error
	if k.nonceKey, err = derive(raw, "crossbill subject key makes nonces", keySize); err != nil {
		return nil, err
	}
	k.aead, err = deriveAEAD(raw, "crossbill subject key encrypts texts")
	return k, err
}

// seal encrypts a text for a place. The nonce is a keyed hash of place and text: the same text at the same place is
// sealed to the same bytes, which is how the log knows a repetition, and a nonce is never used for two texts, not even by
// an append that was refused and came again with another text (its bytes may be in PostgreSQL's write-ahead log). Nothing
// else can be seen from it, because the event's id is part of the place.
func (k *subjectKey) seal(p Place, text string) string {
	padded := append([]byte(text), 0x80) // ISO/IEC 7816-4
	for len(padded)%padTo != 0 {
		padded = append(padded, 0)
	}
	place := p.bytes()
	mac := hmac.New(sha256.New, k.nonceKey)
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(place))))
	mac.Write(place)
	mac.Write(padded)
	nonce := mac.Sum(nil)[:nonceSize]
	sealed := k.aead.Seal(nonce, nonce, padded, place)
	return sealedPrefix + hex.EncodeToString(k.id[:]) + "." + base64.RawURLEncoding.EncodeToString(sealed)
}

// open is the reverse of seal.
func (k *subjectKey) open(p Place, sealed []byte) (string, error) {
	if len(sealed) < nonceSize+tagSize {
		return "", errors.New("it is too short")
	}
	padded, err := k.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], p.bytes())
	if err != nil {
		return "", errors.New("it was changed, or stood elsewhere")
	}
	text, ok := strings.CutSuffix(strings.TrimRight(string(padded), "\x00"), "\x80")
	if !ok {
		return "", errors.New("its padding is wrong")
	}
	return text, nil
}

// parseSealed takes a sealed text apart. ok is false for a text that is not sealed.
func parseSealed(text string) (keyID [8]byte, sealed []byte, ok bool) {
	rest, ok := strings.CutPrefix(text, sealedPrefix)
	if !ok {
		return keyID, nil, false
	}
	id, body, ok := strings.Cut(rest, ".")
	if n, err := hex.DecodeString(id); !ok || err != nil || copy(keyID[:], n) != len(keyID) || len(n) != len(keyID) {
		return keyID, nil, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(body)
	return keyID, sealed, err == nil
}

// Sealed reports whether a text is one that a vault has sealed.
func Sealed(text string) bool {
	_, _, ok := parseSealed(text)
	return ok
}

// Ring holds the keys of some subjects as they were at one moment. It is not kept: a kept one would go on opening what is
// erased since.
type Ring map[string]*keys

// keys is what the vault has of one subject. It is not changed once it is made.
type keys struct {
	erased  bool
	byID    map[[8]byte]*subjectKey
	current *subjectKey // nil: none
}

// Erased reports whether the subject is erased.
func (r Ring) Erased(subject string) bool {
	k := r[subject]
	return k != nil && k.erased
}

// Seal encrypts the field's text for its place. It returns an Internal error if the ring has no key to do it with.
func (r Ring) Seal(p Place) (string, error) {
	k := r[p.Field.Subject]
	if k == nil || k.current == nil {
		return "", domain.Errorf(domain.Internal, "vault.Seal", "there is no key for %q", p.Field.Subject)
	}
	return k.current.seal(p, p.Field.Text), nil
}

// Open returns the text that the field's text was sealed from: [domain.Erased] if its subject is erased, and
// [domain.Unreadable] if the vault does not have its key. A text that is not sealed was recorded before there was a vault;
// it is returned as it is, unless its subject is erased.
//
// It returns an Internal error if the text was sealed elsewhere or is not what was sealed.
func (r Ring) Open(p Place) (string, error) {
	if r.Erased(p.Field.Subject) {
		return domain.Erased, nil
	}
	id, sealed, ok := parseSealed(p.Field.Text)
	if !ok {
		return p.Field.Text, nil
	}
	var key *subjectKey
	if k := r[p.Field.Subject]; k != nil {
		key = k.byID[id]
	}
	if key == nil {
		return domain.Unreadable, nil
	}
	text, err := key.open(p, sealed)
	if err != nil {
		return "", domain.Errorf(domain.Internal, "vault.Open", "the encrypted %s of %s can't be opened: %w", p.Field.Name, p.EventType, err).
			WithHint("verify the log: crossbill log verify")
	}
	return text, nil
}
