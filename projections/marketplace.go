package projections

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/events"
)

var listings = familyOf("listing", listing.Events())

// offer is a version of a listing from when it is in force until another takes its place.
type offer struct {
	listing.Published
	position int64      // of the listing's first publication
	to       *time.Time // nil: nothing takes its place yet
}

// applyMarketplace keeps the listings on the market: the versions that are in force, or will be, until the listing is
// retired. A draft is nobody else's business, so it makes no row.
func applyMarketplace(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	offers := make(map[string][]offer)     // of this batch
	earliest := make(map[string]time.Time) // when the first of them takes the place of what there was
	places := make(map[string]int64)       // of the first of them
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
		case listing.Drafted, listing.Submitted, listing.Rejected, listing.DraftDiscarded:
		case listing.Published:
			from := ev.InForceFrom()
			if first, ok := earliest[id]; !ok || from.Before(first) {
				earliest[id] = from
			}
			if places[id] == 0 {
				places[id] = int64(e.Position)
			}
			offers[id] = append(cutOff(offers[id], from), offer{Published: ev})
		case listing.Retired:
			retired[id] = true
			delete(offers, id)
			delete(earliest, id)
		default:
			return unhandled(e)
		}
	}
	if len(retired) > 0 {
		for _, table := range []string{"read_listings", "read_listing_prices", "read_private_listings", "read_private_listing_prices"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE listing_id = ANY($1)`, keys(retired)); err != nil {
				return err
			}
		}
	}
	if len(offers) > 0 {
		if err := makeRoom(ctx, tx, offers, earliest, places); err != nil {
			return err
		}
		if err := writeOffers(ctx, tx, offers); err != nil {
			return err
		}
	}
	return moveOffers(ctx, tx, batch[len(batch)-1].RecordedAt)
}

// cutOff ends offers at the time when a later version comes into force; those that would begin after it never will.
func cutOff(offers []offer, at time.Time) []offer {
	var kept []offer
	for _, o := range offers {
		if !o.InForceFrom().Before(at) {
			continue
		}
		if o.to == nil || at.Before(*o.to) {
			o.to = &at
		}
		kept = append(kept, o)
	}
	return kept
}

// makeRoom cuts off what is there of the listings, and gives the batch's offers the places that their listings have.
func makeRoom(ctx context.Context, tx pgx.Tx, offers map[string][]offer, earliest map[string]time.Time, places map[string]int64) error {
	ids := keys(offers)
	from := make([]time.Time, len(ids))
	for i, id := range ids {
		from[i] = earliest[id]
	}
	rows, err := tx.Query(ctx, `
		SELECT listing_id, min(position) FROM (
			SELECT listing_id, position FROM read_listings WHERE listing_id = ANY($1)
			UNION ALL SELECT listing_id, position FROM read_private_listings WHERE listing_id = ANY($1)) AS l
		GROUP BY listing_id`, ids)
	if err != nil {
		return err
	}
	var id string
	var position int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &position}, func() error {
		places[id] = position
		return nil
	}); err != nil {
		return err
	}
	for _, id := range ids {
		for j := range offers[id] {
			offers[id][j].position = places[id]
		}
	}
	for _, table := range []string{"read_listing", "read_private_listing"} {
		_, err := tx.Exec(ctx, `
			WITH gone AS (
				DELETE FROM `+table+`s AS l USING unnest($1::text[], $2::timestamptz[]) AS t (id, at)
				WHERE l.listing_id = t.id AND l.effective_from >= t.at RETURNING l.listing_id, l.version
			)
			DELETE FROM `+table+`_prices AS p USING gone WHERE p.listing_id = gone.listing_id AND p.version = gone.version`, ids, from)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE `+table+`s AS l SET effective_to = t.at FROM unnest($1::text[], $2::timestamptz[]) AS t (id, at)
			WHERE l.listing_id = t.id AND (l.effective_to IS NULL OR l.effective_to > t.at)`, ids, from)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeOffers inserts the batch's offers: what everybody may find at once, and everything else apart from it.
func writeOffers(ctx context.Context, tx pgx.Tx, offers map[string][]offer) error {
	var open, apart []offer
	for _, id := range keys(offers) {
		for _, o := range offers[id] {
			if o.Terms.Private() || o.InForceFrom().After(o.At) {
				apart = append(apart, o)
			} else {
				open = append(open, o)
			}
		}
	}
	if err := insertOffers(ctx, tx, "read_listing", open); err != nil {
		return err
	}
	return insertOffers(ctx, tx, "read_private_listing", apart)
}

func insertOffers(ctx context.Context, tx pgx.Tx, table string, offers []offer) error {
	if len(offers) == 0 {
		return nil
	}
	var ids, providers, categories, metros, metroNames, bandwidths, titles, descriptions, terms []string
	var to []*string
	var versions []int
	var positions []int64
	var from []time.Time
	var until []*time.Time
	var prices priceColumns
	for _, o := range offers {
		doc, err := json.Marshal(o.Terms)
		if err != nil {
			return domain.Errorf(domain.Internal, "projections.applyMarketplace", "the terms of %s have no JSON: %w", o.ListingID, err)
		}
		ids, versions, positions = append(ids, o.ListingID), append(versions, o.Version), append(positions, o.position)
		providers, categories = append(providers, o.ProviderID), append(categories, storable(o.Terms.Category))
		metros, metroNames = append(metros, metroKey(o.Terms.Metro)), append(metroNames, storable(o.Terms.Metro))
		bandwidths, terms = append(bandwidths, intArray(o.Terms.BandwidthsMbps)), append(terms, string(doc))
		titles, descriptions = append(titles, storable(o.Terms.Title)), append(descriptions, storable(o.Terms.Description))
		from, until = append(from, o.InForceFrom()), append(until, o.to)
		var named *string
		if o.Terms.Private() {
			list := "{" + strings.Join(o.Terms.OfferedTo, ",") + "}" // identifiers need no quotes
			named = &list
		}
		to = append(to, named)
		prices.add(o)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO `+table+`s (listing_id, version, position, provider_id, offered_to, effective_from, effective_to, category,
			metro, metro_name, bandwidths_mbps, title, description, terms)
		SELECT id, version, position, provider_id, offered_to::text[], effective_from, effective_to, category,
			metro, metro_name, bandwidths::int[], title, description, terms::json
		FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::text[],
			$9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
			AS t (id, version, position, provider_id, offered_to, effective_from, effective_to, category, metro, metro_name,
				bandwidths, title, description, terms)`,
		ids, versions, positions, providers, to, from, until, categories, metros, metroNames, bandwidths, titles, descriptions, terms)
	if err != nil {
		return err
	}
	return prices.insert(ctx, tx, table)
}

// moveOffers puts what came into force by a time, and is everybody's, among the rest of the market, and forgets what is no
// longer in force. The time is the log's own, so that a rebuild moves the same rows.
func moveOffers(ctx context.Context, tx pgx.Tx, by time.Time) error {
	const columns = `listing_id, version, position, provider_id, offered_to, effective_from, effective_to, category, metro, metro_name,
		bandwidths_mbps, title, description, terms`
	const prices = `listing_id, version, bandwidth_mbps, position, currency, monthly, usage_gb, usage_price, usage_slope`
	for _, table := range []string{"read_listing", "read_private_listing"} {
		_, err := tx.Exec(ctx, `
			WITH gone AS (DELETE FROM `+table+`s WHERE effective_to <= $1 RETURNING listing_id, version)
			DELETE FROM `+table+`_prices AS p USING gone WHERE p.listing_id = gone.listing_id AND p.version = gone.version`, by)
		if err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		WITH moved AS ( -- read_private_listings_waiting
			DELETE FROM read_private_listings WHERE offered_to IS NULL AND effective_from <= $1 RETURNING `+columns+`
		), prices AS (
			DELETE FROM read_private_listing_prices AS p USING moved AS m WHERE p.listing_id = m.listing_id AND p.version = m.version
			RETURNING p.listing_id, p.version, p.bandwidth_mbps, p.position, p.currency, p.monthly, p.usage_gb, p.usage_price, p.usage_slope
		), listings AS (INSERT INTO read_listings (`+columns+`) SELECT `+columns+` FROM moved)
		INSERT INTO read_listing_prices (`+prices+`) SELECT `+prices+` FROM prices`, by)
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
