// Package scenario tells what an aggregate does as given, when, then: given these events, when this command comes, then
// these events happen, or this error.
//
// It is for tests and is imported by nothing else. Start reading at [Case], then [Run].
package scenario

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"crossbill/domain"
)

// Case is one story. No Then and no Code means that nothing happens and that this is right.
type Case[C any] struct {
	Name   string
	Given  []domain.Event
	When   C
	Then   []domain.Event
	Code   domain.Code
	Fields []string // for Invalid: the pointers of exactly the fields that are wrong, in any order
}

// Run checks every case, and of each what holds for all: that deciding changes no state, that a refusal tells what to
// do, and that what happened leads to the same state when it is read back from the log.
func Run[S, C any](t *testing.T, decide func(S, C) ([]domain.Event, error), evolve func(S, domain.Event) S, cases []Case[C]) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			state, before := Fold(evolve, c.Given...), Fold(evolve, c.Given...)
			got, err := decide(state, c.When)
			if !reflect.DeepEqual(state, before) {
				t.Errorf("deciding changed the state from %+v to %+v", before, state)
			}
			CheckError(t, err, c.Code, c.Fields...)
			if err != nil && got != nil {
				t.Errorf("an error came with events: %v", got)
			}
			if g, w := Text(t, got...), Text(t, c.Then...); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
			CheckReplay(t, evolve, append(slices.Clone(c.Given), got...)...)
		})
	}
}

// Fold returns the state that the events come to.
func Fold[S any](evolve func(S, domain.Event) S, events ...domain.Event) S {
	var s S
	for _, e := range events {
		s = evolve(s, e)
	}
	return s
}

// CheckError checks an error's code and fields. Whatever is refused must say what to do about it.
func CheckError(t *testing.T, err error, code domain.Code, fields ...string) {
	t.Helper()
	if got := domain.CodeOf(err); got != code {
		t.Fatalf("got the error %v (%s), want %q", err, got, code)
	}
	if err == nil {
		return
	}
	e := err.(*domain.Error)
	got := make([]string, 0, len(e.Fields))
	for _, f := range e.Fields {
		got = append(got, f.Pointer)
		if f.Detail == "" {
			t.Errorf("%s has no detail", f.Pointer)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(fields))
	if !slices.Equal(got, want) {
		t.Errorf("the wrong fields are %v, want %v (%v)", got, want, err)
	}
	if e.Op == "" || e.Message == "" {
		t.Errorf("the error %#v does not say where or what", e)
	}
	if (e.Code == domain.Conflict || e.Code == domain.NotFound || e.Code == domain.Unavailable) && e.Hint == "" {
		t.Errorf("the error %v has no hint", err)
	}
}

// CheckReplay checks that events lead to the same state after they were written and read.
func CheckReplay[S any](t *testing.T, evolve func(S, domain.Event) S, events ...domain.Event) {
	t.Helper()
	if len(events) == 0 { // what does not exist is never written
		return
	}
	read := make([]domain.Event, 0, len(events))
	for _, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("%T has no JSON: %v", e, err)
		}
		p := reflect.New(reflect.TypeOf(e))
		if err := json.Unmarshal(data, p.Interface()); err != nil {
			t.Fatalf("%T cannot be read back: %v", e, err)
		}
		read = append(read, p.Elem().Interface().(domain.Event))
	}
	direct, replayed := JSON(t, Fold(evolve, events...)), JSON(t, Fold(evolve, read...))
	if direct != replayed {
		t.Errorf("the state is\n%s\nand after reading the events back\n%s", direct, replayed)
	}
	var again S
	if err := json.Unmarshal([]byte(direct), &again); err != nil {
		t.Fatalf("the state cannot be read back: %v", err)
	}
	if got := JSON(t, again); got != direct {
		t.Errorf("the state\n%s\nis read back as\n%s", direct, got)
	}
}

// Text returns events as people compare them.
func Text(t *testing.T, events ...domain.Event) string {
	t.Helper()
	var s string
	for _, e := range events {
		s += e.EventType() + " " + JSON(t, e) + "\n"
	}
	return s
}

// JSON returns v's JSON.
func JSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%T has no JSON: %v", v, err)
	}
	return string(data)
}

// ID returns the n-th identifier with the prefix, the same in every test.
func ID(prefix string, n int) string { return fmt.Sprintf("%s_%026d", prefix, n) }

// Noon is when most stories take place.
var Noon = time.Date(2026, 3, 11, 12, 0, 0, 0, time.UTC)

// After returns the time that many seconds after [Noon].
func After(seconds int) time.Time { return Noon.Add(time.Duration(seconds) * time.Second) }
