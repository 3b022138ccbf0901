package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"crossbill/domain"
)

// TestLoad_ShortPages loads streams whose pages end before the number of events asked for: by their size, and before an
// event that can't be decoded. A state of which events are missing would let wrong decisions be made.
func TestLoad_ShortPages(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	const large, each = 40, 12
	for n := 0; n < large; n += each {
		var a []string
		for i := n; i < min(large, n+each); i++ {
			a = append(a, fmt.Sprintf("%02d%s", i, strings.Repeat("x", 900<<10)))
		}
		mustAppend(t, l, one("note-large", Any, nil, a...))
	}
	if page, err := l.ReadStream(t.Context(), "note-large", 0, loadPage); err != nil || len(page) == 0 || len(page) >= large {
		t.Fatalf("a page has %d of %d events, %v; the test needs a short one", len(page), large, err)
	}
	texts := func(s []string, e domain.Event) []string { return append(s, e.(noted).Text[:2]) }
	got, version, err := Load(t.Context(), l, "note-large", texts)
	if err != nil || version != large || len(got) != large || got[large-1] != "39" {
		t.Errorf("%d events, version %d, %v", len(got), version, err)
	}

	codec, err := NewCodec([]domain.Event{noted{}, grown{}})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := Open(t.Context(), pool, codec, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(newer.Close)
	mustAppend(t, l, one("note-mixed", Any, nil, "one", "two"))
	mustAppend(t, newer, Append{Streams: []StreamAppend{{Stream: "note-mixed", Expected: Any, Events: []NewEvent{{Event: grown{}}}}}})
	mustAppend(t, l, one("note-mixed", Any, nil, "four"))
	if got, version, err := Load(t.Context(), l, "note-mixed", texts); !errors.Is(err, ErrUndecodable) || !strings.Contains(err.Error(), "test.grown") {
		t.Errorf("the state of an undecodable stream: %q, version %d, %v", got, version, err)
	}
}
