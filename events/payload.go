package events

import (
	"bytes"
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// payloadDecoder decodes the payloads of one type several times as fast as encoding/json, which reads each byte twice
// and looks each name up. It reads only what json.Marshal writes: fields in their order, by their exact names, without
// spaces. Of anything else it says that it did not read it, and then encoding/json does, so that what a payload means
// never depends on which of the two read it.
type payloadDecoder struct{ fields []payloadField }

type payloadField struct {
	key  string // with quotes and colon
	path []int  // of the field: more than one step into embedded structs
	read readValue
}

// readValue reads a value at the beginning of b into v, which is zero, and returns what follows it.
type readValue func(v reflect.Value, b []byte) (rest []byte, ok bool)

// newPayloadDecoder returns nil for a type that it can't be sure of reading as encoding/json does.
func newPayloadDecoder(t reflect.Type) *payloadDecoder {
	if unmarshalsItself(t) {
		return nil
	}
	d := &payloadDecoder{}
	names := make(map[string]bool) // keys
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous: // its fields are the event's own, in its place
			if tag != "" || !f.IsExported() || f.Type.Kind() != reflect.Struct {
				return nil
			}
			inner := newPayloadDecoder(f.Type)
			if inner == nil {
				return nil
			}
			for _, g := range inner.fields {
				if names[g.key] { // one hides the other
					return nil
				}
				names[g.key] = true
				d.fields = append(d.fields, payloadField{g.key, append([]int{i}, g.path...), g.read})
			}
			continue
		case !f.IsExported() || tag == "-":
			continue
		case name == "":
			name = f.Name
		}
		key := `"` + name + `":`
		if names[key] || !plainName(name) || options != "" && options != "omitempty" && options != "omitzero" {
			return nil
		}
		names[key] = true
		d.fields = append(d.fields, payloadField{key, []int{i}, readerOf(f.Type)})
	}
	return d
}

// decode reads a payload into v, which is zero, or reports that it did not and leaves v in any state.
func (d *payloadDecoder) decode(payload []byte, v reflect.Value) bool {
	rest, ok := d.read(v, payload)
	return ok && len(rest) == 0
}

// read reads an object. Fields may be missing: payloads of before the field was there, and zeros that are left out.
func (d *payloadDecoder) read(v reflect.Value, b []byte) (rest []byte, ok bool) {
	if len(b) < 2 || b[0] != '{' {
		return nil, false
	}
	if b[1] == '}' {
		return b[2:], true
	}
	b = b[1:]
	for i := range d.fields {
		f := &d.fields[i]
		if len(b) < len(f.key) || string(b[:len(f.key)]) != f.key {
			continue
		}
		if b, ok = f.read(v.FieldByIndex(f.path), b[len(f.key):]); !ok || len(b) == 0 {
			return nil, false
		}
		switch b[0] {
		case '}':
			return b[1:], true
		case ',':
			b = b[1:]
		default:
			return nil, false
		}
	}
	return nil, false
}

func readerOf(t reflect.Type) readValue {
	if t == reflect.TypeFor[time.Time]() {
		return readTime
	}
	if unmarshalsItself(t) || t == reflect.TypeFor[json.Number]() {
		return readSlowly
	}
	switch t.Kind() {
	case reflect.String:
		return readString
	case reflect.Bool:
		return readBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return readInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return readUint
	case reflect.Struct:
		if d := newPayloadDecoder(t); d != nil {
			return d.read
		}
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 { // bytes are base64
			return sliceReader(readerOf(t.Elem()))
		}
	case reflect.Pointer:
		return pointerReader(readerOf(t.Elem()))
	}
	return readSlowly
}

// sliceReader reads an array; null is nil.
func sliceReader(element readValue) readValue {
	return func(v reflect.Value, b []byte) (rest []byte, ok bool) {
		if rest, ok = bytes.CutPrefix(b, []byte("null")); ok {
			return rest, true
		}
		if len(b) < 2 || b[0] != '[' {
			return nil, false
		}
		v.Set(reflect.MakeSlice(v.Type(), 0, 4))
		if b[1] == ']' {
			return b[2:], true
		}
		for b = b[1:]; ; b = b[1:] {
			n := v.Len()
			if n == v.Cap() {
				v.Grow(n)
			}
			v.SetLen(n + 1)
			if b, ok = element(v.Index(n), b); !ok || len(b) == 0 {
				return nil, false
			}
			switch b[0] {
			case ']':
				return b[1:], true
			case ',':
			default:
				return nil, false
			}
		}
	}
}

// pointerReader reads what is pointed to; null is nil.
func pointerReader(target readValue) readValue {
	return func(v reflect.Value, b []byte) (rest []byte, ok bool) {
		if rest, ok = bytes.CutPrefix(b, []byte("null")); ok {
			return rest, true
		}
		v.Set(reflect.New(v.Type().Elem()))
		return target(v.Elem(), b)
	}
}

func unmarshalsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func plainName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_'
	})
}

// plainString returns the bytes in the quotes of a string that stands for itself, without escapes.
func plainString(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	b = b[1:]
	end := bytes.IndexByte(b, '"')
	if end < 0 {
		return nil, nil, false
	}
	s, ascii := b[:end], true
	for _, c := range s {
		if c < ' ' || c == '\\' {
			return nil, nil, false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return s, b[end+1:], ascii || utf8.Valid(s)
}

func readString(v reflect.Value, b []byte) ([]byte, bool) {
	s, rest, ok := plainString(b)
	if !ok && len(b) > 0 && b[0] == '"' {
		return readSlowly(v, b)
	}
	if ok {
		v.SetString(string(s))
	}
	return rest, ok
}

func readTime(v reflect.Value, b []byte) ([]byte, bool) {
	s, rest, ok := plainString(b)
	if !ok {
		return nil, false
	}
	t, isTime := v.Addr().Interface().(*time.Time)
	return rest, isTime && t.UnmarshalJSON(b[:len(s)+2]) == nil
}

func readBool(v reflect.Value, b []byte) ([]byte, bool) {
	if rest, ok := bytes.CutPrefix(b, []byte("true")); ok {
		v.SetBool(true)
		return rest, true
	}
	return bytes.CutPrefix(b, []byte("false"))
}

// readDigits reads a whole number without a sign. What follows it is for the caller to look at: a fraction or an
// exponent is neither comma nor bracket.
func readDigits(b []byte) (n uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		if n > (math.MaxUint64-9)/10 {
			return 0, nil, false
		}
		n = n*10 + uint64(b[i]-'0')
	}
	return n, b[i:], i == 1 || i > 1 && b[0] != '0'
}

func readUint(v reflect.Value, b []byte) ([]byte, bool) {
	n, rest, ok := readDigits(b)
	if !ok || v.OverflowUint(n) {
		return nil, false
	}
	v.SetUint(n)
	return rest, true
}

func readInt(v reflect.Value, b []byte) ([]byte, bool) {
	digits, negative := bytes.CutPrefix(b, []byte("-"))
	n, rest, ok := readDigits(digits)
	if !ok || n > math.MaxInt64 {
		return nil, false
	}
	signed := int64(n)
	if negative {
		signed = -signed
	}
	if v.OverflowInt(signed) {
		return nil, false
	}
	v.SetInt(signed)
	return rest, true
}

// readSlowly leaves the value to encoding/json.
func readSlowly(v reflect.Value, b []byte) ([]byte, bool) {
	end := valueEnd(b)
	if end <= 0 || json.Unmarshal(b[:end], v.Addr().Interface()) != nil {
		return nil, false
	}
	return b[end:], true
}

// valueEnd returns where the value at the beginning of b ends, if it is one: brackets and quotes are counted, and
// nothing else is looked at.
func valueEnd(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
			if !quoted && depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case c == ',' && depth == 0:
			return i
		}
	}
	return -1
}
