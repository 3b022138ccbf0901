package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"crossbill/domain"
)

// maxCell is how much of a value a table's cell shows, in characters; the whole is in --output json.
const maxCell = 60

// property is a field of a JSON object. Objects are kept in the order they came in, for that is the contract's.
type property struct {
	name  string
	value any // string, json.Number, bool, nil, []any, []property
}

// writeTable writes an answer for people: a page's items as a table, one thing as its fields with lists as tables under it.
// heading says whether a page begins with its head.
func writeTable(out io.Writer, answer string, body []byte, heading bool) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	value, err := decodeOrdered(decoder)
	if err != nil {
		return domain.Errorf(domain.Internal, "cli.writeTable", "the answer is not JSON: %w", err)
	}
	object, ok := value.([]property)
	if !ok {
		_, err := fmt.Fprintln(out, cell(value))
		return err
	}
	if items, ok := lookup(object, "items").([]any); ok {
		return writeList(out, strings.TrimSuffix(answer, "Page"), items, heading)
	}
	return writeObject(out, object, "")
}

func decodeOrdered(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := []property{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := decodeOrdered(d)
			if err != nil {
				return nil, err
			}
			object = append(object, property{name.(string), value})
		}
		_, err := d.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			value, err := decodeOrdered(d)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := d.Token()
		return list, err
	}
	return token, nil
}

func lookup(object []property, path string) any {
	name, rest, deeper := strings.Cut(path, ".")
	for _, p := range object {
		if p.name != name {
			continue
		}
		if !deeper {
			return p.value
		}
		if inner, ok := p.value.([]property); ok {
			return lookup(inner, rest)
		}
	}
	return nil
}

// writeList writes things of a kind as a table.
func writeList(out io.Writer, kind string, items []any, heading bool) error {
	names := columns[kind]
	if names == nil {
		names = firstColumns(items)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if heading {
		heads := make([]string, len(names))
		for i, name := range names {
			heads[i] = strings.ToUpper(strings.ReplaceAll(name[strings.LastIndex(name, ".")+1:], "_", " "))
		}
		fmt.Fprintln(w, strings.Join(heads, "\t"))
	}
	for _, item := range items {
		object, ok := item.([]property)
		if !ok {
			fmt.Fprintln(w, cell(item))
			continue
		}
		cells := make([]string, len(names))
		for i, name := range names {
			cells[i] = cell(lookup(object, name))
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return w.Flush()
}

// firstColumns are the simple fields that the items have.
func firstColumns(items []any) []string {
	var names []string
	for _, item := range items {
		object, _ := item.([]property)
		for _, p := range object {
			if len(names) < maxColumns && isSimple(p.value) && !slices.Contains(names, p.name) {
				names = append(names, p.name)
			}
		}
	}
	return names
}

// isSimple reports whether a value is read at a glance: no object but an amount, no list but of simple values.
func isSimple(value any) bool {
	switch v := value.(type) {
	case []property:
		return moneyOf(v) != ""
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { _, object := e.([]property); return object || !isSimple(e) })
	}
	return true
}

// writeObject writes the simple fields of a thing, then its objects, then its lists of things.
func writeObject(out io.Writer, object []property, indent string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range object {
		if isSimple(p.value) {
			fmt.Fprintf(w, "%s%s\t%s\n", indent, label(p.name), whole(p.value))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range object {
		inner, ok := p.value.([]property)
		if !ok || isSimple(p.value) {
			continue
		}
		fmt.Fprintf(out, "%s%s\n", indent, label(p.name))
		if err := writeObject(out, inner, indent+"  "); err != nil {
			return err
		}
	}
	for _, p := range object {
		list, ok := p.value.([]any)
		if !ok || isSimple(p.value) {
			continue
		}
		fmt.Fprintf(out, "\n%s%s\n", indent, label(p.name))
		if err := writeList(out, kindOf(list), list, true); err != nil {
			return err
		}
	}
	return nil
}

// kindOf finds the kind of thing in a list within an answer by its fields: the one with the most columns that the things
// all have.
func kindOf(list []any) string {
	object, ok := list[0].([]property)
	if !ok {
		return ""
	}
	best := ""
	for kind, names := range columns {
		has := !slices.ContainsFunc(names, func(name string) bool {
			return !slices.ContainsFunc(list, func(item any) bool { o, _ := item.([]property); return lookup(o, name) != nil })
		})
		if has && lookup(object, "id") == nil && (best == "" || len(names) > len(columns[best]) || len(names) == len(columns[best]) && kind < best) {
			best = kind
		}
	}
	return best
}

func label(name string) string { return strings.ReplaceAll(name, "_", " ") }

// moneyOf is an amount as people read it, or "" for any other object.
func moneyOf(object []property) string {
	if len(object) != 2 {
		return ""
	}
	amount, a := lookup(object, "amount").(string)
	currency, c := lookup(object, "currency").(string)
	if !a || !c {
		return ""
	}
	return amount + " " + currency
}

// whole is a value on a line of its own.
func whole(value any) string {
	switch v := value.(type) {
	case nil:
		return "-"
	case string:
		return printable(v)
	case []property:
		return moneyOf(v)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = whole(e)
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(value)
}

// cell is a value in a table.
func cell(value any) string {
	text := whole(value)
	if text == "" {
		return "-"
	}
	if runes := []rune(text); len(runes) > maxCell {
		return string(runes[:maxCell-1]) + "…"
	}
	return text
}

// printable leaves a terminal nothing to obey: texts come from other organisations.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 { // controls, overrides of direction
			return ' '
		}
		return r
	}, text)
}
