package events

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"crossbill/domain"
)

func sampleRecord() Record {
	return Record{
		Position: 258, Version: 3, RecordedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), ID: [16]byte{15: 0xff}, Schema: 2,
		Stream: "note-a", Type: "test.noted", Metadata: []byte(`{}`), Payload: []byte(`{"text":"x"}`), Salt: [16]byte{0xaa},
	}
}

// TestParseRecord reads a record back, and refuses it when a byte is missing anywhere or one too many.
func TestParseRecord(t *testing.T) {
	t.Parallel()
	encoded := sampleRecord().Encode()
	if !bytes.Equal(encoded, sampleLeaf().appendTo(nil)) {
		t.Errorf("record %x is not the leaf's", encoded)
	}
	if r, err := ParseRecord(encoded); err != nil || !reflect.DeepEqual(r, sampleRecord()) {
		t.Errorf("read back: %+v, %v", r, err)
	}
	for i := range encoded {
		if _, err := ParseRecord(encoded[:i]); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("the first %d bytes: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{
		"a byte more": append(bytes.Clone(encoded), 0), "another layout": append([]byte{2}, encoded[1:]...),
		"a position past all": append([]byte{1, 0x80}, encoded[2:]...), "a length past all": bytes.Replace(encoded, []byte("\x00\x00\x00\x06note"), []byte("\xff\xff\xff\xffnote"), 1),
	} {
		if _, err := ParseRecord(bad); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStreamPositions finds a stream's events among others, and does not pass over one that is gone.
func TestStreamPositions(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	for range 3 {
		mustAppend(t, l, one("note-a", Any, nil, "1", "2"))
		mustAppend(t, l, one("note-b", Any, nil, "3"))
	}
	for _, c := range []struct {
		last  Position
		limit int
		want  []Position
	}{
		{100, 100, []Position{1, 2, 4, 5, 7, 8}}, {7, 100, []Position{1, 2, 4, 5, 7}}, {6, 100, []Position{1, 2, 4, 5}}, {100, 3, []Position{1, 2, 4}}, {0, 100, nil},
	} {
		if got, err := RecordsIn(pool).Stream(t.Context(), "note-a", c.last, c.limit); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("up to %d, %d of them: %v, %v", c.last, c.limit, got, err)
		}
	}
	if _, err := pool.Exec(t.Context(), `DELETE FROM events WHERE position = 4`); err != nil {
		t.Fatal(err)
	}
	_, err := RecordsIn(pool).Stream(t.Context(), "note-a", 100, 100)
	requireCode(t, err, domain.Conflict)
}

// FuzzParseRecord: what is read is written the same again, so that a record has one meaning and a meaning one record.
func FuzzParseRecord(f *testing.F) {
	f.Add(sampleRecord().Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRecord(b); err == nil && !bytes.Equal(r.Encode(), b) {
			t.Errorf("%x is written again as %x", b, r.Encode())
		}
	})
}
