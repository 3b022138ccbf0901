package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"crossbill/domain/reading"
)

// slowly reads a body as every other operation's is read: by the contract's schema and encoding/json.
func slowly(schema *openapi3.Schema, body []byte, node string) ([]reading.Recorded, error) {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return nil, err
	}
	if err := schema.VisitJSON(value, openapi3.VisitAsRequest(), openapi3.EnableFormatValidation()); err != nil {
		return nil, err
	}
	var batch ReadingBatch
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, err
	}
	var all []reading.Recorded
	for _, v := range batch.Readings {
		all = append(all, reading.Recorded{
			EdgeNodeID: node, ConnectionID: v.ConnectionId, Epoch: v.Epoch, Sequence: v.Sequence, From: v.From.UTC(), To: v.To.UTC(), BytesIn: v.BytesIn,
			BytesOut: v.BytesOut, PacketsIn: v.PacketsIn, PacketsOut: v.PacketsOut, DroppedIn: v.DroppedIn, DroppedOut: v.DroppedOut, Source: string(v.Source),
		})
	}
	return all, nil
}

// TestParseReadings holds the quick parser to the contract's validator and encoding/json, on bodies that are right and on
// such as are made wrong in their values, their names and their bytes: whatever it takes, they take, and read the same.
func TestParseReadings(t *testing.T) {
	t.Parallel()
	doc, err := Contract()
	if err != nil {
		t.Fatal(err)
	}
	schema := doc.Components.Schemas["ReadingBatch"].Value
	const node = "edg_00000000000000000000000001"
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	digits := func() string {
		return pick("0", "1", "7", "123456", "9223372036854775807", "9223372036854775808", "-1", "1.0", "1e3", "01", "1.5", `"1"`, "null", "99999999999999999999", "", "true", " 5 ")
	}
	instant := func() string {
		return `"` + pick("2026-03-11T12:00:00Z", "2026-03-11T12:00:00.5Z", "2026-03-11T12:00:00.123456789Z", "2026-02-29T12:00:00Z", "2024-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
			"2026-03-11T24:00:00Z", "2026-03-11T23:59:60Z", "2026-03-11 12:00:00Z", "2026-03-11T12:00:00+01:00", "2026-03-11T12:00:00", "2026-03-11T12:00:00.Z", "2026-03-11t12:00:00z",
			"2026-03-11T12:00:00.1234567890Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-3-11T12:00:00Z", "2026-03-11T12:60:00Z", "", "x") + `"`
	}
	good := func(n int) []string {
		return []string{
			fmt.Sprintf(`"connection_id":"con_%026d"`, n), `"epoch":1`, fmt.Sprintf(`"sequence":%d`, n+1), `"from":"2026-03-11T12:00:00Z"`,
			`"to":"2026-03-11T12:01:00.25Z"`, `"bytes_in":1`, `"bytes_out":9223372036854775807`, `"packets_in":0`, `"packets_out":2`, `"dropped_in":3`, `"dropped_out":4`, `"source":"ebpf"`,
		}
	}
	taken, refused, quick := 0, 0, 0
	for n := range 60_000 {
		var items []string
		for i := range 1 + random.IntN(3) {
			fields := good(n + i)
			random.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
			for range random.IntN(3) * random.IntN(2) {
				k := random.IntN(len(fields))
				name, _, _ := strings.Cut(fields[k], ":")
				switch random.IntN(9) {
				case 0, 1:
					fields[k] = name + ":" + digits()
				case 2, 3:
					fields[k] = name + ":" + instant()
				case 4:
					fields[k] = name + `:"` + pick("ebpf", "software", "provider", "EBPF", "", "\\u0065bpf", "con_0000000000000000000000000l", "con_80000000000000000000000001") + `"`
				case 5:
					fields = append(fields, pick(name+":1", `"more":1`, `"Epoch":1`, `"\u0065poch":1`))
				case 6:
					fields = append(fields[:k], fields[k+1:]...)
				case 7:
					fields[k] = " " + strings.Replace(fields[k], ":", " :\n\t", 1) + "\r\n"
				case 8:
					fields[k] = pick("", "{}", "[]", name, `"`, name+":{}", name+":[1]")
				}
				if len(fields) == 0 {
					fields = good(n)
				}
			}
			items = append(items, "{"+strings.Join(fields, ",")+"}")
		}
		body := []byte(`{"readings":[` + strings.Join(items, ",") + `]}`)
		for range random.IntN(2) * random.IntN(2) * random.IntN(3) { // and in its bytes
			k := random.IntN(len(body))
			switch random.IntN(3) {
			case 0:
				body[k] = byte(random.IntN(256))
			case 1:
				body = append(body[:k], body[k+1:]...)
			case 2:
				body = append(body, pick(" ", "}", "{", ",", "\x00", "1")...)
			}
			if len(body) == 0 {
				body = []byte("{")
			}
		}
		want, err := slowly(schema, body, node)
		got, ok := parseReadings(body, node)
		if ok && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Fatalf("it takes what the contract reads otherwise (%v):\n%s\n%+v\n%+v", err, body, got, want)
		}
		if err != nil {
			refused++
		} else {
			taken++
		}
		if ok {
			quick++
		}
	}
	if taken < 10_000 || refused < 10_000 || quick < taken*8/10 {
		t.Errorf("of %d right bodies %d were read quickly; %d were wrong", taken, quick, refused)
	}
	for what, body := range map[string]string{
		"none": `{"readings":[]}`, "too many": `{"readings":[` + strings.TrimSuffix(strings.Repeat("{"+strings.Join(good(1), ",")+"},", maxReadings+1), ",") + `]}`,
		"a field beside them": `{"readings":[{` + strings.Join(good(1), ",") + `}],"more":1}`, "nothing": "", "null": "null",
	} {
		if _, ok := parseReadings([]byte(body), node); ok {
			t.Errorf("%s: it is taken", what)
		}
	}
}
