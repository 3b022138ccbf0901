package order

import (
	"slices"

	"crossbill/domain"
	"crossbill/domain/apikey"
)

func (c Place) decide(op string) ([]domain.Event, error) {
	q := c.Quote
	if q.QuoteID == "" || q.CustomerID != c.CustomerID {
		return nil, domain.Missing(op, "quote")
	}
	terms, ok := c.Listing.TermsOf(q.ListingVersion)
	if !ok || c.Listing.ID != q.ListingID {
		return nil, domain.Errorf(domain.Internal, op, "the quote %s is for version %d of %s, which is not the listing given",
			q.QuoteID, q.ListingVersion, q.ListingID)
	}
	if c.ProviderPort.ID != terms.PortID {
		return nil, domain.Errorf(domain.Internal, op, "the listing's port is %s, not the port given", terms.PortID)
	}

	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.ID("/connection_id", domain.PrefixConnection, c.ConnectionID)
	p.ID("/customer_id", domain.PrefixOrganisation, c.CustomerID)
	p.Hash("/quote_hash", c.QuoteHash)
	c.checkPort(&p)
	p.BGP("/bgp", c.BGP)
	p.BGPPair("/bgp", c.BGP, terms.BGP)
	c.checkTotal(&p)
	p.OptionalText("/purchase_order", c.PurchaseOrder, MaxPurchaseOrder)
	if c.BillingAccountID != "" {
		p.ID("/billing_account_id", domain.PrefixBillingAccount, c.BillingAccountID)
	}
	p.Time("/at", c.At)
	checkDeadline(&p, c.Deadline, c.At)
	p.OneOf("/approval_needed", c.ApprovalNeeded, "", AboveOrderLimit, AboveMonthLimit, OtherCurrency)
	if err := p.Err(op); err != nil {
		return nil, err
	}

	if err := q.Usable(op, c.At); err != nil {
		return nil, err
	}
	if c.QuoteHash != q.Hash {
		return nil, domain.Errorf(domain.Conflict, op, "the quote %s does not say what the hash is of", q.QuoteID).
			WithHint("read the quote again and order with its hash")
	}
	bgp := BGP{ASN: c.BGP.ASN, Prefixes: slices.Clone(c.BGP.Prefixes)}
	placed := Placed{
		OrderID: c.OrderID, QuoteID: q.QuoteID, QuoteHash: q.Hash, CustomerID: c.CustomerID, ProviderID: q.ProviderID,
		ListingID: q.ListingID, ListingVersion: q.ListingVersion, ConnectionID: c.ConnectionID, PortID: c.Port.ID,
		BandwidthMbps: q.BandwidthMbps, BGP: bgp, Approval: terms.Approval, Deadline: domain.Instant(c.Deadline),
		PurchaseOrder: c.PurchaseOrder, BillingAccountID: c.BillingAccountID, At: domain.Instant(c.At), ApprovalNeeded: c.ApprovalNeeded,
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

// checkPort holds the customer's port to what the connection needs of it. What other connections take of its capacity is
// reserved at allocation; a connection wider than the whole port would never be.
func (c Place) checkPort(p *domain.Problems) {
	p.ID("/port_id", domain.PrefixPort, c.PortID)
	if c.Port.ID == "" || c.Port.ID != c.PortID || c.Port.OrganisationID != c.CustomerID {
		p.Add("/port_id", "is not a port of the customer")
		return
	}
	p.Check(c.Port.EdgeNodeID == c.ProviderPort.EdgeNodeID, "/port_id", "is on another edge node than the listing's port, %s", c.ProviderPort.EdgeNodeID)
	p.Check(c.Port.CapacityMbps >= c.Quote.BandwidthMbps, "/port_id", "has a capacity of %d Mbps and the quote is for %d", c.Port.CapacityMbps, c.Quote.BandwidthMbps)
}

func (c Place) checkTotal(p *domain.Problems) {
	if c.MaxTotal == nil {
		return
	}
	total := c.Quote.Total
	if c.MaxTotal.Currency != total.Currency {
		p.Add("/max_total/currency", "the quote is in %s", total.Currency)
		return
	}
	p.Check(total.Minor <= c.MaxTotal.Minor, "/max_total", "the quote's total is %s", total)
}
