package projections_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/projections"
)

// search is what a stranger finds now.
func (b *bench) search(s projections.ListingSearch) ([]projections.Listing, string, error) {
	b.Helper()
	return b.searchAs(projections.Party(stranger), s)
}

func (b *bench) searchAs(who projections.Viewer, s projections.ListingSearch) ([]projections.Listing, string, error) {
	b.Helper()
	if s.At.IsZero() {
		s.At = at(100_000)
	}
	return b.q.SearchListings(b.Context(), who, s)
}

func TestSearchListings(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.record("listing-"+id("lst", 1), published(1, 1, cloudCo, terms("Private Connect", "A private line to our cloud", "Frankfurt", 100, 1000)))
	b.record("listing-"+id("lst", 2), published(2, 1, lakeCo, terms("Lake Peering", "Connecting lakes since 2019", "frankfurt", 500)))
	b.record("listing-"+id("lst", 3), published(3, 1, lakeCo, terms("IT backbone", "It reaches every data centre", "São Paulo", 1000)))
	b.record("listing-"+id("lst", 4), listing.Drafted{ListingID: id("lst", 4), ProviderID: cloudCo, Terms: terms("Private draft", "Connect", "Frankfurt", 100), At: at(0)})
	b.record("listing-"+id("lst", 5), published(5, 1, cloudCo, terms("Private Connect, old", "Connect", "Frankfurt", 100)),
		listing.Retired{ListingID: id("lst", 5), At: at(5)})
	b.project()

	for name, c := range map[string]struct {
		search projections.ListingSearch
		want   []int
	}{
		"everything":             {projections.ListingSearch{}, []int{3, 2, 1}},
		"a word in title":        {projections.ListingSearch{Text: "peering"}, []int{2}},
		"another form of it":     {projections.ListingSearch{Text: "connections"}, []int{1, 2}},
		"a word in the text":     {projections.ListingSearch{Text: "cloud"}, []int{1}},
		"all words are needed":   {projections.ListingSearch{Text: "private lakes"}, nil},
		"either word":            {projections.ListingSearch{Text: "private or lakes"}, []int{2, 1}},
		"not a word":             {projections.ListingSearch{Text: "connect -private"}, []int{2}},
		"a phrase":               {projections.ListingSearch{Text: `"private line"`}, []int{1}},
		"not that phrase":        {projections.ListingSearch{Text: `"line private"`}, nil},
		"only stop words":        {projections.ListingSearch{Text: "IT"}, []int{3, 2, 1}},
		"unknown word":           {projections.ListingSearch{Text: "submarine"}, nil},
		"operators are no error": {projections.ListingSearch{Text: `& | ! <-> ((( "`}, []int{3, 2, 1}},
		"quotes are no error":    {projections.ListingSearch{Text: `'; DROP TABLE read_listings; --`}, nil},
		"NUL is no error":        {projections.ListingSearch{Text: "cl\x00oud"}, []int{1}},
		"metro":                  {projections.ListingSearch{Metro: "FRANKFURT"}, []int{2, 1}},
		"metro beyond ASCII":     {projections.ListingSearch{Metro: "são paulo"}, []int{3}},
		"no such metro":          {projections.ListingSearch{Metro: "Frank%"}, nil},
		"bandwidth":              {projections.ListingSearch{BandwidthMbps: 1000}, []int{3, 1}},
		"bandwidth in between":   {projections.ListingSearch{BandwidthMbps: 999}, nil},
		"all filters":            {projections.ListingSearch{Text: "private", Metro: "Frankfurt", BandwidthMbps: 100}, []int{1}},
	} {
		page, next, err := b.search(c.search)
		if err != nil || next != "" {
			t.Errorf("%s: token %q, %v", name, next, err)
		}
		var want []string
		for _, n := range c.want {
			want = append(want, id("lst", n))
		}
		if got := ids(page, func(l projections.Listing) string { return l.ID }); !slices.Equal(got, want) {
			t.Errorf("%s: found %v, want %v", name, got, want)
		}
	}

	for name, search := range map[string]projections.ListingSearch{
		"text too long":      {Text: strings.Repeat("é", projections.MaxSearchText+1)},
		"negative bandwidth": {BandwidthMbps: -1},
		"broken UTF-8":       {Text: "\xff"},
		"broken metro":       {Metro: "\xff"},
	} {
		if _, _, err := b.search(search); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
	if _, _, err := b.search(projections.ListingSearch{Text: strings.Repeat("é", projections.MaxSearchText)}); err != nil {
		t.Errorf("the longest text: %v", err)
	}
}

// TestMarketplace_NewestPublishedTerms checks that a listing shows what was published last, never a draft, and keeps its place.
func TestMarketplace_NewestPublishedTerms(t *testing.T) {
	t.Parallel()
	first := terms("First", "The first edition", "Frankfurt", 100)
	second := terms("Second", "The second edition", "Berlin", 200)
	for name, together := range map[string]bool{"one by one": false, "in one batch": true} {
		b := newBench(t)
		step := func() {
			if !together {
				b.project()
			}
		}
		b.record("listing-"+id("lst", 1), published(1, 1, cloudCo, first))
		b.record("listing-"+id("lst", 2), published(2, 1, cloudCo, first))
		step()
		b.record("listing-"+id("lst", 1), listing.Drafted{ListingID: id("lst", 1), ProviderID: cloudCo, Terms: second, At: at(2)})
		step()
		if !together {
			if page, _, err := b.search(projections.ListingSearch{Text: "second"}); err != nil || len(page) > 0 {
				t.Errorf("a draft is on the market: %v, %v", page, err)
			}
		}
		b.record("listing-"+id("lst", 1), published(1, 2, cloudCo, second))
		b.project()

		page, _, err := b.search(projections.ListingSearch{})
		if err != nil || len(page) != 2 {
			t.Fatalf("%s: %v, %v", name, page, err)
		}
		want := projections.Listing{ID: id("lst", 1), ProviderID: cloudCo, Version: 2, State: "published", Terms: second, EffectiveFrom: at(1)}
		// Decimals are compared by their text: 400.00 and 400 are the same number.
		if got := page[1]; got.Terms.Plan.Charges[0].Amount.Cmp(second.Plan.Charges[0].Amount) != 0 ||
			!reflect.DeepEqual(plain(got), plain(want)) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		for _, old := range []projections.ListingSearch{{Text: "first", Metro: "Berlin"}, {Metro: "Frankfurt", Text: "second"}, {BandwidthMbps: 100, Text: "second"}} {
			if page, _, err := b.search(old); err != nil || len(page) > 0 {
				t.Errorf("%s: found by what it no longer offers: %v, %v", name, page, err)
			}
		}
	}
}

// plain is the listing without its prices, which have no comparable form.
func plain(l projections.Listing) projections.Listing {
	l.Terms.Plan.Charges = nil
	return l
}
