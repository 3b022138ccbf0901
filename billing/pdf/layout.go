package pdf

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"crossbill/billing/document"
	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

// Places on the page, in points.
const (
	left      = 50.0
	right     = pageWidth - 50
	middle    = 330.0 // where the facts beside the parties begin
	feeAt     = right // money ends here
	priceAt   = right - 92
	labelEnds = priceAt - 90 // descriptions end here
	firstLine = 60.0
	lastLine  = pageHeight - 92 // rows end here; below it is room for what is carried forward
	footLine  = pageHeight - 36
	codeSide  = 82.0
)

// Colours.
const (
	ink   = "0.11 0.13 0.16"
	grey  = "0.42 0.45 0.50"
	faint = "0.86 0.88 0.90"
	pale  = "0.955 0.962 0.97"
	red   = "0.70 0.10 0.10"
	blush = "0.99 0.93 0.92"
	blue  = "0.10 0.30 0.60"
)

// Styles.
var (
	plain    = style{size: 9, color: ink}
	strong   = style{size: 9, color: ink, bold: true}
	small    = style{size: 8, color: grey}
	heading  = style{size: 20, color: ink, bold: true}
	label    = style{size: 7.5, color: grey}
	detail   = style{size: 8, color: ink}
	footing  = style{size: 7.5, color: grey}
	warning  = style{size: 8.5, color: red}
	emphasis = style{size: 12, color: ink, bold: true}
)

func (s style) ending() style { s.right = true; return s }

// layout sets one document.
type layout struct {
	*canvas
	d *document.Document
	y float64 // the next baseline

	price, fee domain.Money // sums so far
}

func (l *layout) document() {
	l.price, l.fee = domain.Money{Currency: l.d.Currency}, domain.Money{Currency: l.d.Currency}
	l.y = firstLine
	l.parties()
	l.warnings()
	l.tableHead()
	for connection := range l.connections() {
		l.connection(connection)
	}
	l.sums()
	l.summary()
	l.taxes()
	l.payment()
	l.foot()
	l.page()
}

// connections are the document's lines in stretches of one connection each.
func (l *layout) connections() func(func([]document.Line) bool) {
	return func(yield func([]document.Line) bool) {
		var lines []document.Line
		for line := range l.d.Lines() {
			if len(lines) > 0 && lines[0].ConnectionID != line.ConnectionID {
				if !yield(lines) {
					return
				}
				lines = lines[:0]
			}
			lines = append(lines, line)
		}
		if len(lines) > 0 {
			yield(lines)
		}
	}
}

func (l *layout) parties() {
	d := l.d
	l.text(left, l.y+4, title(d), heading, 0)
	l.text(right, l.y+4, d.Number, style{size: 12, color: grey, right: true}, 0)
	l.y += 34
	top := l.y
	l.party("From", d.Seller, d.VATID())
	l.y += 12
	l.party("To", d.Buyer, d.BuyerVATID())
	bottom := l.y
	l.y = top
	l.facts()
	l.y = max(bottom, l.y) + 14
}

func (l *layout) party(role string, p document.Party, vat string) {
	const width = middle - left - 25
	l.text(left, l.y, role, label, 0)
	l.y += 13
	name := p.Name
	if name == "" {
		name = "(name not recorded)"
	}
	l.y = l.paragraph(left, l.y, name, style{size: 10.5, color: ink, bold: true}, width, 13)
	for _, line := range addressLines(p.Address) {
		l.y = l.paragraph(left, l.y, line, plain, width, 12)
	}
	for _, id := range []string{prefixedWith("VAT ", vat), prefixedWith("Tax id ", p.OtherTaxID()), prefixedWith("Registration ", p.Registration)} {
		if id != "" {
			l.text(left, l.y, id, small, width)
			l.y += 11
		}
	}
}

func prefixedWith(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func addressLines(a *billingaccount.Address) []string {
	if a == nil {
		return nil
	}
	lines := append(slices.Clone(a.Lines), strings.TrimSpace(a.PostalCode+" "+a.City))
	return append(lines, strings.Trim(a.Region+", "+countryName(a.Country), ", "))
}

// countryName is what a country is called in English; its code where it has no name.
func countryName(c domain.Country) string {
	region, err := language.ParseRegion(string(c))
	if err != nil {
		return string(c)
	}
	return cmp.Or(display.English.Regions().Name(region), string(c))
}

// facts are what an accountant looks for first.
func (l *layout) facts() {
	d := l.d
	fact := func(name, value string) {
		if value == "" {
			return
		}
		st := plain
		const width = right - middle - 62
		if lines := l.lines(value, st, 0); len(lines) > 0 && widthOf(lines[0], st) > width { // the platform's ids are long
			st.size = 8
		}
		l.text(middle, l.y, name, small, 0)
		l.text(right-4, l.y, value, st.ending(), width)
		l.y += 14
	}
	what := "Amount due"
	switch {
	case d.SelfBilled() && !d.Credit():
		what = "Amount owed to the provider"
	case d.Credit():
		what = "Amount credited"
	}
	l.box(middle-10, l.y-12, right-middle+10, 42, pale)
	l.text(middle, l.y, what, small, 0)
	l.text(right-4, l.y+20, amount(d.Due)+" "+string(d.Currency), style{size: 16, color: ink, bold: true, right: true}, 0)
	l.y += 48
	fact("Issued", document.Day(d.At))
	if d.DueAt != nil {
		fact("Due", document.Day(*d.DueAt))
	}
	fact("Period", days(d.PeriodStart, d.PeriodEnd))
	fact("Corrects", d.Preceding.Number)
	fact("Your order", d.PurchaseOrder)
	fact("Reference", d.BuyerReference)
	if d.Replaces != "" {
		fact("Takes the place of", d.Replaces)
	}
	if c := d.Seller.Contact; c != nil {
		fact("Questions to", c.Email)
	}
	if d.Reason != "" {
		l.y += 2
		l.text(middle, l.y, "Reason", small, 0)
		l.y = l.paragraph(middle+75, l.y, d.Reason, plain, right-middle-75, 12)
	}
}

// warnings say what became of the document, and what of it could not be set.
func (l *layout) warnings() {
	if l.d.Status != "" {
		l.banner(l.d.Status)
	}
	if missing := l.missing(l.texts()...); len(missing) > 0 {
		const most = 12
		var codes []string
		for _, r := range missing[:min(len(missing), most)] {
			codes = append(codes, fmt.Sprintf("U+%04X", r))
		}
		if len(missing) > most {
			codes = append(codes, fmt.Sprintf("and %d more", len(missing)-most))
		}
		l.banner("Some characters of this document are not shown: no font that is installed where it was made has them (" + strings.Join(codes, ", ") +
			"). A box stands for each. The document's UBL version has them all.")
	}
}

func (l *layout) banner(text string) {
	const leading = 11.5
	height := float64(len(l.lines(text, warning, right-left-20)))*leading + 9
	l.box(left, l.y-11, right-left, height, blush)
	l.paragraph(left+10, l.y+1, text, warning, right-left-20, leading)
	l.y += height + 8
}

// texts are all that people wrote of what the document says.
func (l *layout) texts() []string {
	d := l.d
	texts := []string{d.Number, d.Reason, d.Status, d.PurchaseOrder, d.Payee.BIC}
	for _, p := range []document.Party{d.Seller, d.Buyer} {
		texts = append(append(texts, p.Name, p.Registration), addressLines(p.Address)...)
		if p.Contact != nil {
			texts = append(texts, p.Contact.Email)
		}
	}
	for _, t := range d.Taxes {
		texts = append(texts, t.Reason)
	}
	var last document.Line
	for line := range d.Lines() {
		texts = append(texts, line.Description)
		if line.ConnectionID != last.ConnectionID {
			texts = append(texts, d.Name(line.ConnectionID), d.Name(line.ProviderID))
		}
		last = line
	}
	return texts
}

// Columns of money: a self-billed document has no fee.
func (l *layout) columns() bool { return !l.d.SelfBilled() }

func (l *layout) priceEnds() float64 {
	if l.columns() {
		return priceAt
	}
	return feeAt
}

func (l *layout) tableHead() {
	l.box(left, l.y-11, right-left, 17, pale)
	head := style{size: 8, color: ink, bold: true}
	l.text(left+6, l.y, "Connection and what is charged", head, 0)
	if l.columns() {
		l.text(l.priceEnds(), l.y, "Provider's price, "+string(l.d.Currency), head.ending(), 0)
		l.text(feeAt-4, l.y, "Platform fee", head.ending(), 0)
	} else {
		l.text(feeAt-4, l.y, "Amount, "+string(l.d.Currency), head.ending(), 0)
	}
	l.y += 18
}

func (l *layout) money(y float64, price, fee domain.Money, hasPrice, hasFee bool, st style) {
	end := l.priceEnds()
	if !l.columns() {
		end -= 4
	}
	if hasPrice {
		l.text(end, y, amount(price), st.ending(), 0)
	}
	if hasFee && l.columns() {
		l.text(feeAt-4, y, amount(fee), st.ending(), 0)
	}
}

// room begins another page, with what is carried forward, where there is none for so many points, and reports whether.
func (l *layout) room(height float64) bool {
	if l.y+height <= lastLine {
		return false
	}
	l.rule(left, right, l.y-9, 0.6, grey)
	l.text(left+6, l.y+3, "Carried forward", strong, 0)
	l.money(l.y+3, l.price, l.fee, true, true, strong)
	l.foot()
	l.page()
	l.y = firstLine
	l.text(left, l.y-16, title(l.d)+" "+l.d.Number, footing, 0)
	l.text(right, l.y-16, document.Day(l.d.At), footing.ending(), 0)
	l.tableHead()
	l.text(left+6, l.y, "Brought forward", strong, 0)
	l.money(l.y, l.price, l.fee, true, true, strong)
	l.rule(left, right, l.y+5, 0.4, faint)
	l.y += 18
	return true
}

const (
	headRow   = 13.0
	detailRow = 11.5
)

// connection sets the lines of a connection under its name, with their sums.
func (l *layout) connection(lines []document.Line) {
	price, fee := domain.Money{Currency: l.d.Currency}, domain.Money{Currency: l.d.Currency}
	prices, fees := false, false
	for _, line := range lines {
		if line.Kind == invoice.LineFee {
			fee.Minor, fees = fee.Minor+line.Amount.Minor, true
		} else {
			price.Minor, prices = price.Minor+line.Amount.Minor, true
		}
	}
	l.room(headRow + detailRow) // a name does not stand alone at a page's end
	name := l.d.Name(lines[0].ConnectionID)
	width := l.text(left+6, l.y, name, strong, labelEnds-left)
	if provider := l.d.Name(lines[0].ProviderID); provider != "" && !l.d.SelfBilled() {
		l.text(left+12+width, l.y, "· "+provider, small, max(20, labelEnds-left-6-width))
	}
	l.money(l.y, price, fee, prices, fees, strong)
	l.price.Minor, l.fee.Minor = l.price.Minor+price.Minor, l.fee.Minor+fee.Minor // what is carried forward adds up what is in bold above it
	l.y += headRow
	for i, line := range lines {
		if i > 0 && l.room(detailRow) {
			l.text(left+6, l.y, name+", continued", small, labelEnds-left)
			l.y += headRow
		}
		width := l.text(left+14, l.y, line.Description, detail, labelEnds-left-30)
		if more := about(line); more != "" && labelEnds-left-20-width > 30 {
			l.text(left+18+width, l.y, "· "+more, small, labelEnds-left-20-width)
		} else if more != "" {
			l.y += detailRow
			l.room(detailRow)
			l.text(left+14, l.y, more, small, labelEnds-left)
		}
		isFee := line.Kind == invoice.LineFee
		lighter := style{size: 8, color: grey}
		l.money(l.y, line.Amount, line.Amount, !isFee, isFee, lighter)
		l.y += detailRow
	}
	l.rule(left, right, l.y-6, 0.4, faint)
	l.y += 7
}

// about is how much of what a line is for, and when.
func about(line document.Line) string {
	var said []string
	if line.Quantity != "" && line.Kind != invoice.LineFee && line.Unit != pricing.UnitOnce {
		said = append(said, shortened(line.Quantity)+" "+line.Unit)
	}
	if line.Adjusts != nil {
		said = append(said, "corrects "+line.Adjusts.UTC().Format("January 2006"))
	} else if line.From != nil && line.To != nil {
		said = append(said, days(*line.From, *line.To))
	}
	if line.Conversion != "" {
		said = append(said, line.Conversion)
	}
	return strings.Join(said, " · ")
}

// shortened is a quantity with three decimals at most; "…" ends one that is cut.
func shortened(quantity string) string {
	whole, fraction, _ := strings.Cut(strings.TrimSuffix(quantity, "…"), ".")
	const most = 3
	if len(fraction) > most {
		return grouped(whole) + "." + fraction[:most] + "…"
	}
	if fraction != "" {
		return grouped(whole) + "." + fraction
	}
	return grouped(whole)
}

func (l *layout) sums() {
	l.room(40)
	l.rule(left, right, l.y-13, 0.8, grey)
	l.text(left+6, l.y, "Sum", strong, 0)
	l.money(l.y, l.d.Passthrough, l.d.Fee, true, true, strong)
	l.y += 28
}

// summary leads from the sums to the total.
func (l *layout) summary() {
	d := l.d
	rows := []struct {
		name   string
		amount domain.Money
	}{}
	row := func(name string, m domain.Money) {
		rows = append(rows, struct {
			name   string
			amount domain.Money
		}{name, m})
	}
	if l.columns() {
		row("Providers' prices", d.Passthrough)
		row("Platform fee", d.Fee)
	}
	row("Total without tax", d.Net)
	for _, s := range d.Taxes {
		row(taxName(s), s.Tax)
	}
	l.room(float64(len(rows))*14 + 40)
	for _, r := range rows {
		l.text(middle, l.y, r.name, plain, 0)
		l.text(right-4, l.y, amount(r.amount), plain.ending(), 0)
		l.y += 14
	}
	l.rule(middle, right, l.y-9, 0.8, grey)
	l.y += 5
	l.text(middle, l.y, "Total, "+string(d.Currency), emphasis, 0)
	l.text(right-4, l.y, amount(d.Total), emphasis.ending(), 0)
	l.y += 26
}

func taxName(s tax.Subtotal) string {
	switch s.Category {
	case taxrate.CategoryStandard:
		return "VAT " + s.Percent.String() + " %"
	case taxrate.CategoryOutside:
		return "Tax"
	}
	return "VAT 0 %"
}

// categoryNames are the codes of UNTDID 5305 in words.
var categoryNames = map[string]string{
	taxrate.CategoryStandard: "Standard rate", taxrate.CategoryZero: "Zero rated", taxrate.CategoryExempt: "Exempt",
	taxrate.CategoryReverseCharge: "Reverse charge", taxrate.CategoryIntraCommunity: "Within the EEA", taxrate.CategoryExport: "Export",
	taxrate.CategoryOutside: "Not subject",
}

// taxes is the breakdown by category (EN 16931 BG-23).
func (l *layout) taxes() {
	if len(l.d.Taxes) == 0 {
		return
	}
	l.room(30 + 14*float64(len(l.d.Taxes)))
	const rateAt, taxableAt, taxAt = left + 150, left + 235, left + 295
	l.text(left+6, l.y, "Tax", label, 0)
	l.text(rateAt, l.y, "Rate", label.ending(), 0)
	l.text(taxableAt, l.y, "Taxable amount", label.ending(), 0)
	l.text(taxAt, l.y, "Tax", label.ending(), 0)
	l.text(taxAt+16, l.y, "Reason", label, 0)
	l.rule(left, right, l.y+5, 0.4, faint)
	l.y += 16
	for _, s := range l.d.Taxes {
		l.text(left+6, l.y, categoryNames[s.Category]+" ("+s.Category+")", plain, 0)
		if s.Category != taxrate.CategoryOutside {
			l.text(rateAt, l.y, s.Percent.String()+" %", plain.ending(), 0)
		}
		l.text(taxableAt, l.y, amount(s.Taxable), plain.ending(), 0)
		l.text(taxAt, l.y, amount(s.Tax), plain.ending(), 0)
		code, reason := document.Exemption(s.Treatment)
		if code != "" {
			reason = strings.TrimPrefix(reason+" ("+code+")", " ")
		}
		if s.Category == taxrate.CategoryReverseCharge {
			reason += ": the buyer owes the tax"
		}
		l.y = max(l.y+14, l.paragraph(taxAt+16, l.y, reason, small, right-taxAt-16, 10)+4)
	}
	l.y += 10
}

// payment is how the document is paid, what the platform says of it, and where it is proven.
func (l *layout) payment() {
	d := l.d
	l.room(codeSide + 24)
	width := right - left
	top := l.y
	if d.Proof != "" {
		width -= codeSide + 20
		l.code(right-codeSide, top-12, codeSide, d.Proof)
		l.link(right-codeSide, top-12, codeSide, codeSide, d.Proof)
	}
	l.text(left, l.y, "Payment", label, 0)
	l.y = l.paragraph(left, l.y+13, d.Terms(), plain, width, 12)
	if iban := d.Payee.IBAN; iban != "" && !d.Credit() && d.Due.Minor > 0 {
		account := "IBAN " + inFours(iban)
		if d.Payee.BIC != "" {
			account += "   BIC " + d.Payee.BIC
		}
		l.text(left, l.y, account, strong, width)
		l.y += 14
	}
	l.y += 4
	if said := l.statement(); said != "" {
		l.y = l.paragraph(left, l.y, said, small, width, 10.5)
	}
	if d.Proof != "" {
		const address = "Proof of every figure: "
		l.y = l.paragraph(left, l.y, address+d.Proof, style{size: 8, color: blue}, width, 10.5)
		l.link(left, l.y-21, width, 14, d.Proof)
	}
}

// statement says that nothing is put on providers' prices. It is held by the close of every period.
func (l *layout) statement() string {
	d := l.d
	switch {
	case d.SelfBilled() && d.Credit():
		return "This credit is what customers were credited for the same items, to the minor unit."
	case d.SelfBilled():
		return "No margin: these are the amounts of the customers' invoices for the same items, to the minor unit. This invoice is made out by the buyer in the seller's name."
	case d.Credit():
		return "No margin: of the providers' prices, " + amount(d.Passthrough) + " " + string(d.Currency) + " is taken off what the providers are owed, to the minor unit."
	}
	return "No margin: the providers' prices, " + amount(d.Passthrough) + " " + string(d.Currency) + ", are passed on to the providers to the minor unit. The platform charges its fee alone, on lines of its own."
}

func (l *layout) foot() {
	s := l.d.Seller
	parts := []string{s.Name, prefixedWith("Registration ", s.Registration), prefixedWith("VAT ", l.d.VATID())}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	l.rule(left, right, footLine-12, 0.4, faint)
	l.text(left, footLine, strings.Join(parts, " · "), footing, right-left-80)
	l.text(right-24, footLine, fmt.Sprintf("Page %d", l.number+1), footing.ending(), 0)
	l.draw("q 1 0 0 1 %.2f %.2f cm /Total Do Q", right-22, pageHeight-footLine)
}

// amount is money without its currency, in groups of three digits: "1,016.84", "−12.34".
func amount(m domain.Money) string {
	text := m.Amount()
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "−", text[1:]
	}
	whole, fraction, decimals := strings.Cut(text, ".")
	if decimals {
		return sign + grouped(whole) + "." + fraction
	}
	return sign + grouped(whole)
}

func grouped(whole string) string {
	digits, negative := strings.CutPrefix(whole, "-")
	if _, ok := new(big.Int).SetString(digits, 10); !ok {
		return whole
	}
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	text := strings.Join(append([]string{digits}, groups...), ",")
	if negative {
		return "−" + text
	}
	return text
}

func inFours(s string) string {
	var parts []string
	for part := range slices.Chunk([]byte(s), 4) {
		parts = append(parts, string(part))
	}
	return strings.Join(parts, " ")
}

// days is a half-open period by its days, of which the last is inclusive.
func days(from, to time.Time) string {
	last := to.Add(-time.Nanosecond).UTC()
	from = from.UTC()
	switch {
	case from.Year() == last.Year() && from.YearDay() == last.YearDay():
		return document.Day(from)
	case from.Year() == last.Year() && from.Month() == last.Month():
		return fmt.Sprintf("%d – %s", from.Day(), document.Day(last))
	case from.Year() == last.Year():
		return from.Format("2 January") + " – " + document.Day(last)
	}
	return document.Day(from) + " – " + document.Day(last)
}
