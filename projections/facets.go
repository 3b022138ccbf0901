package projections

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// maxFacetValues is how many values of a facet are counted, the most frequent ones.
const maxFacetValues = 50

// Facets are how many listings a search would find with one more filter, by value, most first. Each facet is counted
// without its own filter, so that the choice can be changed. What the viewer may not see is not counted.
type Facets struct {
	Total                                 int64 // of the search as it is
	Category, Metro, Provider, Bandwidths []FacetCount
	Prices                                []int64 // by band; nil without a currency
}

// FacetCount is how often a value occurs.
type FacetCount struct {
	Value string
	Count int64
}

// FacetsOf counts a search's facets. bounds are the tops of the price bands but the last, in minor units of what the
// provider asks: band i holds what costs at most bounds[i] and more than bounds[i-1].
func (q Queries) FacetsOf(ctx context.Context, viewer Viewer, search ListingSearch, bounds []int64) (Facets, error) {
	const op = "projections.FacetsOf"
	if err := viewer.check(op); err != nil {
		return Facets{}, err
	}
	if err := search.check(op); err != nil {
		return Facets{}, err
	}
	priced := search.priced() || search.Currency.Valid() && len(bounds) > 0
	c := search.conditions(priced)
	inside := func(facet string) string {
		if own, ok := c.own[facet]; ok {
			return own
		}
		return `true`
	}
	price, join := `NULL::float8`, ``
	if priced {
		price, join = `(`+c.key+`)::float8`, c.join
	}
	// Without a facet's filter more may be found, and with none of them the most: one pass over that serves them all.
	found := c.arms(viewer, func(tables, visible string) string {
		return `SELECT o.category, o.metro, o.metro_name, o.provider_id, o.bandwidths_mbps, ` + price + ` AS price, ` +
			inside("category") + ` AS in_category, ` + inside("metro") + ` AS in_metro, ` + inside("provider") + ` AS in_provider
			FROM ` + strings.ReplaceAll(`%ss AS o`+join, "%s", tables) + ` WHERE` + c.all + visible
	})
	most := c.arg(maxFacetValues)
	sql := `WITH found AS MATERIALIZED (` + found + `), chosen AS (SELECT * FROM found WHERE in_category AND in_metro AND in_provider)
		SELECT 'total', '', count(*) FROM chosen
		UNION ALL (SELECT 'category', category, count(*) FROM found WHERE in_metro AND in_provider GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT ` + most + `)
		UNION ALL (SELECT 'metro', min(metro_name), count(*) FROM found WHERE in_category AND in_provider GROUP BY metro ORDER BY 3 DESC, 2 LIMIT ` + most + `)
		UNION ALL (SELECT 'provider', provider_id, count(*) FROM found WHERE in_category AND in_metro GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT ` + most + `)
		UNION ALL (SELECT 'bandwidth', mbps::text, count(*) FROM chosen, unnest(bandwidths_mbps) AS mbps GROUP BY mbps ORDER BY 3 DESC, mbps LIMIT ` + most + `)`
	if priced && len(bounds) > 0 {
		tops := make([]float64, len(bounds))
		for i, b := range bounds {
			tops[i] = float64(b) + 0.5 // what costs the bound is below it, whatever the rounding
		}
		sql += ` UNION ALL (SELECT 'price', width_bucket(price, ` + c.arg(tops) + `::float8[])::text, count(*) FROM chosen GROUP BY 2)`
	}
	rows, err := q.DB.Query(ctx, sql, c.args...)
	if err != nil {
		return Facets{}, unavailable(op, err)
	}
	var f Facets
	if priced && len(bounds) > 0 {
		f.Prices = make([]int64, len(bounds)+1)
	}
	var facet, value string
	var count int64
	_, err = pgx.ForEachRow(rows, []any{&facet, &value, &count}, func() error {
		one := FacetCount{value, count}
		switch facet {
		case "total":
			f.Total = count
		case "category":
			f.Category = append(f.Category, one)
		case "metro":
			f.Metro = append(f.Metro, one)
		case "provider":
			f.Provider = append(f.Provider, one)
		case "bandwidth":
			f.Bandwidths = append(f.Bandwidths, one)
		case "price":
			band, err := strconv.Atoi(value)
			if err != nil {
				return err
			}
			f.Prices[band] = count
		}
		return nil
	})
	return f, unavailable(op, err)
}
