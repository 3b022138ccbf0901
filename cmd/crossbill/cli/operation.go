package cli

import (
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/spf13/cobra"
)

// operation is an operation of the contract as a command.
type operation struct {
	id, noun, verb string
	method, path   string
	summary, long  string
	places         []*openapi3.Parameter
	options        []*openapi3.Parameter // in query and headers
	body           *openapi3.Schema      // nil: none
	bodyType       string
	bodyRequired   bool
	pages          bool // the answer may have a next page
	answer         string
	failsOn        string // a list of the answer: if it is not empty, the command exits with 1
}

func operationOf(path, method string, item *openapi3.PathItem, o *openapi3.Operation) operation {
	c := operation{id: o.OperationID, method: method, path: path, summary: o.Summary, long: o.Description}
	c.failsOn, _ = o.Extensions["x-fails-on"].(string)
	for _, p := range append(slices.Clone(item.Parameters), o.Parameters...) {
		if p.Value.In == openapi3.ParameterInPath {
			c.places = append(c.places, p.Value)
		} else {
			c.options = append(c.options, p.Value)
		}
	}
	slices.SortStableFunc(c.places, func(a, b *openapi3.Parameter) int { // in the order of the path
		return strings.Index(path, "{"+a.Name+"}") - strings.Index(path, "{"+b.Name+"}")
	})
	if o.RequestBody != nil {
		for mediaType, content := range o.RequestBody.Value.Content {
			if c.body == nil || strings.HasPrefix(mediaType, "application/json") {
				c.body, c.bodyType = content.Schema.Value, mediaType
			}
		}
		c.bodyRequired = o.RequestBody.Value.Required
	}
	c.answer, c.pages = answerOf(o)
	var ok bool
	if c.noun, c.verb, ok = strings.Cut(called[c.id], " "); !ok {
		c.noun, c.verb = nameOf(path, method, c.id)
	}
	return c
}

// answerOf returns the schema's name of a good answer in JSON, and whether it has further pages.
func answerOf(o *openapi3.Operation) (name string, pages bool) {
	for status, response := range o.Responses.Map() {
		if !strings.HasPrefix(status, "2") || response.Value.Content["application/json"] == nil {
			continue
		}
		schema := response.Value.Content["application/json"].Schema
		_, pages = schema.Value.Properties["next_page_token"]
		return schema.Ref[strings.LastIndex(schema.Ref, "/")+1:], pages
	}
	return "", false
}

// called are the operations that read badly by the rules of nameOf.
var called = map[string]string{
	"listMembers":          "members list",
	"addMember":            "members add",
	"setMemberRole":        "members set-role",
	"removeMember":         "members remove",
	"listOwnListings":      "listings list",
	"getListingVersion":    "listings show-version",
	"qualify":              "listings qualify",
	"changeBillingAccount": "billing-accounts update",
	"changeBudget":         "budgets update",
	"getInclusionProof":    "log inclusion-proof",
	"getConsistencyProof":  "log consistency-proof",
	"exportJournal":        "ledger export",
}

// nameOf gives an operation the words people look for. The first segment of the path is the noun. The verb is
//
//   - what follows the colon of an action, with the thing it is done to if that is not the noun itself;
//   - of a GET: list or search for a collection, show for one of it, and otherwise what stands after it in the path;
//   - of anything else the operation's own name without the noun: publishFeeSchedule is `fee-schedules publish`.
func nameOf(path, method, id string) (noun, verb string) {
	path, action, isAction := strings.Cut(path, ":")
	segments := strings.Split(strings.TrimPrefix(path, "/v1/"), "/")
	noun = segments[0]
	words := wordsOf(id)
	var statics []string // after the noun
	for _, segment := range segments[1:] {
		if !strings.HasPrefix(segment, "{") {
			name, _, _ := strings.Cut(segment, ".") // a file's extension
			statics = append(statics, name)
		}
	}
	ofOne := strings.HasPrefix(segments[len(segments)-1], "{")
	switch {
	case isAction && len(statics) > 0:
		return noun, action + "-" + singular(statics[len(statics)-1])
	case isAction:
		return noun, action
	case method != http.MethodGet:
		rest := slices.DeleteFunc(words[1:], func(word string) bool {
			return slices.Contains(strings.Split(noun, "-"), word) || slices.Contains(strings.Split(singular(noun), "-"), word)
		})
		return noun, strings.Join(append(words[:1:1], rest...), "-")
	case len(statics) > 0 && ofOne:
		return noun, singular(statics[len(statics)-1])
	case len(statics) > 1 && len(statics) == len(segments)-1: // no identifier at all: /v1/log/proof/inclusion
		return noun, strings.Join(statics, "-")
	case len(statics) > 0:
		return noun, statics[len(statics)-1]
	case ofOne:
		return noun, "show"
	case words[0] == "search", words[0] == "list":
		return noun, words[0]
	}
	return noun, "" // a thing of which there is one
}

// wordsOf splits a name in camelCase.
func wordsOf(id string) []string {
	var words []string
	start := 0
	for i := 1; i <= len(id); i++ {
		if i == len(id) || id[i] >= 'A' && id[i] <= 'Z' {
			words = append(words, strings.ToLower(id[start:i]))
			start = i
		}
	}
	return words
}

func singular(plural string) string {
	if stem, ok := strings.CutSuffix(plural, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(plural, "s")
}

// command makes the command: places of the path are its arguments, everything else are flags.
func (o operation) command(s *settings) *cobra.Command {
	use := o.verb
	if use == "" {
		use = o.noun
	}
	for _, p := range o.places {
		use += " " + strings.ToUpper(p.Name)
	}
	cmd := &cobra.Command{Use: use, Short: o.summary, Long: strings.TrimSpace(o.summary + ".\n\n" + o.long), Args: cobra.ExactArgs(len(o.places))}
	s.addFlags(cmd)
	f := newForm(cmd)
	for _, p := range o.options {
		f.option(p)
	}
	if o.body != nil {
		f.bodyFlags(o.body)
	}
	all := false
	if o.pages {
		cmd.Flags().BoolVar(&all, "all", false, "follow the pages to the end")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := o.request(f, args)
		if err != nil {
			return err
		}
		c, err := s.connect()
		if err != nil {
			return err
		}
		return c.call(cmd, r, o, all)
	}
	return cmd
}
