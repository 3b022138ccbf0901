package domain

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var noon = time.Date(2026, 3, 11, 12, 0, 0, 0, time.UTC)

// decodeID is the inverse of encodeID.
func decodeID(t *testing.T, id string) (uuid [16]byte) {
	t.Helper()
	_, body, _ := strings.Cut(id, "_")
	var hi, lo uint64
	for i := range len(body) {
		hi, lo = hi<<5|lo>>59, lo<<5|uint64(strings.IndexByte(idAlphabet, body[i]))
	}
	for i := range 8 {
		uuid[i], uuid[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	return uuid
}

func TestNewID(t *testing.T) {
	t.Parallel()
	// RFC 9562 appendix A.6: the UUIDv7 example, with its time and its random bits.
	at := time.UnixMilli(0x017F22E279B0)
	random := []byte{0x0C, 0xC3, 0x18, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F}
	id, err := NewID(PrefixOrder, at, bytes.NewReader(random))
	if err != nil {
		t.Fatal(err)
	}
	want := [16]byte{0x01, 0x7F, 0x22, 0xE2, 0x79, 0xB0, 0x7C, 0xC3, 0x98, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F}
	if got := decodeID(t, id); got != want || !ValidID(PrefixOrder, id) {
		t.Errorf("%s is %x, want %x", id, got, want)
	}
	if event, err := NewEventID(at, bytes.NewReader(random)); err != nil || event != want {
		t.Errorf("the event id is %x, %v", event, err)
	}
	broken := iotest.ErrReader(errors.New("no entropy"))
	if _, err := NewID(PrefixOrder, at, broken); CodeOf(err) != Internal {
		t.Errorf("an id was made without randomness: %v", err)
	}
	if _, err := NewEventID(at, broken); CodeOf(err) != Internal {
		t.Errorf("an event id was made without randomness: %v", err)
	}
}

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	var ids []string
	for i := range 2000 {
		high := bytes.Repeat([]byte{byte(255 - i)}, 10)
		id, err := NewID(PrefixOrder, noon.Add(time.Duration(i)*37*time.Millisecond), bytes.NewReader(high))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Error("a later id sorts before an earlier one")
	}
}

func TestDerivedIDs(t *testing.T) {
	t.Parallel()
	id := DeriveID(PrefixInvoice, noon, "ab", "c")
	if !ValidID(PrefixInvoice, id) || id != DeriveID(PrefixInvoice, noon, "ab", "c") {
		t.Errorf("%s is not what the parts determine", id)
	}
	if uuid := decodeID(t, id); uuid[6]>>4 != 8 || uuid[8]>>6 != 2 {
		t.Errorf("%x is not a UUIDv8", uuid)
	}
	for _, other := range []string{DeriveID(PrefixInvoice, noon, "a", "bc"), DeriveID(PrefixInvoice, noon, "abc"), DeriveID(PrefixInvoice, noon.Add(time.Millisecond), "ab", "c")} {
		if other == id {
			t.Error("other parts have the same id")
		}
	}
	event := DeriveEventID("ab", "c")
	if event[6]>>4 != 8 || event[8]>>6 != 2 || event != DeriveEventID("ab", "c") || event == DeriveEventID("a", "bc") || event == DeriveEventID("ab", "c", "") {
		t.Errorf("the event id %x is not what the parts determine", event)
	}
}

func TestValidID(t *testing.T) {
	t.Parallel()
	good := "ord_01k9zzzzzzzzzzzzzzzzzzzzzz"
	if !ValidID("ord", good) {
		t.Errorf("%s is refused", good)
	}
	for _, bad := range []string{
		"", "ord", "ord_", good[:len(good)-1], good + "0", "con" + good[3:], strings.ToUpper(good), "ord-" + good[4:], "ord_8" + good[5:],
		"ord_01k9izzzzzzzzzzzzzzzzzzzzz", "ord_01k9uzzzzzzzzzzzzzzzzzzzzz", "ord_01k9 zzzzzzzzzzzzzzzzzzzzz", good + "\n",
	} {
		if ValidID("ord", bad) {
			t.Errorf("%q is allowed", bad)
		}
	}
}

// Any 128 bits come back from their text, and only texts that bits have are valid.
func FuzzID(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0xff}, 16), "ord_01k9zzzzzzzzzzzzzzzzzzzzzz")
	f.Add(make([]byte, 16), "ord_8zzzzzzzzzzzzzzzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if len(raw) == 16 {
			id := "ord_" + encodeID([16]byte(raw))
			if decodeID(t, id) != [16]byte(raw) || !ValidID("ord", id) {
				t.Fatalf("%x is written as %s and read back as %x", raw, id, decodeID(t, id))
			}
		}
		if ValidID("ord", text) && "ord_"+encodeID(decodeID(t, text)) != text {
			t.Fatalf("%q is valid and no id is written so", text)
		}
	})
}
