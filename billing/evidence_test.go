package billing

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/events"
)

// TestExplainSeesTampering: a line whose events are not those that it names, or do not come to its amount, is not explained.
func TestExplainSeesTampering(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	con := exampleA().id()
	for n := range 5 {
		from := date(2026, 3, 12).Add(time.Duration(n) * time.Hour)
		w.meter(w.reading(con, from, from.Add(time.Hour), 1e11, 1))
	}
	good := w.invoice(w.run(request(march)).Invoices[0])
	onLine := func(change func(*invoice.Line)) func(*invoice.Issued) {
		return func(i *invoice.Issued) {
			i.Lines = append([]invoice.Line(nil), i.Lines...)
			i.Lines[1].Evidence = append([]invoice.Evidence(nil), i.Lines[1].Evidence...)
			change(&i.Lines[1])
		}
	}
	tests := []struct {
		name   string
		log    func(*events.Recorded)
		change func(*invoice.Issued)
	}{
		{"a reading's bytes", func(e *events.Recorded) {
			if r, ok := e.Event.(reading.Recorded); ok && e.Version == 3 {
				r.BytesIn += 1_000_000_000
				e.Event = r
			}
		}, nil},
		{"a reading's hash", func(e *events.Recorded) {
			if e.Type == "reading.recorded" && e.Version == 3 {
				e.LeafHash[0] ^= 1
			}
		}, nil},
		{"the activation", func(e *events.Recorded) {
			if a, ok := e.Event.(connection.Activated); ok {
				a.At = a.At.Add(-time.Hour)
				e.Event = a
			}
		}, nil},
		{"a price", func(e *events.Recorded) {
			if q, ok := e.Event.(quote.Issued); ok {
				q.Plan = planA()
				q.Plan.Charges[1].Tiers[0].Price = domain.MustDecimal("0.04")
				e.Event = q
			}
		}, nil},
		{"the amount", nil, onLine(func(l *invoice.Line) { l.Amount.Minor++ })},
		{"the exact amount", nil, onLine(func(l *invoice.Line) { l.Exact += "1" })},
		{"the item", nil, onLine(func(l *invoice.Line) { l.ItemID = "itm" })},
		{"the charge", nil, onLine(func(l *invoice.Line) { l.ChargeID = "other" })},
		{"the connection", nil, onLine(func(l *invoice.Line) { l.ConnectionID = id(domain.PrefixConnection, "other") })},
		{"a digest", nil, onLine(func(l *invoice.Line) { l.Evidence[3].Digest = l.Evidence[2].Digest })},
		{"an event less", nil, onLine(func(l *invoice.Line) { l.Evidence[3].ToVersion--; l.Evidence[3].Count-- })},
		{"an event more", nil, onLine(func(l *invoice.Line) { l.Evidence[0].ToVersion++; l.Evidence[0].Count++ })},
		{"events past the log", nil, onLine(func(l *invoice.Line) { l.Evidence[3].ToVersion = 9 })},
		{"no readings", nil, onLine(func(l *invoice.Line) { l.Evidence = l.Evidence[:3] })},
		{"foreign evidence", nil, onLine(func(l *invoice.Line) { l.Evidence[3].Stream = "usage-con_other" })},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			i, log := good, Log(w)
			if test.log != nil {
				log = tampering{w, test.log}
			}
			if test.change != nil {
				test.change(&i)
			}
			if e, err := Explain(t.Context(), log, invoice.Content(i), 2); domain.CodeOf(err) != domain.Internal {
				t.Errorf("it is explained as %s (%v)", e.Recomputed, err)
			}
		})
	}
}

// TestEvidenceIsExactlyTheEvents: readings of other periods among a period's own are no evidence for it, and the digest is
// what anyone can compute from the leaf hashes.
func TestEvidenceIsExactlyTheEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	con := exampleA().id()
	var all []reading.Recorded
	for n := range 21 { // every second one is of April, and the others are of two days
		from := date(2026, time.Month(3+n%2), 20+n/12).Add(time.Duration(n) * time.Minute)
		all = append(all, w.reading(con, from, from.Add(time.Minute), 1e9, 0))
	}
	w.meter(all...)
	i := w.invoice(w.run(request(march)).Invoices[0])
	said := i.Lines[1].Evidence[3:]
	if len(said) != 1 || said[0].Count != 11 || said[0].FromVersion != 1 || said[0].ToVersion != 21 ||
		!said[0].From.Equal(date(2026, 3, 11)) || !said[0].To.Equal(april.From) {
		t.Fatalf("the evidence is %+v", said)
	}
	e, err := Explain(t.Context(), w, invoice.Content(i), 2)
	if err != nil || len(e.Events) != 3+11 {
		t.Fatalf("%d events (%v)", len(e.Events), err)
	}
	var days [2][sha256.Size]byte
	for n, event := range e.Events[3:] {
		leaf, err := hex.DecodeString(event.LeafHash)
		if err != nil {
			t.Fatal(err)
		}
		day := &days[2*n/12]
		*day = sha256.Sum256(append(day[:], leaf...))
	}
	var digest [sha256.Size]byte
	for n, day := range days {
		digest = sha256.Sum256(append(digest[:], fmt.Sprintf("2026-03-%d %x\n", 20+n, day)...))
	}
	if hex.EncodeToString(digest[:]) != said[0].Digest {
		t.Errorf("the digest is %x, not %s", digest, said[0].Digest)
	}
}

// TestReadingsAcrossTheBoundary: a reading over midnight is billed in two parts that sum to it; one that comes late is
// on no invoice and listed, with the part that the closed period lacks.
func TestReadingsAcrossTheBoundary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := exampleA()
	s.to = date(2026, 4, 11)
	w.sell(s)
	con := s.id()
	over := func(in, out int64) reading.Recorded {
		return w.reading(con, march.To.Add(-time.Minute), march.To.Add(2*time.Minute), in, out)
	}
	w.meter(over(3_000_000_001, 1), w.reading(con, date(2026, 3, 1), date(2026, 3, 2), 1e15, 1e15)) // the second is of before production
	inMarch := w.invoice(w.run(request(march)).Invoices[0])
	late := over(300, 600)
	w.meter(late, w.reading(con, date(2026, 4, 10), date(2026, 4, 12), 100, 0))
	inApril := w.invoice(w.run(request(april)).Invoices[0])
	if m, a := inMarch.Lines[1].Quantity, inApril.Lines[1].Quantity; m != "1" || a != "2.000000652" { // 2000000001+1+200+400+50
		t.Errorf("March has %s GB and April %s", m, a)
	}
	if n := inMarch.Lines[1].Evidence[3].Count; n != 1 {
		t.Errorf("%d readings are evidence in March", n)
	}
	got, err := LateReadings(t.Context(), w, con)
	if err != nil || len(got) != 1 || got[0].Version != 3 || got[0].BytesIn != 100 || got[0].BytesOut != 200 || got[0].Closed.InvoiceID != inMarch.InvoiceID {
		t.Errorf("late is %+v (%v)", got, err)
	}
	w.checkBooks()
}

// TestGatherRefuses: what the log can't mean is never billed.
func TestGatherRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sell(exampleA())
	con := exampleA().id()
	w.meter(w.reading(con, date(2026, 3, 12), date(2026, 3, 13), 5, 5))
	tests := []struct {
		name   string
		change func(*events.Recorded)
	}{
		{"a negative reading", onReading(func(r *reading.Recorded) { r.BytesIn = -1 })},
		{"a reading backwards", onReading(func(r *reading.Recorded) { r.To = r.From.Add(-1) })},
		{"another's reading", onReading(func(r *reading.Recorded) { r.ConnectionID = "con_other" })},
		{"a missing version", func(e *events.Recorded) { e.Version += min(e.Version-1, 1) }},
		{"another's quote", onQuote(func(q *quote.Issued) { q.CustomerID = "org_other"; q.Hash = quote.Hash(*q) })},
		{"an altered quote", onQuote(func(q *quote.Issued) { q.BasisPoints = 1 })},
		{"no quote", func(e *events.Recorded) {
			if e.Type == "quote.issued" {
				e.Event = quote.Withdrawn{}
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Gather(t.Context(), tampering{w, test.change}, con, march, w.head()); domain.CodeOf(err) != domain.Internal {
				t.Errorf("it is billed (%v)", err)
			}
		})
	}
}

func onReading(change func(*reading.Recorded)) func(*events.Recorded) {
	return func(e *events.Recorded) {
		if r, ok := e.Event.(reading.Recorded); ok {
			change(&r)
			e.Event = r
		}
	}
}

func onQuote(change func(*quote.Issued)) func(*events.Recorded) {
	return func(e *events.Recorded) {
		if q, ok := e.Event.(quote.Issued); ok {
			change(&q)
			e.Event = q
		}
	}
}
