package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"

	"crossbill/api"
)

// malformed walks one operation with requests that the contract does not allow.
type malformed struct {
	*market
	o     described
	tried int
}

// try sends a request that must be refused for what it is. Idempotency keys are fresh, so that one that was consumed shows.
func (w *malformed) try(what, path string, body []byte, headers ...string) {
	w.t.Helper()
	w.tried++
	var sent any
	if body != nil {
		sent = body
	}
	status, p, answer := w.send(w.o, w.o.key, path, sent, headers...)
	wanted := []int{http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity}
	switch {
	case !slices.Contains(wanted, status):
		w.t.Errorf("%s with %s: %d: %.300s", w.o.id, what, status, answer)
	case p.Status != status || p.Code == "" || p.Detail == "" || p.Title == "" || p.Type == "":
		w.t.Errorf("%s with %s: not a clear problem: %d %.300s", w.o.id, what, status, answer)
	case p.Retryable:
		w.t.Errorf("%s with %s: is said to be right another time", w.o.id, what)
	}
}

// TestMalformed sends, to every operation, requests that are wrong in every way the contract's schemas allow to think of.
// Each is refused with a problem; none appends an event or uses up an idempotency key.
func TestMalformed(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	m.settle()
	total := 0
	for _, o := range m.walk() {
		if slices.Contains(public, o.id) {
			o.path = publicPath(o)
		}
		w := &malformed{market: m, o: o}
		before, kept := int64(m.head()), m.kept()
		w.parameters()
		if o.schema() != nil {
			w.bodies()
			if w.tried < 25 {
				t.Errorf("%s: only %d malformed requests", o.id, w.tried)
			}
		}
		if after := int64(m.head()); after != before {
			t.Errorf("%s: %d events were appended by malformed requests", o.id, after-before)
		}
		if after := m.kept(); after != kept {
			t.Errorf("%s: %d idempotency keys were used up by malformed requests", o.id, after-kept)
		}
		total += w.tried
	}
	t.Logf("%d requests", total)
	for _, path := range []string{"/v1/nothing", "/", "/v1", "/v1/orders/", "/v1/%00", "/v1/orders?%ff"} {
		for _, method := range []string{"GET", "POST", "DELETE", "PATCH", "PUT", "OPTIONS", "TRACE", "BREW"} {
			if status, _, _ := m.do(m.customerKey, method, path, nil); status < 300 || status >= 500 {
				t.Errorf("%s %s: %d", method, path, status)
			}
		}
	}
}

// publicPath gives a public operation's path what it requires.
func publicPath(o described) string {
	path := o.path
	for _, p := range o.parameters {
		if p.Value.Required && p.Value.In == "query" {
			path += separator(path) + p.Value.Name + "=1"
		}
	}
	return path
}

// parameters makes each parameter wrong.
func (w *malformed) parameters() {
	var body []byte
	if w.o.body != nil {
		body, _ = json.Marshal(w.o.body)
	}
	for _, p := range w.o.parameters {
		schema := p.Value.Schema.Value
		for what, bad := range badTexts(schema) {
			what = fmt.Sprintf("the %s parameter %s %s", p.Value.In, p.Value.Name, what)
			switch p.Value.In {
			case "query":
				w.try(what, withQuery(w.o.path, p.Value.Name, bad), body)
			case "header":
				if utf8.ValidString(bad) && !strings.ContainsAny(bad, "\x00\n") && bad != "" { // a client can't send those
					w.try(what, w.o.path, body, p.Value.Name, bad)
				}
			}
		}
	}
	for _, id := range anID.FindAllString(w.o.path, -1) {
		for _, bad := range []string{id[:4] + "x", "ord-1", strings.ToUpper(id), id[:29] + "u", id + "0", "zzz" + id[3:], "%00", "%ff", id[:20] + "%00",
			"%C0%80", "..%2f" + id, "%27", strings.Repeat("x", 5000), "0", "-", "%20" + id} {
			w.try("the id "+bad[:min(len(bad), 60)], strings.Replace(w.o.path, id, bad, 1), body)
		}
	}
	if w.o.method == http.MethodPost && slices.ContainsFunc(w.o.parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == "Idempotency-Key" }) {
		w.try("a long idempotency key", w.o.path, body, "Idempotency-Key", strings.Repeat("k", 256))
		w.try("an idempotency key with a space", w.o.path, body, "Idempotency-Key", "a b")
	}
	w.try("a query that is no query", w.o.path+separator(w.o.path)+"x=%zz", body)
	w.try("U+0000 in a query", w.o.path+separator(w.o.path)+"x=%00", body)
	w.try("broken UTF-8 in a query", w.o.path+separator(w.o.path)+"x=%ff", body)
}

func withQuery(path, name, value string) string {
	base, query, _ := strings.Cut(path, "?")
	values, _ := url.ParseQuery(query)
	values.Set(name, value)
	return base + "?" + values.Encode()
}

// badTexts are values of a parameter that its schema does not allow, as they stand in a request.
func badTexts(s *openapi3.Schema) map[string]string {
	bad := map[string]string{"with U+0000": "a\x00b", "broken UTF-8": "a\xffb"}
	if s.Type.Is("array") && s.Items != nil {
		return badTexts(s.Items.Value)
	}
	if s.Type.Is("integer") || s.Type.Is("number") || s.Type.Is("boolean") {
		for _, text := range []string{"x", "1.5.5", "0x10", "1_000", "９", "NaN", "true1", "{}", "-"} {
			bad[text] = text
		}
		if s.Type.Is("integer") {
			bad["a fraction"], bad["more than 64 bits"], bad["an exponent"] = "1.5", "9223372036854775808000", "1e400"
		}
		if s.Min != nil {
			bad["too small"] = fmt.Sprintf("%.0f", *s.Min-1)
		}
		if s.Max != nil {
			bad["too large"] = fmt.Sprintf("%.0f", *s.Max+1)
		}
	}
	if s.Type.Is("string") {
		if s.MaxLength != nil {
			bad["too long"] = strings.Repeat("x", int(*s.MaxLength)+1)
		}
		if s.Pattern != "" || len(s.Enum) > 0 || s.Format == "date-time" || s.Format == "date" {
			bad["not of its form"] = "no such thing"
		}
	}
	return bad
}

// bodies makes the body wrong, as a text and then field by field.
func (w *malformed) bodies() {
	o := w.o
	schema := o.schema()
	valid := []byte("{}")
	if o.body != nil {
		var err error
		valid, err = json.Marshal(o.body)
		must(w.t, err)
	}
	texts := map[string]string{
		"half a body": string(valid[:len(valid)/2]), "null": "null", "a text": `"x"`, "a number": "7", "true": "true", "a space": " ",
		"a mark of byte order": "\xef\xbb\xbf" + string(valid), "trailing garbage": string(valid) + "x", "two bodies": string(valid) + string(valid),
		"a comment": "/**/" + string(valid), "UTF-16": "\xff\xfe{\x00}\x00", "XML": "<a/>", "a form": "a=b",
		"deep lists": strings.Repeat("[", 200) + strings.Repeat("]", 200), "very deep lists": strings.Repeat("[", 100_000),
		"deep objects": strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), "a bare U+0000": "\x00", "a number of a megabyte": strings.Repeat("9", api.MaxBodyBytes-1),
		"too much": `{"x":"` + strings.Repeat("x", api.MaxBodyBytes) + `"}`,
	}
	if schema.Type.Is("array") {
		texts["an object"] = "{}"
	} else {
		texts["a list"], texts["an empty list"] = "["+string(valid)+"]", "[]"
	}
	if o.spec.RequestBody.Value.Required {
		w.try("no body", o.path, nil)
		w.try("an empty body", o.path, []byte{})
	}
	if len(valid) > 2 && valid[0] == '{' {
		texts["a name twice"] = `{` + firstField(valid) + `,` + string(valid[1:])
		texts["a name twice, escaped"] = `{` + escapedName(firstField(valid)) + `,` + string(valid[1:])
		texts["U+0000 in a name"] = `{"\u0000":1,` + string(valid[1:])
		texts["broken UTF-8 in a name"] = "{\"\xff\":1," + string(valid[1:])
		texts["a deep field"] = `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,` + string(valid[1:])
		texts["the prototype"] = `{"__proto__":{},` + string(valid[1:])
	}
	for what, text := range texts {
		w.try(what, o.path, []byte(text))
	}
	for _, content := range []string{"text/plain", "application/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "x", "application/json5", ""} {
		if len(valid) > 2 {
			w.try("the content type "+content, o.path, valid, "Content-Type", content)
		}
	}
	var value any
	must(w.t, json.Unmarshal(valid, &value))
	w.fields(schema, value, "", func(what string, changed any) {
		text, raw := changed.(json.RawMessage)
		if !raw {
			var err error
			text, err = json.Marshal(value)
			must(w.t, err)
			text = bytes.ReplaceAll(text, []byte(rawMark+`\u0000`), []byte(`\u0000`))
			text = bytes.ReplaceAll(text, []byte(rawMark+`utf8`), []byte("\xff\xfe"))
			text = bytes.ReplaceAll(text, []byte(`"`+rawMark+`huge"`), []byte("1e400"))
			text = bytes.ReplaceAll(text, []byte(`"`+rawMark+`long"`), []byte(strings.Repeat("9", 100)))
		}
		w.try(what, o.path, text)
	})
}

// rawMark stands, in a value, before what can't be one in Go.
const rawMark = "~raw~"

// firstField is the first `"name":value` of an object.
func firstField(object []byte) string {
	d := json.NewDecoder(bytes.NewReader(object))
	d.Token()
	name, _ := d.Token()
	var value json.RawMessage
	d.Decode(&value)
	encoded, _ := json.Marshal(name)
	return string(encoded) + ":" + string(value)
}

// escapedName writes the first letter of a field's name as an escape.
func escapedName(field string) string { return fmt.Sprintf(`"\u%04x%s`, field[1], field[2:]) }

// fields calls try with one wrong thing at a time in the value, which is put right again after it.
func (w *malformed) fields(s *openapi3.Schema, value any, at string, try func(what string, changed any)) {
	switch v := value.(type) {
	case map[string]any:
		if s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has {
			v["no_such_field"] = 1
			try(at+"/no_such_field", nil)
			delete(v, "no_such_field")
		}
		for _, name := range s.Required {
			old, had := v[name]
			if !had {
				continue
			}
			delete(v, name)
			try(at+"/"+name+" missing", nil)
			v[name] = old
		}
		for name, property := range s.Properties {
			old, had := v[name]
			for what, bad := range badValues(property.Value) {
				v[name] = bad
				try(fmt.Sprintf("%s/%s %s", at, name, what), nil)
			}
			if v[name] = old; !had {
				delete(v, name)
				continue
			}
			w.fields(property.Value, old, at+"/"+name, try)
		}
	case []any:
		if s.Items == nil {
			return
		}
		for i, old := range v[:min(len(v), 2)] {
			for what, bad := range badValues(s.Items.Value) {
				v[i] = bad
				try(fmt.Sprintf("%s/%d %s", at, i, what), nil)
			}
			v[i] = old
			w.fields(s.Items.Value, old, fmt.Sprintf("%s/%d", at, i), try)
		}
	}
}

// badValues are values outside of what a schema allows.
func badValues(s *openapi3.Schema) map[string]any {
	bad := map[string]any{}
	if !s.Nullable {
		bad["null"] = nil
	}
	for name, value := range map[string]any{"string": "text", "integer": 7, "boolean": true, "array": []any{}, "object": map[string]any{"x": 1}} {
		if s.Type != nil && !s.Type.Is(name) && !(name == "integer" && s.Type.Is("number")) && len(s.OneOf)+len(s.AnyOf)+len(s.AllOf) == 0 {
			bad["a "+name] = value
		}
	}
	switch {
	case s.Type.Is("string"):
		bad["with U+0000"], bad["of broken UTF-8"] = "x"+rawMark+"\x00", "x"+rawMark+"utf8"
		if s.MaxLength != nil {
			bad["too long"] = strings.Repeat("x", int(*s.MaxLength)+1)
		}
		if s.MinLength > 0 {
			bad["empty"] = ""
		}
		if s.Pattern != "" || len(s.Enum) > 0 || s.Format == "date-time" || s.Format == "date" {
			bad["not of its form"], bad["empty"], bad["with a line after it"] = "no such thing", "", "2026\n"
		}
	case s.Type.Is("integer"), s.Type.Is("number"):
		bad["a text of a number"], bad["past every float"], bad["of a hundred digits"] = "7", rawMark+"huge", rawMark+"long"
		if s.Type.Is("integer") {
			bad["a fraction"] = 1.5
		}
		if s.Min != nil {
			bad["too small"] = *s.Min - 1
		}
		if s.Max != nil {
			bad["too large"] = *s.Max + 1
		}
	case s.Type.Is("array"):
		if s.MinItems > 0 {
			bad["empty"] = []any{}
		}
		if s.MaxItems != nil {
			bad["too many"] = make([]any, *s.MaxItems+1)
		}
	}
	return bad
}
