package domain

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Code says what kind of failure an [Error] is. Programs branch on it; it is part of the API contract.
type Code string

// The closed set of codes.
const (
	Invalid      Code = "invalid"      // the request itself is wrong; sending it again will not help
	NotFound     Code = "not_found"    // no such thing, or none the caller may see
	Conflict     Code = "conflict"     // the thing is in another state or version than the request expects
	Forbidden    Code = "forbidden"    // the caller is known and may not do this
	Unauthorised Code = "unauthorised" // the caller is not known
	Unavailable  Code = "unavailable"  // try again later; nothing was done
	Internal     Code = "internal"     // a defect of ours; the cause is in the log, not in the answer
)

// Error is the one error type at the seams between rooms.
// Message and Hint are for the person or program that asked; Err is for the operator and is never shown to users.
type Error struct {
	Code    Code
	Op      string       // the operation that failed, as package.Function
	Message string       // what is wrong, in a sentence without a full stop
	Hint    string       // what to do about it; may be empty
	Fields  []FieldError // for Invalid: which fields, all of them at once
	Err     error        // the cause; may be nil
}

// FieldError names one wrong field of a request by JSON pointer (RFC 6901).
type FieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.Message)
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "; %s: %s", f.Pointer, f.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString(" (hint: " + e.Hint + ")")
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [Error] with a formatted message. What %w formats becomes its cause, wherever it stands, and is left
// out of the message: causes are for operators and messages for users. An error that %v formats stays in.
func Errorf(code Code, op, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	e := &Error{Code: code, Op: op, Message: wrapped.Error()}
	causes := causesOf(wrapped)
	switch len(causes) {
	case 0:
		return e
	case 1:
		e.Err = causes[0]
	default:
		e.Err = errors.Join(causes...)
	}
	silent := make([]any, len(args))
	for i, arg := range args {
		if silent[i] = arg; slices.ContainsFunc(causes, func(cause error) bool { return isSame(arg, cause) }) {
			silent[i] = noText{}
		}
	}
	e.Message = strings.TrimSuffix(fmt.Errorf(format, silent...).Error(), ": ")
	return e
}

// causesOf returns what fmt.Errorf wrapped: its result says so by one method for one %w and by another for several.
func causesOf(wrapped error) []error {
	switch w := wrapped.(type) {
	case interface{ Unwrap() error }:
		return []error{w.Unwrap()}
	case interface{ Unwrap() []error }:
		return w.Unwrap()
	}
	return nil
}

// isSame reports whether an operand is the cause. Errors of types without equality are taken for it when they are of its
// type: saying too little to a user is the smaller mistake.
func isSame(arg any, cause error) bool {
	t := reflect.TypeOf(arg)
	return t == reflect.TypeOf(cause) && (!t.Comparable() || arg == any(cause))
}

// noText stands in a message where its cause would.
type noText struct{}

func (noText) Error() string { return "" }

// WithHint returns e with the hint set.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// CodeOf returns the code of the outermost [Error] in err's chain, Internal for any other error, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// Problems collects field errors so that a caller learns all of them from one request.
// The zero value is ready for use.
type Problems []FieldError

// Add records that the field at pointer is wrong.
func (p *Problems) Add(pointer, format string, args ...any) {
	*p = append(*p, FieldError{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
}

// Check records detail against pointer unless ok holds.
func (p *Problems) Check(ok bool, pointer, format string, args ...any) {
	if !ok {
		p.Add(pointer, format, args...)
	}
}

// Err returns nil if nothing was recorded, else an Invalid [Error] that lists everything.
func (p Problems) Err(op string) error {
	if len(p) == 0 {
		return nil
	}
	return &Error{Code: Invalid, Op: op, Message: "the request has invalid fields", Fields: p}
}
