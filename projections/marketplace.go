package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/events"
)

// MaxSearchText is the longest text to search for, in characters.
const MaxSearchText = 200

var listings = familyOf("listing", listing.Events())

// applyMarketplace keeps the listings on the market: what was last published, until it is retired.
// A draft is nobody else's business, so it makes no row.
func applyMarketplace(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	type publication struct {
		position int64
		listing.Published
	}
	published := make(map[string]publication)
	retired := make(map[string]bool)
	for _, e := range batch {
		id, ours, err := listings.id(e)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		switch ev := e.Event.(type) {
		case listing.Drafted, listing.Submitted, listing.Rejected:
		case listing.Published:
			p := publication{int64(e.Position), ev}
			if earlier, ok := published[id]; ok { // of the same batch: the first one gave it its place
				p.position = earlier.position
			}
			published[id] = p
		case listing.Retired:
			retired[id] = true
			delete(published, id)
		default:
			return unhandled(e)
		}
	}
	if len(retired) > 0 { // first, so that nothing of a retired row outlives it
		if _, err := tx.Exec(ctx, `DELETE FROM read_listings WHERE listing_id = ANY($1)`, keys(retired)); err != nil {
			return err
		}
	}
	if len(published) == 0 {
		return nil
	}
	ids := keys(published)
	var providers, metros, bandwidths, titles, descriptions, terms []string
	var positions []int64
	var versions []int
	for _, id := range ids {
		p := published[id]
		doc, err := json.Marshal(p.Terms)
		if err != nil {
			return domain.Errorf(domain.Internal, "projections.applyMarketplace", "the terms of %s have no JSON: %w", id, err)
		}
		providers = append(providers, p.ProviderID)
		metros = append(metros, metroKey(p.Terms.Metro))
		bandwidths = append(bandwidths, intArray(p.Terms.BandwidthsMbps))
		titles = append(titles, storable(p.Terms.Title))
		descriptions = append(descriptions, storable(p.Terms.Description))
		terms = append(terms, string(doc))
		positions = append(positions, p.position)
		versions = append(versions, p.Version)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_listings
			(listing_id, position, provider_id, version, metro, bandwidths_mbps, title, description, terms)
		SELECT id, position, provider_id, version, metro, bandwidths::int[], title, description, terms::json
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
			AS t (id, position, provider_id, version, metro, bandwidths, title, description, terms)
		ON CONFLICT (listing_id) DO UPDATE SET
			version = EXCLUDED.version, metro = EXCLUDED.metro, bandwidths_mbps = EXCLUDED.bandwidths_mbps,
			title = EXCLUDED.title, description = EXCLUDED.description, terms = EXCLUDED.terms`,
		ids, positions, providers, versions, metros, bandwidths, titles, descriptions, terms)
	return err
}

func keys[V any](m map[string]V) []string {
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// metroKey makes metros equal that differ only in case.
func metroKey(metro string) string { return strings.ToLower(storable(metro)) }

// intArray is PostgreSQL's text form of an array: unnest would flatten an array of arrays.
func intArray(values []int) string {
	b := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(v), 10)
	}
	return string(append(b, '}'))
}

// Listing is a listing on the market, as last published.
type Listing struct {
	ID         string
	ProviderID string
	Version    int    // of the published terms
	State      string // always "published": nothing else is on the market
	Terms      listing.Terms

	EffectiveFrom time.Time
}

// ListingSearch says which listings to find. Zero fields do not restrict.
type ListingSearch struct {
	// Text is what to find in title and description, as people write it to a search engine: words that must all be
	// there, "quoted phrases", or, -not. A text of nothing but stop words ("the") does not restrict.
	Text          string
	Metro         string // in any case
	BandwidthMbps int    // one that the listing sells
	Limit         int
	PageToken     string
}

// SearchListings returns a page of the listings on the market, last listed first, and the token of the next page ("" at
// the end). A listing keeps its place when it is published again, so pages do not shift. It returns an Invalid error
// that names the fields that are out of range.
func (q Queries) SearchListings(ctx context.Context, search ListingSearch) ([]Listing, string, error) {
	const op = "projections.SearchListings"
	text, metro := storable(search.Text), metroKey(search.Metro)
	p, err := listOf("listings", text, metro, strconv.Itoa(search.BandwidthMbps)).
		pageOf(op, search.Limit, search.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	var problems domain.Problems
	problems.Check(utf8.RuneCountInString(text) <= MaxSearchText, "/q", "must have at most %d characters", MaxSearchText)
	problems.Check(utf8.ValidString(search.Text), "/q", "must be UTF-8")
	problems.Check(utf8.ValidString(search.Metro), "/metro", "must be UTF-8")
	problems.Check(search.BandwidthMbps >= 0, "/bandwidth_mbps", "must be positive")
	if err := problems.Err(op); err != nil {
		return nil, "", err
	}

	// Only the conditions that are asked for are written down, so that the planner sees which index serves them.
	args := []any{p.place, p.ask()}
	var where strings.Builder
	and := func(condition string, arg any) {
		args = append(args, arg)
		fmt.Fprintf(&where, " AND "+condition, len(args))
	}
	if text != "" { // read_listings_search; numnode is 0 when only stop words were given
		and(`(search @@ websearch_to_tsquery('pg_catalog.english', $%[1]d)
			OR numnode(websearch_to_tsquery('pg_catalog.english', $%[1]d)) = 0)`, text)
	}
	if metro != "" { // read_listings_metro
		and(`metro = $%d`, metro)
	}
	if search.BandwidthMbps > 0 { // read_listings_bandwidths
		and(`bandwidths_mbps @> ARRAY[$%d::int]`, search.BandwidthMbps)
	}
	rows, err := q.DB.Query(ctx, `
		SELECT position, listing_id, provider_id, version, terms FROM read_listings
		WHERE position < $1`+where.String()+` ORDER BY position DESC LIMIT $2`, args...)
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	type placed struct {
		place int64
		Listing
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (placed, error) {
		l := placed{Listing: Listing{State: listing.StatePublished}}
		var terms []byte
		if err := row.Scan(&l.place, &l.ID, &l.ProviderID, &l.Version, &terms); err != nil {
			return l, err
		}
		if err := json.Unmarshal(terms, &l.Terms); err != nil {
			return l, broken(op, err)
		}
		return l, nil
	})
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, next := cut(p, found, func(l placed) int64 { return l.place })
	page := make([]Listing, len(found))
	for i, l := range found {
		page[i] = l.Listing
	}
	return page, next, nil
}
