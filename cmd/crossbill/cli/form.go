package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"crossbill/domain"
)

// idempotencyHeader is given a random key unless the user has one: a request is sent once, and repeating a command is
// another request.
const idempotencyHeader = "Idempotency-Key"

// flagNames are the parameters whose flag is not their name: many requests have a reason of their own in the body.
var flagNames = map[string]string{"Crossbill-Reason": "because"}

// maxDepth is how deep in the body a property can have a flag of its own: --bgp.asn is at 2.
const maxDepth = 2

// form holds the flags of one command until it runs.
type form struct {
	cmd     *cobra.Command
	options map[string]*openapi3.Parameter // by flag
	fields  []field
	data    string
}

// field is a property of the body with a flag.
type field struct {
	flag   string
	path   []string
	schema *openapi3.Schema
}

func newForm(cmd *cobra.Command) *form {
	return &form{cmd: cmd, options: make(map[string]*openapi3.Parameter)}
}

// option adds the flag of a parameter in query or header.
func (f *form) option(p *openapi3.Parameter) {
	flag, named := flagNames[p.Name]
	if !named {
		flag = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(p.Name, "Crossbill-"), "_", "-"))
	}
	f.options[flag] = p
	f.flag(flag, p.Schema.Value, p.Description)
	if p.Required {
		f.cmd.MarkFlagRequired(flag)
	}
}

// bodyFlags adds a flag for every property that can be typed, and --data for the whole.
func (f *form) bodyFlags(schema *openapi3.Schema) {
	f.cmd.Flags().StringVar(&f.data, "data", "", "the whole request as JSON, @FILE or - for standard input; flags change single fields of it")
	f.properties(schema, nil)
}

func (f *form) properties(schema *openapi3.Schema, path []string) {
	names := make([]string, 0, len(schema.Properties))
	for name := range schema.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		property := schema.Properties[name].Value
		at := append(slices.Clone(path), name)
		if property.Type.Is("object") && !isMoney(property) && len(property.Properties) > 0 && len(at) < maxDepth {
			f.properties(property, at)
			continue
		}
		flag := strings.ReplaceAll(strings.Join(at, "."), "_", "-")
		if f.cmd.Flags().Lookup(flag) != nil { // a parameter has the name: the field's is the one people mean
			flag = "body." + flag
		}
		f.fields = append(f.fields, field{flag, at, property})
		about := property.Description
		if slices.Contains(schema.Required, name) && len(path) == 0 {
			about = strings.TrimSpace("(required) " + about)
		}
		f.flag(flag, property, about)
	}
}

func (f *form) flag(name string, schema *openapi3.Schema, about string) {
	kind := "string"
	switch {
	case isMoney(schema):
		kind, about = "money", strings.TrimSpace(about+" As in \"10.00 USD\".")
	case schema.Type.Is("array") && isScalar(schema.Items.Value):
		kind, about = "list", strings.TrimSpace(about+" Separated by commas.")
		schema = schema.Items.Value
	case schema.Type.Is("integer"):
		kind = "integer"
	case schema.Type.Is("boolean"):
		f.cmd.Flags().Bool(name, false, about)
		return
	case !isScalar(schema):
		kind = "JSON"
	}
	if len(schema.Enum) > 0 {
		words := make([]string, len(schema.Enum))
		for i, v := range schema.Enum {
			words[i] = fmt.Sprint(v)
		}
		about = strings.TrimSpace(about + " One of " + strings.Join(words, ", ") + ".")
		defer f.cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	f.cmd.Flags().Var(&text{kind: kind}, name, about)
}

// text is a flag's value as typed, with a word for what it should be.
type text struct{ value, kind string }

func (t *text) String() string     { return t.value }
func (t *text) Set(v string) error { t.value = v; return nil }
func (t *text) Type() string       { return t.kind }

func isScalar(schema *openapi3.Schema) bool {
	return schema.Type.Is("string") || schema.Type.Is("integer") || schema.Type.Is("boolean")
}

// isMoney reports whether an object is an amount with its currency.
func isMoney(schema *openapi3.Schema) bool {
	return schema.Type.Is("object") && len(schema.Properties) == 2 && schema.Properties["amount"] != nil && schema.Properties["currency"] != nil
}

// request makes the request that the flags and arguments say. Its URL has no host yet.
// It returns an Invalid error, with the flag's name, for a value that can't be sent.
func (o operation) request(f *form, args []string) (*http.Request, error) {
	path := o.path
	for i, p := range o.places {
		path = strings.Replace(path, "{"+p.Name+"}", url.PathEscape(args[i]), 1)
	}
	r, err := http.NewRequest(o.method, path, nil)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "cli.request", "%s is no path: %w", path, err)
	}
	query := url.Values{}
	for flag, p := range f.options {
		given := f.cmd.Flags().Lookup(flag)
		if !given.Changed {
			continue
		}
		if p.In == openapi3.ParameterInHeader {
			r.Header.Set(p.Name, given.Value.String())
		} else if p.Schema.Value.Type.Is("array") {
			query[p.Name] = strings.Split(given.Value.String(), ",")
		} else {
			query.Set(p.Name, given.Value.String())
		}
	}
	r.URL.RawQuery = query.Encode()
	if _, takes := f.options[strings.ToLower(idempotencyHeader)]; takes && r.Header.Get(idempotencyHeader) == "" {
		r.Header.Set(idempotencyHeader, uuid.NewString())
	}
	body, err := o.bodyOf(f)
	if err != nil || body == nil {
		return r, err
	}
	r.Header.Set("Content-Type", o.bodyType)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
	return r, nil
}

// bodyOf is --data with the flags' fields in it; nil when nothing is given and nothing need be.
func (o operation) bodyOf(f *form) ([]byte, error) {
	if o.body == nil {
		return nil, nil
	}
	document := map[string]any{}
	given := o.bodyRequired
	if f.data != "" {
		given = true
		raw, err := readData(f.data, f.cmd.InOrStdin())
		if err != nil {
			return nil, err
		}
		if len(f.fields) == 0 || !json.Valid(raw) || raw[0] != '{' { // sent as it is: the platform says what is wrong
			return raw, nil
		}
		if err := json.Unmarshal(raw, &document); err != nil {
			return nil, domain.Errorf(domain.Invalid, "cli.request", "--data is not JSON: %w", err)
		}
	}
	for _, field := range f.fields {
		flag := f.cmd.Flags().Lookup(field.flag)
		if !flag.Changed {
			continue
		}
		given = true
		value, err := valueOf(field.schema, flag.Value.String())
		if err != nil {
			return nil, domain.Errorf(domain.Invalid, "cli.request", "--%s: %s", field.flag, err.Error())
		}
		object := document
		for _, name := range field.path[:len(field.path)-1] {
			inner, ok := object[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				object[name] = inner
			}
			object = inner
		}
		object[field.path[len(field.path)-1]] = value
	}
	if !given {
		return nil, nil
	}
	return json.Marshal(document)
}

func readData(data string, stdin io.Reader) ([]byte, error) {
	var raw []byte
	var err error
	switch {
	case data == "-":
		raw, err = io.ReadAll(stdin)
	case strings.HasPrefix(data, "@"):
		raw, err = os.ReadFile(data[1:])
	default:
		raw = []byte(data)
	}
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "cli.request", "--data can't be read: %w", err).WithHint("%s", err)
	}
	if len(raw) == 0 {
		return nil, domain.Errorf(domain.Invalid, "cli.request", "--data is empty")
	}
	return raw, nil
}

// valueOf turns what was typed into the JSON value of its schema. What the value must be besides is for the platform to
// say: it knows, and says it with a hint.
func valueOf(schema *openapi3.Schema, typed string) (any, error) {
	switch {
	case isMoney(schema):
		amount, currency, ok := strings.Cut(strings.TrimSpace(typed), " ")
		if !ok {
			return nil, fmt.Errorf("%q is not an amount and a currency, such as \"10.00 USD\"", typed)
		}
		return map[string]string{"amount": amount, "currency": currency}, nil
	case schema.Type.Is("array") && isScalar(schema.Items.Value) && !strings.HasPrefix(typed, "["):
		list := []any{}
		for part := range strings.SplitSeq(typed, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			value, err := valueOf(schema.Items.Value, part)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case schema.Type.Is("integer"):
		if _, err := strconv.ParseInt(typed, 10, 64); err != nil {
			return nil, fmt.Errorf("%q is not a whole number", typed)
		}
		return json.Number(typed), nil
	case schema.Type.Is("boolean"):
		return strconv.ParseBool(typed)
	case isScalar(schema):
		return typed, nil
	}
	if !json.Valid([]byte(typed)) {
		return nil, fmt.Errorf("%q is not JSON", typed)
	}
	return json.RawMessage(typed), nil
}
