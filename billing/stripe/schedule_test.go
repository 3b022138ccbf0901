package stripe

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79/webhook"

	"crossbill/billing/stripe/stripefake"
	"crossbill/domain"
	"crossbill/domain/creditnote"
	"crossbill/domain/invoice"
	"crossbill/domain/organisation"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/settlement"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
)

const webhookSecret = "whsec_test"

var began = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)

// world is a Stripe, a log with invoices and settlements, and what moves money between the two.
type world struct {
	t    testing.TB
	rand *rand.Rand
	fake *stripefake.Server
	log  Log
	*Mover
	clock       time.Time
	faults      atomic.Int64 // in a thousand requests
	invoices    []string
	settlements []string
	providers   []string
	queue       []stripefake.Event
	notes       int
	story       []string
	currency    domain.Currency
}

func testID(prefix string, n int) string { return fmt.Sprintf("%s_%026d", prefix, n) }

func cents(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

// money is an amount in the world's currency.
func (w *world) money(minor int64) domain.Money {
	return domain.Money{Minor: minor, Currency: w.currency}
}

// least is the smallest amount that Stripe moves in the world's currency.
func (w *world) least() int64 {
	if w.currency.Digits() == 3 {
		return lastDigitZero
	}
	return 1
}

// newWorld makes a world of some customers, providers and invoices. The same seed makes the same world.
func newWorld(t testing.TB, log Log, seed uint64) *world {
	t.Helper()
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 7)), fake: stripefake.New(), log: log, clock: began.Add(time.Hour), currency: "USD"}
	t.Cleanup(w.fake.Close)
	w.fake.Now = func() time.Time { return w.clock }
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(seed, 8)) // of its own: the server asks for it
	w.fake.Fail = func(method, _ string) stripefake.Fault {
		mu.Lock()
		defer mu.Unlock()
		faults := int(w.faults.Load())
		if method == http.MethodGet {
			faults /= 4
		}
		if chance.IntN(1000) >= faults {
			return stripefake.None
		}
		return stripefake.Fault(1 + chance.IntN(3))
	}
	var none int64
	client, err := New(Options{Key: "sk_test_1", URL: w.fake.URL, Retries: &none, HTTPClient: &http.Client{
		// net/http itself repeats a request on a connection that was used before and ends: then failures would depend on the time.
		Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.Mover = &Mover{Client: client, Log: log, Now: func() time.Time { return w.clock }, SettlementsOf: w.settlementsOf}
	return w
}

func (w *world) append(streams ...events.StreamAppend) {
	w.t.Helper()
	if _, err := w.log.Append(context.Background(), events.Append{Streams: streams}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stream(name string, all ...domain.Event) events.StreamAppend {
	s := events.StreamAppend{Stream: name, Expected: events.Any}
	for _, e := range all {
		s.Events = append(s.Events, events.NewEvent{Event: e})
	}
	return s
}

// bill issues invoices with lines of random providers, and the providers' settlements.
func (w *world) bill(customers, providers, invoices int) {
	w.t.Helper()
	for n := range customers {
		id := testID(domain.PrefixOrganisation, n+1)
		w.append(w.stream(organisation.Stream(id), organisation.Registered{OrganisationID: id, Name: fmt.Sprintf("Customer %d", n+1)}))
	}
	lines := make([][]settlement.Line, providers)
	var all []events.StreamAppend
	for n := range invoices {
		i := invoice.Issued{InvoiceID: testID(domain.PrefixInvoice, n+1), Number: fmt.Sprintf("CB-%06d", n+1), Currency: w.currency, At: began,
			CustomerID: testID(domain.PrefixOrganisation, 1+w.rand.IntN(customers)), Passthrough: w.money(0), Fee: w.money(0), Total: w.money(0)}
		for l := range 1 + w.rand.IntN(3) {
			p, amount := w.rand.IntN(providers), int64(1000+w.rand.IntN(90_000))
			item := fmt.Sprintf("item-%d-%d", n, l)
			i.Lines = append(i.Lines, invoice.Line{Number: l + 1, ItemID: item, Kind: invoice.LinePassthrough, Amount: w.money(amount), ProviderID: w.provider(p)})
			lines[p] = append(lines[p], settlement.Line{ItemID: item, InvoiceID: i.InvoiceID, Amount: w.money(amount), InvoiceLine: l + 1})
			i.Passthrough.Minor += amount
		}
		i.Fee.Minor = i.Passthrough.Minor * 3 / 100
		i.Fee.Minor += (w.least() - (i.Passthrough.Minor+i.Fee.Minor)%w.least()) % w.least() // or it could not be paid
		i.Lines = append(i.Lines, invoice.Line{Number: len(i.Lines) + 1, ItemID: fmt.Sprintf("fee-%d", n), Kind: invoice.LineFee, Amount: i.Fee})
		i.Total.Minor = i.Passthrough.Minor + i.Fee.Minor
		w.invoices = append(w.invoices, i.InvoiceID)
		all = append(all, w.stream(invoice.Stream(i.InvoiceID), i))
	}
	for p, its := range lines {
		w.providers = append(w.providers, w.provider(p))
		if len(its) == 0 {
			continue
		}
		s := settlement.Issued{SettlementID: testID(domain.PrefixSettlement, p+1), ProviderID: w.provider(p), Currency: w.currency, Lines: its, Total: w.money(0), At: began}
		for _, l := range its {
			s.Total.Minor += l.Amount.Minor
		}
		w.settlements = append(w.settlements, s.SettlementID)
		all = append(all, w.stream(settlement.Stream(s.SettlementID), s))
	}
	w.append(all...)
}

func (w *world) provider(n int) string { return testID(domain.PrefixOrganisation, 100+n) }

func (w *world) settlementsOf(ctx context.Context, invoiceID string) (ids []string, _ error) {
	for _, id := range w.settlements {
		s := w.settlement(id)
		if slices.ContainsFunc(s.Lines, func(l settlement.Line) bool { return l.InvoiceID == invoiceID }) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (w *world) settlement(id string) settlement.State {
	s, _, err := load(context.Background(), w.log, settlement.Stream(id), settlement.Evolve)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) invoice(id string) (invoice.State, int64) {
	i, version, err := load(context.Background(), w.log, invoice.Stream(id), invoice.Evolve)
	if err != nil {
		w.t.Fatal(err)
	}
	return i, version
}

// credit takes a random part off a random line that is left, and off its provider's settlement. whole: all of all lines.
func (w *world) credit(invoiceID string, whole bool) {
	i, version := w.invoice(invoiceID)
	if i.State == invoice.StateVoid {
		return
	}
	w.notes++
	id := testID(domain.PrefixCreditNote, w.notes)
	number := fmt.Sprintf("CN-%d", w.notes)
	note := creditnote.Issued{CreditNoteID: id, Number: number, InvoiceID: invoiceID, InvoiceNumber: i.Number, CustomerID: i.CustomerID, Currency: w.currency, Passthrough: w.money(0), Fee: w.money(0), Total: w.money(0), At: w.clock}
	credit := invoice.Credit{CreditNoteID: id, Number: number, At: w.clock, Total: w.money(0)}
	one := 1 + w.rand.IntN(len(i.Lines))
	back := make(map[string][]settlement.CreditedLine)
	for _, l := range i.Lines {
		left := l.Amount.Minor - i.ByLine[l.Number].Minor
		if left <= 0 || !whole && l.Number != one {
			continue
		}
		part := left
		if !whole {
			part = 1 + w.rand.Int64N(left)
		}
		credit.Lines = append(credit.Lines, invoice.CreditedLine{Line: l.Number, Amount: w.money(part)})
		credit.Total.Minor += part
		note.Lines = append(note.Lines, creditnote.Line{Number: len(note.Lines) + 1, InvoiceLine: l.Number, ItemID: l.ItemID, Kind: l.Kind, ProviderID: l.ProviderID, Amount: w.money(part)})
		if l.Kind == invoice.LinePassthrough {
			back[l.ProviderID] = append(back[l.ProviderID], settlement.CreditedLine{ItemID: l.ItemID, Amount: w.money(part)})
			note.Passthrough.Minor += part
		} else {
			note.Fee.Minor += part
		}
	}
	if credit.Total.Minor == 0 {
		return
	}
	note.Total = credit.Total
	decided, err := invoice.Decide(i, credit)
	if err != nil {
		w.t.Fatal(err)
	}
	streams := []events.StreamAppend{appendTo(invoice.Stream(invoiceID), version, "", nil, decided...), w.stream(creditnote.Stream(id), note)}
	w.append(append(streams, w.creditSettlements(id, "", back)...)...)
	w.tell("credit %s by %s", invoiceID, credit.Total)
}

func (w *world) creditSettlements(creditNoteID, invoiceID string, back map[string][]settlement.CreditedLine) (streams []events.StreamAppend) {
	for _, id := range w.settlements {
		s := w.settlement(id)
		its := back[s.ProviderID]
		if len(its) == 0 {
			continue
		}
		e := settlement.Credited{SettlementID: id, Number: "SC-" + creditNoteID + invoiceID, CreditNoteID: creditNoteID, InvoiceID: invoiceID, Reason: "test", Lines: its, Total: w.money(0), At: w.clock}
		for _, l := range its {
			e.Total.Minor += l.Amount.Minor
		}
		decided, err := settlement.Decide(s, settlement.Credit{Credit: e})
		if err != nil {
			w.t.Fatal(err)
		}
		streams = append(streams, w.stream(settlement.Stream(id), decided...))
	}
	return streams
}

func (w *world) void(invoiceID string) {
	i, version := w.invoice(invoiceID)
	if i.State != invoice.StateIssued || len(i.CreditNotes) > 0 {
		return
	}
	decided, err := invoice.Decide(i, invoice.Void{Reason: "test", At: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	back := make(map[string][]settlement.CreditedLine)
	for _, l := range i.Lines {
		if l.Kind == invoice.LinePassthrough {
			back[l.ProviderID] = append(back[l.ProviderID], settlement.CreditedLine{ItemID: l.ItemID, Amount: l.Amount})
		}
	}
	w.append(append(w.creditSettlements("", invoiceID, back), appendTo(invoice.Stream(invoiceID), version, "", nil, decided...))...)
	w.tell("void %s", invoiceID)
}

func (w *world) tell(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}

// deliver delivers a random webhook of those that wait, and perhaps keeps it for another delivery.
func (w *world) deliver() {
	w.queue = append(w.queue, w.fake.Events()...)
	if len(w.queue) == 0 {
		return
	}
	n := w.rand.IntN(len(w.queue))
	e := w.queue[n]
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: e.Body, Secret: webhookSecret})
	err := w.Webhook(context.Background(), e.Body, signed.Header, webhookSecret)
	w.tell("webhook %s %s: %v", e.ID, e.Type, err)
	if err == nil && w.rand.IntN(5) > 0 { // Stripe repeats what failed, and some of what did not
		w.queue = slices.Delete(w.queue, n, n+1)
	}
	if code := domain.CodeOf(err); err != nil && code != domain.Unavailable && code != domain.Conflict {
		w.t.Errorf("a webhook: %v", err)
	}
}

// pick returns one of all, nil if there are none.
func pick(w *world, all []stripefake.Object) stripefake.Object {
	if len(all) == 0 {
		return nil
	}
	return all[w.rand.IntN(len(all))]
}

// step does something at random, and then holds what must hold at any time.
func (w *world) step() {
	ctx := context.Background()
	id := w.invoices[w.rand.IntN(len(w.invoices))]
	switch w.rand.IntN(16) {
	case 0, 1, 2:
		p, err := w.Collect(ctx, id)
		w.tell("collect %s: %s %v", id, p.Reference, err)
	case 3, 4:
		if o := pick(w, w.fake.All("payment_intent")); o != nil {
			w.tell("pay %s: %t", o["id"], w.fake.Pay(o["id"].(string), 30+w.rand.Int64N(500)))
		}
	case 5:
		if o := pick(w, w.fake.All("payment_intent")); o != nil {
			w.fake.Decline(o["id"].(string))
		}
	case 6, 7:
		w.deliver()
	case 8, 9:
		_, err := w.Advance(ctx, id)
		w.tell("advance %s: %v", id, err)
	case 10:
		w.credit(id, w.rand.IntN(6) == 0)
	case 11:
		if w.rand.IntN(3) == 0 {
			w.void(id)
		}
	case 12:
		org := w.providers[w.rand.IntN(len(w.providers))]
		_, err := w.Connect(ctx, org, "NL", "https://x.example", "https://x.example")
		w.tell("connect %s: %v", org, err)
		if o := pick(w, w.fake.All("account")); o != nil {
			w.fake.Enable(o["id"].(string), w.rand.IntN(3) > 0)
		}
	case 13:
		if o := pick(w, w.fake.All("refund")); o != nil && w.rand.IntN(3) == 0 {
			w.fake.FailRefund(o["id"].(string))
			w.tell("refund %s fails", o["id"])
		}
	case 14:
		if o := pick(w, w.fake.All("dispute")); o != nil && o["status"] == "needs_response" {
			w.fake.CloseDispute(o["id"].(string), []string{"won", "lost"}[w.rand.IntN(2)], 1500)
			w.tell("dispute %s is decided", o["id"])
		} else if o := pick(w, w.fake.All("charge")); o != nil && w.rand.IntN(4) == 0 && o["source_transfer"] == nil && o["disputed"] == nil && o["amount_refunded"].(int64) == 0 {
			w.fake.Dispute(o["payment_intent"].(string), o["amount"].(int64))
			w.tell("dispute of %s", o["payment_intent"])
		}
	case 15:
		w.clock = w.clock.Add([]time.Duration{time.Minute, time.Hour, 13 * time.Hour, 30 * time.Hour}[w.rand.IntN(4)])
		if w.rand.IntN(4) == 0 && len(w.fake.All("account")) > 0 {
			w.fake.PayBank(pick(w, w.fake.All("account"))["id"].(string))
		}
	}
	w.always()
}

// always is what must hold at Stripe at any time.
func (w *world) always() {
	w.t.Helper()
	once := func(kind string, key func(stripefake.Object) string) {
		seen := make(map[string]any)
		for _, o := range w.fake.All(kind) {
			k := key(o)
			if other, twice := seen[k]; twice {
				w.t.Fatalf("%s %v and %v are both %s", kind, other, o["id"], k)
			}
			seen[k] = o["id"]
		}
	}
	label := func(names ...string) func(stripefake.Object) string {
		return func(o stripefake.Object) (k string) {
			for _, name := range names {
				k += fmt.Sprint(o["metadata"].(stripefake.Object)[name], " ")
			}
			return k
		}
	}
	once("payment_intent", label(MetadataPayment))
	once("transfer", label(MetadataPayout))
	once("refund", label(MetadataPayment, MetadataRefund))
	once("transfer_reversal", label(MetadataPayout, MetadataReversal))
	once("account", label(MetadataOrganisation))
	charged := make(map[string]int64)
	for _, o := range w.fake.All("charge") {
		if o["source_transfer"] == nil {
			id := label(MetadataInvoice)(o)
			if charged[id] > 0 {
				w.t.Fatalf("invoice %s was charged twice", id)
			}
			charged[id] = o["amount"].(int64)
		}
	}
	for _, kind := range []string{"payment_intent", "transfer", "refund", "transfer_reversal"} {
		for _, o := range w.fake.All(kind) {
			if o["amount"].(int64)%w.least() != 0 {
				w.t.Fatalf("%s %s is of %d", kind, o["id"], o["amount"])
			}
		}
	}
	moved := make(map[string]int64)
	for _, o := range w.fake.All("transfer") {
		id := label(MetadataInvoice)(o)
		moved[id] += o["amount"].(int64) - o["amount_reversed"].(int64)
		if moved[id] > charged[id] {
			w.t.Fatalf("of invoice %s %d was moved to providers and %d paid", id, moved[id], charged[id])
		}
	}
}

// settle lets everything come to rest: no more failures, every webhook delivered, every dispute decided, every account open.
func (w *world) settle() {
	w.t.Helper()
	ctx := context.Background()
	w.faults.Store(0)
	for _, org := range w.providers {
		if _, err := w.Connect(ctx, org, "NL", "https://x.example", "https://x.example"); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, o := range w.fake.All("account") {
		w.fake.Enable(o["id"].(string), true)
	}
	for _, o := range w.fake.All("dispute") {
		if o["status"] == "needs_response" {
			w.fake.CloseDispute(o["id"].(string), "lost", 1500)
		}
	}
	for quiet := 0; quiet < 2; { // what was refused a moment ago is tried again in the second
		if w.clock.Sub(began) > 300*24*time.Hour {
			w.t.Fatalf("it does not come to rest: %d events", w.size())
		}
		w.queue = append(w.queue, w.fake.Events()...)
		for range 10 * len(w.queue) {
			w.deliver()
		}
		before := w.size()
		for _, id := range w.invoices {
			if _, err := w.Advance(ctx, id); err != nil {
				w.t.Fatalf("advancing %s: %v", id, err)
			}
			w.always()
		}
		w.clock = w.clock.Add(13 * time.Hour)
		w.queue = append(w.queue, w.fake.Events()...)
		if quiet++; w.size() != before || len(w.queue) > 0 {
			quiet = 0
		}
	}
}

func (w *world) size() (n int) {
	for _, category := range []string{"payment", "payout", "invoice"} {
		for after := events.Position(0); ; {
			page, err := w.log.ReadCategory(context.Background(), category, after, pageSize)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			n, after = n+len(page), page[len(page)-1].Position
		}
	}
	return n
}

// check is what must hold at rest.
func (w *world) check() {
	w.t.Helper()
	ctx := context.Background()
	lost := make(map[string]bool) // by intent
	for _, o := range w.fake.All("dispute") {
		lost[o["payment_intent"].(string)] = o["status"] == "lost" || lost[o["payment_intent"].(string)]
	}
	net := make(map[string]int64) // at Stripe, by settlement and invoice
	for _, o := range w.fake.All("transfer") {
		m := o["metadata"].(stripefake.Object)
		net[fmt.Sprint(m[MetadataSettlement], m[MetadataInvoice])] += o["amount"].(int64) - o["amount_reversed"].(int64)
	}
	for _, id := range w.invoices {
		i, _ := w.invoice(id)
		var paidBy string
		for _, o := range w.fake.All("charge") {
			if o["source_transfer"] != nil || o["metadata"].(stripefake.Object)[MetadataInvoice] != id {
				continue
			}
			intent := o["payment_intent"].(string)
			worth := int64(0)
			if i.State == invoice.StatePaid && i.Reference == intent {
				paidBy, worth = intent, i.Total.Minor-i.Credited.Minor
			}
			// In a currency with three digits the last one stays, owed to the customer or the provider.
			if kept := o["amount"].(int64) - o["amount_refunded"].(int64); (kept < worth || kept-worth >= w.least()) && !lost[intent] {
				w.t.Errorf("of what was paid for %s (%s, total %s, credited %s) %d is kept, not %d", id, i.State, i.Total, i.Credited, kept, worth)
			}
		}
		if (i.State == invoice.StatePaid) != (paidBy != "") {
			w.t.Errorf("%s is %s, and was paid by %q", id, i.State, paidBy)
		}
		for _, settlementID := range w.settlements {
			s := w.settlement(settlementID)
			want := int64(0)
			for _, l := range s.Lines {
				if l.InvoiceID == id && paidBy != "" && !lost[paidBy] {
					want += l.Amount.Minor - s.ByItem[l.ItemID].Minor
				}
			}
			if got := net[settlementID+id]; got != want-want%w.least() {
				w.t.Errorf("of %s and %s the provider has %d, not %d", settlementID, id, got, want)
			}
		}
	}
	r, err := w.Reconcile(ctx, began, began.Add(MaxWindow))
	for _, f := range r.Findings {
		if w.least() == 1 || f.Problem != RestOwed {
			w.t.Errorf("the reconciliation: %+v", f)
		}
	}
	if err != nil {
		w.t.Errorf("the reconciliation: %v", err)
	}
	w.noPayoutsInDispute()
	w.checkLedger()
}

// noPayoutsInDispute: nothing is asked to be moved to providers of a payment that the payer's bank has taken back for now, as
// far as the log knew.
func (w *world) noPayoutsInDispute() {
	w.t.Helper()
	var all []events.Recorded
	for _, category := range []string{"payment", "payout"} {
		for after := events.Position(0); ; {
			page, err := w.log.ReadCategory(context.Background(), category, after, pageSize)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			all, after = append(all, page...), page[len(page)-1].Position
		}
	}
	slices.SortFunc(all, func(a, b events.Recorded) int { return cmp.Compare(a.Position, b.Position) })
	payments := make(map[string]payment.State) // by stream
	for _, r := range all {
		switch e := r.Event.(type) {
		case payout.Requested:
			if payments[payment.Stream(e.PaymentID)].InDispute() {
				w.t.Errorf("at position %d a payout of %s is requested while the payment is in dispute", r.Position, e.Amount)
			}
		default:
			payments[r.Stream] = payment.Evolve(payments[r.Stream], r.Event)
		}
	}
}

func (w *world) run(steps, faults int) {
	w.faults.Store(int64(faults))
	w.bill(2, 3, 4)
	for range steps {
		w.step()
	}
	w.settle()
	w.check()
	w.t.Logf("%d intents, %d charges, %d transfers, %d reversals, %d refunds, %d disputes", len(w.fake.All("payment_intent")), len(w.fake.All("charge")), len(w.fake.All("transfer")), len(w.fake.All("transfer_reversal")), len(w.fake.All("refund")), len(w.fake.All("dispute")))
	if w.t.Failed() {
		for _, line := range w.story {
			w.t.Log(line)
		}
	}
}

// Whatever fails when, no amount is moved twice and none is lost: for every paid invoice there is one charge, what is kept
// of it is what the invoice is worth, and providers have what their settlements' paid lines come to. The log and Stripe
// agree on all of it.
func TestSchedules(t *testing.T) {
	t.Parallel()
	schedules := 60
	if testing.Short() {
		schedules = 12
	}
	for seed := range schedules {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newMemlog(t), uint64(seed))
			if seed%4 == 3 {
				w.currency = "BHD"
			}
			w.run(150, 100*(seed%6))
		})
	}
}

func TestSchedulesOnTheLog(t *testing.T) {
	t.Parallel()
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	log, err := events.Open(t.Context(), pgtest.New(t), codec, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	newWorld(t, log, 1).run(100, 100)
}

func FuzzSchedules(f *testing.F) {
	f.Add(uint64(1), 50)
	f.Fuzz(func(t *testing.T, seed uint64, faults int) {
		w := newWorld(t, newMemlog(t), seed)
		if seed%4 == 3 {
			w.currency = "BHD"
		}
		w.run(80, max(0, min(faults, 300)))
	})
}
