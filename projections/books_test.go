package projections_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/domain/invoice"
	"crossbill/domain/port"
	"crossbill/domain/pricing"
	"crossbill/projections"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	con := id("con", 1)
	b.record("usage-"+id("con", 2), read(2, 1, 7, 7))
	// The second and third come late and out of order: the order of the page is that of arrival, the end the newest.
	for _, sequence := range []int{1, 4, 5, 2, 3} {
		b.record("usage-"+con, read(1, sequence, int64(sequence), int64(100*sequence)))
		if sequence == 5 { // the newest by its time is added up before the last to come
			b.project()
		}
	}
	b.project()

	var versions, sequences []int64
	token := ""
	for range 10 { // more than there are
		u, next, err := b.q.Usage(t.Context(), con, 2, token)
		if err != nil {
			t.Fatal(err)
		}
		if u.BytesIn != 15 || u.BytesOut != 1500 || u.Readings != 5 || !u.LastTo.Equal(at(25)) || u.LastTo.Location() != time.UTC || u.ConnectionID != con {
			t.Errorf("totals %+v", u)
		}
		for _, r := range u.Items {
			versions, sequences = append(versions, r.Version), append(sequences, r.Sequence)
			if want := read(1, int(r.Sequence), r.Sequence, 100*r.Sequence); r.Recorded != want {
				t.Errorf("reading %d: got %+v, want %+v", r.Version, r.Recorded, want)
			}
		}
		if token = next; token == "" {
			break
		}
	}
	for i, want := range []int64{1, 4, 5, 2, 3} {
		if versions[i] != int64(i+1) || sequences[i] != want {
			t.Fatalf("versions %v, sequences %v", versions, sequences)
		}
	}
	if len(versions) != 5 {
		t.Errorf("%d readings, want 5", len(versions))
	}

	none, next, err := b.q.Usage(t.Context(), id("con", 99), 0, "")
	if err != nil || next != "" || none.Readings != 0 || none.BytesIn != 0 || len(none.Items) != 0 || !none.LastTo.IsZero() {
		t.Errorf("a connection without readings: %+v, %v", none, err)
	}
}

// TestUsage_Enormous sends what no meter can have counted: it must not stop the projection for everybody else.
func TestUsage_Enormous(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.record("usage-"+id("con", 1), read(1, 1, math.MaxInt64, 0), read(1, 2, math.MaxInt64, 0))
	b.record("usage-"+id("con", 2), read(2, 1, math.MaxInt64, 0))
	b.project()
	b.record("usage-"+id("con", 1), read(1, 3, math.MaxInt64, 0))
	b.project()
	if _, _, err := b.q.Usage(t.Context(), id("con", 1), 0, ""); domain.CodeOf(err) != domain.Internal {
		t.Errorf("a total past 63 bits: got %v, want Internal", err)
	}
	if u, _, err := b.q.Usage(t.Context(), id("con", 2), 0, ""); err != nil || u.BytesIn != math.MaxInt64 {
		t.Errorf("the greatest total: %+v, %v", u, err)
	}
}

func TestFeeSchedule(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.project()
	if _, err := b.q.FeeSchedule(t.Context()); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("before the first: got %v, want NotFound", err)
	}
	terms := pricing.FeeTerms{Caps: []domain.Money{{Minor: 5000, Currency: "USD"}}, FreeConnections: 2}
	for _, p := range []feeschedule.Published{
		{FeeScheduleID: id("fee", 2), Version: 1, BasisPoints: 300, EffectiveFrom: at(9), At: at(0)},
		{FeeScheduleID: id("fee", 2), Version: 2, BasisPoints: 250, EffectiveFrom: at(5), At: at(0)},
		{FeeScheduleID: id("fee", 1), Version: 1, BasisPoints: 275, EffectiveFrom: at(1), At: at(1), FeeTerms: terms},
	} {
		b.record("fee_schedule-"+p.FeeScheduleID, p)
	}
	b.project()
	want := feeschedule.Version{FeeScheduleID: id("fee", 1), Version: 1, BasisPoints: 275, EffectiveFrom: at(1), FeeTerms: terms}
	if got, err := b.q.FeeSchedule(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	page, next, err := b.q.FeeSchedules(t.Context(), 2, "")
	if err != nil || len(page) != 2 || !reflect.DeepEqual(page[0], want) || page[1].Version != 2 || !page[1].FeeTerms.None() || next == "" {
		t.Errorf("the first page is %+v, then %q (%v)", page, next, err)
	}
	if page, next, err = b.q.FeeSchedules(t.Context(), 2, next); err != nil || len(page) != 1 || page[0].BasisPoints != 300 || next != "" {
		t.Errorf("the second page is %+v, then %q (%v)", page, next, err)
	}
}

func TestInventory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	registered := port.Registered{PortID: id("prt", 1), EdgeNodeID: node, OrganisationID: acme, Name: "x\x00y",
		Interface: "eth1", CapacityMbps: 800_000, At: at(0)}
	b.record("edge_node-"+node, nodeRegistered(node))
	b.record("port-"+id("prt", 1), registered)
	b.project()
	wantPort := port.Evolve(port.State{}, registered)
	if got, err := b.q.Port(t.Context(), id("prt", 1)); err != nil || got != wantPort {
		t.Errorf("got %+v, %v; want %+v", got, err, wantPort)
	}
	if got, err := b.q.EdgeNode(t.Context(), node); err != nil || got.ID != node || got.ASN != 4200000001 || got.RouterID != "192.0.2.1" || got.Metro != "Frankfurt" {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err := b.q.Port(t.Context(), id("prt", 2))
	if domain.CodeOf(err) != domain.NotFound {
		t.Errorf("no such port: got %v, want NotFound", err)
	}
	if _, err := b.q.EdgeNode(t.Context(), id("prt", 1)); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("no such edge node: got %v, want NotFound", err)
	}
}

// TestInvoices_WholeDocument checks that an invoice comes back line by line, with what became of it.
func TestInvoices_WholeDocument(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	issued := invoiced(1, acme)
	b.record("invoice-"+id("inv", 1), issued)
	b.project()
	b.record("invoice-"+id("inv", 1), invoice.Paid{InvoiceID: id("inv", 1), Reference: "pi_1", At: at(99)})
	b.record("settlement-"+id("set", 1), settled(1, cloudCo))
	b.project()
	invoices, _, err := b.q.InvoicesOf(t.Context(), projections.Party(acme), projections.BookSearch{})
	if err != nil || len(invoices) != 1 {
		t.Fatalf("%v, %v", invoices, err)
	}
	got := invoices[0]
	if got.State != invoice.StatePaid || got.Reference != "pi_1" || got.Total != usd(41200) || len(got.Lines) != 1 ||
		got.Lines[0].Evidence[0].Count != 5 || got.Lines[0].Amount != usd(40000) || got.Number != "2026-0001" {
		t.Errorf("got %+v", got)
	}
	settlements, _, err := b.q.SettlementsOf(t.Context(), projections.Party(cloudCo), projections.BookSearch{})
	if err != nil || len(settlements) != 1 || settlements[0].Total != usd(40000) || settlements[0].Lines[0].ItemID != got.Lines[0].ItemID {
		t.Errorf("got %+v, %v", settlements, err)
	}
}
