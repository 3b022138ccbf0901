package order

import (
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
	"crossbill/domain/quote"
)

// PlaceChange makes an order that brings a connection to what a quote for it says. The caller appends it together with the
// quote's acceptance.
type PlaceChange struct {
	OrderID       string
	CustomerID    string // who orders
	Quote         quote.State
	QuoteHash     string           // of the quote the customer has read
	MaxTotal      *domain.Money    // refuse a quote whose total is above it; nil for no such limit
	Listing       listing.State    // that the quote is for
	Connection    connection.State // that the quote is for
	Deadline      time.Time        // who is asked answers before it; after At, by at most [MaxDeadline]
	PurchaseOrder string           // the customer's own reference; may be empty
	At            time.Time

	By             apikey.PrincipalRef // who places it
	ApprovalNeeded string              // why a person has to approve it; empty if nobody has to
}

// PlaceRemoval makes an order that ends a connection. The caller appends it together with what it asks of the connection.
type PlaceRemoval struct {
	OrderID    string
	Connection connection.State
	By         apikey.PrincipalRef // who places it
	At         time.Time
}

// tooLate says what to do instead of cancelling an item that is being carried out.
var tooLate = map[string]string{
	ItemModify: "the change is being applied and takes moments; order a change back",
	ItemRemove: "take the connection's termination back instead, while its date has not come",
}

func (c PlaceChange) decide(op string) ([]domain.Event, error) {
	q, conn := c.Quote, c.Connection
	if q.QuoteID == "" || q.CustomerID != c.CustomerID {
		return nil, domain.Missing(op, "quote")
	}
	terms, ok := c.Listing.TermsOf(q.ListingVersion)
	if !ok || c.Listing.ID != q.ListingID || q.Change == nil || conn.ID != q.ConnectionID {
		return nil, domain.Errorf(domain.Internal, op, "the quote %s is not for the connection and the listing given", q.QuoteID)
	}
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Hash("/quote_hash", c.QuoteHash)
	Place{MaxTotal: c.MaxTotal, Quote: q}.checkTotal(&p)
	p.OptionalText("/purchase_order", c.PurchaseOrder, MaxPurchaseOrder)
	p.Time("/at", c.At)
	checkDeadline(&p, c.Deadline, c.At)
	p.OneOf("/approval_needed", c.ApprovalNeeded, "", AboveOrderLimit, AboveMonthLimit, OtherCurrency)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if err := q.Usable(op, c.At); err != nil {
		return nil, err
	}
	switch {
	case c.QuoteHash != q.Hash:
		return nil, domain.Errorf(domain.Conflict, op, "the quote %s does not say what the hash is of", q.QuoteID).
			WithHint("read the quote again and order with its hash")
	case conn.QuoteID != q.Change.FromQuoteID:
		return nil, domain.Errorf(domain.Conflict, op, "the connection %s has changed since the quote was made", conn.ID).WithHint("ask for a new quote")
	}
	if err := conn.Changeable(op, c.At); err != nil {
		return nil, err
	}
	placed := Placed{
		OrderID: c.OrderID, QuoteID: q.QuoteID, QuoteHash: q.Hash, CustomerID: c.CustomerID, ProviderID: q.ProviderID,
		ListingID: q.ListingID, ListingVersion: q.ListingVersion, ConnectionID: conn.ID, PortID: conn.CustomerPortID,
		BandwidthMbps: q.BandwidthMbps, BGP: bgpOf(conn), Approval: terms.Approval, Deadline: domain.Instant(c.Deadline),
		PurchaseOrder: c.PurchaseOrder, At: domain.Instant(c.At), ApprovalNeeded: c.ApprovalNeeded, Item: ItemModify,
	}
	if !q.Change.InPlace {
		placed.Rebuild = &Rebuild{ProviderPortID: terms.PortID, ProviderBGP: terms.BGP}
	}
	if c.By != (apikey.PrincipalRef{}) {
		placed.PlacedBy = &c.By
		if c.ApprovalNeeded == "" {
			total, err := TotalOf(q)
			if err != nil {
				return nil, err
			}
			commitment := CommitmentOf(c.By, total, c.At)
			placed.Commitment = &commitment
		}
	}
	return []domain.Event{placed}, nil
}

// decide does not ask the provider: a customer may leave.
func (c PlaceRemoval) decide(op string) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	conn := c.Connection
	if conn.ID == "" {
		return nil, domain.Missing(op, "connection")
	}
	placed := Placed{
		OrderID: c.OrderID, QuoteID: conn.QuoteID, CustomerID: conn.CustomerID, ProviderID: conn.ProviderID, ListingID: conn.ListingID,
		ListingVersion: conn.ListingVersion, ConnectionID: conn.ID, PortID: conn.CustomerPortID, BandwidthMbps: conn.BandwidthMbps,
		BGP: bgpOf(conn), Approval: listing.ApprovalAutomatic, Deadline: domain.Instant(c.At), At: domain.Instant(c.At), Item: ItemRemove,
	}
	if c.By != (apikey.PrincipalRef{}) {
		placed.PlacedBy = &c.By
	}
	return []domain.Event{placed, Accepted{OrderID: c.OrderID, By: "system", At: domain.Instant(c.At)}}, nil
}

func bgpOf(conn connection.State) BGP {
	return BGP{ASN: conn.CustomerBGP.ASN, Prefixes: slices.Clone(conn.CustomerBGP.Prefixes)}
}

// TakeBack cancels an order to end a connection before its date has come. The caller appends it together with what takes
// the date back from the connection, so nothing is left to undo.
type TakeBack struct {
	Reason string
	At     time.Time
}

func (TakeBack) command() {}

func (c TakeBack) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.Item != ItemRemove:
		return nil, domain.Errorf(domain.Conflict, op, "the order %s ends no connection", s.ID).WithHint("cancel it")
	case s.State == StateCancelled:
		return nil, nil
	case s.State != StateInProgress:
		return nil, s.refuse(op, StateCancelled)
	}
	at := domain.Instant(c.At)
	return []domain.Event{CancellationRequested{OrderID: s.ID, Reason: c.Reason, At: at}, Cancelled{OrderID: s.ID, Reason: c.Reason, At: at}}, nil
}
