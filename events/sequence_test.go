package events

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"crossbill/domain"
)

// TestSequences writes events of a stream that nobody made before, and then some of them again under other
// expectations. The cases are those by which KurrentDB's append is known (its test "appending to implicitly created
// stream"), in its notation: 1e0 is event 1 written where event 0 is expected to be the last, em1 expects no stream, any
// anything, and S…E is written as one batch. Its event numbers begin at 0 and our versions at 1.
//
// An event's id is looked at before the expected version, and names one event for good. So there are four sequences that
// KurrentDB answers otherwise; docs/log.md says why.
func TestSequences(t *testing.T) {
	t.Parallel()
	const six = "012345"
	type write struct {
		expected ExpectedVersion
		events   string // one digit each, which is the event's id and text
	}
	for _, c := range []struct {
		sequence string
		first    string // written at once, where no stream is expected
		again    []write
		conflict bool   // of what is written again; otherwise it is a repetition and changes nothing
		differs  string // what KurrentDB does instead
	}{
		{"0em1 1e0 2e1 3e2 4e3 5e4 0em1", six, []write{{NoStream, "0"}}, false, ""},
		{"0em1 1e0 2e1 3e2 4e3 5e4 0any", six, []write{{Any, "0"}}, false, ""},
		{"0em1 1e0 2e1 3e2 4e3 5e4 0e5", six, []write{{6, "0"}}, false, "records event 0 a second time"},
		{"0em1 1e0 2e1 3e2 4e3 5e4 0e6", six, []write{{7, "0"}}, false, "refuses the version"},
		{"0em1 1e0 2e1 3e2 4e3 5e4 0e4", six, []write{{5, "0"}}, false, "refuses the version"},
		{"0em1 0e0", "0", []write{{1, "0"}}, false, "records event 0 a second time"},
		{"0em1 0any", "0", []write{{Any, "0"}}, false, ""},
		{"0em1 0em1", "0", []write{{NoStream, "0"}}, false, ""},
		{"0em1 1e0 2e1 1any 1any", "012", []write{{Any, "1"}, {Any, "1"}}, false, ""},
		{"S 0em1 1em1 E S 0em1 E", "01", []write{{NoStream, "0"}}, false, ""},
		{"S 0em1 1em1 E S 0any E", "01", []write{{Any, "0"}}, false, ""},
		{"S 0em1 1em1 E S 1e0 E", "01", []write{{1, "1"}}, false, ""},
		{"S 0em1 1em1 E S 1any E", "01", []write{{Any, "1"}}, false, ""},
		{"S 0em1 1em1 E S 0em1 1em1 2em1 E", "01", []write{{NoStream, "012"}}, true, ""},
	} {
		t.Run(c.sequence, func(t *testing.T) {
			t.Parallel()
			l, pool := openLog(t)
			version := ExpectedVersion(0)
			if c.sequence[0] == 'S' {
				mustAppend(t, l, digits("note-a", NoStream, c.first))
			} else {
				for ; int(version) < len(c.first); version++ {
					mustAppend(t, l, digits("note-a", version, c.first[version:version+1]))
				}
			}
			for _, w := range c.again {
				r, err := l.Append(t.Context(), digits("note-a", w.expected, w.events))
				if c.conflict {
					requireCode(t, err, domain.Conflict)
					continue
				}
				at := Position(w.events[0] - '0' + 1)
				if want := (Result{at, at, true}); err != nil || r != want {
					t.Errorf("event %s at %d: %+v, %v; want %+v", w.events, w.expected, r, err, want)
				}
			}
			if h := requireSound(t, pool); int(h.Position) != len(c.first) {
				t.Errorf("%d events, want %d", h.Position, len(c.first))
			}
		})
	}
}

// digits is an append of events of which each digit is one, with its id.
func digits(stream string, expected ExpectedVersion, events string) Append {
	var ids []byte
	var texts []string
	for _, d := range events {
		ids, texts = append(ids, byte(d)), append(texts, string(d))
	}
	return one(stream, expected, ids, texts...)
}

// TestRetries repeats appends as callers do that did not hear the answer, and as they should not: each case begins with
// a stream of the events 0, 1 and 2, of which 1 and 2 were one batch.
func TestRetries(t *testing.T) {
	t.Parallel()
	recorded := func(first, last Position) Result { return Result{first, last, true} }
	fresh := func(first, last Position) Result { return Result{First: first, Last: last} }
	for _, c := range []struct {
		name string
		a    Append
		want Result // or none, and then a conflict
	}{
		{"the last batch, as it was", digits("note-a", 1, "12"), recorded(2, 3)},
		{"the last batch, expecting what there is now", digits("note-a", 3, "12"), recorded(2, 3)},
		{"the last batch, expecting anything", digits("note-a", Any, "12"), recorded(2, 3)},
		{"the last batch, expecting a stream", digits("note-a", StreamExists, "12"), recorded(2, 3)},
		{"all as one batch", digits("note-a", NoStream, "012"), recorded(1, 3)},
		{"across two batches", digits("note-a", Any, "01"), recorded(1, 2)},
		{"not one after the other", digits("note-a", Any, "02"), recorded(1, 3)},
		{"overlap at the end, expecting the version before it", digits("note-a", 1, "123"), Result{}},
		{"overlap at the end, expecting anything", digits("note-a", Any, "123"), Result{}},
		{"overlap at the end, expecting what there is now", digits("note-a", 3, "23"), Result{}},
		{"overlap at the beginning", digits("note-a", Any, "92"), Result{}},
		{"overlap in the middle", digits("note-a", Any, "819"), Result{}},
		{"the other way round", digits("note-a", 1, "21"), Result{}},
		{"to another stream", digits("note-b", NoStream, "12"), Result{}},
		{"an id with another text", one("note-a", Any, []byte{'1'}, "other"), Result{}},
		{"what is new", digits("note-a", 3, "3"), fresh(4, 4)},
		{"what is new, late", digits("note-a", 2, "3"), Result{}},
		{"the same texts without ids", one("note-a", 3, nil, "1", "2"), fresh(4, 5)},
		{"two streams, one of them recorded", Append{Streams: []StreamAppend{
			digits("note-b", NoStream, "7").Streams[0], digits("note-a", 1, "12").Streams[0]}}, Result{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, pool := openLog(t)
			mustAppend(t, l, digits("note-a", NoStream, "0"))
			mustAppend(t, l, digits("note-a", 1, "12"))
			end := Position(3)
			for try := range 2 { // the second time is a repetition of whatever came of the first
				r, err := l.Append(context.Background(), c.a)
				if c.want == (Result{}) {
					requireCode(t, err, domain.Conflict)
					continue
				}
				want := c.want
				if !want.Duplicate {
					if end = want.Last; try == 1 {
						if c.a.Streams[0].Events[0].ID == ([16]byte{}) {
							var conflict *VersionConflict
							if !errors.As(err, &conflict) || conflict.Actual != int64(end) {
								t.Errorf("events without ids again: %+v, %v", r, err)
							}
							continue
						}
						want.Duplicate = true
					}
				}
				if err != nil || r != want {
					t.Errorf("try %d: %+v, %v; want %+v", try, r, err, want)
				}
			}
			if h := requireSound(t, pool); h.Position != end {
				t.Errorf("%d events, want %d", h.Position, end)
			}
		})
	}
}

// TestRetryOfManyStreams repeats an append to many streams after other writers went on in each of them.
func TestRetryOfManyStreams(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	var a Append
	for i := range 5 {
		a.Streams = append(a.Streams, one(fmt.Sprintf("note-%d", i), NoStream, []byte{byte(2 * i), byte(2*i + 1)}, "x", "y").Streams...)
	}
	first := mustAppend(t, l, a)
	for i := range 5 {
		mustAppend(t, l, one(fmt.Sprintf("note-%d", i), 2, nil, "z"))
	}
	if r := mustAppend(t, l, a); r != (Result{first.First, first.Last, true}) || first != (Result{First: 1, Last: 10}) {
		t.Errorf("first %+v, again %+v", first, r)
	}
	a.Streams[4].Events[1].Event = noted{"other"}
	_, err := l.Append(t.Context(), a)
	requireCode(t, err, domain.Conflict)
	if h := requireSound(t, pool); h.Position != 15 {
		t.Errorf("head %d", h.Position)
	}
}
