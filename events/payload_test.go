package events

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"crossbill/domain/feeschedule"
	"crossbill/domain/vocabulary"
)

// variety has a field of each sort that payloads may have.
type variety struct {
	Text     string         `json:"text"`
	Yes      bool           `json:"yes,omitempty"`
	Int      int            `json:"int"`
	Narrow   int8           `json:"narrow"`
	Unsigned uint16         `json:"unsigned"`
	Wide     uint64         `json:"wide"`
	Float    float64        `json:"float"`
	At       time.Time      `json:"at"`
	Maybe    *time.Time     `json:"maybe,omitempty"`
	List     []string       `json:"list"`
	Table    map[string]int `json:"table"`
	Bytes    []byte         `json:"bytes"`
	Number   json.Number    `json:"number"`
	Any      any            `json:"any"`
	//lint:ignore U1000 it is there to be passed over
	hidden  int
	Skipped int `json:"-"`
	Inner   struct {
		A string `json:"a"`
		B int    `json:"b,omitempty"`
	} `json:"inner"`
	Untagged int
}

const varied = `{"text":"x","yes":true,"int":-5,"narrow":-128,"unsigned":65535,"wide":9223372036854775808,"float":1.5e3,` +
	`"at":"2026-03-01T00:00:00.000001Z","maybe":"2026-03-01T00:00:00+02:00","list":["a","\"]"],"table":{"k":1},"bytes":"AAEC",` +
	`"number":12,"any":{"a":[1,{}]},"inner":{"a":"ä","b":7},"Untagged":9}`

// payloadTypes are all event types and variety, and payloadSeeds a payload of each as json.Marshal writes it.
func payloadTypes() (types []reflect.Type) {
	types = append(types, reflect.TypeFor[variety]())
	for _, group := range vocabulary.Events() {
		for _, e := range group {
			types = append(types, reflect.TypeOf(e))
		}
	}
	return types
}

func payloadSeeds(t testing.TB) map[reflect.Type][]byte {
	seeds := map[reflect.Type][]byte{reflect.TypeFor[variety](): []byte(varied)}
	for _, group := range vocabulary.Events() {
		for _, e := range group {
			files, err := filepath.Glob(filepath.Join("../domain/testdata/events", e.EventType()+".v*.json"))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s has no golden file: %v", e.EventType(), err)
			}
			golden, err := os.ReadFile(files[len(files)-1])
			if err != nil {
				t.Fatal(err)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, golden); err != nil {
				t.Fatal(err)
			}
			seeds[reflect.TypeOf(e)] = compact.Bytes()
		}
	}
	return seeds
}

// requireAgreement fails if the decoder reads a payload and encoding/json reads it otherwise, and reports whether it did
// read it.
func requireAgreement(t *testing.T, typ reflect.Type, payload []byte) bool {
	t.Helper()
	d := newPayloadDecoder(typ)
	if d == nil {
		return false
	}
	ours, its := reflect.New(typ), reflect.New(typ)
	if !d.decode(payload, ours.Elem()) {
		return false
	}
	if err := json.Unmarshal(payload, its.Interface()); err != nil {
		t.Errorf("%s was read from %s, which encoding/json refuses: %v", typ, payload, err)
	} else if !reflect.DeepEqual(ours.Interface(), its.Interface()) {
		t.Errorf("%s reads as %+v, and by encoding/json as %+v", payload, ours.Elem(), its.Elem())
	}
	return true
}

// Every event type is read the fast way, and the same as by encoding/json.
func TestPayloadsAsWritten(t *testing.T) {
	t.Parallel()
	seeds := payloadSeeds(t)
	for _, typ := range payloadTypes() {
		if !requireAgreement(t, typ, seeds[typ]) {
			t.Errorf("%s is not read from %s", typ, seeds[typ])
		}
	}
}

// Whatever is done to a payload, it never reads otherwise than by encoding/json.
func TestPayloadsOtherwise(t *testing.T) {
	t.Parallel()
	seeds := payloadSeeds(t)
	random := rand.New(rand.NewPCG(1, 2))
	const alphabet = "\"\\,:{}[]0123456789-+.eEtrufalsn \t\n\x00\x7f\xc3\xa4\xffTZxN"
	read, all := 0, 0
	for _, typ := range payloadTypes() {
		for range 3000 {
			payload := bytes.Clone(seeds[typ])
			for range 1 + random.IntN(3) {
				i, c := random.IntN(len(payload)), alphabet[random.IntN(len(alphabet))]
				switch random.IntN(4) {
				case 0:
					payload = append(payload[:i], payload[i+1:]...)
				case 1:
					payload = append(payload[:i], append([]byte{c}, payload[i:]...)...)
				default:
					payload[i] = c
				}
			}
			all++
			if requireAgreement(t, typ, payload) {
				read++
			}
		}
	}
	if read == 0 || read == all {
		t.Errorf("%d of %d were read: the test shows nothing", read, all)
	}
}

func TestPayloadsNotRead(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`{"int":1,"text":"x"}`, // in another order
		`{ "text":"x"}`, `{"text": "x"}`, `{"text":"x"} `, `{"text":"x","text":"y"}`, `{"Text":"x"}`, `{"unknown":1}`,
		`{"text":"\x"}`, `{"text":null}`, `{"int":1.0}`, `{"int":1e2}`, `{"int":01}`, `{"int":--1}`, `{"int":-}`, `{"narrow":128}`,
		`{"unsigned":-1}`, `{"wide":18446744073709551616}`, `{"text":"x",}`, `{"text":"x"`, `{"text":"`, `{`, ``, `null`, `[]`,
		`{"yes":1}`, `{"at":"yesterday"}`, `{"at":"2026-03-01 00:00:00Z"}`, `{"list":["a"}`, `{"any":}`, `{"text":"x"}}`,
	} {
		if requireAgreement(t, reflect.TypeFor[variety](), []byte(payload)) {
			t.Errorf("%s was read; it is encoding/json's to read", payload)
		}
	}
	type embedding struct{ variety }
	type hiding struct {
		feeschedule.Version
		At int `json:"version"`
	}
	type twice struct {
		A int
		B int `json:"A"`
	}
	type quoted struct {
		A int `json:"a,string"`
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[embedding](), reflect.TypeFor[hiding](), reflect.TypeFor[twice](), reflect.TypeFor[quoted](), reflect.TypeFor[time.Time]()} {
		if newPayloadDecoder(typ) != nil {
			t.Errorf("%s has rules that are encoding/json's to apply", typ)
		}
	}
}

// What is not read the fast way is read all the same.
func TestPayloadsByTheCodec(t *testing.T) {
	t.Parallel()
	c := newCodec(t)
	for payload, want := range map[string]string{
		`{"text":"x"}`: "x", `{"text":"\u0041"}`: "A", ` {"more":[1],"text":"y"}`: "y", `{"text":"a","text":"b"}`: "b",
		`{"text":"gone","text":null,"more":1}`: "gone", `{}`: "",
	} {
		if e, err := c.Decode("test.noted", 1, []byte(payload)); err != nil || e != (noted{want}) {
			t.Errorf("%s reads as %v, %v", payload, e, err)
		}
	}
	if _, err := c.Decode("test.noted", 1, []byte(`{"text":"x"}x`)); err == nil || !strings.Contains(err.Error(), "test.noted") {
		t.Errorf("what is no JSON gives %v", err)
	}
}

func FuzzPayload(f *testing.F) {
	f.Add([]byte(varied))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, typ := range payloadTypes() {
			requireAgreement(t, typ, payload)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, typ := range payloadTypes() {
		if typ.Name() != "Recorded" {
			continue
		}
		payload, d := payloadSeeds(b)[typ], newPayloadDecoder(typ)
		b.Run("ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.decode(payload, reflect.New(typ).Elem())
			}
		})
		b.Run("encoding/json", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				json.Unmarshal(payload, reflect.New(typ).Interface())
			}
		})
	}
}
