package stripe

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"crossbill/domain"
	"crossbill/domain/vocabulary"
	"crossbill/events"
)

// memlog is a log in memory with the versions, ids and codec of the real one, so that thousands of schedules can be tried.
// The same schedules run on the real one too, a few of them.
type memlog struct {
	mu    sync.Mutex
	codec *events.Codec
	all   []events.Recorded
	ids   map[[16]byte]int
}

func newMemlog(t testing.TB) *memlog {
	t.Helper()
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	return &memlog{codec: codec, ids: make(map[[16]byte]int)}
}

func (l *memlog) version(stream string) (n int64) {
	for _, r := range l.all {
		if r.Stream == stream {
			n++
		}
	}
	return n
}

func (l *memlog) Append(_ context.Context, a events.Append) (events.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var made []events.Recorded
	for _, s := range a.Streams {
		version := l.version(s.Stream)
		for _, e := range s.Events {
			kind, schema, payload, err := l.codec.Encode(e.Event)
			if err != nil {
				return events.Result{}, err
			}
			if at, known := l.ids[e.ID]; known && e.ID != ([16]byte{}) {
				if l.all[at].Stream == s.Stream && bytes.Equal(l.all[at].Data, payload) {
					return events.Result{Duplicate: true}, nil
				}
				return events.Result{}, domain.Errorf(domain.Conflict, "memlog", "the event id is that of another event")
			}
			decoded, err := l.codec.Decode(kind, schema, payload)
			if err != nil {
				return events.Result{}, err
			}
			version++
			made = append(made, events.Recorded{ID: e.ID, Stream: s.Stream, Version: version, Type: kind, Event: decoded, Data: payload, Metadata: e.Metadata})
		}
		if actual := l.version(s.Stream); s.Expected != events.Any && int64(s.Expected) != actual {
			return events.Result{}, domain.Errorf(domain.Conflict, "memlog", "not at that version: %w", &events.VersionConflict{Stream: s.Stream, Expected: s.Expected, Actual: actual})
		}
	}
	for _, r := range made {
		l.ids[r.ID] = len(l.all)
		r.Position = events.Position(len(l.all) + 1)
		l.all = append(l.all, r)
	}
	return events.Result{}, nil
}

func (l *memlog) ReadStream(_ context.Context, stream string, after int64, limit int) (page []events.Recorded, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.all {
		if r.Stream == stream && r.Version > after && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, nil
}

func (l *memlog) ReadCategory(_ context.Context, category string, after events.Position, limit int) (page []events.Recorded, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.all {
		if strings.HasPrefix(r.Stream, category+"-") && r.Position > after && len(page) < limit {
			page = append(page, r)
		}
	}
	return page, nil
}
