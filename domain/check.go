package domain

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxClockSkew is how far an edge node's clock may be ahead of the platform's before what it says of time is refused.
const MaxClockSkew = time.Minute

// MaxReason is the longest reason a person or a program may give for what it does, in characters.
const MaxReason = 500

// Instant returns t as events hold it: UTC, whole microseconds (PostgreSQL's precision), no monotonic clock.
func Instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Pointer returns the JSON pointer (RFC 6901) of element i of the array at pointer.
func Pointer(pointer string, i int) string { return pointer + "/" + strconv.Itoa(i) }

// ID records an id that does not have the prefix and the shape of an identifier.
func (p *Problems) ID(pointer, prefix, id string) {
	p.Check(ValidID(prefix, id), pointer, "must be an identifier of the form %s_…", prefix)
}

// Text records a text of a line that is blank, longer than limit characters, or has control characters in it.
func (p *Problems) Text(pointer, text string, limit int) {
	p.Check(strings.TrimSpace(text) != "", pointer, "must not be blank")
	p.OptionalText(pointer, text, limit)
}

// OptionalText is [Problems.Text] for a text that may be missing.
func (p *Problems) OptionalText(pointer, text string, limit int) {
	p.text(pointer, text, limit, unicode.IsControl)
}

// LongText is [Problems.Text] for a text of several lines.
func (p *Problems) LongText(pointer, text string, limit int) {
	p.Check(strings.TrimSpace(text) != "", pointer, "must not be blank")
	p.text(pointer, text, limit, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' })
}

func (p *Problems) text(pointer, text string, limit int, refused func(rune) bool) {
	if !utf8.ValidString(text) {
		p.Add(pointer, "must be UTF-8")
		return
	}
	p.Check(utf8.RuneCountInString(text) <= limit, pointer, "must have at most %d characters", limit)
	p.Check(strings.IndexFunc(text, refused) < 0, pointer, "must not have control characters")
}

// Time records a missing time.
func (p *Problems) Time(pointer string, t time.Time) {
	p.Check(!t.IsZero(), pointer, "must be given")
}

// Hash records a text that is not a SHA-256 in lower-case hexadecimal.
func (p *Problems) Hash(pointer, text string) {
	ok := len(text) == 64
	for i := range len(text) {
		c := text[i]
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	}
	p.Check(ok, pointer, "must be a SHA-256 in 64 lower-case hexadecimal digits")
}

// OneOf records a value that is none of a closed set.
func (p *Problems) OneOf(pointer, value string, set ...string) {
	for _, v := range set {
		if value == v {
			return
		}
	}
	p.Add(pointer, "%.40q is not one of %s", value, strings.Join(set, ", "))
}

// addError records an error of this package against a field: its message and its hint.
func (p *Problems) addError(pointer string, err error) {
	var e *Error
	if !errors.As(err, &e) {
		p.Add(pointer, "%v", err)
		return
	}
	detail := e.Message
	if e.Hint != "" {
		detail += " (" + e.Hint + ")"
	}
	p.Add(pointer, "%s", detail)
}

// Missing returns the NotFound error for a command to a thing that does not exist, or that the caller may not know of.
func Missing(op, thing string) *Error {
	return Errorf(NotFound, op, "no such %s", thing).WithHint("check the identifier")
}

// Exists returns the Conflict error for making a thing under an identifier that is taken.
func Exists(op, thing, id string) *Error {
	return Errorf(Conflict, op, "the %s %s exists already", thing, id).WithHint("make it under a new identifier")
}

// InState returns the Conflict error for a command that the thing's state does not allow.
func InState(op, thing, id, state string) *Error {
	return Errorf(Conflict, op, "the %s %s is %s", thing, id, strings.ReplaceAll(state, "_", " "))
}

// Differs returns the Conflict error for a step that was already done with other content.
func Differs(op, thing, id, what string) *Error {
	return Errorf(Conflict, op, "the %s %s already has another %s", thing, id, what).WithHint("read it again and decide anew")
}

// UnknownCommand returns the Internal error for a command that Decide has no rule for.
func UnknownCommand(op string, command any) *Error {
	return Errorf(Internal, op, "there is no rule for the command %T", command)
}
