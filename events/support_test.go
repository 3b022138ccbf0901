package events

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/events/pgtest"
)

// noted is an event for tests.
type noted struct {
	Text string `json:"text"`
}

func (noted) EventType() string { return "test.noted" }

func newCodec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec([]domain.Event{noted{}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openLog opens a node's access to the log in a database of the test's own.
func openLog(t testing.TB) (*Log, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.New(t)
	return openOn(t, pool, Options{}), pool
}

func openOn(t testing.TB, pool *pgxpool.Pool, o Options) *Log {
	t.Helper()
	l, err := Open(context.Background(), pool, newCodec(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// one is an append of events with the given texts to one stream. An id is given where ids has one.
func one(stream string, expected ExpectedVersion, ids []byte, texts ...string) Append {
	s := StreamAppend{Stream: stream, Expected: expected}
	for i, text := range texts {
		e := NewEvent{Event: noted{text}}
		if i < len(ids) {
			e.ID = testID(ids[i])
		}
		s.Events = append(s.Events, e)
	}
	return Append{Streams: []StreamAppend{s}}
}

func testID(n byte) [16]byte { return domain.DeriveEventID("test", fmt.Sprint(n)) }

func mustAppend(t testing.TB, l *Log, a Append) Result {
	t.Helper()
	r, err := l.Append(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func requireCode(t testing.TB, err error, code domain.Code) {
	t.Helper()
	if domain.CodeOf(err) != code {
		t.Fatalf("error %v, want code %q", err, code)
	}
}

// texts returns the texts of all events, in order of position.
func texts(t testing.TB, l *Log) []string {
	t.Helper()
	all := []string{}
	for {
		page, err := l.ReadAll(context.Background(), Position(len(all)), MaxRead)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		for _, r := range page {
			all = append(all, r.Event.(noted).Text)
		}
	}
}

// requireSound verifies the log from its rows.
func requireSound(t testing.TB, pool *pgxpool.Pool) Head {
	t.Helper()
	h, err := Verify(context.Background(), pool, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func payloadOf(text string) string {
	b, _ := json.Marshal(noted{text})
	return string(b)
}
