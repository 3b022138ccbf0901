package ubl_test

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// rule is one business rule of EN 16931 or of Peppol BIS Billing 3, under the id that its publishers gave it.
type rule struct {
	id     string
	peppol bool // it holds for what claims Peppol
	holds  func(*node) bool
}

// invoiceLines are an invoice's or a credit note's lines.
func invoiceLines(n *node) []*node {
	return append(n.all("cac:InvoiceLine"), n.all("cac:CreditNoteLine")...)
}

func each(nodes []*node, holds func(*node) bool) bool {
	return !slices.ContainsFunc(nodes, func(n *node) bool { return !holds(n) })
}

// there is a rule that elements are there and have a text.
func there(paths ...string) func(*node) bool {
	return func(n *node) bool {
		return each2(paths, func(p string) bool { return n.at(p) != "" })
	}
}

func each2(paths []string, holds func(string) bool) bool {
	return !slices.ContainsFunc(paths, func(p string) bool { return !holds(p) })
}

func lineHas(path string) func(*node) bool {
	return func(n *node) bool { return each(invoiceLines(n), there(path)) }
}

func breakdown(n *node) []*node { return n.all("cac:TaxTotal/cac:TaxSubtotal") }

const (
	seller = "cac:AccountingSupplierParty/cac:Party/"
	buyer  = "cac:AccountingCustomerParty/cac:Party/"
	totals = "cac:LegalMonetaryTotal/"
)

// vatOf is the VAT identifier of a party (BT-31, BT-48).
func vatOf(n *node, party string) string { return schemeOf(n, party, true) }

func schemeOf(n *node, party string, vat bool) string {
	for _, s := range n.all(party + "cac:PartyTaxScheme") {
		if (s.at("cac:TaxScheme/cbc:ID") == "VAT") == vat {
			return s.at("cbc:CompanyID")
		}
	}
	return ""
}

func used(n *node, category string) bool {
	return slices.ContainsFunc(invoiceLines(n), func(l *node) bool { return l.at("cac:Item/cac:ClassifiedTaxCategory/cbc:ID") == category })
}

func subtotals(n *node, category string) (found []*node) {
	for _, s := range breakdown(n) {
		if s.at("cac:TaxCategory/cbc:ID") == category {
			found = append(found, s)
		}
	}
	return found
}

// whenUsed is a rule on the parties of documents with a category (BR-S-02 and its like).
func whenUsed(category string, holds func(*node) bool) func(*node) bool {
	return func(n *node) bool { return !used(n, category) || holds(n) }
}

func onSubtotals(category string, holds func(*node) bool) func(*node) bool {
	return func(n *node) bool { return each(subtotals(n, category), holds) }
}

func onLines(category string, holds func(*node) bool) func(*node) bool {
	return func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			c := l.all("cac:Item/cac:ClassifiedTaxCategory")
			return len(c) != 1 || c[0].at("cbc:ID") != category || holds(c[0])
		})
	}
}

// taxables adds the lines of a category (and a rate) up beside its subtotal.
func taxables(category string) func(*node) bool {
	return func(n *node) bool {
		return each(subtotals(n, category), func(s *node) bool {
			total := new(big.Rat)
			for _, l := range invoiceLines(n) {
				c := l.all("cac:Item/cac:ClassifiedTaxCategory")
				if len(c) == 1 && c[0].at("cbc:ID") == category && c[0].at("cbc:Percent") == s.at("cac:TaxCategory/cbc:Percent") {
					total.Add(total, l.number("cbc:LineExtensionAmount"))
				}
			}
			return total.Cmp(s.number("cbc:TaxableAmount")) == 0
		})
	}
}

func decimals(paths ...string) func(*node) bool {
	return func(n *node) bool {
		return each2(paths, func(path string) bool {
			return each(n.all(path), func(a *node) bool {
				_, fraction, _ := strings.Cut(strings.TrimSpace(a.text), ".")
				return len(fraction) <= 2
			})
		})
	}
}

var (
	datePattern = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)
	countries   = regexp.MustCompile(`^[A-Z]{2}$`)
	units       = []string{"C62", "MON", "E34", "E62", "E20"}
	vatexCodes  = []string{"VATEX-EU-AE", "VATEX-EU-G", "VATEX-EU-O", "VATEX-EU-IC"}
)

func zeroTax(s *node) bool { return s.number("cbc:TaxAmount").Sign() == 0 }
func reasoned(s *node) bool {
	return s.at("cac:TaxCategory/cbc:TaxExemptionReasonCode") != "" || s.at("cac:TaxCategory/cbc:TaxExemptionReason") != ""
}
func unreasoned(s *node) bool { return !reasoned(s) }
func sellerTaxed(n *node) bool {
	return vatOf(n, seller) != "" || schemeOf(n, seller, false) != ""
}

// rules are those of EN 16931 whose terms the documents have (none has allowances, charges, payees or tax representatives),
// and those of Peppol BIS Billing 3.
var rules = append([]rule{
	{"BR-01", false, there("cbc:CustomizationID")},
	{"BR-02", false, there("cbc:ID")},
	{"BR-03", false, there("cbc:IssueDate")},
	{"BR-04", false, func(n *node) bool { return n.has("cbc:InvoiceTypeCode") || n.has("cbc:CreditNoteTypeCode") }},
	{"BR-05", false, there("cbc:DocumentCurrencyCode")},
	{"BR-06", false, there(seller + "cac:PartyLegalEntity/cbc:RegistrationName")},
	{"BR-07", false, there(buyer + "cac:PartyLegalEntity/cbc:RegistrationName")},
	{"BR-08", false, func(n *node) bool { return n.has(seller + "cac:PostalAddress") }},
	{"BR-09", false, there(seller + "cac:PostalAddress/cac:Country/cbc:IdentificationCode")},
	{"BR-10", false, func(n *node) bool { return n.has(buyer + "cac:PostalAddress") }},
	{"BR-11", false, there(buyer + "cac:PostalAddress/cac:Country/cbc:IdentificationCode")},
	{"BR-12", false, there(totals + "cbc:LineExtensionAmount")},
	{"BR-13", false, there(totals + "cbc:TaxExclusiveAmount")},
	{"BR-14", false, there(totals + "cbc:TaxInclusiveAmount")},
	{"BR-15", false, there(totals + "cbc:PayableAmount")},
	{"BR-16", false, func(n *node) bool { return len(invoiceLines(n)) > 0 }},
	{"BR-21", false, lineHas("cbc:ID")},
	{"BR-22", false, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool { return l.has("cbc:InvoicedQuantity") || l.has("cbc:CreditedQuantity") })
	}},
	{"BR-23", false, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			return each(append(l.all("cbc:InvoicedQuantity"), l.all("cbc:CreditedQuantity")...), func(q *node) bool { return q.attributes["unitCode"] != "" })
		})
	}},
	{"BR-24", false, lineHas("cbc:LineExtensionAmount")},
	{"BR-25", false, lineHas("cac:Item/cbc:Name")},
	{"BR-26", false, lineHas("cac:Price/cbc:PriceAmount")},
	{"BR-27", false, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool { return l.number("cac:Price/cbc:PriceAmount").Sign() >= 0 })
	}},
	{"BR-29", false, func(n *node) bool {
		return n.at("cac:InvoicePeriod/cbc:EndDate") >= n.at("cac:InvoicePeriod/cbc:StartDate")
	}},
	{"BR-30", false, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			return l.at("cac:InvoicePeriod/cbc:EndDate") >= l.at("cac:InvoicePeriod/cbc:StartDate")
		})
	}},
	{"BR-45", false, func(n *node) bool { return each(breakdown(n), there("cbc:TaxableAmount")) }},
	{"BR-46", false, func(n *node) bool { return each(breakdown(n), there("cbc:TaxAmount")) }},
	{"BR-47", false, func(n *node) bool { return each(breakdown(n), there("cac:TaxCategory/cbc:ID")) }},
	{"BR-48", false, func(n *node) bool {
		return each(breakdown(n), func(s *node) bool {
			return s.at("cac:TaxCategory/cbc:ID") == "O" || s.at("cac:TaxCategory/cbc:Percent") != ""
		})
	}},
	{"BR-49", false, func(n *node) bool { return each(n.all("cac:PaymentMeans"), there("cbc:PaymentMeansCode")) }},
	{"BR-50", false, func(n *node) bool { return each(n.all("cac:PaymentMeans/cac:PayeeFinancialAccount"), there("cbc:ID")) }},
	{"BR-52", false, func(n *node) bool { return each(n.all("cac:AdditionalDocumentReference"), there("cbc:ID")) }},
	{"BR-54", false, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			return each(l.all("cac:Item/cac:AdditionalItemProperty"), there("cbc:Name", "cbc:Value"))
		})
	}},
	{"BR-55", false, func(n *node) bool {
		return each(n.all("cac:BillingReference"), there("cac:InvoiceDocumentReference/cbc:ID"))
	}},
	{"BR-61", false, func(n *node) bool {
		return each(n.all("cac:PaymentMeans"), func(p *node) bool {
			return p.at("cbc:PaymentMeansCode") != "30" || p.at("cac:PayeeFinancialAccount/cbc:ID") != ""
		})
	}},
	{"BR-62", false, schemed(seller + "cbc:EndpointID")},
	{"BR-63", false, schemed(buyer + "cbc:EndpointID")},
	{"BR-CO-04", false, lineHas("cac:Item/cac:ClassifiedTaxCategory/cbc:ID")},
	{"BR-CO-09", false, func(n *node) bool {
		return each2([]string{vatOf(n, seller), vatOf(n, buyer)}, func(id string) bool { return id == "" || len(id) > 2 && countries.MatchString(id[:2]) })
	}},
	{"BR-CO-10", false, func(n *node) bool {
		total := new(big.Rat)
		for _, l := range invoiceLines(n) {
			total.Add(total, l.number("cbc:LineExtensionAmount"))
		}
		return total.Cmp(n.number(totals+"cbc:LineExtensionAmount")) == 0
	}},
	{"BR-CO-13", false, func(n *node) bool {
		return n.number(totals+"cbc:TaxExclusiveAmount").Cmp(n.number(totals+"cbc:LineExtensionAmount")) == 0
	}},
	{"BR-CO-14", false, func(n *node) bool {
		return n.number("cac:TaxTotal/cbc:TaxAmount").Cmp(n.sum("cac:TaxTotal/cac:TaxSubtotal/cbc:TaxAmount")) == 0
	}},
	{"BR-CO-15", false, func(n *node) bool {
		want := new(big.Rat).Add(n.number(totals+"cbc:TaxExclusiveAmount"), n.number("cac:TaxTotal/cbc:TaxAmount"))
		return want.Cmp(n.number(totals+"cbc:TaxInclusiveAmount")) == 0
	}},
	{"BR-CO-16", false, func(n *node) bool {
		return n.number(totals+"cbc:TaxInclusiveAmount").Cmp(n.number(totals+"cbc:PayableAmount")) == 0
	}},
	{"BR-CO-17", false, func(n *node) bool { // the publishers' check allows one unit of the currency
		return each(breakdown(n), func(s *node) bool {
			want := new(big.Rat).Mul(s.number("cbc:TaxableAmount"), s.number("cac:TaxCategory/cbc:Percent"))
			return near(rounded2(want.Mul(want, big.NewRat(1, 100))), s.number("cbc:TaxAmount"), "1")
		})
	}},
	{"BR-CO-18", false, func(n *node) bool { return len(breakdown(n)) > 0 }},
	{"BR-CO-25", false, func(n *node) bool {
		return n.number(totals+"cbc:PayableAmount").Sign() <= 0 || n.has("cbc:DueDate") || n.at("cac:PaymentTerms/cbc:Note") != ""
	}},
	{"BR-CO-26", false, func(n *node) bool {
		return n.has(seller+"cac:PartyIdentification/cbc:ID") || n.has(seller+"cac:PartyLegalEntity/cbc:CompanyID") || vatOf(n, seller) != ""
	}},
	{"BR-DEC-09", false, decimals(totals + "cbc:LineExtensionAmount")},
	{"BR-DEC-12", false, decimals(totals + "cbc:TaxExclusiveAmount")},
	{"BR-DEC-13", false, decimals("cac:TaxTotal/cbc:TaxAmount")},
	{"BR-DEC-14", false, decimals(totals + "cbc:TaxInclusiveAmount")},
	{"BR-DEC-18", false, decimals(totals + "cbc:PayableAmount")},
	{"BR-DEC-19", false, decimals("cac:TaxTotal/cac:TaxSubtotal/cbc:TaxableAmount")},
	{"BR-DEC-20", false, decimals("cac:TaxTotal/cac:TaxSubtotal/cbc:TaxAmount")},
	{"BR-DEC-23", false, decimals("cac:InvoiceLine/cbc:LineExtensionAmount", "cac:CreditNoteLine/cbc:LineExtensionAmount")},
	{"BR-CL-01", false, func(n *node) bool {
		return slices.Contains([]string{"380", "389"}, n.at("cbc:InvoiceTypeCode")) || slices.Contains([]string{"381", "261"}, n.at("cbc:CreditNoteTypeCode"))
	}},
	{"BR-CL-04", false, func(n *node) bool {
		return regexp.MustCompile(`^[A-Z]{3}$`).MatchString(n.at("cbc:DocumentCurrencyCode"))
	}},
	{"BR-CL-14", false, func(n *node) bool {
		return countries.MatchString(n.at(seller+"cac:PostalAddress/cac:Country/cbc:IdentificationCode")) && countries.MatchString(n.at(buyer+"cac:PostalAddress/cac:Country/cbc:IdentificationCode"))
	}},
	{"BR-CL-17", false, func(n *node) bool {
		return each(breakdown(n), func(s *node) bool {
			return slices.Contains([]string{"S", "Z", "E", "AE", "G", "O"}, s.at("cac:TaxCategory/cbc:ID"))
		})
	}},
	{"BR-CL-22", false, func(n *node) bool {
		return each(breakdown(n), func(s *node) bool {
			code := s.at("cac:TaxCategory/cbc:TaxExemptionReasonCode")
			return code == "" || slices.Contains(vatexCodes, code)
		})
	}},
	{"BR-CL-23", false, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			return each(append(l.all("cbc:InvoicedQuantity"), l.all("cbc:CreditedQuantity")...), func(q *node) bool { return slices.Contains(units, q.attributes["unitCode"]) })
		})
	}},
	{"BR-O-02", false, whenUsed("O", func(n *node) bool { return vatOf(n, seller) == "" && vatOf(n, buyer) == "" })},
	{"BR-O-05", false, onLines("O", func(c *node) bool { return !c.has("cbc:Percent") })},
	{"BR-O-11", false, func(n *node) bool { return len(subtotals(n, "O")) == 0 || len(breakdown(n)) == 1 }},
	{"BR-AE-02", false, whenUsed("AE", func(n *node) bool {
		return sellerTaxed(n) && (vatOf(n, buyer) != "" || n.has(buyer+"cac:PartyLegalEntity/cbc:CompanyID"))
	})},
	{"BR-S-02", false, whenUsed("S", sellerTaxed)},
	{"BR-Z-02", false, whenUsed("Z", sellerTaxed)},
	{"BR-E-02", false, whenUsed("E", sellerTaxed)},
	{"BR-G-02", false, whenUsed("G", func(n *node) bool { return vatOf(n, seller) != "" })},
	{"BR-S-05", false, onLines("S", func(c *node) bool { return c.number("cbc:Percent").Sign() > 0 })},
	{"BR-S-09", false, onSubtotals("S", func(s *node) bool {
		want := new(big.Rat).Mul(s.number("cbc:TaxableAmount"), s.number("cac:TaxCategory/cbc:Percent"))
		return near(want.Mul(want, big.NewRat(1, 100)), s.number("cbc:TaxAmount"), "1")
	})},
	{"BR-S-10", false, onSubtotals("S", unreasoned)},
	{"BR-Z-10", false, onSubtotals("Z", unreasoned)},

	{"PEPPOL-EN16931-R001", true, there("cbc:ProfileID")},
	{"PEPPOL-EN16931-R002", true, func(n *node) bool { return len(n.all("cbc:Note")) <= 1 }},
	{"PEPPOL-EN16931-R003", true, func(n *node) bool { return n.at("cbc:BuyerReference") != "" || n.at("cac:OrderReference/cbc:ID") != "" }},
	{"PEPPOL-EN16931-R004", true, func(n *node) bool {
		return regexp.MustCompile(`^urn:cen\.eu:en16931:2017#compliant#urn:fdc:peppol\.eu:2017:poacc:(self)?billing:3\.0$`).MatchString(n.at("cbc:CustomizationID"))
	}},
	{"PEPPOL-EN16931-R007", true, func(n *node) bool {
		return regexp.MustCompile(`^urn:fdc:peppol\.eu:2017:poacc:(self)?billing:[0-9]{2}:1\.0$`).MatchString(n.at("cbc:ProfileID"))
	}},
	{"PEPPOL-EN16931-R008", true, func(n *node) bool {
		empty := false
		n.walk(func(n *node) { empty = empty || len(n.children) == 0 && strings.TrimSpace(n.text) == "" })
		return !empty
	}},
	{"PEPPOL-EN16931-R010", true, there(buyer + "cbc:EndpointID")},
	{"PEPPOL-EN16931-R020", true, there(seller + "cbc:EndpointID")},
	{"PEPPOL-EN16931-R051", true, func(n *node) bool {
		same := true
		n.walk(func(a *node) {
			if c, money := a.attributes["currencyID"]; money && c != n.at("cbc:DocumentCurrencyCode") {
				same = false
			}
		})
		return same
	}},
	{"PEPPOL-EN16931-R053", true, func(n *node) bool { return len(n.all("cac:TaxTotal")) == 1 && len(breakdown(n)) > 0 }},
	{"PEPPOL-EN16931-R100", true, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool { return len(l.all("cac:DocumentReference")) <= 1 })
	}},
	{"PEPPOL-EN16931-R101", true, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			return each(l.all("cac:DocumentReference"), func(r *node) bool { return r.at("cbc:DocumentTypeCode") == "130" })
		})
	}},
	{"PEPPOL-EN16931-R110", true, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			return !l.has("cac:InvoicePeriod") || l.at("cac:InvoicePeriod/cbc:StartDate") >= n.at("cac:InvoicePeriod/cbc:StartDate")
		})
	}},
	{"PEPPOL-EN16931-R111", true, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			return l.at("cac:InvoicePeriod/cbc:EndDate") <= n.at("cac:InvoicePeriod/cbc:EndDate")
		})
	}},
	{"PEPPOL-EN16931-R120", true, func(n *node) bool {
		return each(invoiceLines(n), func(l *node) bool {
			quantity := new(big.Rat).Add(l.number("cbc:InvoicedQuantity"), l.number("cbc:CreditedQuantity"))
			return near(quantity.Mul(quantity, l.number("cac:Price/cbc:PriceAmount")), l.number("cbc:LineExtensionAmount"), "0.02")
		})
	}},
	{"PEPPOL-EN16931-P0100", true, func(n *node) bool {
		return n.at("cbc:InvoiceTypeCode") == "" || (n.at("cbc:InvoiceTypeCode") == "389") == strings.Contains(n.at("cbc:ProfileID"), "selfbilling")
	}},
	{"PEPPOL-EN16931-P0101", true, func(n *node) bool {
		return n.at("cbc:CreditNoteTypeCode") == "" || (n.at("cbc:CreditNoteTypeCode") == "261") == strings.Contains(n.at("cbc:ProfileID"), "selfbilling")
	}},
	{"PEPPOL-EN16931-P0104", true, coded("VATEX-EU-G", "G")},
	{"PEPPOL-EN16931-P0105", true, coded("VATEX-EU-O", "O")},
	{"PEPPOL-EN16931-P0107", true, coded("VATEX-EU-AE", "AE")},
	{"PEPPOL-EN16931-CL008", true, func(n *node) bool {
		return each(append(n.all(seller+"cbc:EndpointID"), n.all(buyer+"cbc:EndpointID")...), func(e *node) bool { return regexp.MustCompile(`^[0-9]{4}$`).MatchString(e.attributes["schemeID"]) })
	}},
	{"PEPPOL-EN16931-F001", true, func(n *node) bool {
		dates := true
		n.walk(func(n *node) {
			if strings.HasSuffix(n.name, "Date") {
				dates = dates && datePattern.MatchString(n.text)
			}
		})
		return dates
	}},
}, categoryRules()...)

// categoryRules are those that all categories have alike, under their own ids: the breakdown has the category once if lines
// do (01), its taxable amount is that of its lines (08), and no tax is charged but at the standard rate (05, 09, 10).
func categoryRules() (all []rule) {
	for _, c := range []string{"S", "Z", "E", "AE", "G", "O"} {
		id := func(n string) string { return fmt.Sprintf("BR-%s-%s", c, n) }
		all = append(all, rule{id("01"), false, func(n *node) bool {
			if c == "S" { // as often as there are rates
				return !used(n, c) || len(subtotals(n, c)) > 0
			}
			return !used(n, c) && len(subtotals(n, c)) == 0 || len(subtotals(n, c)) == 1
		}}, rule{id("08"), false, taxables(c)})
		if c == "S" {
			continue
		}
		all = append(all, rule{id("09"), false, onSubtotals(c, zeroTax)})
		if c != "O" {
			all = append(all, rule{id("05"), false, onLines(c, func(l *node) bool { return l.has("cbc:Percent") && l.number("cbc:Percent").Sign() == 0 })})
		}
		if c != "Z" {
			all = append(all, rule{id("10"), false, onSubtotals(c, reasoned)})
		}
	}
	return all
}

func schemed(path string) func(*node) bool {
	return func(n *node) bool {
		return each(n.all(path), func(e *node) bool { return e.attributes["schemeID"] != "" })
	}
}

func coded(code, category string) func(*node) bool {
	return func(n *node) bool {
		return each(breakdown(n), func(s *node) bool {
			return s.at("cac:TaxCategory/cbc:TaxExemptionReasonCode") != code || s.at("cac:TaxCategory/cbc:ID") == category
		})
	}
}

// broken returns the ids of the rules that a document breaks, of those that it claims to meet, and how many were looked at.
func broken(n *node) (ids []string, checked int) {
	if !n.has("cbc:CustomizationID") {
		return nil, 0
	}
	for _, r := range rules {
		if r.peppol && !n.has("cbc:ProfileID") {
			continue
		}
		checked++
		if !r.holds(n) {
			ids = append(ids, r.id)
		}
	}
	return ids, checked
}
