package focus

import (
	"math/big"
	"strconv"
	"strings"

	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
)

// Digits after the point. A price times a quantity is a cost, exactly: the specification says so (ListUnitPrice-C-010), and
// readers multiply.
const (
	quantityScale = 9
	priceScale    = 12
	costScale     = quantityScale + priceScale
	maxDigits     = 38 // of any column: what most databases have room for
)

// Units, as the specification spells them (UnitFormat).
const (
	unitMonths     = "Months"
	unitUnits      = "Units"
	unitMbpsMonths = "Mbps-Months"
	unitPackages   = "Packages"
)

// cut rounds a number to so many digits after the point.
func cut(d domain.Decimal, places int) domain.Decimal {
	if d.Fits(places) {
		return d
	}
	return domain.DecimalFromBig(d.Round(places)).Quo(domain.DecimalFromBig(pow10(places)))
}

// powers are of ten, as many as a column has digits.
var powers = func() (all [maxDigits + 1]*big.Int) {
	for n := range all {
		all[n] = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
	}
	return all
}()

func pow10(n int) *big.Int { return powers[n] }

// read reads a number of a line; "…" ends one that is cut.
func read(s string) (domain.Decimal, error) {
	d, err := domain.ParseDecimal(strings.TrimSuffix(s, "…"))
	if err != nil {
		return d, domain.Errorf(domain.Internal, "focus.read", "a line has a number that is none: %w", err)
	}
	return d, nil
}

// price says what kind of charge the line is, and what of it costs how much: the SKU, the quantity and the unit price in
// the plan's currency and in the invoice's, and the list and contracted costs, which are their product. Nobody but the
// provider's published plan makes a price, so the list price is the contracted one.
//
// A correction has no price: it is the difference between two amounts.
func (r *Row) price(l invoice.Line, o Offer) error {
	exact, err := read(l.Exact)
	if err != nil {
		return err
	}
	quantity, err := read(l.Quantity)
	if err != nil {
		return err
	}
	rate := domain.DecimalFromInt(1)
	if l.Converted != nil {
		if exact, err = read(l.Converted.Amount); err != nil {
			return err
		}
		rate = l.Converted.Rate
		r.PricingCurrency, r.PricingCurrencyEffectiveCost = string(l.Converted.Currency), cut(exact, priceScale)
		r.ExchangeRate, r.ExchangeRateVersion = rate, l.Converted.RateVersion
	}
	s := skuOf(l, o)
	r.ChargeCategory, r.ChargeFrequency = s.category, s.frequency
	if r.ChargeClass == correction || exact.Sign() < 0 {
		return nil
	}
	r.PricingCategory, r.SkuID, r.SkuPriceID, r.SkuMeter, r.SkuPriceDetails = standard, s.id, s.priceID, s.meter, s.details
	if s.category == usage {
		r.ConsumedQuantity, r.ConsumedUnit = cut(quantity, quantityScale), s.consumedUnit
	}
	unitPrice, priced := s.unitPrice(exact, quantity)
	r.PricingQuantity, r.PricingUnit = cut(priced, quantityScale), s.unit
	unitPrice = cut(unitPrice, priceScale)
	r.PricingCurrencyListUnitPrice, r.PricingCurrencyContractedUnitPrice = unitPrice, unitPrice
	unitPrice = cut(unitPrice.Mul(rate), priceScale)
	r.ListUnitPrice, r.ContractedUnitPrice = unitPrice, unitPrice
	r.ListCost = unitPrice.Mul(r.PricingQuantity)
	r.ContractedCost = r.ListCost
	return nil
}

// unpriced takes off a row what only a charge with a price has. Credit notes are made of such.
func (r *Row) unpriced() {
	r.PricingCategory, r.SkuID, r.SkuPriceID, r.SkuMeter, r.SkuPriceDetails = "", "", "", "", ""
	r.PricingUnit, r.ConsumedUnit = "", ""
	r.PricingCurrency = r.BillingCurrency // credit notes know no conversion
	r.ExchangeRate, r.ExchangeRateVersion = domain.Decimal{}, 0
	r.PricingQuantity, r.ConsumedQuantity = domain.Decimal{}, domain.Decimal{}
	r.ListUnitPrice, r.ContractedUnitPrice = domain.Decimal{}, domain.Decimal{}
	r.PricingCurrencyListUnitPrice, r.PricingCurrencyContractedUnitPrice = domain.Decimal{}, domain.Decimal{}
}

// sku is how a charge is sold.
type sku struct {
	category, frequency         string
	id, priceID, meter, details string
	unit, consumedUnit          string
	price                       domain.Decimal // of a unit, in the plan's currency; not given: what is charged has no one price
}

var meters = map[string]string{
	pricing.MetricBytesIn: "Data received from the customer", pricing.MetricBytesOut: "Data sent to the customer",
	pricing.MetricBytesTotal: "Data in both directions",
}

// skuOf tells the kind of a line by its unit and part, which every line has; its price by the plan, if that is known.
func skuOf(l invoice.Line, o Offer) sku {
	if l.Kind == invoice.LineFee {
		s := sku{category: purchase, frequency: recurring, id: feeSKU, priceID: feeSKU, meter: "Share of the provider's price", unit: unitUnits}
		if o.FeeScheduleID != "" {
			s.priceID = feeSKU + "/" + o.FeeScheduleID + "/" + strconv.Itoa(o.FeeScheduleVersion)
		}
		return s
	}
	var c pricing.Charge
	for _, each := range o.Charges {
		if each.ID == l.ChargeID {
			c = each
		}
	}
	name := l.ChargeID
	if l.Part != "" {
		name += "/" + l.Part
	}
	s := sku{id: l.Plan.ListingID + "/" + name, meter: "Connection", unit: unitMonths, category: purchase, frequency: recurring}
	s.priceID = l.Plan.ListingID + "/" + strconv.Itoa(l.Plan.Version) + "/" + name
	switch {
	case l.ChargeID == pricing.CreditChargeID: // below zero: it has no price
		s.category, s.frequency = credit, oneTime
	case l.Unit == pricing.UnitOnce:
		s.frequency, s.unit, s.meter = oneTime, unitUnits, "Connection set-up"
		s.atBandwidth(o)
	case l.Unit == pricing.UnitMbpsMonth && l.Part == pricing.PartCommit:
		s.unit, s.meter, s.price = unitMbpsMonths, "Committed bandwidth", c.CommitPrice
	case l.Unit == pricing.UnitMbpsMonth:
		s.category, s.frequency = usage, usageBased
		s.unit, s.consumedUnit, s.meter, s.price = unitMbpsMonths, unitMbpsMonths, "95th percentile bandwidth above the commitment", c.OveragePrice
	case l.Unit == pricing.UnitMonth && c.Kind == pricing.KindMinimum:
		s.unit, s.meter = unitUnits, "Usage short of the minimum"
	case l.Unit == pricing.UnitMonth:
		s.price = c.Amount
		s.atBandwidth(o)
	default:
		s.category, s.frequency = usage, usageBased
		s.unit, s.consumedUnit, s.meter = l.Unit, l.Unit, orID(meters[c.Metric], "Data")
		s.model(c)
	}
	return s
}

// atBandwidth is for amounts that a plan may have by bandwidth: each is a price of its own.
func (s *sku) atBandwidth(o Offer) {
	if o.BandwidthMbps > 0 {
		s.priceID += "/" + strconv.Itoa(o.BandwidthMbps) + "Mbps"
		s.details = `{"x_BandwidthMbps":` + strconv.Itoa(o.BandwidthMbps) + `}`
	}
}

// model says how usage is priced. Graduated and volume prices depend on the quantity, so a unit has no one price.
func (s *sku) model(c pricing.Charge) {
	if c.Model == "" {
		return
	}
	s.details = `{"x_PricingModel":"` + c.Model + `"}`
	switch c.Model {
	case pricing.ModelPerUnit:
		s.price = c.UnitPrice
	case pricing.ModelPackage:
		s.price, s.unit = c.PackagePrice, unitPackages
		if c.PackageSize.Fits(0) { // "If a unit quantity is used, [it] MUST be expressed as a whole number" (UnitFormat)
			s.unit = c.PackageSize.String() + " " + s.consumedUnit
		}
	}
}

// unitPrice returns the price of a unit and how many are charged: less than the quantity, where some is included. What has no
// one price has the average of the quantity; what can't be divided is one unit.
func (s *sku) unitPrice(exact, quantity domain.Decimal) (price, charged domain.Decimal) {
	switch {
	case s.price.Sign() > 0 && s.unit != unitUnits:
		return s.price, exact.Quo(s.price)
	case s.unit != unitUnits && quantity.Sign() > 0:
		return exact.Quo(quantity), quantity
	case s.unit != unitUnits && exact.Sign() == 0:
		return exact, quantity
	}
	s.unit = unitUnits
	return exact, domain.DecimalFromInt(1)
}
