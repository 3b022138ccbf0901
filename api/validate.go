package api

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"crossbill/domain"
)

// validate holds the request to the contract's own constraints, so that handlers see only well-formed input, and
// reports everything that is wrong at once.
func (s *Server) validate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		matched := matchedFrom(r.Context())
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.fail(w, r, domain.Errorf(domain.Invalid, "api.validate", "the body can't be read: %w", err).
				WithHint("a body holds at most %d bytes", MaxBodyBytes))
			return
		}
		itself := s.readsItself(matched)
		if len(body) > 0 && !itself && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			s.fail(w, r, domain.Errorf(domain.Invalid, "api.validate", "the body's content type must be application/json"))
			return
		}
		if err := checkURL(r.URL); err != nil {
			s.fail(w, r, err)
			return
		}
		if len(body) > 0 && !itself {
			if err := checkJSON(body); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		err = openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
			Request: r, PathParams: matched.params, Route: matched.route,
			Options: &openapi3filter.Options{MultiError: true, ExcludeRequestBody: itself, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
		})
		if err != nil {
			var problems domain.Problems
			collectProblems(&problems, "", err)
			s.fail(w, r, problems.Err("api.validate"))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

var unsupported = regexp.MustCompile(`^property "(.*)" is unsupported$`)

// collectProblems flattens the validator's error tree into field errors with JSON pointers; a parameter's pointer is
// its place and name, such as "/query/limit".
func collectProblems(p *domain.Problems, at string, err error) {
	var (
		multi   openapi3.MultiError
		request *openapi3filter.RequestError
		schema  *openapi3.SchemaError
	)
	switch {
	case asExactly(err, &multi):
		for _, e := range multi {
			collectProblems(p, at, e)
		}
	case asExactly(err, &request):
		if request.Parameter != nil {
			at = "/" + request.Parameter.In + "/" + request.Parameter.Name
		}
		if request.Err != nil {
			collectProblems(p, at, request.Err)
		} else {
			p.Add(at, "%s", request.Reason)
		}
	case asExactly(err, &schema):
		for _, part := range schema.JSONPointer() {
			at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(part) // RFC 6901 section 3
		}
		if name := unsupported.FindStringSubmatch(schema.Reason); name != nil { // the validator points at the object
			at += "/" + name[1]
		}
		p.Add(at, "%.300s", schema.Reason)
	default:
		if inner := errors.Unwrap(err); inner != nil {
			collectProblems(p, at, inner)
			return
		}
		p.Add(at, "%.300s", err.Error())
	}
}

// asExactly is errors.As without unwrapping: the tree is walked by hand to keep every branch.
func asExactly[T error](err error, target *T) bool {
	e, ok := err.(T)
	if ok {
		*target = e
	}
	return ok
}
