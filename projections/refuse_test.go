package projections_test

import (
	"slices"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/feeschedule"
	"crossbill/domain/invoice"
	"crossbill/domain/listing"
	"crossbill/domain/location"
	"crossbill/domain/order"
	"crossbill/domain/port"
	"crossbill/domain/reading"
	"crossbill/domain/settlement"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/projections"
)

// tomorrow is an event type of a version that is not written yet.
type tomorrow struct{}

func (tomorrow) EventType() string { return "order.teleported" }

// byName returns a read model's projection.
func byName(t *testing.T, name string) projections.Projection {
	t.Helper()
	all := projections.All()
	i := slices.IndexFunc(all, func(p projections.Projection) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("there is no read model %s", name)
	}
	return all[i]
}

// TestApply_NeverSkips gives projections what they cannot know and what cannot follow. Each stops with an error that
// names the event's position, and writes nothing.
func TestApply_NeverSkips(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	fact := func(stream string, version int64, e domain.Event) events.Recorded {
		r := events.Recorded{Position: 4711, Stream: stream, Version: version, Event: e}
		if e != nil {
			r.Type = e.EventType()
		}
		return r
	}
	ord, con := "order-"+id("ord", 1), "connection-"+id("con", 1)
	for name, c := range map[string]struct {
		model string
		event events.Recorded
	}{
		"not decoded":                  {"orders", fact(ord, 1, nil)},
		"not decoded, of another kind": {"invoices", fact(ord, 1, nil)},
		"unknown type":                 {"orders", fact(ord, 1, tomorrow{})},
		"another family's type":        {"orders", fact(ord, 1, requested(1, acme, cloudCo))},
		"version missing":              {"orders", fact(ord, 2, order.Accepted{OrderID: id("ord", 1)})},
		"connection in wrong stream":   {"connections", fact(con, 1, placed(1, acme, cloudCo))},
		"connection's second first":    {"connections", fact(con, 2, allocated(1, node))},
		"unknown in listing stream":    {"marketplace", fact("listing-"+id("lst", 1), 1, tomorrow{})},
		"unknown in usage stream":      {"usage", fact("usage-"+id("con", 1), 1, tomorrow{})},
		"unknown in fee stream":        {"fees", fact("fee_schedule-"+id("fee", 1), 1, tomorrow{})},
		"unknown in node stream":       {"connections", fact("edge_node-"+node, 1, tomorrow{})},
		"unknown in port stream":       {"inventory", fact("port-"+id("prt", 1), 1, tomorrow{})},
		"pointer instead of value":     {"marketplace", fact("listing-"+id("lst", 1), 1, &listing.Retired{})},
	} {
		err := b.try(byName(t, c.model), []events.Recorded{c.event})
		if domain.CodeOf(err) != domain.Internal || err == nil || !strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: got %v, want an Internal error that names the position", name, err)
		}
	}

	// A reading that is missed or applied twice breaks the table's own check.
	usage := byName(t, "usage")
	first, third := fact("usage-"+id("con", 1), 1, read(1, 1, 1, 1)), fact("usage-"+id("con", 1), 3, read(1, 3, 1, 1))
	b.apply(usage, []events.Recorded{first})
	for name, wrong := range map[string]events.Recorded{"missed": third, "twice": first} {
		if err := b.try(usage, []events.Recorded{wrong}); err == nil {
			t.Errorf("a reading %s went unnoticed", name)
		}
	}
	if got, want := b.dump(), 2; strings.Count(got, "\n") != want {
		t.Errorf("refused events left rows:%s", got)
	}
}

// TestApply_PassesOverOthers gives every read model one event of every type that it does not read: what is none of its
// business must not stop it. The number of those it does read keeps the test honest.
func TestApply_PassesOverOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for model, reads := range map[string]int{
		"marketplace": len(listing.Events()), "orders": len(order.Events()),
		"connections": len(connection.Events()) + len(edgenode.Events()), "availability": len(connection.Events()) + len(edgenode.Events()), "usage": len(reading.Events()),
		"invoices": len(invoice.Events()) - 1, "settlements": len(settlement.Events()), "fees": len(feeschedule.Events()),
		"inventory": len(edgenode.Events()) + len(port.Events()) + len(location.Events()),
	} {
		refused := 0
		for i, e := range slices.Concat(vocabulary.Events()...) {
			// In a stream that no model reads: one that knows the type must refuse it there.
			err := b.try(byName(t, model), []events.Recorded{{Position: events.Position(i + 1), Stream: "elsewhere-x",
				Version: 1, Type: e.EventType(), Event: e}})
			if err != nil {
				refused++
			}
		}
		if refused != reads {
			t.Errorf("%s stops at %d types in a strange stream, want the %d that it reads", model, refused, reads)
		}
	}
	if got := b.dump(); got != "" {
		t.Errorf("rows came of it:%s", got)
	}
}

// TestApply_EveryType checks that each read model has a rule for every type of the families it reads.
func TestApply_EveryType(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, c := range []struct {
		model, stream string
		first         domain.Event
		all           []domain.Event
	}{
		{"marketplace", "listing-" + id("lst", 1), published(1, 1, cloudCo, terms("T", "D", "M", 1)), listing.Events()},
		{"orders", "order-" + id("ord", 1), placed(1, acme, cloudCo), order.Events()},
		{"connections", "connection-" + id("con", 1), requested(1, acme, cloudCo), connection.Events()},
		{"usage", "usage-" + id("con", 1), read(1, 1, 1, 1), reading.Events()},
		{"connections", "edge_node-" + node, nodeRegistered(node), edgenode.Events()},
		{"availability", "connection-" + id("con", 1), requested(1, acme, cloudCo), connection.Events()},
		{"availability", "edge_node-" + node, nodeRegistered(node), edgenode.Events()},
	} {
		var batch []events.Recorded
		for i, e := range append([]domain.Event{c.first}, c.all[1:]...) {
			batch = append(batch, events.Recorded{Position: events.Position(i + 1), Stream: c.stream, Version: int64(i + 1),
				Type: e.EventType(), Event: e})
		}
		b.apply(byName(t, c.model), batch)
	}
}
