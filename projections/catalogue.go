package projections

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/listing"
	"crossbill/domain/location"
	"crossbill/events"
)

// OwnListing is a listing as its provider sees it. State has no versions: there may be a thousand, and a list shows the
// newest.
type OwnListing struct {
	State         listing.State  `json:"state"`
	Published     *listing.Terms `json:"published,omitempty"` // the newest version's terms; nil before the first
	PublishedFrom time.Time      `json:"published_from,omitzero"`
	// SubmittedAt is the position of the submission that is before an operator; 0 when none is.
	SubmittedAt events.Position `json:"submitted_at,omitzero"`
}

// after returns the listing after the event.
func (l OwnListing) after(e domain.Event) OwnListing {
	l.State = listing.Evolve(l.State, e)
	l.State.Versions, l.State.EffectiveFrom = nil, nil
	if e, ok := e.(listing.Published); ok {
		l.Published, l.PublishedFrom = &e.Terms, e.InForceFrom()
	}
	if l.State.Submission == nil {
		l.SubmittedAt = 0
	}
	return l
}

var ownListings = folder[OwnListing]{
	family: familyOf("listing", listing.Events()),
	evolve: OwnListing.after,
	load:   `SELECT listing_id, position, version, doc FROM read_own_listings WHERE listing_id = ANY($1)`,
}

// applyOwnListings keeps every listing with its draft, for its provider and for who reviews it.
func applyOwnListings(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := ownListings.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	submissions := make(map[string]events.Position)
	for _, e := range batch {
		if submitted, ok := e.Event.(listing.Submitted); ok {
			submissions[submitted.ListingID] = e.Position
		}
	}
	for _, row := range rows {
		if at := submissions[row.id]; at > 0 && row.state.State.Submission != nil {
			row.state.SubmittedAt = at
		}
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_own_listings (listing_id, position, version, provider_id, state, submitted, doc)
		SELECT id, position, version, provider_id, state, nullif(submitted, 0), doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[])
			AS t (id, position, version, provider_id, state, submitted, doc)
		ON CONFLICT (listing_id) DO UPDATE SET
			version = EXCLUDED.version, state = EXCLUDED.state, submitted = EXCLUDED.submitted, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions,
		each(rows, func(l OwnListing) string { return l.State.ProviderID }),
		each(rows, func(l OwnListing) string { return l.State.State }),
		each(rows, func(l OwnListing) int64 { return int64(l.SubmittedAt) }),
		c.docs)
	return err
}

// ListingsOf returns a page of a provider's listings, newest first, and the token of the next page ("" at the end). With
// a state, only those in it. It returns an Invalid error for a limit or a token that is none.
func (q Queries) ListingsOf(ctx context.Context, providerID, state string, limit int, token string) ([]OwnListing, string, error) {
	const op = "projections.ListingsOf"
	p, err := listOf("own listings", providerID, state).pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[OwnListing](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_own_listings -- read_own_listings_provider
		WHERE provider_id = $1 AND position < $2 AND ($4 = '' OR state = $4) ORDER BY position DESC LIMIT $3`,
		providerID, p.place, p.ask(), state)
}

// SubmittedListings returns a page of the listings that are before an operator, the oldest submission first, and the
// token of the next page. Whoever may not see them all sees none of others'.
func (q Queries) SubmittedListings(ctx context.Context, limit int, token string) ([]OwnListing, string, error) {
	const op = "projections.SubmittedListings"
	p, err := listOf("submitted listings").pageOf(op, limit, token, 0)
	if err != nil {
		return nil, "", err
	}
	return docsPage[OwnListing](ctx, q.DB, op, p, `
		SELECT submitted, doc FROM read_own_listings -- read_own_listings_submitted
		WHERE submitted > $1 ORDER BY submitted LIMIT $2`, p.place, p.ask())
}

var locations = folder[location.State]{
	family: familyOf("location", location.Events()),
	evolve: location.Evolve,
	load:   `SELECT location_id, position, version, doc FROM read_locations WHERE location_id = ANY($1)`,
}

// applyLocations keeps the places where the platform is.
func applyLocations(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	rows, err := locations.fold(ctx, tx, batch)
	if err != nil || len(rows) == 0 {
		return err
	}
	c, err := columnsOf(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO read_locations (location_id, position, version, doc)
		SELECT id, position, version, doc::json
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) AS t (id, position, version, doc)
		ON CONFLICT (location_id) DO UPDATE SET version = EXCLUDED.version, doc = EXCLUDED.doc`,
		c.ids, c.positions, c.versions, c.docs)
	return err
}

// Locations returns a page of the locations, newest first, and the token of the next page ("" at the end).
func (q Queries) Locations(ctx context.Context, limit int, token string) ([]location.State, string, error) {
	const op = "projections.Locations"
	p, err := listOf("locations").pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[location.State](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_locations -- read_locations_position_key
		WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
}
