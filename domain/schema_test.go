package domain_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crossbill/domain"
)

// weighed is an event whose shape has changed twice: grams became a decimal of kilograms, and then who weighed was added.
type weighed struct {
	Kilograms domain.Decimal `json:"kilograms"`
	By        string         `json:"by"`
}

func (weighed) EventType() string { return "parcel.weighed" }
func (weighed) EventSchema() int  { return 3 }
func (weighed) Upcasts() []domain.Upcast {
	return []domain.Upcast{
		func(payload []byte) ([]byte, error) {
			var old struct {
				Grams *int64 `json:"grams"`
			}
			if err := json.Unmarshal(payload, &old); err != nil {
				return nil, err
			}
			if old.Grams == nil {
				return nil, errors.New("no grams")
			}
			kilograms := domain.DecimalFromInt(*old.Grams).Mul(domain.MustDecimal("0.001"))
			return json.Marshal(map[string]any{"kilograms": kilograms})
		},
		func(payload []byte) ([]byte, error) {
			var old struct {
				Kilograms json.RawMessage `json:"kilograms"`
			}
			if err := json.Unmarshal(payload, &old); err != nil {
				return nil, err
			}
			return json.Marshal(map[string]any{"kilograms": old.Kilograms, "by": "unknown"})
		},
	}
}

// grownAlone has a new schema and nothing else; grownHalf an upcast of two; grownTooFar one too many.
type (
	grownAlone  struct{ weighed }
	grownHalf   struct{ weighed }
	grownTooFar struct{ weighed }
	grownHollow struct{ weighed }
)

func (grownAlone) Upcasts() []domain.Upcast  { return nil }
func (grownHalf) Upcasts() []domain.Upcast   { return weighed{}.Upcasts()[:1] }
func (grownTooFar) EventSchema() int         { return 2 }
func (grownHollow) Upcasts() []domain.Upcast { return []domain.Upcast{weighed{}.Upcasts()[0], nil} }

func TestUpcasts(t *testing.T) {
	t.Parallel()
	upcasts, err := domain.UpcastsOf(weighed{})
	if err != nil {
		t.Fatal(err)
	}
	for schema, payload := range []string{1: `{"grams":1250}`, 2: `{"kilograms":"1.25"}`, 3: `{"kilograms":"1.25","by":"ada"}`} {
		if schema == 0 {
			continue
		}
		newest, err := domain.BringUp("parcel.weighed", schema, []byte(payload), upcasts)
		if err != nil {
			t.Fatal(err)
		}
		var got weighed
		if err := json.Unmarshal(newest, &got); err != nil {
			t.Fatal(err)
		}
		if by := map[int]string{1: "unknown", 2: "unknown", 3: "ada"}[schema]; got.By != by || got.Kilograms.Cmp(domain.MustDecimal("1.25")) != 0 {
			t.Errorf("schema %d: got %+v", schema, got)
		}
	}
	for _, schema := range []int{-1, 0, 4} {
		_, err := domain.BringUp("parcel.weighed", schema, []byte(`{}`), upcasts)
		if domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), "parcel.weighed has schema") {
			t.Errorf("schema %d: got %v", schema, err)
		}
	}
	_, err = domain.BringUp("parcel.weighed", 1, []byte(`{"ounces":3}`), upcasts)
	if domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), "no grams") {
		t.Errorf("a payload that no schema 1 had: %v", err)
	}
	for _, e := range []domain.Event{grownAlone{}, grownHalf{}, grownTooFar{}, grownHollow{}} {
		if _, err := domain.UpcastsOf(e); domain.CodeOf(err) != domain.Internal {
			t.Errorf("%T: got %v, want an Internal error", e, err)
		}
	}
}

// TestGoldenEvents_Evolution holds the check of golden files to what it is for.
func TestGoldenEvents_Evolution(t *testing.T) {
	t.Parallel()
	whole := map[string]string{
		"parcel.weighed.v1.json": `{"grams": 1250}`,
		"parcel.weighed.v2.json": `{"kilograms": "1.25"}`,
		"parcel.weighed.v3.json": "{\n  \"kilograms\": \"1.25\",\n  \"by\": \"ada\"\n}\n",
	}
	for name, c := range map[string]struct {
		event   domain.Event
		change  map[string]string // "" removes the file
		problem string            // "" for none
	}{
		"all there":                     {event: weighed{}},
		"a new schema without a file":   {weighed{}, map[string]string{"parcel.weighed.v3.json": ""}, "parcel.weighed has no golden file of schema 3"},
		"an old file removed":           {weighed{}, map[string]string{"parcel.weighed.v1.json": ""}, "parcel.weighed has no golden file of schema 1"},
		"a new schema without upcasts":  {grownAlone{}, nil, "parcel.weighed has schema 3 and 0 upcasts"},
		"a new schema without the last": {grownHalf{}, nil, "parcel.weighed has schema 3 and 1 upcasts"},
		"an upcast too many":            {grownTooFar{}, nil, "parcel.weighed has schema 2 and 2 upcasts"},
		"a file that no upcast reads":   {weighed{}, map[string]string{"parcel.weighed.v1.json": `{"ounces": 3}`}, "no grams"},
		"an upcast to something else":   {weighed{}, map[string]string{"parcel.weighed.v2.json": `{"kilograms": {}}`}, "parcel.weighed.v2.json"},
		"a file of a newer schema":      {weighed{}, map[string]string{"parcel.weighed.v4.json": `{}`}, "the newest known is 3"},
		"a field that the type lost":    {weighed{}, map[string]string{"parcel.weighed.v3.json": `{"kilograms": "1", "by": "x", "at": 3}`}, `unknown field "at"`},
		"a file of a type that is gone": {weighed{}, map[string]string{"parcel.lost.v1.json": `{}`}, "parcel.lost.v1.json is of no event type there is"},
		"a field that a second file has": {weighed{}, map[string]string{
			"parcel.weighed.v3.json":   "{\n  \"kilograms\": \"1.25\",\n  \"by\": \"\"\n}\n",
			"parcel.weighed.v3.2.json": "{\n  \"kilograms\": \"1.25\",\n  \"by\": \"ada\"\n}\n",
		}, ""},
		"a field that no file has": {weighed{}, map[string]string{"parcel.weighed.v3.json": "{\n  \"kilograms\": \"1.25\",\n  \"by\": \"\"\n}\n"}, "By"},
	} {
		dir := t.TempDir()
		for _, files := range []map[string]string{whole, c.change} {
			for file, content := range files {
				path := filepath.Join(dir, file)
				if content == "" {
					os.Remove(path)
				} else if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		problems := goldenProblems(dir, map[string]domain.Event{"parcel.weighed": c.event})
		if c.problem == "" && len(problems) > 0 || c.problem != "" && !strings.Contains(strings.Join(problems, "\n"), c.problem) {
			t.Errorf("%s: got %q, want %q", name, problems, c.problem)
		}
	}
}
