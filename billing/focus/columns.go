package focus

import (
	"math/big"
	"strconv"
	"time"

	"crossbill/domain"
)

// Row is a row of the dataset. A text that is "", a time that is zero and a decimal that is not given are null.
type Row struct {
	AvailabilityZone                                                  string
	BilledCost                                                        domain.Decimal
	BillingAccountID, BillingAccountName, BillingCurrency             string
	BillingPeriodStart, BillingPeriodEnd                              time.Time
	ChargeCategory, ChargeClass, ChargeDescription, ChargeFrequency   string
	ChargePeriodStart, ChargePeriodEnd                                time.Time
	ConsumedQuantity                                                  domain.Decimal
	ConsumedUnit                                                      string
	ContractedCost, ContractedUnitPrice, EffectiveCost                domain.Decimal
	InvoiceID, InvoiceIssuerName                                      string
	ListCost, ListUnitPrice                                           domain.Decimal
	PricingCategory, PricingCurrency                                  string
	PricingCurrencyContractedUnitPrice                                domain.Decimal
	PricingCurrencyEffectiveCost                                      domain.Decimal
	PricingCurrencyListUnitPrice                                      domain.Decimal
	PricingQuantity                                                   domain.Decimal
	PricingUnit, ProviderName, PublisherName                          string
	RegionID, RegionName, ResourceID, ResourceType                    string
	ServiceCategory, ServiceName, ServiceSubcategory                  string
	SkuID, SkuMeter, SkuPriceDetails, SkuPriceID                      string
	ChargeID, CreditedInvoiceID, CustomerID, DocumentID, DocumentType string // from here on x_
	EvidenceDigest                                                    string
	ExchangeRate                                                      domain.Decimal
	ExchangeRateVersion, InvoiceLine                                  int // 0 is null
	ItemID, LineKind, ListingCategory, ListingID                      string
	LogPosition                                                       int64
	PlanVersion                                                       int
	ProviderID, PurchaseOrder, QuoteID, RunID                         string
	SettlementAmount                                                  domain.Decimal
	SettlementID, TaxCategory                                         string
}

// Type is what a column holds.
type Type struct {
	Name             string // "String", "Date/Time" (UTC), "Decimal", "Integer"
	Precision, Scale int    // of decimals: digits in all, and after the point
}

// Types. Of the digits of a cost, 17 are before the point.
var (
	typeText     = Type{Name: "String"}
	typeTime     = Type{Name: "Date/Time"}
	typeInteger  = Type{Name: "Integer"}
	typeQuantity = Type{"Decimal", maxDigits, quantityScale}
	typePrice    = Type{"Decimal", maxDigits, priceScale}
	typeCost     = Type{"Decimal", maxDigits, costScale}
	typeMoney    = Type{"Decimal", 22, 3} // whole minor units of every currency that there is
)

// Column is a column of the dataset.
type Column struct {
	Name     string
	Type     Type
	Required bool // never null
	text     func(*Row) string
	time     func(*Row) time.Time
	decimal  func(*Row) domain.Decimal
	integer  func(*Row) int64
}

func text(name string, required bool, get func(*Row) string) Column {
	return Column{Name: name, Type: typeText, Required: required, text: get}
}

func instant(name string, get func(*Row) time.Time) Column {
	return Column{Name: name, Type: typeTime, Required: true, time: get}
}

func number(name string, t Type, required bool, get func(*Row) domain.Decimal) Column {
	return Column{Name: name, Type: t, Required: required, decimal: get}
}

func integer(name string, get func(*Row) int64) Column {
	return Column{Name: name, Type: typeInteger, integer: get}
}

// unsupported is a column for what this market does not have: commitment discounts, capacity reservations, sub accounts,
// tags. It is null in every row, and there so that a table of all the specification's columns can be loaded as it is.
func unsupported(name string) Column { return text(name, false, func(*Row) string { return "" }) }

// Columns are the dataset's columns in their order: all of FOCUS 1.2 by name, then x_, Crossbill's own, by name. They are a
// contract: a column is never renamed and never given another meaning; new ones find their place by their name.
var Columns = []Column{
	text("AvailabilityZone", false, func(r *Row) string { return r.AvailabilityZone }),
	number("BilledCost", typeMoney, true, func(r *Row) domain.Decimal { return r.BilledCost }),
	text("BillingAccountId", true, func(r *Row) string { return r.BillingAccountID }),
	text("BillingAccountName", true, func(r *Row) string { return r.BillingAccountName }),
	unsupported("BillingAccountType"),
	text("BillingCurrency", true, func(r *Row) string { return r.BillingCurrency }),
	instant("BillingPeriodEnd", func(r *Row) time.Time { return r.BillingPeriodEnd }),
	instant("BillingPeriodStart", func(r *Row) time.Time { return r.BillingPeriodStart }),
	unsupported("CapacityReservationId"),
	unsupported("CapacityReservationStatus"),
	text("ChargeCategory", true, func(r *Row) string { return r.ChargeCategory }),
	text("ChargeClass", false, func(r *Row) string { return r.ChargeClass }),
	text("ChargeDescription", true, func(r *Row) string { return r.ChargeDescription }),
	text("ChargeFrequency", true, func(r *Row) string { return r.ChargeFrequency }),
	instant("ChargePeriodEnd", func(r *Row) time.Time { return r.ChargePeriodEnd }),
	instant("ChargePeriodStart", func(r *Row) time.Time { return r.ChargePeriodStart }),
	unsupported("CommitmentDiscountCategory"),
	unsupported("CommitmentDiscountId"),
	unsupported("CommitmentDiscountName"),
	number("CommitmentDiscountQuantity", typeQuantity, false, func(*Row) domain.Decimal { return domain.Decimal{} }), // as unsupported
	unsupported("CommitmentDiscountStatus"),
	unsupported("CommitmentDiscountType"),
	unsupported("CommitmentDiscountUnit"),
	number("ConsumedQuantity", typeQuantity, false, func(r *Row) domain.Decimal { return r.ConsumedQuantity }),
	text("ConsumedUnit", false, func(r *Row) string { return r.ConsumedUnit }),
	number("ContractedCost", typeCost, true, func(r *Row) domain.Decimal { return r.ContractedCost }),
	number("ContractedUnitPrice", typePrice, false, func(r *Row) domain.Decimal { return r.ContractedUnitPrice }),
	number("EffectiveCost", typeMoney, true, func(r *Row) domain.Decimal { return r.EffectiveCost }),
	text("InvoiceId", true, func(r *Row) string { return r.InvoiceID }),
	text("InvoiceIssuerName", true, func(r *Row) string { return r.InvoiceIssuerName }),
	number("ListCost", typeCost, true, func(r *Row) domain.Decimal { return r.ListCost }),
	number("ListUnitPrice", typePrice, false, func(r *Row) domain.Decimal { return r.ListUnitPrice }),
	text("PricingCategory", false, func(r *Row) string { return r.PricingCategory }),
	text("PricingCurrency", true, func(r *Row) string { return r.PricingCurrency }),
	number("PricingCurrencyContractedUnitPrice", typePrice, false, func(r *Row) domain.Decimal { return r.PricingCurrencyContractedUnitPrice }),
	number("PricingCurrencyEffectiveCost", typePrice, true, func(r *Row) domain.Decimal { return r.PricingCurrencyEffectiveCost }),
	number("PricingCurrencyListUnitPrice", typePrice, false, func(r *Row) domain.Decimal { return r.PricingCurrencyListUnitPrice }),
	number("PricingQuantity", typeQuantity, false, func(r *Row) domain.Decimal { return r.PricingQuantity }),
	text("PricingUnit", false, func(r *Row) string { return r.PricingUnit }),
	text("ProviderName", true, func(r *Row) string { return r.ProviderName }),
	text("PublisherName", true, func(r *Row) string { return r.PublisherName }),
	text("RegionId", false, func(r *Row) string { return r.RegionID }),
	text("RegionName", false, func(r *Row) string { return r.RegionName }),
	text("ResourceId", false, func(r *Row) string { return r.ResourceID }),
	unsupported("ResourceName"), // connections have no names
	text("ResourceType", false, func(r *Row) string { return r.ResourceType }),
	text("ServiceCategory", true, func(r *Row) string { return r.ServiceCategory }),
	text("ServiceName", true, func(r *Row) string { return r.ServiceName }),
	text("ServiceSubcategory", true, func(r *Row) string { return r.ServiceSubcategory }),
	text("SkuId", false, func(r *Row) string { return r.SkuID }),
	text("SkuMeter", false, func(r *Row) string { return r.SkuMeter }),
	text("SkuPriceDetails", false, func(r *Row) string { return r.SkuPriceDetails }),
	text("SkuPriceId", false, func(r *Row) string { return r.SkuPriceID }),
	unsupported("SubAccountId"),
	unsupported("SubAccountName"),
	unsupported("SubAccountType"),
	unsupported("Tags"),

	text("x_ChargeId", false, func(r *Row) string { return r.ChargeID }),
	text("x_CreditedInvoiceId", false, func(r *Row) string { return r.CreditedInvoiceID }),
	text("x_CustomerId", true, func(r *Row) string { return r.CustomerID }),
	text("x_DocumentId", true, func(r *Row) string { return r.DocumentID }),
	text("x_DocumentType", true, func(r *Row) string { return r.DocumentType }),
	text("x_EvidenceDigest", false, func(r *Row) string { return r.EvidenceDigest }),
	number("x_ExchangeRate", typePrice, false, func(r *Row) domain.Decimal { return r.ExchangeRate }),
	integer("x_ExchangeRateVersion", func(r *Row) int64 { return int64(r.ExchangeRateVersion) }),
	integer("x_InvoiceLine", func(r *Row) int64 { return int64(r.InvoiceLine) }),
	text("x_ItemId", false, func(r *Row) string { return r.ItemID }),
	text("x_LineKind", true, func(r *Row) string { return r.LineKind }),
	text("x_ListingCategory", false, func(r *Row) string { return r.ListingCategory }),
	text("x_ListingId", false, func(r *Row) string { return r.ListingID }),
	integer("x_LogPosition", func(r *Row) int64 { return r.LogPosition }),
	integer("x_PlanVersion", func(r *Row) int64 { return int64(r.PlanVersion) }),
	text("x_ProviderId", false, func(r *Row) string { return r.ProviderID }),
	text("x_PurchaseOrder", false, func(r *Row) string { return r.PurchaseOrder }),
	text("x_QuoteId", false, func(r *Row) string { return r.QuoteID }),
	text("x_RunId", false, func(r *Row) string { return r.RunID }),
	number("x_SettlementAmount", typeMoney, false, func(r *Row) domain.Decimal { return r.SettlementAmount }),
	text("x_SettlementId", false, func(r *Row) string { return r.SettlementID }),
	text("x_TaxCategory", false, func(r *Row) string { return r.TaxCategory }),
}

// timeLayout is the specification's DateTimeFormat; invoices are of whole seconds.
const timeLayout = "2006-01-02T15:04:05Z"

// cell returns the value as CSV has it, and whether people wrote it; null is "".
func (c *Column) cell(r *Row) (s string, written bool, err error) {
	switch {
	case c.text != nil:
		return c.text(r), true, nil
	case c.time != nil:
		return c.time(r).UTC().Format(timeLayout), false, nil
	case c.integer != nil:
		if n := c.integer(r); n != 0 {
			return strconv.FormatInt(n, 10), false, nil
		}
		return "", false, nil
	}
	unscaled, err := c.unscaled(r)
	if err != nil || unscaled == nil {
		return "", false, err
	}
	return plain(unscaled, c.Type.Scale), false, nil
}

// unscaled returns a decimal as a whole number of 10^-Scale, or nil if it is null. It returns an Invalid error for one that
// is past the column's precision.
func (c *Column) unscaled(r *Row) (*big.Int, error) {
	d := c.decimal(r)
	if !d.Given() {
		return nil, nil
	}
	n := d.Round(c.Type.Scale)
	if n.CmpAbs(pow10(c.Type.Precision)) >= 0 {
		return nil, domain.Errorf(domain.Invalid, "focus.Column", "%s of %s, line %d, has more than %d digits", c.Name, r.InvoiceID, r.InvoiceLine, c.Type.Precision).
			WithHint("export the invoice itself, which has no such limit")
	}
	return n, nil
}

// plain writes a scaled number without trailing zeros and without an exponent (NumericFormat).
func plain(n *big.Int, scale int) string {
	digits := []byte(new(big.Int).Abs(n).String())
	for len(digits) <= scale {
		digits = append([]byte{'0'}, digits...)
	}
	point := len(digits) - scale
	end := len(digits)
	for end > point && digits[end-1] == '0' {
		end--
	}
	s := string(digits[:point])
	if end > point {
		s += "." + string(digits[point:end])
	}
	if n.Sign() < 0 {
		s = "-" + s
	}
	return s
}
