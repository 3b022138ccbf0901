package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crossbill/api/client"
	"crossbill/domain"
)

// Limits of a call.
const (
	callTimeout = 60 * time.Second // of an answer that is not a stream
	maxPages    = 100_000          // that --all follows
)

// Ways to write an answer.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// settings are the flags that every command that calls the API has.
type settings struct {
	profile, platform, output string
}

func (s *settings) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.profile, "profile", "", "the profile with the platform's address and key (default: the one in use)")
	cmd.Flags().StringVar(&s.platform, "platform", "", "the platform's address (default: the profile's)")
	cmd.Flags().StringVarP(&s.output, "output", "o", outputTable, "table for people, json for programs")
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("profile", completeProfiles)
}

// caller sends requests to one platform.
type caller struct {
	base   *url.URL
	key    string
	output string
}

// connect says where to call and with which key.
func (s *settings) connect() (*caller, error) {
	const op = "cli.connect"
	if s.output != outputTable && s.output != outputJSON {
		return nil, domain.Errorf(domain.Invalid, op, "--output is table or json, not %q", s.output)
	}
	p, err := s.resolve()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(p.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, domain.Errorf(domain.Invalid, op, "%q is not the address of a platform", p.URL).WithHint("such as https://crossbill.example")
	}
	return &caller{base: base, key: p.APIKey, output: s.output}, nil
}

// send sends a request and returns the answer if it is a good one. A problem is returned as a [*client.ProblemError].
func (c *caller) send(ctx context.Context, r *http.Request) (*http.Response, error) {
	r = r.Clone(ctx)
	r.URL.Scheme, r.URL.Host = c.base.Scheme, c.base.Host
	r.URL.Path = strings.TrimSuffix(c.base.Path, "/") + r.URL.Path
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "cli.send", "%s does not answer: %w", c.base.Redacted(), err).
			WithHint("is the platform running there? --platform and `crossbill profiles` say where to look")
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	_, _, err = client.Decode[struct{}](response, nil)
	return nil, err
}

// call sends a command's request and writes the answer, and with all those of the pages after it.
func (c *caller) call(cmd *cobra.Command, r *http.Request, o operation, all bool) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), callTimeout)
	defer cancel()
	out := cmd.OutOrStdout()
	for page := range maxPages {
		response, err := c.send(ctx, r)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
			defer response.Body.Close()
			if response.StatusCode == http.StatusNoContent && c.output == outputTable {
				fmt.Fprintln(out, "done")
			}
			_, err := io.Copy(out, response.Body)
			return err
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, client.MaxAnswerBytes))
		response.Body.Close()
		if err != nil {
			return domain.Errorf(domain.Unavailable, "cli.call", "the answer broke off: %w", err)
		}
		if c.output == outputJSON {
			if err := writeJSON(out, body); err != nil {
				return err
			}
		} else if err := writeTable(out, o.answer, body, page == 0); err != nil {
			return err
		}
		if err := foundIn(o, body); err != nil {
			return err
		}
		token := nextPage(body)
		if token == "" {
			return nil
		}
		if !all {
			if c.output == outputTable {
				fmt.Fprintf(cmd.ErrOrStderr(), "there are more: --page-token %s, or --all\n", token)
			}
			return nil
		}
		query := r.URL.Query()
		query.Set("page_token", token)
		r.URL.RawQuery = query.Encode()
	}
	return domain.Errorf(domain.Invalid, "cli.call", "there are more than %d pages", maxPages).WithHint("ask for less with filters")
}

// foundIn returns the error of a command that compares and has found something.
func foundIn(o operation, body []byte) error {
	if o.failsOn == "" {
		return nil
	}
	var answer map[string]json.RawMessage
	var found []json.RawMessage
	if err := errors.Join(json.Unmarshal(body, &answer), json.Unmarshal(answer[o.failsOn], &found)); err != nil {
		return domain.Errorf(domain.Internal, "cli.call", "the answer has no %s: %w", o.failsOn, err)
	}
	if len(found) > 0 {
		return domain.Errorf(domain.Internal, "cli.call", "%s: %d", o.failsOn, len(found)).WithHint("they are in the output; --output json has all of each")
	}
	return nil
}

func nextPage(body []byte) string {
	var page struct {
		NextPageToken string `json:"next_page_token"`
	}
	if json.Unmarshal(body, &page) != nil {
		return ""
	}
	return page.NextPageToken
}

// writeJSON writes an answer as it came, but for space.
func writeJSON(out io.Writer, body []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		return domain.Errorf(domain.Internal, "cli.writeJSON", "the answer is not JSON: %w", err)
	}
	_, err := fmt.Fprintln(out, strings.TrimRight(b.String(), "\n"))
	return err
}

// Exit codes of the program, by what went wrong; programs branch on them.
var exitCodes = map[domain.Code]int{
	domain.Invalid: 2, domain.NotFound: 3, domain.Conflict: 4, domain.Forbidden: 5, domain.Unauthorised: 5, domain.Unavailable: 6,
}

// ExitCode returns the exit code for a command's error: 0 for none, 2 for a wrong request, 3 for a thing that is not there, 4
// for a conflict, 5 for a key that may not, 6 for a platform that can't be reached or asks to try later, 1 for anything else.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	code := domain.Internal
	var problem *client.ProblemError
	var known *domain.Error
	switch {
	case errors.As(err, &problem):
		code = domain.Code(problem.Code)
	case errors.As(err, &known):
		code = known.Code
	}
	if n, ok := exitCodes[code]; ok {
		return n
	}
	return 1
}
