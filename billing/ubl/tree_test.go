package ubl_test

import (
	"encoding/xml"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// node is an element of a parsed document. Names are local with their usual prefix.
type node struct {
	name       string
	attributes map[string]string
	text       string
	children   []*node
	parent     *node
}

var prefixes = map[string]string{
	namespace + "CommonAggregateComponents-2": "cac:", namespace + "CommonBasicComponents-2": "cbc:",
	namespace + "Invoice-2": "", namespace + "CreditNote-2": "",
}

const namespace = "urn:oasis:names:specification:ubl:schema:xsd:"

func parse(t *testing.T, text string) *node {
	t.Helper()
	root := &node{}
	at := root
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch token := token.(type) {
		case xml.StartElement:
			prefix, known := prefixes[token.Name.Space]
			if !known {
				t.Fatalf("the element %s is of the namespace %q", token.Name.Local, token.Name.Space)
			}
			child := &node{name: prefix + token.Name.Local, attributes: make(map[string]string), parent: at}
			for _, a := range token.Attr {
				child.attributes[a.Name.Local] = a.Value
			}
			at.children = append(at.children, child)
			at = child
		case xml.EndElement:
			at = at.parent
		case xml.CharData:
			at.text += string(token)
		}
	}
	if at != root || len(root.children) != 1 {
		t.Fatalf("not well-formed:\n%s", text)
	}
	return root.children[0]
}

// all returns the elements at a path of names from n.
func (n *node) all(path string) []*node {
	found := []*node{n}
	for _, name := range strings.Split(path, "/") {
		var next []*node
		for _, f := range found {
			for _, c := range f.children {
				if c.name == name {
					next = append(next, c)
				}
			}
		}
		found = next
	}
	return found
}

// at returns the text at a path, or "".
func (n *node) at(path string) string {
	for _, f := range n.all(path) {
		return strings.TrimSpace(f.text)
	}
	return ""
}

func (n *node) has(path string) bool { return len(n.all(path)) > 0 }

// number returns the number at a path; a missing one is 0.
func (n *node) number(path string) *big.Rat {
	r, ok := new(big.Rat).SetString(n.at(path))
	if !ok {
		return new(big.Rat)
	}
	return r
}

// sum adds up the numbers at a path.
func (n *node) sum(path string) *big.Rat {
	total := new(big.Rat)
	for _, f := range n.all(path) {
		if r, ok := new(big.Rat).SetString(strings.TrimSpace(f.text)); ok {
			total.Add(total, r)
		}
	}
	return total
}

// walk visits n and all below it.
func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, c := range n.children {
		c.walk(visit)
	}
}

func near(a, b *big.Rat, slack string) bool {
	s, _ := new(big.Rat).SetString(slack)
	off := new(big.Rat).Sub(a, b)
	return off.Abs(off).Cmp(s) <= 0
}

// rounded2 rounds to two decimals, half away from zero.
func rounded2(r *big.Rat) *big.Rat {
	x, _ := new(big.Rat).SetString(r.FloatString(2))
	return x
}

// order is the sequence of children of each element that is written, as the schemas of UBL 2.1 have it.
var order = map[string]string{
	"Invoice":                         "CustomizationID ProfileID ID IssueDate DueDate InvoiceTypeCode Note DocumentCurrencyCode BuyerReference InvoicePeriod OrderReference BillingReference AdditionalDocumentReference AccountingSupplierParty AccountingCustomerParty PaymentMeans PaymentTerms TaxTotal LegalMonetaryTotal InvoiceLine",
	"CreditNote":                      "CustomizationID ProfileID ID IssueDate CreditNoteTypeCode Note DocumentCurrencyCode BuyerReference InvoicePeriod OrderReference BillingReference AdditionalDocumentReference AccountingSupplierParty AccountingCustomerParty PaymentMeans PaymentTerms TaxTotal LegalMonetaryTotal CreditNoteLine",
	"cac:InvoicePeriod":               "StartDate EndDate",
	"cac:OrderReference":              "ID",
	"cac:BillingReference":            "InvoiceDocumentReference",
	"cac:InvoiceDocumentReference":    "ID IssueDate",
	"cac:AdditionalDocumentReference": "ID DocumentDescription Attachment",
	"cac:Attachment":                  "ExternalReference",
	"cac:ExternalReference":           "URI",
	"cac:AccountingSupplierParty":     "Party",
	"cac:AccountingCustomerParty":     "Party",
	"cac:Party":                       "EndpointID PartyIdentification PostalAddress PartyTaxScheme PartyLegalEntity Contact",
	"cac:PartyIdentification":         "ID",
	"cac:PostalAddress":               "StreetName AdditionalStreetName CityName PostalZone CountrySubentity AddressLine Country",
	"cac:AddressLine":                 "Line",
	"cac:Country":                     "IdentificationCode",
	"cac:PartyTaxScheme":              "CompanyID TaxScheme",
	"cac:TaxScheme":                   "ID",
	"cac:PartyLegalEntity":            "RegistrationName CompanyID",
	"cac:Contact":                     "Name ElectronicMail",
	"cac:PaymentMeans":                "PaymentMeansCode PaymentID PayeeFinancialAccount",
	"cac:PayeeFinancialAccount":       "ID FinancialInstitutionBranch",
	"cac:FinancialInstitutionBranch":  "ID",
	"cac:PaymentTerms":                "Note",
	"cac:TaxTotal":                    "TaxAmount TaxSubtotal",
	"cac:TaxSubtotal":                 "TaxableAmount TaxAmount TaxCategory",
	"cac:TaxCategory":                 "ID Percent TaxExemptionReasonCode TaxExemptionReason TaxScheme",
	"cac:LegalMonetaryTotal":          "LineExtensionAmount TaxExclusiveAmount TaxInclusiveAmount PayableAmount",
	"cac:InvoiceLine":                 "ID InvoicedQuantity LineExtensionAmount InvoicePeriod DocumentReference Item Price",
	"cac:CreditNoteLine":              "ID CreditedQuantity LineExtensionAmount InvoicePeriod DocumentReference Item Price",
	"cac:DocumentReference":           "ID DocumentTypeCode",
	"cac:Item":                        "Name SellersItemIdentification ClassifiedTaxCategory AdditionalItemProperty",
	"cac:SellersItemIdentification":   "ID",
	"cac:ClassifiedTaxCategory":       "ID Percent TaxScheme",
	"cac:AdditionalItemProperty":      "Name Value",
	"cac:Price":                       "PriceAmount",
}

// repeated are the elements that may stand more than once beside each other.
const repeated = " cac:PartyTaxScheme cac:TaxSubtotal cac:InvoiceLine cac:CreditNoteLine cac:AdditionalItemProperty "

// checkOrder returns what is out of sequence, unknown, or there too often.
func checkOrder(root *node) (wrong []string) {
	root.walk(func(n *node) {
		sequence, aggregate := order[n.name]
		if !aggregate {
			if len(n.children) > 0 {
				wrong = append(wrong, n.name+" has children")
			}
			return
		}
		position := map[string]int{}
		for i, name := range strings.Fields(sequence) {
			position[name] = i + 1
		}
		last := 0
		for _, c := range n.children {
			at := position[c.name[strings.Index(c.name, ":")+1:]]
			if at == 0 || at < last || at == last && !strings.Contains(repeated, " "+c.name+" ") {
				wrong = append(wrong, fmt.Sprintf("%s stands wrongly in %s", c.name, n.name))
			}
			last = at
		}
	})
	return wrong
}
