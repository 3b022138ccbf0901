package billing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/billingrun"
	"crossbill/domain/creditnote"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/domain/numberseries"
	"crossbill/domain/pricing"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
	"crossbill/events"
)

func creditRequest(n int, invoiceID string, lines ...CreditLine) CreditRequest {
	return CreditRequest{
		CreditNoteID: id(domain.PrefixCreditNote, n), InvoiceID: invoiceID, Reason: "Outage", Everything: len(lines) == 0, Lines: lines, At: afterward,
		Metadata: events.Metadata{Actor: "operator"},
	}
}

func (w *world) credit(r CreditRequest) CreditResult {
	w.t.Helper()
	result, err := Credit(context.Background(), w, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *world) invoiceState(id string) invoice.State {
	w.t.Helper()
	s, _, err := load(context.Background(), w, invoice.Stream(id), maxPosition, invoice.Evolve)
	must(w.t, err)
	return s
}

func (w *world) settlementState(id string) settlement.State {
	w.t.Helper()
	s, _, err := load(context.Background(), w, settlement.Stream(id), maxPosition, settlement.Evolve)
	must(w.t, err)
	return s
}

// checkLeft holds the whole log to what must be true of it after credits: no margin in what is left, and no gaps between the
// numbers of invoices and of each series.
func (w *world) checkLeft() {
	w.t.Helper()
	invoices, settlements := w.books()
	var billed []invoice.State
	for n, i := range invoices {
		if want := fmt.Sprintf("CB-2026-%06d", n+1); i.Number != want {
			w.t.Errorf("the number after %d invoices is %s, not %s", n, i.Number, want)
		}
		billed = append(billed, w.invoiceState(i.InvoiceID))
	}
	var owed []settlement.State
	for _, s := range settlements {
		owed = append(owed, w.settlementState(s.SettlementID))
	}
	if err := CheckNoMarginLeft(billed, owed); err != nil {
		w.t.Error(err)
	}
	for _, series := range []string{numberseries.CreditNotes, numberseries.SelfBilled, numberseries.SelfCredits} {
		err := scan(w.t.Context(), w, numberseries.Stream(Issuer, series), 1, maxVersion, maxPosition, func(e events.Recorded) error {
			if got := e.Event.(numberseries.Taken).Number; got != e.Version {
				w.t.Errorf("number %d of %s stands at %d", got, series, e.Version)
			}
			return nil
		})
		must(w.t, err)
	}
}

// TestExampleCCredit is the second half of the rebill document's worked example C, digit for digit.
func TestExampleCCredit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := exampleA()
	w.sell(s)
	w.meterA()
	run := w.run(request(march))
	r := creditRequest(1, run.Invoices[0], CreditLine{Line: 1, Fraction: domain.MustDecimal("0.5")})
	note := w.credit(r).CreditNote
	got := ""
	for _, l := range note.Lines {
		got += fmt.Sprintf("%s %d %s %s: %s\n", l.Kind, l.InvoiceLine, l.Exact, l.Amount, strings.Join(l.Steps, "; "))
	}
	if want := "passthrough 1 135.485 135.49 USD: 270.97 × 0.5 = 135.485\nfee 3 4.0647 4.06 USD: 18.4329 × 135.49 ÷ 614.43 = 4.0647\n"; got != want {
		t.Errorf("the credit note is\n%swant\n%s", got, want)
	}
	if note.Number != "CN-2026-000001" || note.Passthrough != usd(135_49) || note.Fee != usd(4_06) || note.Total != usd(139_55) || note.InvoiceNumber != "CB-2026-000001" {
		t.Errorf("the credit note is %+v", note)
	}
	i, settled := w.invoiceState(run.Invoices[0]), w.settlementState(run.Settlements[0])
	if i.Due() != usd(632_86-139_55) || settled.Owed() != usd(614_43-135_49) || settled.Credits[0].Number != "SC-2026-000001" {
		t.Errorf("%s is due, %s is owed", i.Due(), settled.Owed())
	}
	if head := w.head(); w.credit(r).CreditNote.Number != note.Number || w.head() != head {
		t.Error("the same again made another")
	}
	for _, at := range []string{creditnote.Stream(note.CreditNoteID), settlement.Stream(run.Settlements[0]), invoice.Stream(run.Invoices[0])} {
		page, err := w.ReadStream(t.Context(), at, 0, 9)
		must(t, err)
		want := id(domain.PrefixOrganisation, "customer")
		if strings.HasPrefix(at, "settlement") {
			want = id(domain.PrefixOrganisation, "provider")
		}
		if p := page[len(page)-1].Metadata.Parties; len(p) != 1 || p[0] != want {
			t.Errorf("%s is for %v", at, p)
		}
	}

	// The rest leaves nothing, and of nothing there is nothing to credit.
	rest := w.credit(creditRequest(2, run.Invoices[0])).CreditNote
	if rest.Fee != usd(18_43-4_06) || rest.Passthrough != usd(614_43-135_49) {
		t.Errorf("the rest is %s and %s", rest.Passthrough, rest.Fee)
	}
	if i, settled := w.invoiceState(run.Invoices[0]), w.settlementState(run.Settlements[0]); i.Due() != usd(0) || settled.Owed() != usd(0) {
		t.Errorf("%s is due, %s is owed", i.Due(), settled.Owed())
	}
	if _, err := Credit(t.Context(), w, creditRequest(3, run.Invoices[0])); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a credit of nothing: %v", err)
	}
	w.checkLeft()

	// An adjustment of March that comes in April is credited with its own fee.
	w.meter(w.reading(s.id(), date(2026, 3, 30), date(2026, 3, 31), 1_000_000_000_000, 0))
	second := w.run(request(april))
	adjusted := w.credit(creditRequest(4, second.Invoices[0], CreditLine{Line: 4, Fraction: domain.MustDecimal("0.5")})).CreditNote
	if adjusted.Passthrough != usd(5_00) || adjusted.Fee != usd(15) || adjusted.Lines[1].InvoiceLine != 5 {
		t.Errorf("half of the adjustment is %+v", adjusted)
	}
	w.checkLeft()
}

// TestCreditRefused: nothing is credited that is not there, and what is refused is not recorded.
func TestCreditRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	w.meterA()
	run := w.run(request(march))
	inv := run.Invoices[0]
	money := func(minor int64, c domain.Currency) *domain.Money { return &domain.Money{Minor: minor, Currency: c} }
	head := w.head()
	for name, test := range map[string]struct {
		request CreditRequest
		code    domain.Code
		field   string
	}{
		"the fee":            {creditRequest(1, inv, CreditLine{Line: 3}), domain.Invalid, "/lines/0/line"},
		"no line":            {creditRequest(1, inv, CreditLine{Line: 4}), domain.Invalid, "/lines/0/line"},
		"twice":              {creditRequest(1, inv, CreditLine{Line: 1}, CreditLine{Line: 1}), domain.Invalid, "/lines/1/line"},
		"too much":           {creditRequest(1, inv, CreditLine{Line: 1, Amount: money(270_98, "USD")}), domain.Invalid, "/lines/0"},
		"less than nothing":  {creditRequest(1, inv, CreditLine{Line: 1, Amount: money(-1, "USD")}), domain.Invalid, "/lines/0"},
		"nothing":            {creditRequest(1, inv, CreditLine{Line: 1, Amount: money(0, "USD")}), domain.Invalid, "/lines/0"},
		"another currency":   {creditRequest(1, inv, CreditLine{Line: 1, Amount: money(1, "EUR")}), domain.Invalid, "/lines/0/amount/currency"},
		"more than a whole":  {creditRequest(1, inv, CreditLine{Line: 1, Fraction: domain.MustDecimal("1.1")}), domain.Invalid, "/lines/0/fraction"},
		"an unknown invoice": {creditRequest(1, id(domain.PrefixInvoice, "x")), domain.NotFound, ""},
		"no id":              {CreditRequest{InvoiceID: inv}, domain.Invalid, ""},
		"twice said":         {creditRequest(1, inv, CreditLine{Line: 1, Amount: money(1, "USD"), Fraction: domain.MustDecimal("0.5")}), domain.Invalid, "/lines/0/fraction"},
		"all and some":       {with(creditRequest(1, inv, CreditLine{Line: 1}), func(r *CreditRequest) { r.Everything = true }), domain.Invalid, "/lines"},
		"neither":            {with(creditRequest(1, inv), func(r *CreditRequest) { r.Everything = false }), domain.Invalid, "/lines"},
	} {
		_, err := Credit(t.Context(), w, test.request)
		if domain.CodeOf(err) != test.code || test.field != "" && err.(*domain.Error).Fields[0].Pointer != test.field {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.head() != head {
		t.Error("what was refused is in the log")
	}
}

// TestConcurrentCredits: notes that come at once take no more off than there is, and none takes another's number.
func TestConcurrentCredits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	w.meterA()
	run := w.run(request(march))
	var running sync.WaitGroup
	var refused sync.Map
	for n := range 5 {
		running.Go(func() {
			_, err := Credit(context.Background(), w, creditRequest(n, run.Invoices[0], CreditLine{Line: 1, Amount: &domain.Money{Minor: 60_00, Currency: "USD"}}))
			if domain.CodeOf(err) == domain.Invalid {
				refused.Store(n, err)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	n := 0
	refused.Range(func(any, any) bool { n++; return true })
	if i := w.invoiceState(run.Invoices[0]); n != 1 || i.ByLine[1] != usd(240_00) { // of 270.97
		t.Errorf("%d were refused and %s is credited", n, i.ByLine[1])
	}
	w.checkLeft()
}

// TestCreditsInAnyOrder credits random invoices, taxed and with adjustments of both signs, at random: never more than there
// is, and all of it leaves exactly nothing of any line, of the tax and of the settlement.
func TestCreditsInAnyOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 11))
		i, s := randomBooks(r)
		if i.Total.Minor <= 0 {
			continue
		}
		for n := 0; i.Credited.Minor < i.Total.Minor; n++ {
			request := creditRequest(n, i.InvoiceID)
			if n < 12 {
				l := i.Lines[r.IntN(len(i.Lines))]
				left := leftOf(i, l)
				line := CreditLine{Line: l.Number}
				switch r.IntN(4) {
				case 0:
					line.Fraction = domain.MustDecimal(fmt.Sprintf("0.%03d", 1+r.IntN(999)))
				case 1, 2:
					amount := left
					if left.Minor != 0 {
						amount.Minor = left.Minor / (1 + r.Int64N(5))
					}
					line.Amount = &amount
				}
				request.Lines, request.Everything = []CreditLine{line}, false
			}
			note, err := request.note(i)
			if err != nil && n < 12 {
				if code := domain.CodeOf(err); code != domain.Invalid && code != domain.Conflict {
					t.Fatalf("seed %d: %v", seed, err)
				}
				continue
			}
			must(t, err)
			note.Number, note.Settlements = "CN-1", []string{s.SettlementID}
			credit := invoice.Credit{CreditNoteID: note.CreditNoteID, Number: note.Number, Total: note.Total, At: note.At}
			var lines []settlement.CreditedLine
			for _, l := range note.Lines {
				credit.Lines = append(credit.Lines, invoice.CreditedLine{Line: l.InvoiceLine, Amount: l.Amount})
				if l.Kind == invoice.LinePassthrough {
					lines = append(lines, settlement.CreditedLine{ItemID: l.ItemID, Amount: l.Amount})
				}
			}
			credited, err := invoice.Decide(i, credit)
			if domain.CodeOf(err) == domain.Invalid && n < 12 { // more than is left of the whole, or nothing: a negative adjustment is in the way
				continue
			}
			if err != nil {
				t.Fatalf("seed %d: %v of %+v", seed, err, note)
			}
			_, err = creditnote.Decide(creditnote.State{}, creditnote.Issue{CreditNote: note})
			must(t, err)
			i = evolveAll(i, invoice.Evolve, credited)
			checkFeesOff(t, seed, i)
			if len(lines) > 0 {
				back := settlement.Credited{CreditNoteID: note.CreditNoteID, Number: "SC-1", Reason: "Outage", Lines: lines, Total: note.Passthrough, At: note.At}
				back.Taxes, back.Tax, err = taxOffSettlement(s, lines)
				must(t, err)
				fallen, err := settlement.Decide(s, settlement.Credit{Credit: back})
				if err != nil {
					t.Fatalf("seed %d: %v of %+v", seed, err, back)
				}
				s = evolveAll(s, settlement.Evolve, fallen)
			}
			if err := CheckNoMarginLeft([]invoice.State{i}, []settlement.State{s}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for _, l := range i.Lines {
			if leftOf(i, l).Minor != 0 {
				t.Errorf("seed %d: %s is left of line %d", seed, leftOf(i, l), l.Number)
			}
		}
		if i.Due().Minor != 0 || s.Owed().Minor != 0 || s.TaxBack.Minor != s.Tax.Minor {
			t.Errorf("seed %d: %s is due and %s owed", seed, i.Due(), s.Owed())
		}
	}
}

func with[T any](one T, change func(*T)) T {
	change(&one)
	return one
}

// checkFeesOff holds what is taken off fees by now to fee × passthrough taken off ÷ passthrough, rounded once, however many
// notes took it off; where adjustments have both signs, to no more than the fee.
func checkFeesOff(t *testing.T, seed uint64, i invoice.State) {
	t.Helper()
	for _, fee := range i.Lines {
		if fee.Kind != invoice.LineFee {
			continue
		}
		of, off, negative := usd(0), usd(0), false
		for _, l := range i.Lines {
			if l.Kind == invoice.LinePassthrough && l.ConnectionID == fee.ConnectionID && (l.Adjusts == nil) == (fee.Adjusts == nil) {
				of.Minor, off.Minor, negative = of.Minor+l.Amount.Minor, off.Minor+i.ByLine[l.Number].Minor, negative || l.Amount.Minor < 0
			}
		}
		got := i.ByLine[fee.Number]
		if got.Minor*fee.Amount.Minor < 0 || got.Minor*got.Minor > fee.Amount.Minor*fee.Amount.Minor {
			t.Fatalf("seed %d: of a fee of %s %s is credited", seed, fee.Amount, got)
		}
		if negative || of.Minor == 0 {
			continue
		}
		want, err := domain.RoundMoney(domain.MustDecimal(fee.Exact).Mul(off.Decimal()).Quo(of.Decimal()), "USD")
		if err != nil || got.Minor != want.Minor {
			t.Fatalf("seed %d: %s of %s is credited, and of its fee of %s %s, not %s (%v)", seed, off, of, fee.Exact, got, want, err)
		}
	}
}

// TestCreditOfOddFees: a fee on adjustments of both signs gives back no more than it is, and nothing of it is charged again; a
// floor on no passthrough comes back with everything.
func TestCreditOfOddFees(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		passthrough []int64
		fee         string
		lines       []CreditLine // nil: everything
		want        int64        // of the fee
	}{
		"more than its sum":   {[]int64{100_00, -90_00}, "0.3", []CreditLine{{Line: 1}}, 30},
		"a negative part":     {[]int64{100_00, -90_00}, "0.3", []CreditLine{{Line: 2}}, 0},
		"a floor on nothing":  {[]int64{0}, "5", nil, 5_00},
		"a floor, one of two": {[]int64{40_00, 60_00}, "5", []CreditLine{{Line: 1}}, 2_00},
	} {
		con := id(domain.PrefixConnection, "odd")
		i := invoice.State{Content: invoice.Content{InvoiceID: id(domain.PrefixInvoice, "odd"), Number: "CB-1", Currency: "USD"}, State: invoice.StateIssued}
		for n, minor := range test.passthrough {
			i.Lines = append(i.Lines, invoice.Line{Number: n + 1, Kind: invoice.LinePassthrough, ConnectionID: con, Exact: usd(minor).Amount(), Amount: usd(minor)})
		}
		fee, err := domain.RoundMoney(domain.MustDecimal(test.fee), "USD")
		must(t, err)
		i.Lines = append(i.Lines, invoice.Line{Number: len(i.Lines) + 1, Kind: invoice.LineFee, ConnectionID: con, Exact: test.fee, Amount: fee})
		note, err := creditRequest(1, i.InvoiceID, test.lines...).note(i)
		if err != nil || note.Fee != usd(test.want) {
			t.Errorf("%s: %s of the fee comes back, not %s (%v)", name, note.Fee, usd(test.want), err)
		}
	}
}

// TestCreditAmongOthers: two customers are on one settlement, and what is credited or void of one is nothing of the other's. An
// invoice of adjustments alone can be credited too.
func TestCreditAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := exampleA(), exampleA()
	b.name, b.customer, a.to = "b", "other", date(2026, 3, 31)
	w.sell(a, b)
	run := w.run(request(march))
	if len(run.Invoices) != 2 || len(run.Settlements) != 1 {
		t.Fatalf("the run made %d invoices and %d settlements", len(run.Invoices), len(run.Settlements))
	}
	r := creditRequest(1, run.Invoices[0], CreditLine{Line: 1, Amount: &domain.Money{Minor: 1_00, Currency: "USD"}})
	w.credit(r)
	if _, err := Credit(t.Context(), w, with(r, func(r *CreditRequest) { r.Reason = "Another" })); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("another note under the same id: %v", err)
	}
	w.checkLeft()
	_, err := Void(t.Context(), w, VoidRequest{InvoiceID: run.Invoices[1], Reason: "test", At: afterward})
	must(t, err)
	w.checkLeft()
	first, void := w.invoiceState(run.Invoices[0]), w.invoiceState(run.Invoices[1])
	if want := first.Passthrough.Minor - 1_00; void.State != invoice.StateVoid || first.State != invoice.StateIssued || w.settlementState(run.Settlements[0]).Owed() != usd(want) {
		t.Errorf("%s is owed, not %s", w.settlementState(run.Settlements[0]).Owed(), usd(want))
	}

	w.meter(w.reading(a.id(), date(2026, 3, 29), date(2026, 3, 30), 1_000_000_000_000, 0))
	for _, one := range w.run(request(april)).Invoices {
		i := w.invoice(one)
		if i.Lines[0].Adjusts == nil {
			continue
		}
		if note := w.credit(creditRequest(2, one)).CreditNote; note.Passthrough != i.Passthrough || note.Fee != i.Fee || len(note.Settlements) != 1 {
			t.Errorf("all of the adjustments is %+v", note)
		}
		w.checkLeft()
		return
	}
	t.Error("no invoice is of adjustments alone")
}

// TestCorrectionOfBooksThatDisagree: where the settlement is not what the invoice says, or none is known, nothing is corrected.
func TestCorrectionOfBooksThatDisagree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	run := w.run(request(march))
	head := w.head()
	for name, change := range map[string]func(*events.Recorded){
		"a cent more is settled": func(e *events.Recorded) {
			if s, ok := e.Event.(settlement.Issued); ok {
				s.Lines = slices.Clone(s.Lines)
				s.Lines[0].Amount.Minor++
				s.Total.Minor++
				e.Event = s
			}
		},
		"on no settlement": func(e *events.Recorded) {
			if p, ok := e.Event.(billingrun.PeriodClosed); ok {
				p.SettlementID = ""
				e.Event = p
			}
		},
	} {
		log := tampering{w, change}
		_, credited := Credit(t.Context(), log, creditRequest(1, run.Invoices[0], CreditLine{Line: 1, Amount: &domain.Money{Minor: 1, Currency: "USD"}}))
		_, voided := Void(t.Context(), log, VoidRequest{InvoiceID: run.Invoices[0], Reason: "test", At: afterward})
		if domain.CodeOf(credited) != domain.Internal || domain.CodeOf(voided) != domain.Internal || w.head() != head {
			t.Errorf("%s: credited (%v), void (%v)", name, credited, voided)
		}
	}
}

func evolveAll[S any](s S, evolve func(S, domain.Event) S, all []domain.Event) S {
	for _, e := range all {
		s = evolve(s, e)
	}
	return s
}

// randomBooks makes an invoice of some connections and periods, and its settlement.
func randomBooks(r *rand.Rand) (invoice.State, settlement.State) {
	standard := tax.Treatment{Category: taxrate.CategoryStandard, Country: "NL", Percent: domain.MustDecimal([]string{"0", "21", "7.7", "19.25"}[r.IntN(4)])}
	category := ""
	taxed := r.IntN(3) > 0
	if taxed {
		category = standard.Category
	}
	i := invoice.Issued{InvoiceID: id(domain.PrefixInvoice, "random"), Number: "CB-1", CustomerID: id(domain.PrefixOrganisation, "x"), PeriodStart: march.From,
		PeriodEnd: march.To, Currency: "USD", Passthrough: usd(0), Fee: usd(0)}
	s := settlement.Issued{SettlementID: id(domain.PrefixSettlement, "random"), ProviderID: id(domain.PrefixOrganisation, "p"), Currency: "USD", Total: usd(0)}
	add := func(con, kind string, exact domain.Decimal, adjusts *invoice.Adjustment) int64 {
		amount, err := domain.RoundMoney(exact, "USD")
		if err != nil {
			panic(err)
		}
		l := invoice.Line{Number: len(i.Lines) + 1, ItemID: fmt.Sprint("item", len(i.Lines)), Kind: kind, ProviderID: s.ProviderID, ConnectionID: con, ChargeID: "c",
			Description: "d", Exact: exact.String(), Amount: amount, Adjusts: adjusts, TaxCategory: category}
		i.Lines = append(i.Lines, l)
		if kind == invoice.LineFee {
			i.Fee.Minor += amount.Minor
			return amount.Minor
		}
		i.Passthrough.Minor += amount.Minor
		s.Lines = append(s.Lines, settlement.Line{ItemID: l.ItemID, InvoiceID: i.InvoiceID, ConnectionID: con, ChargeID: "c", Amount: amount, TaxCategory: category})
		return amount.Minor
	}
	for c := range 1 + r.IntN(3) {
		con := id(domain.PrefixConnection, c)
		for p := range 1 + r.IntN(2) {
			var adjusts *invoice.Adjustment
			if p > 0 {
				adjusts = &invoice.Adjustment{PeriodStart: march.From.AddDate(0, -1, 0), PeriodEnd: march.From}
			}
			sum := int64(0)
			for range 1 + r.IntN(3) {
				amount := r.Int64N(1_000_000)
				if p > 0 && r.IntN(2) == 0 {
					amount = -amount / 100
				}
				sum += add(con, invoice.LinePassthrough, domain.DecimalFromInt(amount).Quo(domain.DecimalFromInt(1000)), adjusts)
			}
			add(con, invoice.LineFee, usd(sum).Decimal().Mul(domain.MustDecimal("0.0333")), adjusts)
		}
	}
	i.Total, s.Total = usd(i.Passthrough.Minor+i.Fee.Minor), usd(i.Passthrough.Minor)
	if taxed {
		t, err := standard.Of(i.Total)
		if err != nil {
			panic(err)
		}
		own, err := standard.Of(s.Total)
		if err != nil {
			panic(err)
		}
		i.Taxes, i.Tax, s.Taxes, s.Tax = []tax.Subtotal{t}, t.Tax, []tax.Subtotal{own}, own.Tax
		i.Total.Minor += t.Tax.Minor
	}
	return invoice.Evolve(invoice.State{}, i), settlement.Evolve(settlement.State{}, s)
}

// TestVoidAndBillAgain: a void invoice is billed again, once, with a new number, and names it; the provider is owed the same.
func TestVoidAndBillAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := exampleA()
	w.sell(s)
	w.meterA()
	first := w.run(request(march))
	w.meter(w.reading(s.id(), date(2026, 3, 30), date(2026, 3, 31), 1_000_000_000_000, 0))
	second := w.run(request(april)) // with an adjustment of March
	void := func(id, reason string) (VoidResult, error) {
		return Void(t.Context(), w, VoidRequest{InvoiceID: id, Reason: reason, At: afterward, Metadata: events.Metadata{Actor: "operator"}})
	}
	if _, err := void(first.Invoices[0], "wrong address"); domain.CodeOf(err) != domain.Conflict || !strings.Contains(err.Error(), second.Invoices[0]) {
		t.Errorf("what was adjusted is void: %v", err)
	}
	result, err := void(second.Invoices[0], "wrong address")
	must(t, err)
	if result.Invoice.State != invoice.StateVoid || len(result.Connections) != 1 || w.settlementState(second.Settlements[0]).Owed() != usd(0) {
		t.Errorf("it is %+v", result)
	}
	w.checkLeft()
	head := w.head()
	if again, err := void(second.Invoices[0], "wrong address"); err != nil || again.Invoice.State != invoice.StateVoid || w.head() != head {
		t.Errorf("void again: %v", err)
	}
	third := w.run(request(april))
	before, after := invoice.Issued(result.Invoice.Content), w.invoice(third.Invoices[0])
	if len(third.Invoices) != 1 || after.Reissue != before.InvoiceID || after.Number != "CB-2026-000003" || after.Total != before.Total || len(after.Lines) != len(before.Lines) {
		t.Fatalf("billed again it is %+v", after)
	}
	for n := range before.Lines {
		if a, b := before.Lines[n], after.Lines[n]; a.ItemID != b.ItemID || a.Amount != b.Amount || a.Exact != b.Exact {
			t.Errorf("line %d was %+v and is %+v", n+1, a, b)
		}
	}
	w.checkEvery(after)
	w.checkEvery(before)
	w.checkLeft()
	if again := w.run(request(april)); again.Issued != 0 {
		t.Errorf("billed a third time: %+v", again)
	}
	may := request(Period{From: april.To, To: date(2026, 6, 1)})
	may.At = date(2026, 6, 3)
	if next := w.invoice(w.run(may).Invoices[0]); next.Reissue != "" {
		t.Errorf("May's invoice comes in the place of %s", next.Reissue)
	}

	// A credited invoice is corrected by credit notes.
	w.credit(creditRequest(1, third.Invoices[0], CreditLine{Line: 1, Amount: &domain.Money{Minor: 1, Currency: "USD"}}))
	if _, err := void(third.Invoices[0], "wrong address"); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a credited invoice is void: %v", err)
	}
	if _, err := Credit(t.Context(), w, creditRequest(2, second.Invoices[0])); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a void invoice is credited: %v", err)
	}
	w.checkLeft()
}

// TestVoidGivesTheFreeTierBack: what a void invoice used of the fee's free tier, the next one has.
func TestVoidGivesTheFreeTierBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := []sold{freeSold(0, "x"), freeSold(1, "x"), freeSold(2, "x")}
	w.sellFree(pricing.FeeTerms{FreeConnections: 1}, all...)
	billed := make([]string, len(all))
	for n, s := range all {
		r := request(march)
		r.ConnectionIDs = []string{s.id()}
		billed[n] = w.run(r).Invoices[0]
	}
	_, err := Void(t.Context(), w, VoidRequest{InvoiceID: billed[0], Reason: "test", At: afterward})
	must(t, err)
	again := w.invoice(w.run(request(march)).Invoices[0])
	if again.Fee != usd(12_00) || again.FreeBefore.Connections != 2 { // the two that stand come first now
		t.Errorf("the invoice in its place has a fee of %s after %+v", again.Fee, again.FreeBefore)
	}
	for _, id := range billed[1:] {
		_, err := Void(t.Context(), w, VoidRequest{InvoiceID: id, Reason: "test", At: afterward})
		must(t, err)
	}
	_, err = Void(t.Context(), w, VoidRequest{InvoiceID: again.InvoiceID, Reason: "test", At: afterward.Add(time.Minute)})
	must(t, err)
	last := w.invoice(w.run(request(march)).Invoices[0])
	if last.Fee != usd(24_00) || last.FreeBefore.Connections != 0 || last.Reissue != again.InvoiceID {
		t.Errorf("all again have a fee of %s after %+v and come in the place of %s", last.Fee, last.FreeBefore, last.Reissue)
	}
	invoices, _ := w.books()
	for _, i := range invoices {
		w.checkEvery(i)
	}
	w.checkLeft()
	state, _, err := load(t.Context(), w, feeallowance.Stream(id(domain.PrefixOrganisation, "x")), maxPosition, feeallowance.Evolve)
	if err != nil || len(state.Released) != 4 || len(state.Used) != 5 {
		t.Errorf("%+v (%v)", state, err)
	}
	periods, _, err := load(t.Context(), w, billingrun.PeriodStream(all[0].id()), maxPosition, billingrun.EvolvePeriod)
	if err != nil || len(periods.Reopened) != 0 || len(periods.Closed) != 1 {
		t.Errorf("%+v (%v)", periods, err)
	}
}
