package document

import (
	"cmp"
	"time"

	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

// Day writes a time's day in UTC for people: "2 January 2006".
func Day(t time.Time) string { return t.UTC().Format("2 January 2006") }

// Terms says how the document is paid (BT-20).
func (d *Document) Terms() string {
	switch {
	case !d.Credit() && d.Due.Minor <= 0:
		return "Nothing is to be paid."
	case d.Type == TypeSelfBilledInvoice:
		return "Paid out to the seller's account by the buyer."
	case d.Type == TypeSelfBilledCreditNote:
		return "Set off against what the buyer pays out."
	case d.Credit():
		return "Taken off what is due of invoice " + d.Preceding.Number + ", or paid back."
	case d.DueAt != nil:
		return "Payable by " + Day(*d.DueAt) + ", naming " + d.Number + "."
	}
	return "Payable on receipt, naming " + d.Number + "."
}

// vatex are the codes for why no tax is charged that a category has (the VATEX code list, PEPPOL-EN16931-P0104 to P0107).
var vatex = map[string]string{
	taxrate.CategoryReverseCharge: "VATEX-EU-AE", taxrate.CategoryExport: "VATEX-EU-G", taxrate.CategoryOutside: "VATEX-EU-O",
	taxrate.CategoryIntraCommunity: "VATEX-EU-IC",
}

// Exemption returns the code of why no tax is charged (BT-121), where there is one, and the reason (BT-120). Both are empty
// for what is taxed.
func Exemption(t tax.Treatment) (code, reason string) {
	switch t.Category {
	case taxrate.CategoryStandard, taxrate.CategoryZero: // BR-S-10, BR-Z-10
		return "", ""
	case taxrate.CategoryExempt:
		return "", cmp.Or(t.Reason, "Exempt from tax")
	}
	return vatex[t.Category], t.Reason
}
