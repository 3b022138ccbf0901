package focus_test

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"crossbill/billing/focus"
	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/pricing"
)

// maxGrowth is by how much the heap may grow while a dataset of any length is written.
const maxGrowth = 64 << 20

// synthetic is an invoice of so many lines, the nth of many.
func synthetic(n, lines int) invoice.State {
	march, april := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	i := invoice.State{State: invoice.StateIssued, Content: invoice.Content{
		InvoiceID: "inv_" + strconv.Itoa(n), Number: "CB-" + strconv.Itoa(n), CustomerID: "org_customer", PeriodStart: march, PeriodEnd: april,
		Currency: "USD", LogPosition: int64(n), RunID: "run_1",
	}}
	for l := range lines {
		i.Lines = append(i.Lines, invoice.Line{
			Number: l + 1, ItemID: fmt.Sprintf("itm_%d_%d", n, l), Kind: invoice.LinePassthrough, ProviderID: "org_provider",
			ConnectionID: fmt.Sprintf("con_%d_%d", n, l/3), ChargeID: "traffic", Description: "Traffic", Quantity: "12345.678901234", Unit: pricing.UnitGB,
			Exact: "343.45678901234", Amount: domain.Money{Minor: 34346, Currency: "USD"}, Plan: invoice.PlanRef{ListingID: "lst_1", Version: 1},
			QuoteID: "quo_1", Evidence: []invoice.Evidence{{Stream: "usage-con_1", FromVersion: 1, ToVersion: int64(l), Count: l, Digest: "0"}},
		})
	}
	return i
}

// TestMillionLinesInConstantMemory writes a million lines in either format and watches the heap meanwhile.
func TestMillionLinesInConstantMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes a million lines twice")
	}
	const invoices, lines = 1000, 1000
	book := &focus.Book{Issuer: "Neutral Ground B.V.", Offers: map[string]focus.Offer{"quo_1": {Title: "Transit", Metro: "Amsterdam", Charges: []pricing.Charge{
		{ID: "traffic", Kind: pricing.KindUsage, Metric: pricing.MetricBytesTotal, Unit: pricing.UnitGB, Model: pricing.ModelGraduated}}}}}
	for _, format := range []struct {
		name string
		open func(io.Writer) focus.Writer
	}{
		{"csv", func(w io.Writer) focus.Writer { return focus.NewCSV(w) }},
		{"parquet", func(w io.Writer) focus.Writer { return focus.NewParquet(w) }},
	} {
		debug.FreeOSMemory()
		before, peak := heap(), atomic.Uint64{}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // the peak is between two invoices as likely as within one
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					peak.Store(max(peak.Load(), heap()))
				}
			}
		}()
		start, size, rows := time.Now(), new(counter), 0
		w := format.open(size)
		for n := range invoices {
			if err := book.Invoice(synthetic(n, lines), func(r *focus.Row) error { rows++; return w.Write(r) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		close(stop)
		<-stopped
		growth := int64(peak.Load()) - int64(before)
		t.Logf("%s: %d lines, %d MB, in %s; the heap grew by at most %d MB", format.name, rows, *size>>20, time.Since(start).Round(time.Second), growth>>20)
		if rows != invoices*lines || growth > maxGrowth {
			t.Errorf("%s: %d lines grew the heap by %d bytes", format.name, rows, growth)
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
