package focus_test

import (
	"slices"
	"strings"
	"testing"
)

// TestMutations breaks the dataset in one place at a time, and sees the rule fail that forbids it: a validator that lets
// everything pass proves nothing.
func TestMutations(t *testing.T) {
	t.Parallel()
	b, text, binary := exported(t)
	whole := readDataset(t, text, binary)
	m, hand := loadModel(t), byHand(b.payable())

	is := func(column, value string) func(map[string]string) bool {
		return func(r map[string]string) bool { return r[column] == value }
	}
	charge := func(r map[string]string) bool {
		return r["ChargeCategory"] == "Usage" && r["ChargeClass"] == "" && r["SkuId"] != ""
	}
	set := func(where func(map[string]string) bool, pairs ...string) func(*dataset) {
		return func(d *dataset) {
			n := slices.IndexFunc(d.rows, where)
			if n < 0 {
				t.Error("no row is to be broken")
				return
			}
			for i := 0; i < len(pairs); i += 2 {
				d.rows[n][pairs[i]] = pairs[i+1]
			}
		}
	}
	drop := func(column string) func(*dataset) {
		return func(d *dataset) {
			d.columns = slices.DeleteFunc(d.columns, func(name string) bool { return name == column })
			for _, r := range d.rows {
				delete(r, column)
			}
			delete(d.types, column)
		}
	}
	retype := func(column, to string) func(*dataset) { return func(d *dataset) { d.types[column] = to } }
	tax := is("ChargeCategory", "Tax")

	for _, test := range []struct {
		name   string
		change func(*dataset)
		rule   string // that has to fail
	}{
		{"a mandatory column is missing", drop("BilledCost"), "CostAndUsage-D-006-M"},
		{"a conditional column is missing", drop("ListUnitPrice"), "CostAndUsage-D-004-C"},
		{"a recommended column is missing", drop("InvoiceId"), "CostAndUsage-D-033-O"},
		{"a cost is a text", retype("BilledCost", "String"), "BilledCost-C-001-M"},
		{"a name is a number", retype("ProviderName", "Decimal"), "ProviderName-C-001-M"},
		{"a time is a text", retype("ChargePeriodStart", "String"), "ChargePeriodStart-C-001-M"},
		{"a cost is null", set(charge, "BilledCost", ""), "BilledCost-C-003-M"},
		{"a provider has no name", set(charge, "ProviderName", ""), "ProviderName-C-003-M"},
		{"an account has no name", set(charge, "BillingAccountName", ""), "BillingAccountName-C-003-C"},
		{"a name is of spaces", set(charge, "PublisherName", "  "), "PublisherName-C-002-M"},
		{"a text is not UTF-8", set(charge, "ChargeDescription", "\xff"), "ChargeDescription-C-002-M"},
		{"a positive number has a sign", set(charge, "EffectiveCost", "+1"), "EffectiveCost-C-002-M"},
		{"a number has a comma", set(charge, "PricingQuantity", "1,000"), "PricingQuantity-C-002-M"},
		{"a cost has a currency", set(charge, "BilledCost", "USD 1"), "BilledCost-C-002-M"},
		{"a cost is no decimal", set(charge, "BilledCost", "1/3"), "BilledCost-C-004-M"},
		{"a time has an offset", set(charge, "ChargePeriodEnd", "2026-04-01T00:00:00+02:00"), "ChargePeriodEnd-C-002-M"},
		{"a currency is none", set(charge, "BillingCurrency", "XXY"), "BillingCurrency-C-006-M"},
		{"a pricing currency is none", set(charge, "PricingCurrency", "credits"), "PricingCurrency-C-003-M"},
		{"a category is none", set(charge, "ChargeCategory", "Fee"), "ChargeCategory-C-003-M"},
		{"a class is none", set(charge, "ChargeClass", "Refund"), "ChargeClass-C-005-C"},
		{"a frequency is none", set(charge, "ChargeFrequency", "Monthly"), "ChargeFrequency-C-003-M"},
		{"a purchase is by usage", set(is("ChargeCategory", "Purchase"), "ChargeFrequency", "Usage-Based"), "ChargeFrequency-C-004-C"},
		{"a pricing category is none", set(charge, "PricingCategory", "Spot"), "PricingCategory-C-007-M"},
		{"a service category is none", set(charge, "ServiceCategory", "Network"), "ServiceCategory-C-003-M"},
		{"a subcategory is another category's", set(charge, "ServiceSubcategory", "Caching"), "ServiceSubcategory-C-004-M"},
		{"a subcategory is none", set(charge, "ServiceSubcategory", "Ports"), "ServiceSubcategory-C-003-M"},
		{"a service has two categories", set(charge, "ServiceCategory", "Security"), "ServiceName-C-005-C"},
		{"a service has two subcategories", set(charge, "ServiceSubcategory", "Network Routing"), "ServiceName-C-008-C"},
		{"a price has two SKUs", set(charge, "SkuId", "another"), "SkuPriceId-C-008-M"},
		{"somebody else issues the invoice", set(charge, "InvoiceIssuerName", "Somebody"), "BilledCost-C-005-C"},
		{"a unit is long", set(charge, "PricingUnit", "gigabytes"), "PricingUnit-C-003-O"},
		{"a consumed unit is of no form", set(charge, "ConsumedUnit", "GB per day"), "ConsumedUnit-C-003-O"},
		{"a quantity has no unit", set(charge, "PricingUnit", ""), "PricingUnit-C-006-C"},
		{"a unit has no quantity", set(charge, "ConsumedQuantity", ""), "ConsumedUnit-C-005-C"},
		{"usage has no quantity", set(charge, "ConsumedQuantity", "", "ConsumedUnit", ""), "ConsumedQuantity-C-006-C"},
		{"a purchase is consumed", set(is("ChargeCategory", "Purchase"), "ConsumedQuantity", "1", "ConsumedUnit", "GB"), "ConsumedQuantity-C-004-C"},
		{"a price is negative", set(charge, "ListUnitPrice", "-0.02"), "ListUnitPrice-C-008-M"},
		{"a contracted price is negative", set(charge, "ContractedUnitPrice", "-0.02"), "ContractedUnitPrice-C-009-C"},
		{"a list cost is not the product", set(charge, "ListCost", "244.91357802469"), "ListCost-C-009-C"},
		{"a list price is not the quotient", set(charge, "ListUnitPrice", "0.020000000001"), "ListUnitPrice-C-010-C"},
		{"a contracted cost is not the product", set(charge, "ContractedCost", "1"), "ContractedUnitPrice-C-011-C"},
		{"usage has no list price", set(charge, "ListUnitPrice", ""), "ListUnitPrice-C-005-C"},
		{"usage has no contracted price", set(charge, "ContractedUnitPrice", ""), "ContractedUnitPrice-C-006-C"},
		{"usage has no pricing quantity", set(charge, "PricingQuantity", "", "PricingUnit", ""), "PricingQuantity-C-005-C"},
		{"usage has no SKU", set(charge, "SkuId", "", "SkuMeter", ""), "SkuId-C-005-C"},
		{"usage has no SKU price", set(charge, "SkuPriceId", "", "SkuPriceDetails", ""), "SkuPriceId-C-005-C"},
		{"usage has no price in the pricing currency", set(charge, "PricingCurrencyListUnitPrice", ""), "PricingCurrencyListUnitPrice-C-005-C"},
		{"tax has a price", set(tax, "ListUnitPrice", "1"), "ListUnitPrice-C-004-C"},
		{"tax has a quantity", set(tax, "PricingQuantity", "1", "PricingUnit", "Units"), "PricingQuantity-C-004-C"},
		{"tax has a SKU", set(tax, "SkuId", "x", "SkuMeter", "x"), "SkuId-C-004-C"},
		{"tax has a pricing category", set(tax, "PricingCategory", "Standard"), "PricingCategory-C-003-C"},
		{"a region has no name", set(charge, "RegionName", ""), "RegionName-C-005-C"},
		{"a name has no region", set(charge, "RegionId", ""), "RegionName-C-004-C"},
		{"a resource has no type", set(charge, "ResourceType", ""), "ResourceType-C-005-C"},
		{"details are no JSON", set(charge, "SkuPriceDetails", "x=1"), "SkuPriceDetails-C-001-M"},
		{"details are nested", set(charge, "SkuPriceDetails", `{"x_a":{}}`), "SkuPriceDetails-C-001-M"},
		{"a detail is named twice", set(charge, "SkuPriceDetails", `{"x_a":1,"x_a":2}`), "SkuPriceDetails-C-001-M"},
		{"details of no price", set(tax, "SkuPriceDetails", `{"x_a":1}`), "SkuPriceDetails-C-004-C"},
		{"a commitment's purchase has an effective cost", set(is("ChargeCategory", "Purchase"), "CommitmentDiscountId", "x"), "EffectiveCost-C-005-C"},
		// What the model leaves to people.
		{"an invoice does not add up", set(charge, "BilledCost", "0.01"), "BilledCost-C-007-M"},
		{"a period is two months", set(charge, "BillingPeriodEnd", "2026-05-01T00:00:00Z"), "BillingPeriodEnd-C-004-M"},
		{"a period ends before it starts", set(charge, "ChargePeriodEnd", "2026-02-01T00:00:00Z"), "ChargePeriodEnd-C-004-M"},
		{"a correction is not one", set(charge, "ChargeClass", "Correction"), "ChargeClass-C-003-C"},
		{"a correction is not said to be one", set(is("ChargeClass", "Correction"), "ChargeClass", ""), "ChargeClass-C-004-C"},
		{"a refund costs something else", set(is("x_DocumentType", "credit_note"), "ContractedCost", "1"), "ContractedCost-C-008-C"},
		{"a tax is of another cost", set(tax, "ContractedCost", "1"), "ContractedCost-C-007-C"},
		{"a placeholder", set(charge, "RegionName", "Not Applicable"), "NullHandling-A-002-M"},
		{"a column is abbreviated with an underscore", func(d *dataset) { d.columns = append(d.columns, "x_log_position") }, "ColumnHandling-A-003-M"},
		{"a column is in lower case", func(d *dataset) { d.columns = append(d.columns, "x_position") }, "ColumnHandling-A-001-M"},
		{"a column of FOCUS is behind ours", func(d *dataset) { d.columns = append(d.columns, "Tags") }, "ColumnHandling-A-013-O"},
	} {
		broken := whole.clone()
		test.change(broken)
		v := &validator{model: m, data: broken, supported: supported, byHand: hand}
		v.validate()
		o := v.outcomes[test.rule]
		if o == nil || o.skipped != "" || len(o.failed) == 0 {
			t.Errorf("%s: %s does not fail (%+v)", test.name, test.rule, o)
		}
	}
	// One of several is enough, and none is not.
	broken := whole.clone()
	m.ModelRules["InvoiceId-C-004-C"].ValidationCriteria.Requirement.Value = "an id that no row has"
	m.ModelRules["InvoiceId-C-005-C"].ValidationCriteria.Requirement = check{CheckFunction: "CheckValue", ColumnName: "InvoiceId", Value: "nor this one"}
	v := &validator{model: m, data: broken, supported: supported, byHand: hand}
	v.validate()
	if len(v.outcomes["InvoiceId-C-004-C"].failed) != len(broken.rows) {
		t.Error("none of two alternatives holds, and nothing fails")
	}
	// What the validator does not know, it says.
	m.ModelRules["BilledCost-C-004-M"].ValidationCriteria.Requirement.CheckFunction = "CheckMoonPhase"
	v = &validator{model: m, data: whole, supported: supported, byHand: hand}
	v.validate()
	if !strings.Contains(strings.Join(v.uninterpret, "\n"), "CheckMoonPhase") {
		t.Error("an unknown check passes for one that holds")
	}
}
