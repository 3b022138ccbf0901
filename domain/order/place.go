package order

import (
	"slices"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/listing"
	"crossbill/domain/qualification"
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
	p.ID("/port_id", domain.PrefixPort, c.PortID)
	c.checkSite(&p, terms)
	c.checkTotal(&p)
	p.OptionalText("/purchase_order", c.PurchaseOrder, MaxPurchaseOrder)
	if c.BillingAccountID != "" {
		p.ID("/billing_account_id", domain.PrefixBillingAccount, c.BillingAccountID)
	}
	p.Check(c.ServiceKeyID == "" || domain.ValidID(domain.PrefixServiceKey, c.ServiceKeyID), "/service_key", "is not a service key")
	p.Check(c.GroupID == "" || domain.ValidID(domain.PrefixRedundancyGroup, c.GroupID), "/redundancy_group_id", "is not a redundancy group")
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
	approval := terms.Approval
	if c.ServiceKeyID != "" {
		approval = listing.ApprovalAutomatic
	}
	bgp := BGP{ASN: c.BGP.ASN, Prefixes: slices.Clone(c.BGP.Prefixes)}
	placed := Placed{
		OrderID: c.OrderID, QuoteID: q.QuoteID, QuoteHash: q.Hash, CustomerID: c.CustomerID, ProviderID: q.ProviderID,
		ListingID: q.ListingID, ListingVersion: q.ListingVersion, ConnectionID: c.ConnectionID, PortID: c.Port.ID,
		BandwidthMbps: q.BandwidthMbps, BGP: bgp, Approval: approval, Deadline: domain.Instant(c.Deadline),
		PurchaseOrder: c.PurchaseOrder, ServiceKeyID: c.ServiceKeyID, RedundancyGroupID: c.GroupID, BillingAccountID: c.BillingAccountID, At: domain.Instant(c.At), ApprovalNeeded: c.ApprovalNeeded,
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

// checkSite refuses what the qualification of the same connection calls red. Others may still take the rest of a port
// before the order is allocated; then it fails.
func (c Place) checkSite(p *domain.Problems, terms listing.Terms) {
	qualification.Check(qualification.Site{
		Terms: terms, Port: c.Port, PortUse: c.PortUse, ProviderPort: c.ProviderPort, ProviderPortUse: c.ProviderUse,
		EdgeNode: c.EdgeNode, EdgeNodeTags: c.EdgeNodeTags, PreApproved: c.ServiceKeyID != "",
	}, qualification.Request{CustomerID: c.CustomerID, PortID: c.PortID, BandwidthMbps: c.Quote.BandwidthMbps, BGP: &c.BGP}).
		Problems(p, func(pointer string) string {
			if pointer == "/listing_id" || pointer == "/bandwidth_mbps" { // an order says both by its quote
				return "/quote_id"
			}
			return pointer
		})
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
