package events

import (
	"bytes"
	"errors"
	"testing"

	"crossbill/domain"
)

type grown struct {
	Text string `json:"text"`
	Size int    `json:"size"`
}

func (grown) EventType() string { return "test.grown" }
func (grown) EventSchema() int  { return 3 }
func (grown) Upcasts() []domain.Upcast {
	return []domain.Upcast{
		func(b []byte) ([]byte, error) { return bytes.Replace(b, []byte("name"), []byte("text"), 1), nil },
		func(b []byte) ([]byte, error) { return append([]byte(`{"size":7,`), b[1:]...), nil },
	}
}

// stunted has a newer schema and no way to it.
type stunted struct{ grown }

func (stunted) Upcasts() []domain.Upcast { return nil }

type nameless struct{}

func (nameless) EventType() string { return "" }

type impostor struct{}

func (impostor) EventType() string { return "test.noted" }

func TestCodec(t *testing.T) {
	t.Parallel()
	c, err := NewCodec([]domain.Event{noted{}}, []domain.Event{grown{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []domain.Event{noted{"<&>\u2028\x00"}, noted{}, grown{"x", 1}} {
		name, schema, payload, err := c.Encode(e)
		if err != nil || name != e.EventType() || schema != domain.SchemaOf(e) {
			t.Errorf("%v: %s, %d, %v", e, name, schema, err)
		}
		if back, err := c.Decode(name, schema, payload); err != nil || back != e {
			t.Errorf("%v came back as %v, %v", e, back, err)
		}
	}
	for _, e := range []domain.Event{nil, nameless{}, impostor{}, &noted{}} {
		if _, _, _, err := c.Encode(e); domain.CodeOf(err) != domain.Internal {
			t.Errorf("%T was encoded: %v", e, err)
		}
	}
	for _, bad := range []struct {
		name    string
		schema  int
		payload string
	}{{"test.unknown", 1, `{}`}, {"test.noted", 2, `{}`}, {"test.noted", 0, `{}`}, {"test.noted", 1, `{"text":1}`}, {"test.noted", 1, ``}, {"test.grown", 1, `{}`}, {"test.grown", 4, `{}`}} {
		if e, err := c.Decode(bad.name, bad.schema, []byte(bad.payload)); domain.CodeOf(err) != domain.Internal || e != nil {
			t.Errorf("%+v was decoded: %v, %v", bad, e, err)
		}
	}
	for _, group := range [][]domain.Event{{nil}, {&noted{}}, {nameless{}}, {noted{}, impostor{}}, {stunted{}}} {
		if _, err := NewCodec(group); domain.CodeOf(err) != domain.Internal {
			t.Errorf("a codec of %v: %v", group, err)
		}
	}
}

func TestUpcast(t *testing.T) {
	t.Parallel()
	c, err := NewCodec([]domain.Event{grown{}})
	if err != nil {
		t.Fatal(err)
	}
	for schema, payload := range map[int]string{1: `{"name":"x"}`, 2: `{"text":"x"}`, 3: `{"text":"x","size":7}`} {
		if e, err := c.Decode("test.grown", schema, []byte(payload)); err != nil || e != (grown{"x", 7}) {
			t.Errorf("schema %d: %v, %v", schema, e, err)
		}
	}
}

// TestUnknownTypeIsNeverSkipped writes an event that another version of the program knows.
func TestUnknownTypeIsNeverSkipped(t *testing.T) {
	t.Parallel()
	l, pool := openLog(t)
	codec, err := NewCodec([]domain.Event{noted{}, grown{}})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := Open(t.Context(), pool, codec, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(newer.Close)
	mustAppend(t, l, one("note-a", Any, nil, "1", "2"))
	mustAppend(t, newer, Append{Streams: []StreamAppend{{Stream: "note-a", Expected: Any, Events: []NewEvent{{Event: grown{}}}}}})
	mustAppend(t, l, one("note-a", Any, nil, "4"))
	page, err := l.ReadAll(t.Context(), 0, 10)
	if err != nil || len(page) != 2 {
		t.Errorf("%d events, %v", len(page), err)
	}
	_, err = l.ReadAll(t.Context(), 2, 10)
	requireCode(t, err, domain.Internal)
	if !errors.Is(err, ErrUndecodable) {
		t.Errorf("error %v", err)
	}
	if page, err := newer.ReadAll(t.Context(), 0, 10); err != nil || len(page) != 4 {
		t.Errorf("the newer version reads %d events, %v", len(page), err)
	}
}
