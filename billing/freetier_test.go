package billing

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"crossbill/domain"
	"crossbill/domain/feeallowance"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/events"
)

// sellFree sells connections under a fee schedule with these terms. Every one costs 400.00 a month.
func (w *world) sellFree(terms pricing.FeeTerms, all ...sold) {
	w.t.Helper()
	for _, s := range all {
		con, quo := s.events()
		q := quo[0].(quote.Issued)
		q.FeeTerms = &terms
		q.Hash = quote.Hash(q)
		w.append(events.Append{Streams: []events.StreamAppend{
			stream(quote.Stream(q.QuoteID), q), stream("connection-"+s.id(), con...),
		}})
	}
}

func freeSold(n int, customer string) sold {
	p := planA()
	p.Charges = p.Charges[:1]
	return sold{name: fmt.Sprint("f", n), customer: customer, provider: "provider", plan: p, basisPoints: 300, from: date(2026, 2, 1)}
}

// checkFees holds the fees of all invoices, in order, to what is wanted, and explains each of them.
func (w *world) checkFees(want ...string) {
	w.t.Helper()
	var got []string
	invoices, _ := w.checkBooks()
	for _, i := range invoices {
		for _, l := range i.Lines {
			e, err := Explain(w.t.Context(), w, invoice.Content(i), l.Number)
			if err != nil {
				w.t.Errorf("%s, line %d: %v", i.Number, l.Number, err)
			} else if len(e.Events) != countOf(l.Evidence) {
				w.t.Errorf("%s, line %d has %d events", i.Number, l.Number, len(e.Events))
			}
			if l.Kind == invoice.LineFee {
				got = append(got, l.Amount.Amount())
			}
		}
		if _, err := Recompute(w.t.Context(), w, i); err != nil {
			w.t.Error(err)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("the fees are %v, not %v", got, want)
	}
}

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

// TestFreeConnections: the first of a customer's connections bear no fee, over all of its invoices of a month, and anew
// in the next.
func TestFreeConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	terms := pricing.FeeTerms{FreeConnections: 3}
	var all []sold
	for n := range 5 {
		all = append(all, freeSold(n, "x"))
	}
	w.sellFree(terms, append(all, freeSold(9, "y"))...)
	some := request(march)
	some.ConnectionIDs = []string{all[0].id(), all[1].id()}
	w.run(some)
	w.run(request(march)) // the other three of x, of which one is free, and that of y
	w.run(request(april))
	byParty := make(map[string][]string)
	invoices, _ := w.books()
	for _, i := range invoices {
		for _, l := range i.Lines {
			if l.Kind == invoice.LineFee {
				byParty[i.CustomerID] = append(byParty[i.CustomerID], i.PeriodStart.Format("01 ")+l.Amount.Amount())
			}
		}
	}
	x, y := id(domain.PrefixOrganisation, "x"), id(domain.PrefixOrganisation, "y")
	if got := strings.Join(byParty[x], ", "); got != "03 0.00, 03 0.00, 03 0.00, 03 12.00, 03 12.00, 04 0.00, 04 0.00, 04 0.00, 04 12.00, 04 12.00" {
		t.Errorf("x pays %s", got)
	}
	if got := strings.Join(byParty[y], ", "); got != "03 0.00, 04 0.00" {
		t.Errorf("y pays %s", got)
	}
	for _, i := range invoices {
		for _, l := range i.Lines {
			if _, err := Explain(t.Context(), w, invoice.Content(i), l.Number); err != nil {
				t.Error(err)
			}
		}
		if _, err := Recompute(t.Context(), w, i); err != nil {
			t.Error(err)
		}
	}
}

// TestFreePassthrough: the free amount is used once over all invoices of a month, those of one run and of the next.
func TestFreePassthrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	terms := pricing.FeeTerms{FreePassthrough: []domain.Money{usd(900_00)}, Floors: []domain.Money{usd(5_00)}}
	all := []sold{freeSold(0, "x"), freeSold(1, "x"), freeSold(2, "x"), freeSold(3, "x")}
	w.sellFree(terms, all...)
	one := request(march)
	one.ConnectionIDs = []string{all[0].id()}
	w.run(one)
	w.run(request(march))
	w.checkFees("0.00", "0.00", "9.00", "12.00") // 400, 400, and 100 of 400 free
	invoices, _ := w.books()
	if last := invoices[1]; last.FreeBefore == nil || last.FreeBefore.Connections != 1 || last.FreeBefore.Passthrough != usd(400_00) {
		t.Errorf("before the second invoice %+v was used", last.FreeBefore)
	}
	altered := invoice.Content(invoices[1])
	before := *altered.FreeBefore
	before.Passthrough.Minor--
	altered.FreeBefore = &before
	if _, err := Explain(t.Context(), w, altered, 2); domain.CodeOf(err) != domain.Internal {
		t.Errorf("an altered use of the free tier: %v", err)
	}
}

// TestFreeTierOfALargeCustomer: the second invoice of one run goes on from the first.
func TestFreeTierOfALargeCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []sold
	for n := range maxConnections + 3 {
		all = append(all, freeSold(n, "x"))
	}
	w.sellFree(pricing.FeeTerms{FreeConnections: maxConnections + 1}, all...)
	w.run(request(march))
	invoices, _ := w.checkBooks()
	if len(invoices) != 2 || invoices[0].Fee != usd(0) || invoices[1].Fee != usd(24_00) ||
		invoices[1].FreeBefore.Connections != maxConnections {
		t.Fatalf("%d invoices, the last of which has a fee of %s", len(invoices), invoices[len(invoices)-1].Fee)
	}
	for _, i := range invoices {
		if _, err := Recompute(t.Context(), w, i); err != nil {
			t.Error(err)
		}
		if _, err := Explain(t.Context(), w, invoice.Content(i), len(i.Lines)); err != nil {
			t.Error(err)
		}
	}
}

// TestConcurrentRunsUseTheFreeTierOnce: many runs, each of one connection of a customer, give away no more than is free.
func TestConcurrentRunsUseTheFreeTierOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []sold
	for n := range 8 {
		all = append(all, freeSold(n, "x"))
	}
	w.sellFree(pricing.FeeTerms{FreeConnections: 3}, all...)
	var running sync.WaitGroup
	for _, s := range all {
		running.Go(func() {
			r := request(march)
			r.ConnectionIDs = []string{s.id()}
			if _, err := Run(context.Background(), w, w.meters(), r); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	w.checkFees("0.00", "0.00", "0.00", "12.00", "12.00", "12.00", "12.00", "12.00")
	state, version, err := load(t.Context(), w, feeallowance.Stream(id(domain.PrefixOrganisation, "x")), maxPosition, feeallowance.Evolve)
	if err != nil || version != 8 || len(state.Used) != 8 {
		t.Errorf("%d uses (%v)", version, err)
	}
}
