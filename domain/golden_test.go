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
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/vocabulary"
)

var update = flag.Bool("update", false, "write the golden files that are missing; those that are there are never changed")

// goldenDir holds one event of every type and schema version that was ever written, as <type>.v<schema>.json, and one
// more, as <type>.v<schema>.2.json and so on, each time that a schema was given fields that may be missing. Logs hold
// them for good, so a file is never changed and never removed.
const goldenDir = "testdata/events"

// golden names the file of the nth sample of a type.
func golden(eventType string, schema, n int) string {
	name := fmt.Sprintf("%s.v%d.json", eventType, schema)
	if n > 1 {
		name = fmt.Sprintf("%s.v%d.%d.json", eventType, schema, n)
	}
	return filepath.Join(goldenDir, name)
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

// Every golden file reads as its event through the upcasts that there are, and every type has one of each schema. One of
// the present schema has nothing the event does not know, and is written back the same. Together they set every field.
func TestGoldenEvents(t *testing.T) {
	t.Parallel()
	all := everyEvent(t)
	if *update {
		writeMissing(t, all)
	}
	for _, problem := range goldenProblems(goldenDir, all) {
		t.Error(problem)
	}
}

// goldenProblems returns what is wrong with a directory's golden files.
func goldenProblems(dir string, all map[string]domain.Event) (problems []string) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		report("no golden files in %s: %v", dir, err)
	}
	name := regexp.MustCompile(`^([a-z_]+\.[a-z_]+)\.v([0-9]+)(\.[2-9])?\.json$`)
	there := make(map[string]bool)
	set := make(map[string]map[string]bool) // the fields that a file of the type sets, or does not
	for _, file := range files {
		m := name.FindStringSubmatch(filepath.Base(file))
		if m == nil || all[m[1]] == nil {
			report("%s is of no event type there is: logs may hold it, so its type must stay", file)
			continue
		}
		there[filepath.Base(file)] = true
		if set[m[1]] == nil {
			set[m[1]] = make(map[string]bool)
		}
		schema, err := strconv.Atoi(m[2])
		if err == nil {
			err = checkGolden(file, schema, all[m[1]], set[m[1]])
		}
		if err != nil {
			report("%s: %v", file, err)
		}
	}
	for eventType, e := range all {
		for schema := 1; schema <= domain.SchemaOf(e); schema++ {
			if !there[filepath.Base(golden(eventType, schema, 1))] {
				report("%s has no golden file of schema %d: add a sample to samples_test.go and run go test ./domain -update; one of an older schema must never be removed", eventType, schema)
			}
		}
	}
	for eventType, fields := range set {
		if missing := unset(fields); len(missing) > 0 {
			report("no golden file of %s has a value of %v: add a further sample to samples_test.go and run go test ./domain -update", eventType, missing)
		}
	}
	slices.Sort(problems)
	return problems
}

// checkGolden reads a golden file as the log's codec does, and notes in set which fields it sets.
func checkGolden(file string, schema int, e domain.Event, set map[string]bool) error {
	want, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	upcasts, err := domain.UpcastsOf(e)
	if err != nil {
		return err
	}
	payload, err := domain.BringUp(e.EventType(), schema, want, upcasts)
	if err != nil {
		return err
	}
	v := reflect.New(reflect.TypeOf(e))
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(v.Interface()); err != nil {
		return err
	}
	if schema < domain.SchemaOf(e) {
		return nil
	}
	if got, err := writtenBack(v.Elem().Interface()); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("it is written back as\n%s\nand was\n%s (%v)", got, want, err)
	}
	visit(v.Elem(), v.Elem().Type().Name(), set)
	return nil
}

func writeMissing(t *testing.T, all map[string]domain.Event) {
	t.Helper()
	count := make(map[string]int)
	for _, e := range samples() {
		count[e.EventType()]++
		if all[e.EventType()] == nil {
			t.Fatalf("the sample %T is of a type that is in no vocabulary", e)
		}
		f, err := os.OpenFile(golden(e.EventType(), domain.SchemaOf(e), count[e.EventType()]), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
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
	data, err := writtenBack(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writtenBack(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// unset returns the fields that nothing sets. A field of a slice's elements counts as set when one element sets it: not
// every charge can have every field.
func unset(set map[string]bool) []string {
	var missing []string
	for path, ok := range set {
		if !ok {
			missing = append(missing, path)
		}
	}
	slices.Sort(missing)
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
