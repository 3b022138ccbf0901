package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"crossbill/domain"
)

// kinds maps each error code to its HTTP status and title. Invalid is 422: the request was read and is wrong.
var kinds = map[domain.Code]struct {
	status int
	title  string
}{
	domain.Invalid:      {http.StatusUnprocessableEntity, "The request is not valid"},
	domain.NotFound:     {http.StatusNotFound, "No such thing"},
	domain.Conflict:     {http.StatusConflict, "The thing is not in the state the request expects"},
	domain.Forbidden:    {http.StatusForbidden, "The caller may not do this"},
	domain.Unauthorised: {http.StatusUnauthorized, "The caller is not known"},
	domain.Unavailable:  {http.StatusServiceUnavailable, "Try again later"},
	domain.Internal:     {http.StatusInternalServerError, "Something is wrong on our side"},
}

// problemOf shows err as RFC 9457 problem details. What is internal stays in the server's log.
func problemOf(err error) Problem {
	var e *domain.Error
	if !errors.As(err, &e) {
		e = &domain.Error{Code: domain.Internal, Err: err}
	}
	kind, known := kinds[e.Code]
	if !known {
		kind = kinds[domain.Internal]
	}
	p := Problem{
		Type: "/problems/" + string(e.Code), Title: kind.title, Status: kind.status, Code: ProblemCode(e.Code),
		Detail: e.Message, Retryable: e.Code == domain.Unavailable,
	}
	if e.Code == domain.Internal {
		p.Detail = "the request could not be served; the operator's log has the cause"
	} else if e.Hint != "" {
		p.Hint = &e.Hint
	}
	if len(e.Fields) > 0 {
		fields := make([]FieldError, len(e.Fields))
		for i, f := range e.Fields {
			fields[i] = FieldError{Pointer: f.Pointer, Detail: f.Detail}
		}
		p.Errors = &fields
	}
	return p
}

// fail answers with a problem; it is the only way an error leaves the server.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		p.Status = http.StatusRequestEntityTooLarge
	}
	if p.Status >= http.StatusInternalServerError && r.Context().Err() == nil { // who went away caused it
		s.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeProblem(w, p)
}

func writeProblem(w http.ResponseWriter, p Problem) {
	switch p.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="crossbill"`) // RFC 9110 section 11.6.1
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, domain.Errorf(domain.NotFound, "api", "there is nothing at %.200s", r.URL.Path).
		WithHint("the contract is at /openapi.yaml"))
}

func (s *Server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	p := problemOf(domain.Errorf(domain.Invalid, "api", "%.10s is not a method of %.200s", r.Method, r.URL.Path).
		WithHint("the contract is at /openapi.yaml"))
	p.Status = http.StatusMethodNotAllowed
	writeProblem(w, p)
}
