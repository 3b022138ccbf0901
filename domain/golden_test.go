package domain_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/vocabulary"
)

var update = flag.Bool("update", false, "write the golden files that are missing; those that are there are never changed")

// goldenDir holds one event of every type and schema version that was ever written, as <type>.v<schema>.json. Logs hold
// them for good, so a file is never changed and never removed.
const goldenDir = "testdata/events"

func golden(eventType string, schema int) string {
	return filepath.Join(goldenDir, fmt.Sprintf("%s.v%d.json", eventType, schema))
}

// everyEvent returns a zero value of each event type by its name.
func everyEvent(t *testing.T) map[string]domain.Event {
	t.Helper()
	all := make(map[string]domain.Event)
	for _, group := range vocabulary.Events() {
		for _, e := range group {
			if _, twice := all[e.EventType()]; twice {
				t.Errorf("two event types are called %s", e.EventType())
			}
			all[e.EventType()] = e
		}
	}
	return all
}

// Every golden file reads as its event, has nothing the event does not know, and is written back the same.
func TestGoldenEvents(t *testing.T) {
	t.Parallel()
	all := everyEvent(t)
	if *update {
		writeMissing(t, all)
	}
	files, err := filepath.Glob(filepath.Join(goldenDir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	name := regexp.MustCompile(`^([a-z_]+\.[a-z_]+)\.v([0-9]+)\.json$`)
	for _, file := range files {
		m := name.FindStringSubmatch(filepath.Base(file))
		if m == nil || all[m[1]] == nil {
			t.Errorf("%s is of no event type there is: logs may hold it, so its type must stay", file)
			continue
		}
		if m[2] != fmt.Sprint(domain.SchemaOf(all[m[1]])) {
			t.Errorf("%s is of another schema version than %d: read it through its upcaster here", file, domain.SchemaOf(all[m[1]]))
			continue
		}
		t.Run(m[1], func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			v := reflect.New(reflect.TypeOf(all[m[1]]))
			d := json.NewDecoder(bytes.NewReader(want))
			d.DisallowUnknownFields()
			if err := d.Decode(v.Interface()); err != nil {
				t.Fatal(err)
			}
			if got := indented(t, v.Elem().Interface()); !bytes.Equal(got, want) {
				t.Errorf("it is written back as\n%s\nand was\n%s", got, want)
			}
			for _, path := range unset(v.Elem().Interface()) {
				t.Errorf("no value of %s is in the golden file", path)
			}
		})
	}
	for eventType, e := range all {
		if _, err := os.Stat(golden(eventType, domain.SchemaOf(e))); err != nil {
			t.Errorf("%s has no golden file: add a sample to samples_test.go and run go test ./domain -update", eventType)
		}
	}
}

func writeMissing(t *testing.T, all map[string]domain.Event) {
	t.Helper()
	for _, e := range samples() {
		if all[e.EventType()] == nil {
			t.Fatalf("the sample %T is of a type that is in no vocabulary", e)
		}
		f, err := os.OpenFile(golden(e.EventType(), domain.SchemaOf(e)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(indented(t, e)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// unset returns the fields that have their zero value in v. A field of a slice's elements counts as set when one element
// sets it: not every charge can have every field.
func unset(v any) []string {
	set := make(map[string]bool)
	visit(reflect.ValueOf(v), reflect.TypeOf(v).Name(), set)
	var missing []string
	for path, ok := range set {
		if !ok {
			missing = append(missing, path)
		}
	}
	return missing
}

func visit(v reflect.Value, path string, set map[string]bool) {
	set[path] = set[path] || !v.IsZero()
	switch v.Interface().(type) {
	case time.Time, domain.Decimal, domain.Money:
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			visit(v.Elem(), path, set)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			visit(v.Field(i), path+"."+v.Type().Field(i).Name, set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			visit(v.Index(i), path+"[]", set)
		}
	}
}

// The vocabulary holds every event type that any package of this room declares, under a name of the form noun.past_participle.
func TestVocabularyIsComplete(t *testing.T) {
	t.Parallel()
	all := everyEvent(t)
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*$`)
	method := regexp.MustCompile(`\) EventType\(\) string\s*\{\s*return "([^"]*)"`)
	sources, err := filepath.Glob("*/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	declared := make(map[string]string)
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		found := method.FindAllStringSubmatch(string(text), -1)
		if strings.Count(string(text), ") EventType() string") != len(found) {
			t.Errorf("%s has an EventType that is not a plain literal", source)
		}
		for _, m := range found {
			declared[m[1]] = source
			if all[m[1]] == nil {
				t.Errorf("%s of %s is not in the vocabulary", m[1], source)
			}
			if !form.MatchString(m[1]) {
				t.Errorf("%s of %s is not of the form noun.past_participle", m[1], source)
			}
		}
	}
	if len(declared) != len(all) {
		t.Errorf("%d event types are declared and %d are in the vocabulary", len(declared), len(all))
	}
}
