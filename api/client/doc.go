// Package client calls Crossbill's API. client.gen.go is generated from the contract, api/openapi.yaml; this file adds
// what every caller needs: a key on each request, and answers decoded with problems as errors. It never retries by
// itself: only the caller knows whether a write carried an Idempotency-Key.
//
//	c, err := client.New("http://127.0.0.1:8080", key)
//	invoice, _, err := client.Decode[client.Invoice](c.GetInvoice(ctx, id))
package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// MaxAnswerBytes bounds what Decode reads of an answer.
const MaxAnswerBytes = 64 << 20

// New returns a client of the platform at baseURL that sends apiKey with each request.
func New(baseURL, apiKey string, options ...ClientOption) (*Client, error) {
	authorise := WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		if apiKey != "" {
			r.Header.Set("Authorization", "Bearer "+apiKey)
		}
		return nil
	})
	return NewClient(strings.TrimSuffix(baseURL, "/"), append([]ClientOption{authorise}, options...)...)
}

// ProblemError is an answer that was a problem.
type ProblemError struct{ Problem }

func (e *ProblemError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d): %s", e.Code, e.Status, e.Detail)
	if e.Errors != nil {
		for _, f := range *e.Errors {
			fmt.Fprintf(&b, "; %s: %s", f.Pointer, f.Detail)
		}
	}
	if e.Hint != nil {
		b.WriteString(" (hint: " + *e.Hint + ")")
	}
	return b.String()
}

// Decode reads the answer to any of the client's calls: its JSON as T and the log position it names, if any. The error
// is a [*ProblemError] if the platform answered with a problem.
func Decode[T any](response *http.Response, err error) (answer T, position int64, _ error) {
	body, position, err := read(response, err)
	if err != nil || len(body) == 0 {
		return answer, position, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, position, fmt.Errorf("the answer to %s is not the contract's: %w", response.Request.URL.Path, err)
	}
	return answer, position, nil
}

// Text reads an answer that is not JSON: a CSV export, a checkpoint. Its errors are those of [Decode].
func Text(response *http.Response, err error) (string, error) {
	body, _, err := read(response, err)
	return string(body), err
}

func read(response *http.Response, err error) (body []byte, position int64, _ error) {
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(response.Body, MaxAnswerBytes)); err != nil {
		return nil, 0, err
	}
	if response.StatusCode >= 300 {
		problem := &ProblemError{}
		if err := json.Unmarshal(body, &problem.Problem); err != nil || problem.Code == "" {
			return nil, 0, fmt.Errorf("%s %s answered %s", response.Request.Method, response.Request.URL.Path, response.Status)
		}
		return nil, 0, problem
	}
	position, _ = strconv.ParseInt(response.Header.Get("Crossbill-Position"), 10, 64) // absent on reads
	return body, position, nil
}
