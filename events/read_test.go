package events

import (
	"fmt"
	"strings"
	"testing"

	"crossbill/domain"
)

// TestLoadGoesOnAfterAShortPage has streams of which a page ends early: because its events are large, or because one of
// them can't be decoded. Neither is the stream's end.
func TestLoadGoesOnAfterAShortPage(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	large := strings.Repeat("x", MaxPayload-100)
	const n = maxReadBytes/MaxPayload + 8
	for i := range n {
		mustAppend(t, l, one("note-large", ExpectedVersion(i), nil, large))
	}
	count := func(n int, _ domain.Event) int { return n + 1 }
	if got, version, err := Load(t.Context(), l, "note-large", count); err != nil || got != n || version != n {
		t.Errorf("%d events, version %d, want %d, %v", got, version, n, err)
	}
	for i := range 3 {
		mustAppend(t, l, one("note-other", ExpectedVersion(i), nil, fmt.Sprint(i)))
	}
	if _, err := pool.Exec(t.Context(), `UPDATE events SET type = 'test.unknown' WHERE stream = 'note-other' AND version = 3`); err != nil {
		t.Fatal(err)
	}
	if _, version, err := Load(t.Context(), l, "note-other", count); err == nil || version != 2 {
		t.Errorf("version %d, error %v", version, err)
	}
}
