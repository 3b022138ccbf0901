package focus_test

import (
	"bytes"
	"testing"
	"time"

	"crossbill/billing/focus"
	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

var (
	february = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	march    = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	april    = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	may      = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	dec      = domain.MustDecimal
)

func top(s string) *domain.Decimal { d := dec(s); return &d }

// everyKind is a plan with a charge of every kind and every model.
func everyKind(c domain.Currency) pricing.Plan {
	traffic := func(id, model, unit, metric string) pricing.Charge {
		return pricing.Charge{ID: id, Kind: pricing.KindUsage, Description: "Traffic, " + id, Metric: metric, Unit: unit, Model: model}
	}
	each := traffic("each", pricing.ModelPerUnit, pricing.UnitGB, pricing.MetricBytesTotal)
	each.UnitPrice, each.Included = dec("0.02"), dec("100")
	graduated := traffic("graduated", pricing.ModelGraduated, pricing.UnitGB, pricing.MetricBytesIn)
	graduated.Tiers = []pricing.Tier{{UpTo: top("1000"), Price: dec("0.05")}, {UpTo: top("10000"), Price: dec("0.03")}, {Price: dec("0.01")}}
	volume := traffic("volume", pricing.ModelVolume, pricing.UnitGiB, pricing.MetricBytesOut)
	volume.Tiers = graduated.Tiers
	blocks := traffic("blocks", pricing.ModelPackage, pricing.UnitGB, pricing.MetricBytesTotal)
	blocks.PackageSize, blocks.PackagePrice = dec("500"), dec("3.50")
	odd := traffic("odd", pricing.ModelPackage, pricing.UnitGB, pricing.MetricBytesTotal)
	odd.PackageSize, odd.PackagePrice = dec("2.5"), dec("0.03")
	return pricing.Plan{Currency: c, Charges: []pricing.Charge{
		{ID: "setup", Kind: pricing.KindOneTime, Description: "Setup", Amount: dec("150")},
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{{BandwidthMbps: 100, Amount: dec("400")}, {BandwidthMbps: 1000, Amount: dec("900.50")}}},
		each, graduated, volume, blocks, odd,
		{ID: "burst", Kind: pricing.KindPercentile, Description: "Burst", CommitMbps: 100, CommitPrice: dec("2.00"), OveragePrice: dec("3.00")},
		{ID: "least", Kind: pricing.KindMinimum, Description: "Minimum usage", Amount: dec("500")},
	}}
}

// books makes invoices and credit notes that have every case in them.
type books struct {
	t       *testing.T
	book    focus.Book
	numbers map[string]int64 // the payable amount of each document, in minor units
}

func newBooks(t *testing.T) *books {
	b := &books{t: t, numbers: make(map[string]int64), book: focus.Book{
		Issuer: "Neutral Ground B.V.", Account: "=Networks, \"Europe\"", Organisations: map[string]string{"org_cloud": "Cloud Co"},
		Offers: make(map[string]focus.Offer), Items: make(map[focus.Item]focus.Settled),
	}}
	for _, c := range []domain.Currency{"USD", "JPY", "BHD"} {
		offer, err := focus.OfferOf(quote.Content{Plan: everyKind(c), BandwidthMbps: 1000, FeeScheduleID: "fee_1", FeeScheduleVersion: 2},
			"Transit "+string(c), "internet_access", "Amsterdam", "loc_1")
		if err != nil {
			t.Fatal(err)
		}
		b.book.Offers["quo_"+string(c)] = offer
	}
	return b
}

// lines rates every charge of the plan for quantities that divide badly.
func (b *books) lines(id string, c domain.Currency, change func(*invoice.Line)) []invoice.Line {
	var all []invoice.Line
	add := func(ch pricing.Charge, kind, part, unit string, quantity, exact domain.Decimal) {
		amount, err := domain.RoundMoney(exact, c)
		if err != nil {
			b.t.Fatal(err)
		}
		l := invoice.Line{Number: len(all) + 1, ItemID: "itm_" + ch.ID + part, Kind: kind, ProviderID: "org_cloud", ConnectionID: "con_1", ChargeID: ch.ID,
			Description: ch.Description, Quantity: quantity.String(), Unit: unit, Exact: exact.String(), Amount: amount, Steps: []string{"…"},
			Plan: invoice.PlanRef{ListingID: "lst_" + string(c), Version: 3}, QuoteID: "quo_" + string(c), Part: part,
			Evidence: []invoice.Evidence{{Stream: "connection-con_1", FromVersion: 1, ToVersion: 9, Count: 9, Digest: "00"}}}
		if change != nil {
			change(&l)
		}
		if kind == invoice.LinePassthrough {
			b.book.Items[focus.Item{DocumentID: id, ItemID: l.ItemID}] = focus.Settled{SettlementID: "set_1", Amount: l.Amount}
		}
		all = append(all, l)
	}
	plan, err := everyKind(c).For(1000)
	if err != nil {
		b.t.Fatal(err)
	}
	months := dec("21").Quo(dec("31"))
	for _, ch := range plan.Charges {
		switch ch.Kind {
		case pricing.KindPercentile:
			for _, part := range ch.Parts() {
				quantity := ch.Committed().Mul(months)
				exact, _ := ch.RatePart(part, quantity)
				add(ch, invoice.LinePassthrough, part, pricing.UnitMbpsMonth, quantity, exact)
			}
		case pricing.KindUsage:
			for _, q := range []string{"12345.678901234", "0"} {
				quantity := dec(q)
				if ch.Unit == pricing.UnitGiB {
					quantity = quantity.Quo(dec("1.073741824"))
				}
				exact, _ := ch.Rate(quantity)
				add(ch, invoice.LinePassthrough, "", ch.Unit, quantity, exact)
				all[len(all)-1].ItemID += q
				b.book.Items[focus.Item{DocumentID: id, ItemID: all[len(all)-1].ItemID}] = focus.Settled{SettlementID: "set_1", Amount: all[len(all)-1].Amount}
			}
		case pricing.KindOneTime:
			exact, _ := ch.Rate(dec("1"))
			add(ch, invoice.LinePassthrough, "", ch.QuantityUnit(), dec("1"), exact)
		default:
			exact, _ := ch.Rate(months)
			add(ch, invoice.LinePassthrough, "", ch.QuantityUnit(), months, exact)
		}
	}
	add(pricing.Charge{ID: pricing.CreditChargeID, Description: "Credit for availability, 10 % of what is charged by time"}, invoice.LinePassthrough, "",
		pricing.UnitOnce, dec("1"), dec("-81.023387096774"))
	add(pricing.Charge{ID: pricing.FeeChargeID, Description: "Platform fee, 3 % of the provider's price"}, invoice.LineFee, "", string(c), dec("614.43"), dec("18.4329"))
	return all
}

// invoice makes one with taxes by the given treatments, which take the lines in turn.
func (b *books) invoice(id string, c domain.Currency, treatments []tax.Treatment, change func(*invoice.Line)) invoice.State {
	i := invoice.State{State: invoice.StateIssued, Content: invoice.Content{InvoiceID: id, Number: "CB-" + id, CustomerID: "org_acme", BillingAccountID: "bac_1",
		PeriodStart: march, PeriodEnd: april, Currency: c, LogPosition: 1234, RunID: "run_1", PurchaseOrder: "PO-7", At: april, Lines: b.lines(id, c, change)}}
	total, taxable := int64(0), make(map[string]int64)
	for n := range i.Lines {
		if len(treatments) > 0 {
			i.Lines[n].TaxCategory = treatments[n%len(treatments)].Category
		}
		total += i.Lines[n].Amount.Minor
		taxable[i.Lines[n].TaxCategory] += i.Lines[n].Amount.Minor
	}
	for _, t := range treatments {
		s, err := t.Of(domain.Money{Minor: taxable[t.Category], Currency: c})
		if err != nil {
			b.t.Fatal(err)
		}
		i.Taxes = append(i.Taxes, s)
		total += s.Tax.Minor
	}
	i.Total = domain.Money{Minor: total, Currency: c}
	return i
}

// write writes every case.
func (b *books) write(w focus.Writer) {
	b.t.Helper()
	standard := tax.Treatment{Category: taxrate.CategoryStandard, Country: "NL", Percent: dec("21"), Version: 2}
	reverse := tax.Treatment{Category: taxrate.CategoryReverseCharge, Country: "DE", Percent: dec("0"), Reason: "Reverse charge"}
	invoices := []invoice.State{
		b.invoice("inv_usd", "USD", []tax.Treatment{standard, reverse}, nil),
		b.invoice("inv_jpy", "JPY", []tax.Treatment{standard}, nil),
		b.invoice("inv_bhd", "BHD", nil, nil),
		// Late readings made the month before dearer, and cheaper.
		b.invoice("inv_late", "USD", []tax.Treatment{standard}, func(l *invoice.Line) {
			if l.ChargeID == pricing.CreditChargeID { // stands as it was settled
				return
			}
			l.Adjusts = &invoice.Adjustment{PeriodStart: february, PeriodEnd: march, Billed: domain.Money{Minor: 100, Currency: "USD"}}
			if l.Number%2 == 0 {
				l.Exact, l.Amount = "-"+l.Exact, l.Amount.Neg()
			}
		}),
		// The plan is in yen.
		b.invoice("inv_converted", "USD", nil, func(l *invoice.Line) {
			exact := dec(l.Exact[:min(len(l.Exact), 15)])
			l.QuoteID = "quo_JPY"
			l.Converted = &invoice.Conversion{Amount: exact.String(), Currency: "JPY", Rate: dec("0.0066123"), RateVersion: 7}
			l.Exact = exact.Mul(dec("0.0066123")).String()
			l.Amount, _ = domain.RoundMoney(exact.Mul(dec("0.0066123")), "USD")
		}),
		// A change on the 11th splits the month, and nothing is known of the quote, the listing or the account.
		b.invoice("inv_unknown", "USD", nil, func(l *invoice.Line) {
			from := march.AddDate(0, 0, 10)
			l.QuoteID, l.ProviderID, l.From, l.To = "quo_none", "org_none", &from, &april
		}),
	}
	void := b.invoice("inv_void", "USD", nil, nil)
	void.State = invoice.StateVoid
	for _, i := range append(invoices, void) {
		if i.State != invoice.StateVoid {
			b.numbers[i.Number] = i.Total.Minor
		}
		if err := b.book.Invoice(i, w.Write); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, i := range invoices[:2] { // refunds of half of every line
		c := creditnote.State{Content: creditnote.Content{CreditNoteID: "crn_" + i.InvoiceID, Number: "CN-" + i.InvoiceID, InvoiceID: i.InvoiceID, CustomerID: i.CustomerID,
			BillingAccountID: i.BillingAccountID, Reason: "-Outage", PeriodStart: i.PeriodStart, PeriodEnd: i.PeriodEnd, Currency: i.Currency, At: may.Add(time.Hour)}}
		total, taxable := int64(0), make(map[string]int64)
		for _, l := range i.Lines {
			amount := domain.Money{Minor: l.Amount.Minor / 2, Currency: i.Currency}
			c.Lines = append(c.Lines, creditnote.Line{Number: len(c.Lines) + 1, InvoiceLine: l.Number, ItemID: l.ItemID, Kind: l.Kind, Amount: amount, TaxCategory: l.TaxCategory})
			if l.Kind == invoice.LinePassthrough {
				b.book.Items[focus.Item{DocumentID: c.CreditNoteID, ItemID: l.ItemID}] = focus.Settled{SettlementID: "set_1", Amount: amount.Neg()}
			}
			total += amount.Minor
			taxable[l.TaxCategory] += amount.Minor
		}
		for _, t := range i.Taxes {
			s, err := t.Treatment.Of(domain.Money{Minor: taxable[t.Category], Currency: i.Currency})
			if err != nil {
				b.t.Fatal(err)
			}
			c.Taxes = append(c.Taxes, s)
			total += s.Tax.Minor
		}
		b.numbers[c.Number] = -total
		if err := b.book.CreditNote(c, i, w.Write); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// exported returns every case as CSV and as Parquet.
func exported(t *testing.T) (b *books, csv, parquet []byte) {
	t.Helper()
	b = newBooks(t)
	var text, binary bytes.Buffer
	b.write(focus.NewCSV(&text))
	b.write(focus.NewParquet(&binary))
	return b, text.Bytes(), binary.Bytes()
}
