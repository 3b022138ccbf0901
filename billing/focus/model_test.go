package focus_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The FinOps Foundation's own conformance rules for FOCUS 1.2, as its validator has them; their licence is in NOTICE.
var (
	//go:embed testdata/model-1.2.json
	modelJSON []byte
	//go:embed testdata/currency_codes.csv
	currencyCodes string
)

// model is a set of conformance rules and how they are written.
type model struct {
	ApplicabilityCriteria map[string]struct{ Description string }
	CheckFunctions        map[string]struct{ Description string }
	ModelDatasets         map[string]struct{ ModelRules []string }
	ModelRules            map[string]*rule
}

type rule struct {
	Function              string // Composite, Presence, Type, Format, Nullability, Validation
	Reference             string // the column, dataset or attribute that it is of
	EntityType            string
	Status                string
	ApplicabilityCriteria []string
	Type                  string // Static: Requirement says it all; Dynamic: only MustSatisfy does, for people
	ValidationCriteria    struct {
		MustSatisfy  string
		Keyword      string
		Requirement  check
		Condition    check
		Dependencies []string
	}
}

// check is an expression over one row, or over the dataset. The zero check is none.
type check struct {
	CheckFunction    string
	Items            []check
	ModelRuleID      string `json:"ModelRuleId"`
	ColumnName       string
	ColumnAName      string
	ColumnBName      string
	ResultColumnName string
	Value            any // null, a text or a number
	ExpectedCount    int

	ExpectedType string // says nothing that CheckFunction does not

	malformed string // what it is, if it is no expression
}

// UnmarshalJSON takes what it does not know for malformed: a name that is passed over makes a rule that says less.
func (c *check) UnmarshalJSON(b []byte) error {
	type plain check
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode((*plain)(c)); err != nil || c.CheckFunction == "" && string(b) != "{}" {
		*c = check{malformed: strings.Join(strings.Fields(string(b)), " ")}
	}
	return nil
}

// allMalformed returns what of an expression is none.
func (c check) allMalformed() []string {
	var all []string
	if c.malformed != "" {
		all = append(all, c.malformed)
	}
	for _, item := range c.Items {
		all = append(all, item.allMalformed()...)
	}
	return all
}

func (c check) none() bool { return c.CheckFunction == "" && c.malformed == "" }

// outcome is what became of a rule.
type outcome struct {
	skipped string // why it did not run; "" if it did
	applied int    // rows, or 1 for what is said of the whole dataset
	failed  []int  // rows; -1 for the whole dataset
}

// validator evaluates every rule of a model over a dataset.
type validator struct {
	model       *model
	data        *dataset
	supported   map[string]bool
	byHand      map[string]func(*dataset) []int // rules that the model leaves to people, by what they say
	outcomes    map[string]*outcome
	uninterpret []string // what it does not know
}

// validate walks the rules from the datasets' own down, then those that no dataset refers to (of attributes).
func (v *validator) validate() {
	v.outcomes = make(map[string]*outcome)
	all := make([]bool, len(v.data.rows))
	for i := range all {
		all[i] = true
	}
	for _, d := range v.model.ModelDatasets {
		for _, id := range d.ModelRules {
			v.rule(id, all, false)
		}
	}
	for id := range v.model.ModelRules {
		if v.outcomes[id] == nil && !v.referred(id) {
			v.rule(id, all, false)
		}
	}
	for id := range v.model.ModelRules { // what is only referred to by what was skipped
		if v.outcomes[id] == nil {
			v.outcomes[id] = &outcome{skipped: "part of a rule that is " + v.above(id)}
		}
	}
}

// above returns why a rule was skipped that refers to this one, whether itself or through others.
func (v *validator) above(id string) string {
	for parent, r := range v.model.ModelRules {
		for _, item := range r.ValidationCriteria.Requirement.Items {
			if item.ModelRuleID != id {
				continue
			}
			if o := v.outcomes[parent]; o != nil && !strings.HasPrefix(o.skipped, "part of") {
				return o.skipped
			}
			return v.above(parent)
		}
	}
	return "in no dataset"
}

func (v *validator) referred(id string) bool {
	for _, r := range v.model.ModelRules {
		for _, item := range r.ValidationCriteria.Requirement.Items {
			if item.ModelRuleID == id {
				return true
			}
		}
	}
	return false
}

// rule evaluates one and returns on which rows it holds; it holds where it does not apply. alternative: it is one of several
// of which one has to hold, so that its own failure is none.
func (v *validator) rule(id string, where []bool, alternative bool) []bool {
	holds := make([]bool, len(where))
	for i := range holds {
		holds[i] = true
	}
	r := v.model.ModelRules[id]
	if r == nil {
		v.uninterpret = append(v.uninterpret, "a reference to "+id+", which is no rule")
		return holds
	}
	o := v.outcomes[id]
	if o == nil {
		o = new(outcome)
		v.outcomes[id] = o
	}
	if o.skipped = v.skip(id, r); o.skipped != "" {
		return holds
	}
	c := r.ValidationCriteria
	applies := slices.Clone(where)
	if !c.Condition.none() {
		for i := range applies {
			applies[i] = applies[i] && v.row(c.Condition, v.data.rows[i])
		}
	}
	if r.Function == "Composite" {
		o.applied++
		holds = v.items(c.Requirement, applies, alternative)
		return holds
	}
	if hand := v.byHand[id]; hand != nil {
		o.applied = max(o.applied, 1)
		o.failed = append(o.failed, hand(v.data)...)
		return holds
	}
	v.requirement(c.Requirement, applies, holds, o)
	// MAY says what is allowed, and RFC 2119 fails nobody for it.
	if alternative || c.Keyword == "MAY" {
		o.failed = nil
	}
	if c.Keyword == "MAY" {
		for i := range holds {
			holds[i] = true
		}
	}
	return holds
}

// skip says why a rule can't or need not be evaluated.
func (v *validator) skip(id string, r *rule) string {
	for _, criterion := range r.ApplicabilityCriteria {
		if !v.supported[criterion] {
			return "not applicable: " + criterion
		}
	}
	switch {
	case r.Status != "Active":
		return "not active: " + r.Status
	case v.byHand[id] != nil:
		return ""
	case r.Type == "Dynamic" && r.ValidationCriteria.Requirement.none() && r.ValidationCriteria.Keyword == "MAY":
		return "dynamic, and only allows (MAY)"
	case r.Type == "Dynamic" && r.ValidationCriteria.Requirement.none():
		return "dynamic: the model has no check for it"
	}
	return ""
}

// items evaluates a composite rule.
func (v *validator) items(c check, applies []bool, alternative bool) []bool {
	holds := make([]bool, len(applies))
	for i := range holds {
		holds[i] = c.CheckFunction == "AND"
	}
	switch c.CheckFunction {
	case "AND", "OR":
	default:
		v.uninterpret = append(v.uninterpret, "a composite of "+c.CheckFunction)
		return holds
	}
	for _, item := range c.Items {
		if item.CheckFunction != "CheckModelRule" {
			v.uninterpret = append(v.uninterpret, "an item of a composite that is a "+item.CheckFunction)
			continue
		}
		part := v.rule(item.ModelRuleID, applies, alternative || c.CheckFunction == "OR")
		for i := range holds {
			if c.CheckFunction == "AND" {
				holds[i] = holds[i] && part[i]
			} else {
				holds[i] = holds[i] || part[i]
			}
		}
	}
	if c.CheckFunction == "OR" && !alternative {
		for i := range holds {
			if applies[i] && !holds[i] {
				o := v.outcomes[c.Items[0].ModelRuleID]
				o.failed = append(o.failed, i)
			}
		}
	}
	return holds
}

// requirement evaluates a check where it applies.
func (v *validator) requirement(c check, applies, holds []bool, o *outcome) {
	whole := func(ok bool) {
		o.applied++
		if !ok {
			o.failed = append(o.failed, -1)
		}
	}
	present := func(name string) bool { return slices.Contains(v.data.columns, name) }
	switch c.CheckFunction {
	case "ColumnPresent":
		whole(present(c.ColumnName))
		return
	case "TypeString", "TypeDecimal", "TypeDateTime":
		want := map[string]string{"TypeString": "String", "TypeDecimal": "Decimal", "TypeDateTime": "Date/Time"}[c.CheckFunction]
		whole(v.data.types[c.ColumnName] == want)
		return
	case "CheckDistinctCount":
		v.distinct(c, applies, o)
		return
	}
	for _, name := range columnsOf(c) {
		if !present(name) { // what is said of a column that is not there is said of the dataset
			whole(false)
			return
		}
	}
	for i, row := range v.data.rows {
		if !applies[i] {
			continue
		}
		o.applied++
		if holds[i] = v.row(c, row); !holds[i] {
			o.failed = append(o.failed, i)
		}
	}
}

func columnsOf(c check) []string {
	names := []string{c.ColumnName, c.ColumnAName, c.ColumnBName, c.ResultColumnName}
	for _, item := range c.Items {
		names = append(names, columnsOf(item)...)
	}
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

// distinct checks that each value of A has so many values of B.
func (v *validator) distinct(c check, applies []bool, o *outcome) {
	seen := make(map[string]map[string]bool)
	for i, row := range v.data.rows {
		if a := row[c.ColumnAName]; applies[i] && a != "" {
			if seen[a] == nil {
				seen[a] = make(map[string]bool)
			}
			seen[a][row[c.ColumnBName]] = true
		}
	}
	for i, row := range v.data.rows {
		if a := row[c.ColumnAName]; applies[i] && a != "" {
			o.applied++
			if len(seen[a]) != c.ExpectedCount {
				o.failed = append(o.failed, i)
			}
		}
	}
}

// row evaluates an expression over one row. What is said of a value's form is said of values: null has none. A comparison
// with null holds, as the rule about null is another one (so the validator's own SQL has it).
func (v *validator) row(c check, row map[string]string) bool {
	cell := row[c.ColumnName]
	switch c.CheckFunction {
	case "AND":
		return !slices.ContainsFunc(c.Items, func(item check) bool { return !v.row(item, row) })
	case "OR":
		return slices.ContainsFunc(c.Items, func(item check) bool { return v.row(item, row) })
	case "CheckValue":
		return same(cell, c.Value)
	case "CheckNotValue":
		return !same(cell, c.Value)
	case "CheckSameValue":
		return row[c.ColumnAName] == row[c.ColumnBName]
	case "CheckNotSameValue":
		return row[c.ColumnAName] != row[c.ColumnBName]
	case "CheckGreaterOrEqualThanValue":
		return cell == "" || isNumber(cell) && rat(cell).Cmp(rat(text(c.Value))) >= 0
	case "ColumnByColumnEqualsColumnValue":
		a, b, product := row[c.ColumnAName], row[c.ColumnBName], row[c.ResultColumnName]
		return a == "" || b == "" || product == "" ||
			isNumber(a) && isNumber(b) && isNumber(product) && new(big.Rat).Mul(rat(a), rat(b)).Cmp(rat(product)) == 0
	case "CheckDecimalValue", "FormatNumeric":
		return cell == "" || isNumber(cell)
	case "FormatString":
		return cell == "" || utf8.ValidString(cell) && strings.TrimSpace(cell) != ""
	case "FormatDateTime":
		_, err := time.Parse("2006-01-02T15:04:05Z", cell)
		return cell == "" || err == nil
	case "FormatUnit":
		return cell == "" || unitFormat.MatchString(cell)
	case "FormatCurrency", "CheckNationalCurrency":
		return cell == "" || nationalCurrencies[cell]
	case "FormatKeyValue":
		return cell == "" || isKeyValue(cell)
	}
	v.uninterpret = append(v.uninterpret, strings.TrimSpace(c.CheckFunction+" "+c.malformed))
	return true
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// same compares a cell with null, a text or a number of the model.
func same(cell string, value any) bool {
	want := text(value)
	if cell != "" && isNumber(cell) && isNumber(want) {
		return rat(cell).Cmp(rat(want)) == 0
	}
	return cell == want
}

// numeric is NumericFormat: no fractions, signs of positive values, symbols or commas; E notation.
var numeric = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?(E-?[0-9]+)?$`)

func isNumber(s string) bool { return numeric.MatchString(s) }

// rat returns a number's value, and 0 for what is none: that it is one is another rule's matter.
func rat(s string) *big.Rat {
	if r, ok := new(big.Rat).SetString(s); ok && isNumber(s) {
		return r
	}
	return new(big.Rat)
}

// unitFormat is UnitFormat: the data sizes and times of its tables as they are spelled there, and nouns of counts, alone, over
// times, per time, and with whole quantities.
var unitFormat = func() *regexp.Regexp {
	const size = `[KMGTPE]?b|[KMGTPE]?B|[KMGTPE]ib|[KMGTPE]iB`
	const noun = `[A-Z][A-Za-z0-9]*( [A-Z][A-Za-z0-9]*)*`
	const single, plural = `Year|Month|Day|Hour|Minute|Second`, `Years|Months|Days|Hours|Minutes|Seconds`
	return regexp.MustCompile(`^(([0-9]+ )?(` + size + `|` + plural + `|` + noun + `)|(` + size + `|` + noun + `)-(` + plural + `)|(` +
		size + `|` + noun + `)/(` + single + `)|(` + size + `|` + noun + `)/[0-9]+ (` + plural + `))$`)
}()

var nationalCurrencies = func() map[string]bool {
	codes := make(map[string]bool)
	for _, line := range strings.Fields(currencyCodes) {
		if _, code, ok := strings.Cut(line, ","); ok && len(code) == 3 {
			codes[code] = true
		}
	}
	return codes
}()

// isKeyValue is KeyValueFormat: an object of unique keys whose values are neither objects nor arrays.
func isKeyValue(s string) bool {
	decoder := json.NewDecoder(strings.NewReader(s))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return false
	}
	keys := make(map[string]bool)
	for decoder.More() {
		key, err := decoder.Token()
		name, ok := key.(string)
		if err != nil || !ok || keys[name] {
			return false
		}
		keys[name] = true
		value, err := decoder.Token()
		if _, nested := value.(json.Delim); err != nil || nested {
			return false
		}
	}
	_, err := decoder.Token()
	return err == nil && !decoder.More()
}
