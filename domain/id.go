package domain

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"strings"
	"time"
)

// An identifier is a prefix of three letters, an underscore and a UUID (RFC 9562) in lower-case Crockford base 32, 26
// characters: "ord_01k9…". New identifiers sort by the time they were minted, to the millisecond.
const (
	PrefixOrganisation   = "org"
	PrefixMember         = "mem"
	PrefixAPIKey         = "key"
	PrefixLocation       = "loc"
	PrefixEdgeNode       = "edg"
	PrefixPort           = "prt"
	PrefixListing        = "lst"
	PrefixQuote          = "quo"
	PrefixOrder          = "ord"
	PrefixConnection     = "con"
	PrefixSession        = "bgp"
	PrefixFeeSchedule    = "fee"
	PrefixBillingRun     = "run"
	PrefixInvoice        = "inv"
	PrefixSettlement     = "set"
	PrefixCreditNote     = "crn"
	PrefixPayment        = "pay"
	PrefixPayout         = "pyo"
	PrefixProbe          = "prb"
	PrefixBillingAccount = "bac"
	PrefixBudget         = "bud"
	PrefixWebhook        = "whk"

	PrefixServiceKey      = "svk"
	PrefixRedundancyGroup = "rgp"
)

// idAlphabet is Crockford's base 32 in lower case: no i, l, o or u.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// idBodyLen is the length of 128 bits in base 32.
const idBodyLen = 26

// NewID mints an identifier from a UUIDv7 of the given time (UTC, milliseconds) and 10 bytes of random.
// It returns an error only if random does.
func NewID(prefix string, at time.Time, random io.Reader) (string, error) {
	var entropy [10]byte
	if _, err := io.ReadFull(random, entropy[:]); err != nil {
		return "", Errorf(Internal, "domain.NewID", "the random source failed: %w", err)
	}
	return prefix + "_" + encodeID(uuid7(at, entropy, 7)), nil
}

// NewEventID mints an event id, a UUIDv7 of the given time. It returns an error only if random does.
func NewEventID(at time.Time, random io.Reader) ([16]byte, error) {
	var entropy [10]byte
	if _, err := io.ReadFull(random, entropy[:]); err != nil {
		return [16]byte{}, Errorf(Internal, "domain.NewEventID", "the random source failed: %w", err)
	}
	return uuid7(at, entropy, 7), nil
}

// DeriveID returns the identifier that the parts determine: the same time and parts give the same identifier on every
// machine, so a step that is run twice names the same thing. It is a UUIDv8 with the time where UUIDv7 has it.
func DeriveID(prefix string, at time.Time, parts ...string) string {
	digest := digestParts(parts)
	return prefix + "_" + encodeID(uuid7(at, [10]byte(digest[:10]), 8))
}

// DeriveEventID returns the event id (a UUIDv8) that the parts determine.
// Appending an event under a derived id twice records it once.
func DeriveEventID(parts ...string) [16]byte {
	digest := digestParts(parts)
	id := [16]byte(digest[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ValidID reports whether id has the given prefix and the shape of an identifier.
func ValidID(prefix, id string) bool {
	body, ok := strings.CutPrefix(id, prefix+"_")
	if !ok || len(body) != idBodyLen || body[0] > '7' { // the first character holds only three bits
		return false
	}
	for i := range len(body) {
		if strings.IndexByte(idAlphabet, body[i]) < 0 {
			return false
		}
	}
	return true
}

// digestParts hashes the parts length-prefixed, so that ("ab","c") and ("a","bc") differ.
func digestParts(parts []string) [32]byte {
	var room [256]byte // most have fewer bytes, and then nothing is allocated
	b := room[:0]
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// uuid7 lays out RFC 9562 section 5.7: 48 bits of Unix milliseconds, then version, entropy, variant, entropy.
func uuid7(at time.Time, entropy [10]byte, version byte) (id [16]byte) {
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	copy(id[6:], entropy[:])
	id[6] = id[6]&0x0f | version<<4
	id[8] = id[8]&0x3f | 0x80
	return id
}

func encodeID(id [16]byte) string {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var out [idBodyLen]byte
	for i := idBodyLen - 1; i >= 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}
