package api

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

func TestCheckJSON(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		`{}`, `[]`, `null`, `"x"`, `-1.5e+10`, `true`, `{"a":{"a":[{"a":1},{"a":2}]},"b":"a"}`, `{"a":"a","b":["a","a"]}`, ` { "a" : 1 , "b" : 2 } `,
		`"\ud83d\ude00 \u00e9 \\u0000 \" \n"`, `"😀"`, `{"":1,"x":""}`, `{"a\\":1,"a":2}`, `[1,2,{"a":[1,{"b":"c"}],"b":1}]`,
		strings.Repeat("[", maxJSONDepth) + strings.Repeat("]", maxJSONDepth), strings.Repeat("9", maxJSONNumber),
	} {
		if err := checkJSON([]byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, why := range map[string]string{
		"": "not JSON", "{": "not JSON", "{} x": "not JSON", "\xef\xbb\xbf{}": "not JSON", "{}{}": "not JSON", "'a'": "not JSON",
		"\"\xff\"": "not UTF-8", "\"\xed\xa0\x80\"": "not UTF-8", `"\u0000"`: "U+0000", `{"\u0000":1}`: "U+0000", "\"\x00\"": "not JSON",
		`"\ud800"`: "surrogate", `"\udc00"`: "surrogate", `"\ud800\u0041"`: "surrogate", `"\ud800x"`: "surrogate", `"\ud800\ud800"`: "surrogate",
		`{"a":1,"a":1}`: "twice", `{"a":1,"b":{},"a":2}`: "twice", `{"a":1,"\u0061":2}`: "twice", `[{"x":[{"a":1,"b":2,"a":3}]}]`: "twice",
		strings.Repeat("[", maxJSONDepth+1) + strings.Repeat("]", maxJSONDepth+1): "nested", strings.Repeat("[", 100_000): "not JSON",
		`{"a":` + strings.Repeat("9", maxJSONNumber+1) + `}`: "number", strings.Repeat("9", maxJSONNumber) + "e9": "number",
	} {
		if err := checkJSON([]byte(bad)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.50s: %v, want %s", bad, err, why)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for path, good := range map[string]bool{
		"/v1/x?q=a%20b&c=%C3%A9": true, "/v1/%C3%A9": true, "/v1/%00": false, "/v1/%ff": false, "/v1/x?q=%00": false, "/v1/x?%ff": false, "/v1/x?q=%zz": false,
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkURL(u); (err == nil) != good {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// FuzzCheckJSON wants what passes to be the same after decoding and encoding, and nothing to panic.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"\ud83d\ude00",{"b":null}]}`, `"\u0000"`, `{"a":1,"a":2}`, `[[[[`, `"\ud800\udc00"`, `-0.0e-1`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkJSON(body) != nil {
			return
		}
		var v any
		if err := json.Unmarshal(body, &v); err != nil && !strings.Contains(err.Error(), "out of range") && !strings.Contains(err.Error(), "cannot unmarshal number") {
			t.Errorf("%q: %v", body, err)
		}
		if strings.ContainsRune(string(body), 0) {
			t.Errorf("%q has U+0000", body)
		}
	})
}
