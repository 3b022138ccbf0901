package projections_test

import (
	"slices"
	"testing"

	"crossbill/domain/listing"
	"crossbill/projections"
)

// TestSubmittedListings_OldestSubmissionFirst has listings submitted in another order than they were made in: who submits
// anew goes to the end, who was decided on leaves, and pages are as stable as the order.
func TestSubmittedListings_OldestSubmissionFirst(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"one by one": 1, "some at a time": 3, "in one batch": 100} {
		b := newBench(t)
		stream := func(n int) string { return "listing-" + id("lst", n) }
		draft := func(n int) {
			b.record(stream(n), listing.Drafted{ListingID: id("lst", n), ProviderID: cloudCo, Terms: terms("Draft", "A line", "Berlin", 100), At: at(0)})
		}
		submit := func(n int) { b.record(stream(n), listing.Submitted{ListingID: id("lst", n), At: at(1)}) }
		for n := 1; n <= 7; n++ {
			draft(n)
		}
		for _, n := range []int{5, 3, 7, 1, 2, 6} {
			submit(n)
		}
		submit(3) // for another time
		draft(7)  // takes the submission back
		draft(5)
		submit(5) // and again
		b.record(stream(1), listing.Rejected{ListingID: id("lst", 1), Reason: "no", By: "key_1", At: at(2)})
		b.record(stream(6), published(6, 1, cloudCo, terms("Draft", "A line", "Berlin", 100)))
		draft(6)
		submit(6)
		submit(4)
		b.record(stream(4), listing.Retired{ListingID: id("lst", 4), At: at(2)})
		b.applyInBatchesOf(batch)

		var got []string
		for token := ""; ; {
			page, next, err := b.q.SubmittedListings(b.Context(), 1, token)
			if err != nil || len(page) > 1 {
				t.Fatalf("%s: %+v, %v", name, page, err)
			}
			got = append(got, ids(page, func(l projections.OwnListing) string { return l.State.ID })...)
			if token = next; token == "" {
				break
			}
		}
		if want := []string{id("lst", 2), id("lst", 3), id("lst", 5), id("lst", 6)}; !slices.Equal(got, want) {
			t.Errorf("%s: the queue is %v, want %v", name, got, want)
		}
	}
}
