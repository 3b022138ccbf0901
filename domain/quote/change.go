package quote

import (
	"slices"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
)

// Change is what a quote for a connection that exists changes of it.
type Change struct {
	Kinds       []string `json:"kinds"`         // of the listing's change matrix
	InPlace     bool     `json:"in_place"`      // traffic crosses all the while; if not, the connection is set up anew, and nothing crosses meanwhile
	FromQuoteID string   `json:"from_quote_id"` // in force when the quote was made
	FromMbps    int      `json:"from_mbps"`
}

// changes makes q a quote for a change of a connection to the listing's terms of now.
func (q *Issued) changes(op string, c connection.State, terms listing.Terms) error {
	switch {
	case c.ID == "" || c.CustomerID != q.CustomerID:
		return domain.Missing(op, "connection")
	case c.ListingID != q.ListingID:
		var p domain.Problems
		p.Add("/listing_id", "is not the connection's, %s", c.ListingID)
		return p.Err(op)
	}
	if err := c.Changeable(op, q.At); err != nil {
		return err
	}
	change := Change{FromQuoteID: c.QuoteID, FromMbps: c.BandwidthMbps}
	switch {
	case q.BandwidthMbps > c.BandwidthMbps:
		change.Kinds = append(change.Kinds, listing.ChangeBandwidthUp)
	case q.BandwidthMbps < c.BandwidthMbps:
		change.Kinds = append(change.Kinds, listing.ChangeBandwidthDown)
	}
	if q.ListingVersion != c.ListingVersion {
		change.Kinds = append(change.Kinds, listing.ChangePlan)
	}
	if len(change.Kinds) == 0 {
		var p domain.Problems
		p.Add("/bandwidth_mbps", "is what the connection has, under the listing's newest version")
		return p.Err(op)
	}
	// Another port is another circuit, whatever the matrix says.
	change.InPlace = terms.PortID == c.ProviderPortID && !slices.ContainsFunc(change.Kinds, func(kind string) bool { return !terms.InPlace(kind) })
	q.ConnectionID, q.Change = c.ID, &change
	return nil
}
