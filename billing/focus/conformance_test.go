package focus_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/billing/focus"
)

// supported are the model's applicability criteria that hold here; docs/exports.md says so too.
var supported = map[string]bool{
	"ACCOUNT_NAMING_SUPPORTED":                         true,
	"AVAILABILITY_ZONE_SUPPORTED":                      true, // a registered location in a metro
	"BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED": true,
	"MULTIPLE_PRICING_CATEGORIES_SUPPORTED":            true, // there is one; the column is there all the same
	"NEGOTIATED_PRICING_SUPPORTED":                     true, // private offers
	"PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED":   true,
	"PUBLIC_PRICE_LIST_SUPPORTED":                      true,
	"REGION_SUPPORTED":                                 true,
	"RESOURCE_TYPE_ASSIGNMENT_SUPPORTED":               true,
	"UNIT_PRICING_SUPPORTED":                           true,
	"USAGE_MEASUREMENT_SUPPORTED":                      true,
	"CAPACITY_RESERVATION_SUPPORTED":                   false, // nothing of the sort is sold
	"COMMITMENT_DISCOUNT_SUPPORTED":                    false, // a commitment in bandwidth is bought month by month, at its own price
	"MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED":         false, // there is one type
	"MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED":             false, // there are no sub accounts
	"SUB_ACCOUNT_SUPPORTED":                            false, // an organisation has billing accounts, and they have no parts
	"TAGGING_SUPPORTED":                                false, // nothing can be tagged
	"VIRTUAL_CURRENCY_SUPPORTED":                       false, // prices are in money
}

// uninterpreted are rules of which an expression has no meaning to interpret, and why that may be.
var uninterpreted = map[string]string{
	"CapacityReservationStatus-C-003-C": "its condition is items of no function; capacity reservations are not sold, so it does not apply",
	"CapacityReservationStatus-C-004-C": "likewise",
}

// amended are rules whose expression in the model is not what their own text says, with what it says.
var amended = map[string]struct{ part, expression, why string }{
	"EffectiveCost-C-005-C": {"Condition", `{"CheckFunction": "AND", "Items": [
		{"CheckFunction": "CheckValue", "ColumnName": "ChargeCategory", "Value": "Purchase"},
		{"CheckFunction": "CheckNotValue", "ColumnName": "CommitmentDiscountId", "Value": null}]}`,
		"the text is of purchases that cover future charges alone, which are commitment discounts; the model takes all purchases"},
	"ConsumedQuantity-C-006-C": {"Condition", `{"CheckFunction": "CheckNotValue", "ColumnName": "ChargeClass", "Value": "Correction"}`,
		"the text says: when ChargeClass is not Correction; the model says: when it is"},
	"ResourceId-C-006-C": {"Condition", `{"CheckFunction": "CheckNotValue", "ColumnName": "ResourceId", "Value": null}`,
		"the model calls the column's name CheckCondition"},
	"ResourceType-C-005-C": {"Condition", `{"CheckFunction": "CheckNotValue", "ColumnName": "ResourceId", "Value": null}`,
		"likewise"},
	"PricingCurrencyEffectiveCost-C-004-M": {"Requirement", `{"CheckFunction": "CheckDecimalValue", "ColumnName": "PricingCurrencyEffectiveCost"}`,
		"the text is of a valid decimal in this column; the model looks for a positive one in PricingCurrencyListUnitPrice"},
}

// byHand are rules that the model leaves to people (Dynamic), as checks of what their text says.
func byHand(payable map[string]string) map[string]func(*dataset) []int {
	rows := func(ok func(map[string]string) bool) func(*dataset) []int {
		return func(d *dataset) (failed []int) {
			for i, row := range d.rows {
				if !ok(row) {
					failed = append(failed, i)
				}
			}
			return failed
		}
	}
	names := func(ok func(string) bool) func(*dataset) []int {
		return func(d *dataset) []int {
			if i := slices.IndexFunc(d.columns, func(name string) bool { return !ok(strings.TrimPrefix(name, "x_")) }); i >= 0 {
				return []int{-1}
			}
			return nil
		}
	}
	product := rows(func(r map[string]string) bool {
		if r["ChargeClass"] == "Correction" || r["PricingQuantity"] == "" {
			return true
		}
		for price, cost := range map[string]string{"ListUnitPrice": "ListCost", "ContractedUnitPrice": "ContractedCost"} {
			if r[price] != "" && new(big.Rat).Mul(rat(r[price]), rat(r["PricingQuantity"])).Cmp(rat(r[cost])) != 0 {
				return false
			}
		}
		return true
	})
	isNull := func(column string, when func(map[string]string) bool) func(*dataset) []int {
		return rows(func(r map[string]string) bool { return !when(r) || r[column] == "" })
	}
	given := func(column string, when func(map[string]string) bool) func(*dataset) []int {
		return rows(func(r map[string]string) bool { return !when(r) || r[column] != "" })
	}
	tax := func(r map[string]string) bool { return r["ChargeCategory"] == "Tax" }
	charge := func(r map[string]string) bool {
		return (r["ChargeCategory"] == "Usage" || r["ChargeCategory"] == "Purchase") && r["ChargeClass"] != "Correction"
	}
	unrelated := func(cost, price string) func(*dataset) []int {
		return rows(func(r map[string]string) bool {
			return r[price] != "" || tax(r) || rat(r[cost]).Cmp(rat(r["BilledCost"])) == 0
		})
	}
	// A tax is its rate of the cost of the lines of its category, as far as columns have digits.
	taxed := func(cost string) func(*dataset) []int {
		return func(d *dataset) (failed []int) {
			sums := make(map[string]*big.Rat)
			for _, r := range d.rows {
				if !tax(r) {
					key := r["InvoiceId"] + r["x_TaxCategory"]
					if sums[key] == nil {
						sums[key] = new(big.Rat)
					}
					sums[key].Add(sums[key], rat(r[cost]))
				}
			}
			for i, r := range d.rows {
				if tax(r) {
					percent := rat(taxPercent.FindStringSubmatch(r["ChargeDescription"])[1])
					want := new(big.Rat).Mul(sums[r["InvoiceId"]+r["x_TaxCategory"]], new(big.Rat).Quo(percent, big.NewRat(100, 1)))
					tolerance := big.NewRat(1, 1_000_000)
					if cost == "EffectiveCost" { // it is rounded as the invoice has it
						tolerance = big.NewRat(1, 2)
					}
					if difference := want.Sub(want, rat(r[cost])); difference.Abs(difference).Cmp(tolerance) > 0 {
						failed = append(failed, i)
					}
				}
			}
			return failed
		}
	}
	before := func(from, to string) func(*dataset) []int {
		return rows(func(r map[string]string) bool { return r[from] < r[to] })
	}
	monthly := rows(func(r map[string]string) bool {
		start, err := time.Parse("2006-01-02T15:04:05Z", r["BillingPeriodStart"])
		return err == nil && start.AddDate(0, 1, 0).Format("2006-01-02T15:04:05Z") == r["BillingPeriodEnd"]
	})
	return map[string]func(*dataset) []int{
		"BilledCost-C-007-M": func(d *dataset) (failed []int) {
			sums := make(map[string]*big.Rat)
			for _, r := range d.rows {
				if sums[r["InvoiceId"]] == nil {
					sums[r["InvoiceId"]] = new(big.Rat)
				}
				sums[r["InvoiceId"]].Add(sums[r["InvoiceId"]], rat(r["BilledCost"]))
			}
			for id, amount := range payable {
				if sums[id] == nil || sums[id].Cmp(rat(amount)) != 0 {
					failed = append(failed, -1)
				}
			}
			if len(sums) != len(payable) {
				failed = append(failed, -1)
			}
			return failed
		},
		"BillingPeriodStart-C-004-M": monthly,
		"BillingPeriodEnd-C-004-M":   monthly,
		"ChargePeriodStart-C-004-M":  before("ChargePeriodStart", "ChargePeriodEnd"),
		"ChargePeriodEnd-C-004-M":    before("ChargePeriodStart", "ChargePeriodEnd"),
		"ChargeClass-C-003-C": rows(func(r map[string]string) bool {
			return r["ChargeClass"] == "" || r["ChargePeriodEnd"] <= r["BillingPeriodStart"]
		}),
		"ChargeClass-C-004-C": rows(func(r map[string]string) bool {
			return r["ChargeClass"] != "" || r["ChargePeriodStart"] >= r["BillingPeriodStart"]
		}),
		"ConsumedQuantity-C-008-C":                   rows(func(r map[string]string) bool { return r["ConsumedQuantity"] == "" || isNumber(r["ConsumedQuantity"]) }),
		"ContractedCost-C-007-C":                     taxed("ContractedCost"),
		"ContractedCost-C-008-C":                     unrelated("ContractedCost", "ContractedUnitPrice"),
		"ContractedCost-C-009-C":                     product,
		"ListCost-C-007-C":                           taxed("ListCost"),
		"ListCost-C-008-C":                           unrelated("ListCost", "ListUnitPrice"),
		"EffectiveCost-C-009-C":                      taxed("EffectiveCost"),
		"EffectiveCost-C-010-C":                      unrelated("EffectiveCost", "ContractedUnitPrice"),
		"PricingQuantity-C-009-C":                    product,
		"PricingCurrencyContractedUnitPrice-C-004-C": isNull("PricingCurrencyContractedUnitPrice", tax),
		"PricingCurrencyContractedUnitPrice-C-005-C": given("PricingCurrencyContractedUnitPrice", charge),
		"PricingCurrencyContractedUnitPrice-C-008-C": rows(func(r map[string]string) bool {
			return r["PricingCurrencyContractedUnitPrice"] == "" || rat(r["PricingCurrencyContractedUnitPrice"]).Sign() >= 0
		}),
		"PricingCategory-C-008-C": rows(func(r map[string]string) bool {
			return r["PricingCategory"] == "" || r["PricingCategory"] == "Standard"
		}),
		"RegionId-C-004-C":   given("RegionId", func(r map[string]string) bool { return r["x_QuoteId"] != "" && r["x_QuoteId"] != "quo_none" }),
		"ResourceId-C-004-C": isNull("ResourceId", tax),
		"ResourceId-C-005-C": given("ResourceId", func(r map[string]string) bool { return !tax(r) }),
		"SkuPriceDetails-C-017-C": rows(func(r map[string]string) bool {
			return r["SkuPriceDetails"] == "" || strings.HasPrefix(r["SkuPriceDetails"], `{"x_`)
		}),
		"NullHandling-A-002-M": rows(func(r map[string]string) bool {
			for _, v := range r {
				if slices.Contains([]string{"null", "NULL", "N/A", "Not Applicable", "None"}, v) || v != "" && strings.TrimSpace(v) == "" {
					return false
				}
			}
			return true
		}),
		"ColumnHandling-A-001-M": names(regexp.MustCompile(`^([A-Z][a-z0-9]+)+$`).MatchString),
		"ColumnHandling-A-003-M": names(regexp.MustCompile(`^[A-Za-z0-9]+$`).MatchString),
		"ColumnHandling-A-005-O": names(func(name string) bool { return len(name) <= 50 }),
		"ColumnHandling-A-013-O": func(d *dataset) []int {
			if !slices.IsSortedFunc(d.columns, func(a, b string) int {
				return strings.Compare(fmt.Sprint(strings.HasPrefix(a, "x_")), fmt.Sprint(strings.HasPrefix(b, "x_")))
			}) {
				return []int{-1}
			}
			return nil
		},
		"DateTimeFormat-A-006-M": rows(func(r map[string]string) bool { return strings.HasSuffix(r["ChargePeriodStart"], "Z") }),
	}
}

var taxPercent = regexp.MustCompile(` tax at ([0-9.]+) %`)

func loadModel(t *testing.T) *model {
	t.Helper()
	m := new(model)
	if err := json.Unmarshal(modelJSON, m); err != nil {
		t.Fatal(err)
	}
	for id, a := range amended {
		c := &m.ModelRules[id].ValidationCriteria
		into := &c.Requirement
		if a.part == "Condition" {
			into = &c.Condition
		}
		*into = check{}
		if err := json.Unmarshal([]byte(a.expression), into); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (b *books) payable() map[string]string {
	amounts := make(map[string]string)
	for number, minor := range b.numbers {
		digits := int64(100)
		switch {
		case strings.Contains(number, "jpy"):
			digits = 1
		case strings.Contains(number, "bhd"):
			digits = 1000
		}
		amounts[number] = big.NewRat(minor, digits).FloatString(3)
	}
	return amounts
}

// TestConformance evaluates every rule of the specification's model over a dataset with every case in it.
func TestConformance(t *testing.T) {
	t.Parallel()
	b, text, binary := exported(t)
	data := readDataset(t, text, binary)
	checkCases(t, data)
	m := loadModel(t)
	for criterion := range m.ApplicabilityCriteria {
		if _, known := supported[criterion]; !known {
			t.Errorf("the model has a criterion that nothing is said of: %s", criterion)
		}
	}
	v := &validator{model: m, data: data, supported: supported, byHand: byHand(b.payable())}
	v.validate()
	for _, what := range slices.Compact(slices.Sorted(slices.Values(v.uninterpret))) {
		t.Errorf("there is no way to evaluate %s", what)
	}
	for id, r := range m.ModelRules {
		malformed := append(r.ValidationCriteria.Requirement.allMalformed(), r.ValidationCriteria.Condition.allMalformed()...)
		if named := uninterpreted[id] != ""; named != (len(malformed) > 0) || named && v.outcomes[id].skipped == "" {
			t.Errorf("%s is on the list of what can't be evaluated: %v, and has %q", id, named, malformed)
		}
	}
	report(t, v)
}

// checkCases holds the dataset to what it is to have in it, so that no rule passes for want of a row.
func checkCases(t *testing.T, data *dataset) {
	t.Helper()
	seen := make(map[string]int)
	for _, r := range data.rows {
		kind := strings.Join([]string{r["ChargeCategory"], r["ChargeFrequency"], r["ChargeClass"], r["x_LineKind"], r["x_DocumentType"]}, "/")
		seen[kind]++
		seen[r["BillingCurrency"]]++
		seen[r["PricingUnit"]]++
		seen[r["SkuMeter"]]++
		if r["PricingCurrency"] != r["BillingCurrency"] {
			seen["converted"]++
		}
		if strings.HasPrefix(r["BilledCost"], "-") {
			seen["negative"]++
		}
	}
	for _, want := range []string{
		"Usage/Usage-Based//passthrough/invoice", "Purchase/Recurring//passthrough/invoice", "Purchase/One-Time//passthrough/invoice",
		"Purchase/Recurring//fee/invoice", "Tax/One-Time//tax/invoice", "Credit/One-Time//passthrough/invoice", "Credit/One-Time/Correction/passthrough/credit_note",
		"Usage/Usage-Based/Correction/passthrough/invoice", "Purchase/Recurring/Correction/fee/invoice",
		"Usage/Usage-Based/Correction/passthrough/credit_note", "Purchase/Recurring/Correction/fee/credit_note", "Tax/One-Time/Correction/tax/credit_note",
		"USD", "JPY", "BHD", "converted", "negative", "Months", "Units", "Mbps-Months", "GB", "GiB", "500 GB", "Packages",
		"Usage short of the minimum", "Committed bandwidth", "95th percentile bandwidth above the commitment",
	} {
		if seen[want] == 0 {
			t.Errorf("the dataset has no row of %s; it has %v", want, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// report says how many rules ran, passed and were skipped, why, and names those that failed.
func report(t *testing.T, v *validator) {
	t.Helper()
	var ran, composite, hand, passed, evaluations int
	skipped, idle := make(map[string]int), []string{}
	for _, id := range slices.Sorted(maps.Keys(v.outcomes)) {
		o, r := v.outcomes[id], v.model.ModelRules[id]
		if o.skipped != "" {
			skipped[o.skipped]++
			continue
		}
		ran++
		evaluations += o.applied
		switch {
		case r.Function == "Composite":
			composite++
		case v.byHand[id] != nil:
			hand++
		case o.applied == 0:
			idle = append(idle, id)
		}
		if len(o.failed) == 0 {
			passed++
			continue
		}
		first := "the dataset"
		if n := o.failed[0]; n >= 0 {
			row := v.data.rows[n]
			first = fmt.Sprintf("row %d (%s line %s: %q)", n, row["InvoiceId"], row["x_InvoiceLine"], row[r.Reference])
		}
		t.Errorf("%s: %s (%d failures, first %s)", id, r.ValidationCriteria.MustSatisfy, len(o.failed), first)
	}
	t.Logf("%d rules over %d rows: %d ran (%d composite, %d dynamic ones by hand, %d amended), %d evaluations, %d passed",
		len(v.outcomes), len(v.data.rows), ran, composite, hand, len(amended), evaluations, passed)
	t.Logf("ran, and no row is of their condition: %v", idle)
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		t.Logf("skipped %3d: %s", skipped[why], why)
	}
	if len(v.outcomes) != len(v.model.ModelRules) {
		t.Errorf("%d of %d rules are accounted for", len(v.outcomes), len(v.model.ModelRules))
	}
}

// TestUnsupportedColumnsAreNull: what the rules for other markets are not asked of must not be there.
func TestUnsupportedColumnsAreNull(t *testing.T) {
	t.Parallel()
	_, text, binary := exported(t)
	for _, row := range readDataset(t, text, binary).rows {
		for name, v := range row {
			if strings.HasPrefix(name, "CommitmentDiscount") || strings.HasPrefix(name, "CapacityReservation") || strings.HasPrefix(name, "SubAccount") ||
				name == "Tags" || name == "BillingAccountType" || name == "ResourceName" {
				if v != "" {
					t.Errorf("%s is %q", name, v)
				}
			}
		}
	}
	for n, c := range focus.Columns {
		if n > 0 && c.Name <= focus.Columns[n-1].Name {
			t.Errorf("%s is out of order", c.Name)
		}
	}
}
