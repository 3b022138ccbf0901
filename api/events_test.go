package api_test

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
)

// sliceOf reads the caller's slice to its end, a few events at a time.
func (m *market) sliceOf(c *client.Client, types []string, stream string) (all []client.Event) {
	m.t.Helper()
	limit, head := 2, int64(m.head())
	params := &client.ListEventsParams{Limit: &limit, AtPosition: &head}
	if types != nil {
		params.Types = &types
	}
	if stream != "" {
		params.Stream = &stream
	}
	for after := int64(0); ; {
		params.After = &after
		page, _, err := client.Decode[client.EventPage](c.ListEvents(context.Background(), params))
		must(m.t, err)
		all = append(all, page.Items...)
		if page.NextAfter < after {
			m.t.Fatalf("next_after goes from %d back to %d", after, page.NextAfter)
		}
		after = page.NextAfter
		if len(page.Items) == 0 {
			return all
		}
	}
}

func typesOf(all []client.Event) (types []string) {
	for _, e := range all {
		types = append(types, e.Type)
	}
	return types
}

// TestEventFilters reads an organisation's slice whole, by types and by stream.
func TestEventFilters(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	order := m.place()
	all := m.sliceOf(m.customer, nil, "")
	if !slices.Contains(typesOf(all), "order.placed") || !slices.IsSortedFunc(all, func(a, b client.Event) int { return int(a.Position - b.Position) }) {
		t.Fatalf("the slice is %v", typesOf(all))
	}
	for _, c := range []struct {
		types []string
		keep  func(eventType string) bool
	}{
		{[]string{"*"}, func(string) bool { return true }},
		{[]string{"order.*"}, func(e string) bool { return strings.HasPrefix(e, "order.") }},
		{[]string{"quote.issued", "order.placed"}, func(e string) bool { return e == "quote.issued" || e == "order.placed" }},
		{[]string{"invoice.*"}, func(string) bool { return false }},
	} {
		var want []string
		for _, e := range all {
			if c.keep(e.Type) {
				want = append(want, e.Type)
			}
		}
		if got := typesOf(m.sliceOf(m.customer, c.types, "")); !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", c.types, got, want)
		}
	}
	stream := "order-" + order.Id
	mine := m.sliceOf(m.customer, nil, stream)
	if len(mine) == 0 || mine[0].Type != "order.placed" || slices.ContainsFunc(mine, func(e client.Event) bool { return e.Stream != stream }) {
		t.Errorf("the order's stream is %v", typesOf(mine))
	}
	if none := m.sliceOf(m.customer, []string{"quote.*"}, stream); len(none) > 0 {
		t.Errorf("quotes in the order's stream: %v", typesOf(none))
	}
	if leaked := m.sliceOf(m.stranger, nil, stream); len(leaked) > 0 {
		t.Errorf("a stranger sees %v", typesOf(leaked))
	}
	if operators := m.sliceOf(m.operator, []string{"order.placed", "edge_node.registered"}, ""); len(operators) != 2 {
		t.Errorf("an operator sees %v", typesOf(operators))
	}
	before := int64(m.head())
	for _, bad := range []string{"types=order", "types=order.plcaed", "types=", "types=*.placed", "types=order.**", "stream=x", "stream=Order-1", "types=*,*"} {
		status, p, _ := m.do(m.customerKey, "GET", "/v1/events?"+bad, nil)
		m.refused(bad, before, status, p, http.StatusUnprocessableEntity)
	}
}

// TestEventStream_NothingTwice follows a slice by types while orders are placed, breaking off again and again, and
// compares with the slice as it then is.
func TestEventStream_NothingTwice(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	const orders = 12
	placing := make(chan struct{})
	go func() {
		defer close(placing)
		for range orders {
			m.place()
		}
	}()
	var got []int64
	for after := ""; len(got) < 2*orders; {
		streaming, stop := context.WithTimeout(ctx, 150*time.Millisecond)
		types := []string{"order.placed", "quote.accepted"}
		response, err := m.customer.ListEvents(streaming, &client.ListEventsParams{Types: &types}, func(_ context.Context, r *http.Request) error {
			r.Header.Set("Accept", "text/event-stream")
			if after != "" {
				r.Header.Set("Last-Event-ID", after)
			}
			return nil
		})
		if err == nil {
			for lines := bufio.NewScanner(response.Body); lines.Scan(); {
				if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
					position, err := strconv.ParseInt(id, 10, 64)
					must(t, err)
					got, after = append(got, position), id
				}
			}
			response.Body.Close()
		}
		stop()
		if ctx.Err() != nil {
			t.Fatalf("after 30 s only %d events came", len(got))
		}
	}
	<-placing
	var want []int64
	for _, e := range m.sliceOf(m.customer, []string{"order.placed", "quote.accepted"}, "") {
		want = append(want, e.Position)
	}
	if !slices.Equal(got, want) {
		t.Errorf("streamed %v, want %v", got, want)
	}
}
