package projections_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

// benchListings is how many listings BenchmarkSearch searches.
const benchListings = 100_000

// someListing is the nth of a market in which words, metros and prices are as unevenly common as in any other.
func someListing(r *rand.Rand, n int) listing.Terms {
	word := func() string { return fmt.Sprintf("word%d", int(float64(5000)*r.Float64()*r.Float64()*r.Float64())) }
	kind := listing.Categories[r.IntN(len(listing.Categories))]
	t := priced(strings.ReplaceAll(kind, "_", " ")+" "+word()+" "+word(), "USD", fmt.Sprint(50+r.IntN(2000)), fmt.Sprintf("0.%03d", r.IntN(100)))
	t.Category, t.Metro = kind, fmt.Sprintf("Metro %d", int(float64(100)*r.Float64()*r.Float64()))
	var text []string
	for range 20 {
		text = append(text, word())
	}
	t.Description = "A private connection with " + strings.Join(text, " ")
	return t
}

// BenchmarkSearch measures searches over a market of 100 000 listings, as a tenant. With CROSSBILL_EXPLAIN set it logs their plans.
func BenchmarkSearch(b *testing.B) {
	pool := pgtest.New(b)
	ctx := context.Background()
	var market projections.Projection
	for _, p := range projections.All() {
		if p.Name == "marketplace" {
			market = p
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	const batch = 2000
	for n := 0; n < benchListings; n += batch {
		var page []events.Recorded
		for i := n + 1; i <= n+batch; i++ {
			e := published(i, 1, id("org", 1+i%500), someListing(r, i))
			e.At = at(0)
			page = append(page, events.Recorded{Position: events.Position(i), Stream: "listing-" + e.ListingID, Version: 1,
				Type: e.EventType(), RecordedAt: at(1), Event: e})
		}
		if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return market.Apply(ctx, tx, page) }); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := pool.Exec(ctx, `VACUUM ANALYZE read_listings; `); err != nil {
		b.Fatal(err)
	}
	if _, err := pool.Exec(ctx, `VACUUM ANALYZE read_listing_prices`); err != nil {
		b.Fatal(err)
	}
	viewer := projections.Party(acme)
	ctx = projections.Viewing(ctx, viewer)
	q := projections.Queries{DB: projections.Door{Pool: pool}}
	most := int64(30000)
	for name, s := range map[string]projections.ListingSearch{
		"newest":              {},
		"rare words":          {Text: "word1200 word3"},
		"a common word":       {Text: "word1"},
		"prefix":              {Text: "word12 priv"},
		"words in a metro":    {Text: "word30", Metro: "metro 3"},
		"price":               {Sort: projections.SortPrice, Currency: "USD", BandwidthMbps: 100},
		"price in a metro":    {Sort: projections.SortPrice, Currency: "USD", BandwidthMbps: 100, Metro: "metro 3", Category: "voice"},
		"price with usage":    {Sort: projections.SortPrice, Currency: "USD", BandwidthMbps: 100, EstimatedGB: domain.MustDecimal("2000")},
		"price, words, usage": {Text: "word30", Sort: projections.SortPrice, Currency: "USD", BandwidthMbps: 100, EstimatedGB: domain.MustDecimal("2000"), MostPassthrough: &most},
	} {
		s.At, s.Limit = day.Add(time.Hour), 20
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := q.SearchListings(ctx, viewer, s); err != nil {
					b.Fatal(err)
				}
			}
		})
		if os.Getenv("CROSSBILL_EXPLAIN") != "" {
			explained := projections.Queries{DB: explaining{b, q.DB}}
			_, _, _ = explained.SearchListings(ctx, viewer, s) // the plan's rows are no listings
		}
	}
	for name, s := range map[string]projections.ListingSearch{"facets of all": {}, "facets of words": {Text: "word30"}} {
		s.At = day.Add(time.Hour)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := q.FacetsOf(ctx, viewer, s, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// explaining logs the plan of each query in front of its answer.
type explaining struct {
	b  *testing.B
	db projections.Database
}

func (e explaining) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := e.db.Query(ctx, `EXPLAIN (ANALYZE, COSTS OFF) `+sql, args...)
	if err != nil {
		return nil, err
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	e.b.Logf("%s", strings.Join(plan, "\n"))
	return e.db.Query(ctx, sql, args...)
}
