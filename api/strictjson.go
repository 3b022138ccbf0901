package api

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf8"

	"crossbill/domain"
)

// Limits of JSON that is sent to us.
const (
	maxJSONDepth  = 32 // the contract needs eight
	maxJSONNumber = 64 // bytes of one
)

// checkJSON returns an Invalid error unless the body is JSON that has one meaning for every reader: UTF-8 without U+0000
// (which PostgreSQL can't hold in a text), no name twice in one object (RFC 8259 section 4 leaves open which counts), no half
// of a surrogate pair, no numbers or nesting beyond what anybody needs. Go's decoder would mend or pass over most of these.
func checkJSON(body []byte) error {
	const op = "api.checkJSON"
	switch {
	case !utf8.Valid(body):
		return domain.Errorf(domain.Invalid, op, "the body is not UTF-8")
	case !json.Valid(body):
		return domain.Errorf(domain.Invalid, op, "the body is not JSON")
	}
	s := jsonScan{body: body}
	for s.at < len(body) {
		if problem := s.step(); problem != "" {
			return domain.Errorf(domain.Invalid, op, "the body's JSON %s, at byte %d", problem, s.at)
		}
	}
	return nil
}

// jsonScan goes through valid JSON.
type jsonScan struct {
	body  []byte
	at    int
	names [][]string // of each object or list that is open; nil for a list
	name  bool       // the next string is a name
}

// step takes one token and returns what is wrong with it, or "".
func (s *jsonScan) step() string {
	switch c := s.body[s.at]; {
	case c == '{' || c == '[':
		if len(s.names) == maxJSONDepth {
			return "is nested more than " + strconv.Itoa(maxJSONDepth) + " deep"
		}
		var names []string
		if s.name = c == '{'; s.name {
			names = []string{}
		}
		s.names = append(s.names, names)
	case c == '}' || c == ']':
		s.names, s.name = s.names[:len(s.names)-1], false
	case c == ',':
		s.name = s.names[len(s.names)-1] != nil
	case c == ':':
		s.name = false
	case c == '"':
		return s.text()
	case c == '-' || c >= '0' && c <= '9':
		n := bytes.IndexFunc(s.body[s.at:], func(r rune) bool {
			return !(r >= '0' && r <= '9' || r == '-' || r == '+' || r == '.' || r == 'e' || r == 'E')
		})
		if n < 0 {
			n = len(s.body) - s.at
		}
		if n > maxJSONNumber {
			return "has a number of more than " + strconv.Itoa(maxJSONNumber) + " bytes"
		}
		s.at += n
		return ""
	}
	s.at++ // also over the letters of true, false and null
	return ""
}

// text takes a string.
func (s *jsonScan) text() string {
	end, escaped := s.at+1, false
	for ; s.body[end] != '"'; end++ {
		if s.body[end] != '\\' {
			continue
		}
		escaped = true
		if end++; s.body[end] != 'u' {
			continue
		}
		switch unit := codeUnit(s.body[end+1:]); {
		case unit == 0:
			return "has U+0000 in a text"
		case unit >= 0xdc00 && unit <= 0xdfff:
			return "has half of a surrogate pair"
		case unit >= 0xd800 && unit <= 0xdbff:
			rest := s.body[end+5:]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' || codeUnit(rest[2:])&^0x3ff != 0xdc00 {
				return "has half of a surrogate pair"
			}
			end += 6
		}
		end += 4
	}
	if s.name {
		name := string(s.body[s.at+1 : end])
		if escaped {
			json.Unmarshal(s.body[s.at:end+1], &name) // it is valid
		}
		open := &s.names[len(s.names)-1]
		if slices.Contains(*open, name) {
			return "has a name twice in one object"
		}
		*open = append(*open, name)
	}
	s.at = end + 1
	return ""
}

// codeUnit reads the four digits of an escape.
func codeUnit(digits []byte) uint64 {
	unit, _ := strconv.ParseUint(string(digits[:4]), 16, 16)
	return unit
}

// checkURL returns an Invalid error for a path or a query with what no text of ours can have.
func checkURL(u *url.URL) error {
	query, err := url.QueryUnescape(u.RawQuery)
	if err != nil || !utf8.ValidString(u.Path) || !utf8.ValidString(query) || bytes.ContainsRune([]byte(u.Path+query), 0) {
		return domain.Errorf(domain.Invalid, "api.checkURL", "the URL is not well-formed: it must be UTF-8 without U+0000, percent-encoded")
	}
	return nil
}
