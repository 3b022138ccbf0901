package projections_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/domain/pricing"
	"crossbill/projections"
)

// priced are terms whose month costs so much, and so much more a GB.
func priced(title, currency, base, perGB string) listing.Terms {
	t := terms(title, "A service", "Frankfurt", 100, 1000)
	t.Plan = pricing.Plan{Currency: domain.Currency(currency), Charges: []pricing.Charge{
		{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amounts: []pricing.Amount{
			{BandwidthMbps: 100, Amount: domain.MustDecimal(base)}, {BandwidthMbps: 1000, Amount: domain.MustDecimal(base).Mul(domain.MustDecimal("2"))}}},
		{ID: "out", Kind: pricing.KindUsage, Description: "Out", Metric: pricing.MetricBytesOut, Unit: pricing.UnitGB,
			Model: pricing.ModelPerUnit, UnitPrice: domain.MustDecimal(perGB)},
	}}
	return t
}

// all follows the pages of a search to its end.
func (b *bench) all(who projections.Viewer, s projections.ListingSearch) (titles []string) {
	b.Helper()
	for range 1000 {
		page, next, err := b.searchAs(who, s)
		if err != nil {
			b.Fatal(err)
		}
		for _, l := range page {
			titles = append(titles, l.Terms.Title)
		}
		if next == "" {
			return titles
		}
		s.PageToken = next
	}
	b.Fatal("the pages do not end")
	return nil
}

func TestSearchListings_Prices(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for n, p := range []listing.Terms{
		priced("Flat", "USD", "500", "0"), priced("Cheap start", "USD", "100", "1"), priced("Middle", "USD", "300", "0.1"),
		priced("Euro", "EUR", "1", "0"), priced("Twin", "USD", "300", "0.1"),
	} {
		b.record("listing-"+id("lst", n+1), published(n+1, 1, cloudCo, p))
	}
	b.project()
	most := func(minor int64) *int64 { return &minor }
	usd := projections.ListingSearch{Currency: "USD", Sort: projections.SortPrice, BandwidthMbps: 100}
	with := func(change func(*projections.ListingSearch)) projections.ListingSearch {
		s := usd
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		search projections.ListingSearch
		want   string
	}{
		"without usage":          {usd, "Cheap start, Middle, Twin, Flat"},
		"at the other bandwidth": {with(func(s *projections.ListingSearch) { s.BandwidthMbps = 1000 }), "Cheap start, Middle, Twin, Flat"},
		"at the smallest":        {with(func(s *projections.ListingSearch) { s.BandwidthMbps = 0 }), "Cheap start, Middle, Twin, Flat"},
		"with much usage":        {with(func(s *projections.ListingSearch) { s.EstimatedGB = domain.MustDecimal("1000") }), "Middle, Twin, Flat, Cheap start"},
		"with some usage":        {with(func(s *projections.ListingSearch) { s.EstimatedGB = domain.MustDecimal("300.5") }), "Middle, Twin, Cheap start, Flat"},
		"at most":                {with(func(s *projections.ListingSearch) { s.MostPassthrough = most(30000) }), "Cheap start, Middle, Twin"},
		"a cent less":            {with(func(s *projections.ListingSearch) { s.MostPassthrough = most(29999) }), "Cheap start"},
		"at most, with usage": {with(func(s *projections.ListingSearch) {
			s.MostPassthrough = most(40000)
			s.EstimatedGB = domain.MustDecimal("1000")
		}), "Middle, Twin"},
		"at most, the newest":     {with(func(s *projections.ListingSearch) { s.MostPassthrough = most(30000); s.Sort = projections.SortNewest }), "Twin, Middle, Cheap start"},
		"in euro":                 {with(func(s *projections.ListingSearch) { s.Currency = "EUR" }), "Euro"},
		"in francs":               {with(func(s *projections.ListingSearch) { s.Currency = "CHF" }), ""},
		"by price among matches":  {with(func(s *projections.ListingSearch) { s.Text = "start or flat" }), "Cheap start, Flat"},
		"in a metro, by category": {with(func(s *projections.ListingSearch) { s.Metro, s.Category = "FRANKFURT", "private_connect" }), "Cheap start, Middle, Twin, Flat"},
	} {
		for _, limit := range []int{1, 2, 100} {
			c.search.Limit = limit
			if got := strings.Join(b.all(projections.Party(acme), c.search), ", "); got != c.want {
				t.Errorf("%s, %d a page: %s, want %s", name, limit, got, c.want)
			}
		}
	}
	for name, s := range map[string]projections.ListingSearch{
		"no currency":   {Sort: projections.SortPrice},
		"no such order": {Sort: "luck"},
		"usage":         {EstimatedGB: domain.MustDecimal("-1")},
		"most of what":  {MostPassthrough: most(1)},
	} {
		if _, _, err := b.search(s); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v, want Invalid", name, err)
		}
	}
	first, token, err := b.search(with(func(s *projections.ListingSearch) { s.Limit = 1 }))
	if err != nil || len(first) != 1 || token == "" {
		t.Fatalf("%v, %q, %v", first, token, err)
	}
	if _, _, err := b.search(with(func(s *projections.ListingSearch) { s.Limit, s.PageToken, s.Metro = 1, token, "Berlin" })); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a token of another search: %v, want Invalid", err)
	}
	if _, _, err := b.searchAs(projections.Party(acme), with(func(s *projections.ListingSearch) { s.Limit, s.PageToken = 1, token })); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a token of another viewer: %v, want Invalid", err)
	}
}

// TestSearchListings_Words tries what is found while a word is typed.
func TestSearchListings_Words(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.record("listing-"+id("lst", 1), published(1, 1, cloudCo, terms("Provisioning service", "Fast lines", "Paris", 100)))
	b.record("listing-"+id("lst", 2), published(2, 1, cloudCo, terms("Fast lines", "Provisioned in minutes, provisioning included", "Paris", 100)))
	b.record("listing-"+id("lst", 3), published(3, 1, cloudCo, terms("Transit", "Internet access for the theatre", "Paris", 100)))
	b.project()
	for text, want := range map[string]string{
		"provisi":          "Provisioning service, Fast lines",
		"pro":              "Provisioning service, Fast lines",
		"pr":               "", // too short to complete
		"fast provisi":     "Fast lines, Provisioning service",
		"provisi ":         "", // finished by the space
		`"fast lin`:        "", // a phrase has whole words
		"lines -provisi":   "Fast lines, Provisioning service",
		"lines -provision": "",
		"transit or prov":  "Transit",
		"the":              "Transit, Fast lines, Provisioning service", // a stop word does not restrict
		"provision":        "Provisioning service, Fast lines",
		"thea":             "Transit",
	} {
		got := b.all(projections.Party(acme), projections.ListingSearch{Text: text, Limit: 1})
		wanted := strings.Split(want, ", ")
		if want == "" {
			wanted = nil
		}
		if len(got) != len(wanted) || text != "fast provisi" && text != "lines -provisi" && !slices.Equal(got, wanted) {
			t.Errorf("%q: %q, want %q", text, got, wanted)
		}
	}
}

// TestSearchListings_WhoAndWhen walks a private offer and one that comes into force later, in the results and in the counts,
// before and after the moment has passed in the log.
func TestSearchListings_WhoAndWhen(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	soon := now.Add(2 * time.Second)
	private := priced("Private", "USD", "10", "0")
	private.OfferedTo, private.Category = []string{acme}, "voice"
	next := published(2, 2, cloudCo, priced("Later", "USD", "20", "0"))
	next.At, next.EffectiveFrom = now, soon
	never := published(2, 3, cloudCo, priced("Never", "USD", "30", "0"))
	never.At, never.EffectiveFrom = now, soon.Add(time.Hour)
	last := published(2, 4, cloudCo, priced("Last", "USD", "40", "0"))
	last.At, last.EffectiveFrom = now, soon.Add(time.Hour)
	b.record("listing-"+id("lst", 1), published(1, 1, cloudCo, private))
	b.record("listing-"+id("lst", 2), published(2, 1, cloudCo, priced("Now", "USD", "15", "0")), next, never, last)
	b.record("listing-"+id("lst", 3), published(3, 1, cloudCo, priced("Gone", "USD", "5", "0")), listing.Retired{ListingID: id("lst", 3), At: now})
	b.project()
	check := func(when string) {
		t.Helper()
		for _, c := range []struct {
			who  projections.Viewer
			at   time.Time
			want string
		}{
			{projections.Party(stranger), soon.Add(-1), "Now"}, {projections.Party(stranger), soon, "Later"},
			{projections.Party(stranger), soon.Add(time.Hour), "Last"},
			{projections.Party(acme), soon.Add(-1), "Now, Private"}, {projections.Party(acme), soon, "Later, Private"},
			{projections.Party(cloudCo), soon, "Later, Private"}, {projections.Operator(), soon, "Later, Private"},
			{projections.Party(lakeCo), at(3).Add(-time.Hour), ""},
		} {
			if when != "before" && c.at.Before(soon) && c.want != "" {
				continue // what the log has left behind is no longer searched
			}
			for _, order := range []string{projections.SortNewest, projections.SortPrice, projections.SortRelevance} {
				s := projections.ListingSearch{At: c.at, Sort: order, Currency: "USD", Limit: 1}
				got := b.all(c.who, s)
				slices.Sort(got)
				if strings.Join(got, ", ") != c.want {
					t.Errorf("%s, by %s at %s: %q, want %q", when, order, c.at, got, c.want)
				}
			}
			f, err := b.q.FacetsOf(t.Context(), c.who, projections.ListingSearch{At: c.at, Currency: "USD"}, []int64{1200})
			if err != nil {
				t.Fatal(err)
			}
			n := int64(len(strings.FieldsFunc(c.want, func(r rune) bool { return r == ',' })))
			if f.Total != n || f.Prices[0]+f.Prices[1] != n || strings.Contains(c.want, "Private") != (f.Prices[0] == 1) ||
				strings.Contains(fmt.Sprint(f.Category), "voice") != strings.Contains(c.want, "Private") {
				t.Errorf("%s, at %s the counts are %+v, want those of %q", when, c.at, f, c.want)
			}
		}
	}
	check("before")
	time.Sleep(time.Until(soon.Add(10 * time.Millisecond)))
	b.record("listing-"+id("lst", 4), listing.Drafted{ListingID: id("lst", 4), ProviderID: cloudCo, Terms: priced("Draft", "USD", "1", "0"), At: now})
	b.project()
	var open, apart int
	if err := b.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM read_listings), (SELECT count(*) FROM read_private_listings)`).Scan(&open, &apart); err != nil {
		t.Fatal(err)
	}
	if open != 1 || apart != 2 {
		t.Errorf("%d listings are open and %d apart, want 1 and 2", open, apart)
	}
	check("after")
}

func TestFacets(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for n := 1; n <= 6; n++ {
		p := priced("Service", "USD", fmt.Sprint(100*n), "1")
		p.Category = []string{"voice", "media"}[n%2]
		p.Metro = []string{"Paris", "PARIS", "Berlin"}[n%3]
		b.record("listing-"+id("lst", n), published(n, 1, []string{cloudCo, lakeCo}[n/6], p))
	}
	b.project()
	count := func(s projections.ListingSearch) projections.Facets {
		t.Helper()
		s.At = at(100_000)
		f, err := b.q.FacetsOf(t.Context(), projections.Party(acme), s, []int64{20000, 35000})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	f := count(projections.ListingSearch{Currency: "USD"})
	if got := fmt.Sprint(f); got != fmt.Sprintf("{6 [{media 3} {voice 3}] [{PARIS 4} {Berlin 2}] [{%s 5} {%s 1}] [{100 6} {1000 6}] [2 1 3]}", cloudCo, lakeCo) &&
		got != fmt.Sprintf("{6 [{media 3} {voice 3}] [{Paris 4} {Berlin 2}] [{%s 5} {%s 1}] [{100 6} {1000 6}] [2 1 3]}", cloudCo, lakeCo) {
		t.Errorf("the facets are %s", got)
	}
	// A facet's own filter does not count for it, the others' do.
	f = count(projections.ListingSearch{Category: "voice", Metro: "paris"})
	if f.Total != 2 || len(f.Category) != 2 || len(f.Metro) != 2 || f.Metro[0].Count != 2 || f.Prices != nil {
		t.Errorf("the facets of a choice are %+v", f)
	}
	f = count(projections.ListingSearch{Currency: "USD", EstimatedGB: domain.MustDecimal("150")})
	if got := fmt.Sprint(f.Prices); got != "[0 2 4]" {
		t.Errorf("the price bands with usage are %s", got)
	}
}
