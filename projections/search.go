package projections

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/listing"
)

// Limits of a search.
const (
	MaxSearchText = 200 // characters
	minPrefix     = 3   // characters of an unfinished word from which on it is completed; fewer begin too many words
)

// Orders of a search.
const (
	SortRelevance = "relevance" // best match first, then newest
	SortPrice     = "price"     // cheapest first at the stated bandwidth and usage, then oldest
	SortNewest    = "newest"
)

// Listing is a version of a listing that is on offer.
type Listing struct {
	ID            string
	ProviderID    string
	Version       int
	State         string // always "published": nothing else is on the market
	EffectiveFrom time.Time
	Terms         listing.Terms
}

// ListingSearch says which listings to find. Zero fields do not restrict.
type ListingSearch struct {
	// Text is what to find in title and description, as people write it to a search engine: words that must all be
	// there, "quoted phrases", or, -not. The last word may be unfinished. A text of nothing but stop words ("the") does
	// not restrict.
	Text          string
	Category      string
	Metro         string // in any case
	ProviderID    string
	BandwidthMbps int // one that the listing sells

	// Prices are compared in one currency, for a full month at BandwidthMbps (the listing's smallest without it) and
	// EstimatedGB. MostPassthrough is the most that the provider may ask, in minor units.
	Currency        domain.Currency
	EstimatedGB     domain.Decimal
	MostPassthrough *int64

	Sort      string    // SortRelevance by default when there is a text, otherwise SortNewest
	At        time.Time // what is in force then
	Limit     int
	PageToken string
}

// order is Sort or its default.
func (s ListingSearch) order() string {
	switch {
	case s.Sort != "":
		return s.Sort
	case strings.TrimSpace(s.Text) != "":
		return SortRelevance
	}
	return SortNewest
}

// priced reports whether the search needs to know prices.
func (s ListingSearch) priced() bool { return s.order() == SortPrice || s.MostPassthrough != nil }

func (s ListingSearch) check(op string) error {
	var p domain.Problems
	p.Check(utf8.RuneCountInString(s.Text) <= MaxSearchText, "/q", "must have at most %d characters", MaxSearchText)
	p.Check(utf8.ValidString(s.Text), "/q", "must be UTF-8")
	p.Check(utf8.ValidString(s.Metro), "/metro", "must be UTF-8")
	p.Check(utf8.ValidString(s.Category), "/category", "must be UTF-8")
	p.Check(s.BandwidthMbps >= 0, "/bandwidth_mbps", "must be positive")
	p.Check(s.EstimatedGB.Sign() >= 0 && s.EstimatedGB.Cmp(domain.DecimalFromInt(greatestGB)) <= 0, "/estimated_gb", "must be 0 to %d", greatestGB)
	p.OneOf("/sort", s.order(), SortRelevance, SortPrice, SortNewest)
	p.Check(!s.priced() || s.Currency.Valid(), "/currency", "must be given where prices are compared: only prices in one currency can be")
	return p.Err(op)
}

// list names the search in page tokens.
func (s ListingSearch) list(viewer Viewer) list {
	most := ""
	if s.MostPassthrough != nil {
		most = strconv.FormatInt(*s.MostPassthrough, 10)
	}
	return listOf("listings", viewer.key(), storable(s.Text), s.Category, metroKey(s.Metro), s.ProviderID, strconv.Itoa(s.BandwidthMbps),
		string(s.Currency), s.EstimatedGB.String(), most, s.order())
}

// A search's page token has, beside the place, what the search is ordered by there: eight bytes, the bits of a float.
const (
	searchTokenFormat = 2
	searchTokenLen    = 1 + listNameLen + 8 + 8
)

func (l list) searchToken(key float64, place int64) string {
	b := append([]byte{searchTokenFormat}, l[:]...)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(key))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, uint64(place)))
}

func (l list) parseSearch(token string) (key float64, place int64, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != searchTokenLen || b[0] != searchTokenFormat || list(b[1:1+listNameLen]) != l {
		return 0, 0, false
	}
	b = b[1+listNameLen:]
	key, place = math.Float64frombits(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
	return key, place, place > 0 && !math.IsNaN(key)
}

// conditions are a search's WHERE clause and its arguments, for the tables of the open market and of private offers alike.
type conditions struct {
	args []any
	text string            // the tsquery's expression; "" if there is no text
	key  string            // what prices are compared by; "" if they are not
	join string            // of the prices to the listing; %s is the tables' name
	all  string            // those that no facet counts without
	own  map[string]string // by facet: its own condition
}

func (c *conditions) arg(v any) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args))
}

// conditions writes down only what is asked for, so that the planner sees which index serves it.
func (s ListingSearch) conditions(priced bool) *conditions {
	c := &conditions{own: map[string]string{}}
	now := c.arg(s.At)
	c.all = ` o.effective_from <= ` + now + ` AND (o.effective_to IS NULL OR o.effective_to > ` + now + `)`
	if text := storable(s.Text); strings.TrimSpace(text) != "" {
		c.text = c.query(text) // read_listings_search; numnode is 0 when only stop words were given
		c.all += fmt.Sprintf(` AND (o.search @@ %[1]s OR numnode(%[1]s) = 0)`, c.text)
	}
	if s.BandwidthMbps > 0 { // read_listings_bandwidths
		c.all += ` AND o.bandwidths_mbps @> ARRAY[` + c.arg(s.BandwidthMbps) + `::int]`
	}
	if priced {
		c.join = ` JOIN %s_prices AS p ON p.listing_id = o.listing_id AND p.version = o.version AND p.bandwidth_mbps = ` +
			c.arg(s.BandwidthMbps) + ` AND p.currency = ` + c.arg(string(s.Currency))
		c.key = `p.monthly`
		if s.EstimatedGB.Sign() > 0 { // a line from the knot before; see migrations/0071_search.sql
			gb := c.arg(float(s.EstimatedGB)) + `::float8`
			knot := `width_bucket(` + gb + `, p.usage_gb)`
			c.key = `(p.usage_price[` + knot + `] + p.usage_slope[` + knot + `] * (` + gb + ` - p.usage_gb[` + knot + `]))`
		}
		if s.MostPassthrough != nil {
			// Without usage this is exact. With usage it may let in what costs a minor unit more: the caller knows exactly.
			slack := int64(0)
			if s.EstimatedGB.Sign() > 0 {
				slack = 1
			}
			c.all += ` AND ` + c.key + ` <= ` + c.arg(*s.MostPassthrough+slack)
			if slack > 0 { // read_listing_prices_monthly: usage never makes anything cheaper than none
				c.all += ` AND p.monthly <= ` + c.arg(*s.MostPassthrough+slack)
			}
		}
	}
	if s.Category != "" { // read_listings_category
		c.own["category"] = `o.category = ` + c.arg(s.Category)
	}
	if s.Metro != "" { // read_listings_metro
		c.own["metro"] = `o.metro = ` + c.arg(metroKey(s.Metro))
	}
	if s.ProviderID != "" { // read_listings_provider
		c.own["provider"] = `o.provider_id = ` + c.arg(s.ProviderID)
	}
	return c
}

// query is the tsquery of a text whose last word, if it is a plain one, may be unfinished.
func (c *conditions) query(text string) string {
	full := `websearch_to_tsquery('pg_catalog.english', ` + c.arg(text) + `)`
	head, last := unfinished(text)
	if last == "" {
		return full
	}
	return fmt.Sprintf(`CASE WHEN numnode(websearch_to_tsquery('pg_catalog.english', %[2]s)) = 0 THEN %[1]s
		ELSE %[1]s || (websearch_to_tsquery('pg_catalog.english', %[3]s) && to_tsquery('pg_catalog.simple', %[2]s || ':*')) END`,
		full, c.arg(last), c.arg(head))
}

// unfinished cuts off the last word of a text if more may be typed of it: letters and digits, not in quotes, not denied,
// not "or".
func unfinished(text string) (head, last string) {
	i := strings.LastIndexFunc(text, unicode.IsSpace) + 1 // a space is one byte or more; what follows it is the word
	if i > 0 {
		_, size := utf8.DecodeRuneInString(text[i-1:])
		i += size - 1
	}
	head, last = text[:i], text[i:]
	plain := strings.IndexFunc(last, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) < 0
	open := strings.Count(head, `"`)%2 == 1
	after := strings.Fields(strings.ToLower(head))
	or := strings.EqualFold(last, "or") || len(after) > 0 && after[len(after)-1] == "or"
	if !plain || open || or || utf8.RuneCountInString(last) < minPrefix {
		return text, ""
	}
	return head, last
}

// where is the whole clause, without the own conditions of one facet.
func (c *conditions) where(but string) string {
	s := c.all
	for _, facet := range []string{"category", "metro", "provider"} {
		if own, ok := c.own[facet]; ok && facet != but {
			s += ` AND ` + own
		}
	}
	return s
}

// arms are the two halves of the market that a viewer sees: what is everybody's, and what is offered to it or its own.
func (c *conditions) arms(viewer Viewer, arm func(tables, visible string) string) string {
	visible := ` AND true`
	if !viewer.operator {
		who := c.arg(viewer.organisation)
		visible = ` AND (o.provider_id = ` + who + ` OR o.offered_to IS NULL OR o.offered_to @> ARRAY[` + who + `::text])`
	}
	return `(` + arm("read_listing", "") + `) UNION ALL (` + arm("read_private_listing", visible) + `)`
}

// SearchListings returns a page of what the viewer may buy at a time, and the token of the next page ("" at the end). A
// listing keeps its place when it is published again, so pages do not shift. It returns an Invalid error that names the
// fields that are out of range.
func (q Queries) SearchListings(ctx context.Context, viewer Viewer, search ListingSearch) ([]Listing, string, error) {
	const op = "projections.SearchListings"
	if err := viewer.check(op); err != nil {
		return nil, "", err
	}
	if err := search.check(op); err != nil {
		return nil, "", err
	}
	name := search.list(viewer)
	p, err := name.pageOf(op, search.Limit, "", fromStart)
	if err != nil {
		return nil, "", err
	}
	c := search.conditions(search.priced())
	key, direction, compare := `0::float8`, `DESC`, `<`
	from := `%ss AS o`
	switch search.order() {
	case SortRelevance:
		if c.text != "" {
			key = `ts_rank(o.search, ` + c.text + `)::float8`
		}
	case SortPrice:
		key, direction, compare = c.key, `ASC`, `>`
	}
	if search.priced() {
		from += c.join
	}
	place := `o.position`
	if search.order() == SortPrice {
		place = `p.position` // the index's own
	}
	after := ``
	ordered := key + ` ` + direction + `, ` + place + ` ` + direction
	if search.order() == SortNewest {
		ordered = place + ` ` + direction
	}
	if search.PageToken != "" {
		k, at, ok := name.parseSearch(search.PageToken)
		if !ok {
			var problems domain.Problems
			problems.Add("/page_token", "is not the next_page_token of this search with the same filters")
			return nil, "", problems.Err(op)
		}
		if search.order() == SortNewest {
			after = ` AND ` + place + ` ` + compare + ` ` + c.arg(at)
		} else if key == `p.monthly` {
			after = ` AND (p.monthly, p.position) > (` + c.arg(int64(k)) + `, ` + c.arg(at) + `)`
		} else {
			after = ` AND (` + key + `, ` + place + `) ` + compare + ` (` + c.arg(k) + `::float8, ` + c.arg(at) + `)`
		}
	}
	limit := c.arg(p.ask())
	sql := `SELECT place, key, listing_id, provider_id, version, effective_from, terms FROM (` +
		c.arms(viewer, func(tables, visible string) string {
			source := strings.ReplaceAll(from, "%s", tables)
			return `SELECT ` + place + ` AS place, (` + key + `)::float8 AS key, o.listing_id, o.provider_id, o.version, o.effective_from, o.terms
				FROM ` + source + ` WHERE` + c.where("") + visible + after + ` ORDER BY ` + ordered + ` LIMIT ` + limit
		}) + `) AS found ORDER BY key ` + direction + `, place ` + direction + ` LIMIT ` + limit
	return q.page(ctx, op, p, name, sql, c.args)
}

func (q Queries) page(ctx context.Context, op string, p page, name list, sql string, args []any) ([]Listing, string, error) {
	rows, err := q.DB.Query(ctx, sql, args...)
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	type placed struct {
		place int64
		key   float64
		Listing
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (placed, error) {
		l := placed{Listing: Listing{State: listing.StatePublished}}
		var terms []byte
		if err := row.Scan(&l.place, &l.key, &l.ID, &l.ProviderID, &l.Version, &l.EffectiveFrom, &terms); err != nil {
			return l, err
		}
		l.EffectiveFrom = l.EffectiveFrom.UTC()
		if err := json.Unmarshal(terms, &l.Terms); err != nil {
			return l, broken(op, err)
		}
		return l, nil
	})
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	next := ""
	if len(found) > p.limit {
		found = found[:p.limit]
		last := found[p.limit-1]
		next = name.searchToken(last.key, last.place)
	}
	page := make([]Listing, len(found))
	for i, l := range found {
		page[i] = l.Listing
	}
	return page, next, nil
}

// BandwidthOf is the bandwidth a search's prices are for in a listing: the one that is searched for, or the smallest.
func (s ListingSearch) BandwidthOf(t listing.Terms) int {
	if s.BandwidthMbps > 0 {
		return s.BandwidthMbps
	}
	smallest := 0
	for _, mbps := range t.BandwidthsMbps {
		if smallest == 0 || mbps < smallest {
			smallest = mbps
		}
	}
	return smallest
}
