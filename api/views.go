package api

import (
	"strconv"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/invoice"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/domain/quote"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
)

// The views turn what the domain knows into what the contract shows. None of them decides who may see it.

func organisationView(s organisation.State) Organisation {
	v := Organisation{
		Id: s.ID, Name: s.Name, Slug: s.Slug, Roles: []OrganisationRoles{}, State: OrganisationState(s.State), Reason: optional(s.Reason),
	}
	for _, r := range s.Roles {
		v.Roles = append(v.Roles, OrganisationRoles(r))
	}
	return v
}

func portView(s port.State) Port {
	return Port{
		Id: s.ID, EdgeNodeId: s.EdgeNodeID, OrganisationId: s.OrganisationID, Name: s.Name, Interface: s.Interface,
		CapacityMbps: s.CapacityMbps, ServiceVlan: optional(s.ServiceVLAN),
	}
}

func quoteView(s quote.State, now time.Time) Quote {
	v := Quote{
		Id: s.QuoteID, State: QuoteState(s.StateAt(now)), CustomerId: s.CustomerID, ProviderId: s.ProviderID,
		ListingId: s.ListingID, ListingVersion: s.ListingVersion, BandwidthMbps: s.BandwidthMbps, EstimatedGb: s.EstimatedGB,
		Plan: s.Plan, FeeBasisPoints: s.BasisPoints, Lines: []QuoteLine{}, Passthrough: s.Passthrough, Fee: s.Fee,
		Total: s.Total, ValidUntil: s.ValidUntil, Hash: s.Hash, OrderId: optional(s.OrderID),
	}
	for _, l := range s.Lines {
		line := QuoteLine{ChargeId: l.ChargeID, Kind: QuoteLineKind(l.Kind), Description: l.Description, Amount: l.Amount}
		if l.Part != "" {
			part := QuoteLinePart(l.Part)
			line.Part = &part
		}
		if l.OneTime {
			line.OneTime = &l.OneTime
		}
		v.Lines = append(v.Lines, line)
	}
	if s.EstimatedMbps.Given() {
		v.EstimatedMbps = &s.EstimatedMbps
	}
	v.FeeTerms, v.Sla = s.FeeTerms, slaView(s.SLA)
	if s.OneTime != nil {
		v.OneTime = &OneTimePrice{Passthrough: s.OneTime.Passthrough, Fee: s.OneTime.Fee, Total: s.OneTime.Total}
	}
	if c := s.Change; c != nil {
		v.ConnectionId = &s.ConnectionID
		v.Change = &QuotedChange{Kinds: []QuotedChangeKinds{}, InPlace: c.InPlace, Outage: !c.InPlace, FromMbps: c.FromMbps}
		for _, kind := range c.Kinds {
			v.Change.Kinds = append(v.Change.Kinds, QuotedChangeKinds(kind))
		}
	}
	return v
}

// connectionView shows the connection to one of its parties: each sees how to configure its own router, and an operator
// sees neither.
func connectionView(s connection.State, to Caller) Connection {
	v := Connection{
		Id: s.ID, State: ConnectionState(s.State), Billing: ConnectionBilling(s.Billing), BillingFrom: s.BillingFrom,
		BillingTo: s.BillingTo, OrderId: s.OrderID, CustomerId: s.CustomerID, ProviderId: s.ProviderID, ListingId: s.ListingID,
		ListingVersion: s.ListingVersion, BandwidthMbps: s.BandwidthMbps, EdgeNodeId: optional(s.EdgeNodeID), Sessions: []Session{},
	}
	v.Status, v.SuspendedSince = statusView(s.Status()), s.SuspendedSince()
	if s.Change != nil {
		v.ChangeOrderId = &s.Change.OrderID
	}
	if t := s.Termination; t != nil {
		v.Termination = &Termination{OrderId: t.OrderID, Reason: t.Reason, EffectiveAt: t.EffectiveAt}
	}
	v.Trouble, v.Rebuild = troubleView(s, to), rebuildView(s, to)
	for _, name := range s.SessionNames() {
		if session := observedSession(s, name); session != nil {
			v.Sessions = append(v.Sessions, *session)
		}
	}
	switch to.OrganisationID {
	case s.CustomerID:
		v.Attachment = routerView(s.A, s.EdgeASN)
	case s.ProviderID:
		v.Attachment = routerView(s.Z, s.EdgeASN)
	}
	return v
}

// observedSession is what the edge node last saw of a session; nil if it has not said.
func observedSession(s connection.State, name connection.SessionName) *Session {
	session, known := s.Session(name)
	if !known {
		return nil
	}
	family := AddressFamily(name.Family)
	return &Session{Side: Side(name.Side), Family: &family, State: SessionState(session.State), Since: session.Since,
		PrefixesReceived: session.PrefixesReceived, PrefixesSent: session.PrefixesSent}
}

// troubleView tells everybody that a step fails, and operators what can be done.
func troubleView(s connection.State, to Caller) *Trouble {
	t := s.Trouble
	if t == nil {
		return nil
	}
	v := Trouble{State: TroubleState(t.State), OrderId: t.OrderID, Step: t.Step, Since: t.Since, Attempts: t.Attempts, NextRetryAt: t.NextRetryAt}
	if actions := s.Actions(); to.Operator() && len(actions) > 0 {
		possible := make([]TroubleActions, len(actions))
		for i, a := range actions {
			possible[i] = TroubleActions(a)
		}
		v.Actions = &possible
	}
	return &v
}

// routerLink turns the edge node's addresses on a link into the router's, whose own is the node's peer address; nil without a link.
func routerLink(a *connection.Attachment, family string) (address, peer *string) {
	own, router := a.Link(family)
	if own == "" {
		return nil, nil
	}
	node, bits, _ := strings.Cut(own, "/")
	router += "/" + bits
	return &router, &node
}

// routerView turns the edge node's side of a link into the router's.
func routerView(a *connection.Attachment, edgeASN uint32) *RouterAttachment {
	if a == nil {
		return nil
	}
	v := &RouterAttachment{PortId: a.PortID, Vlan: a.VLAN, ServiceVlan: optional(a.ServiceVLAN), Asn: a.PeerASN, PeerAsn: edgeASN, Prefixes: a.Prefixes}
	v.Address, v.PeerAddress = routerLink(a, domain.IPv4)
	v.Ipv6Address, v.Ipv6PeerAddress = routerLink(a, domain.IPv6)
	return v
}

func desiredAttachment(a *connection.Attachment) DesiredAttachment {
	return DesiredAttachment{
		Interface: a.Interface, Vlan: a.VLAN, ServiceVlan: optional(a.ServiceVLAN), Address: optional(a.Address), PeerAddress: optional(a.PeerAddress), PeerAsn: a.PeerASN,
		Ipv6Address: optional(a.IPv6Address), Ipv6PeerAddress: optional(a.IPv6PeerAddress),
		Prefixes: a.Prefixes, PrefixLimit: connection.DefaultPrefixLimit,
	}
}

func invoiceView(s invoice.State) Invoice {
	v := Invoice{
		Id: s.InvoiceID, Number: s.Number, State: InvoiceState(s.State), CustomerId: s.CustomerID, PeriodStart: s.PeriodStart,
		PeriodEnd: s.PeriodEnd, Currency: s.Currency, Lines: []InvoiceLine{}, Passthrough: s.Passthrough, Fee: s.Fee,
		Total: s.Total, LogPosition: s.LogPosition, RunId: s.RunID, IssuedAt: s.At, BillingAccountId: optional(s.BillingAccountID),
		PurchaseOrder: optional(s.PurchaseOrder), DueAt: s.DueAt, Taxes: taxViews(s.Taxes), Tax: optional(s.Tax), Credited: optional(s.Credited),
		Reissues: optional(s.Reissue),
	}
	if len(s.CreditNotes) > 0 {
		v.CreditNotes = &s.CreditNotes
	}
	due := s.Due()
	v.Due = &due
	for _, l := range s.Lines {
		v.Lines = append(v.Lines, lineView(l))
	}
	return v
}

func lineView(l invoice.Line) InvoiceLine {
	v := InvoiceLine{
		Number: l.Number, ItemId: l.ItemID, Kind: InvoiceLineKind(l.Kind), ProviderId: optional(l.ProviderID),
		ConnectionId: optional(l.ConnectionID), ChargeId: optional(l.ChargeID), Description: l.Description,
		Quantity: optional(l.Quantity), Unit: optional(l.Unit), Exact: l.Exact, Amount: l.Amount, Steps: append([]string{}, l.Steps...),
		ListingId: optional(l.Plan.ListingID), QuoteId: optional(l.QuoteID), Evidence: []Evidence{},
	}
	if l.Plan.Version != 0 {
		v.ListingVersion = &l.Plan.Version
	}
	if l.Part != "" {
		part := InvoiceLinePart(l.Part)
		v.Part = &part
	}
	v.From, v.To = l.From, l.To
	if l.TaxCategory != "" {
		category := TaxCategory(l.TaxCategory)
		v.TaxCategory = &category
	}
	if a := l.Adjusts; a != nil {
		v.Adjusts = &Adjustment{PeriodStart: a.PeriodStart, PeriodEnd: a.PeriodEnd, Billed: a.Billed}
	}
	if c := l.Converted; c != nil {
		v.Converted = &Conversion{Amount: c.Amount, Currency: c.Currency, Rate: c.Rate.String(), RateVersion: c.RateVersion}
	}
	for _, e := range l.Evidence {
		v.Evidence = append(v.Evidence, Evidence{
			Stream: e.Stream, FromVersion: e.FromVersion, ToVersion: e.ToVersion, Count: e.Count, Digest: e.Digest,
			From: e.From, To: e.To,
		})
	}
	return v
}

func taxViews(taxes []tax.Subtotal) *[]TaxSubtotal {
	if len(taxes) == 0 {
		return nil
	}
	all := make([]TaxSubtotal, 0, len(taxes))
	for _, t := range taxes {
		country := string(t.Country)
		all = append(all, TaxSubtotal{
			Category: TaxCategory(t.Category), Country: optional(country), Percent: t.Percent.String(), Reason: optional(t.Reason),
			RateVersion: optional(t.Version), Taxable: t.Taxable, Tax: t.Tax,
		})
	}
	return &all
}

func settlementView(s settlement.State) Settlement {
	v := Settlement{
		Id: s.SettlementID, ProviderId: s.ProviderID, PeriodStart: s.PeriodStart, PeriodEnd: s.PeriodEnd, Currency: s.Currency,
		Lines: []SettlementLine{}, Total: s.Total, LogPosition: s.LogPosition, RunId: s.RunID, IssuedAt: s.At,
		Number: optional(s.Number), Taxes: taxViews(s.Taxes), Tax: optional(s.Tax), Credited: optional(s.Credited),
	}
	owed := s.Owed()
	v.Owed = &owed
	for _, l := range s.Lines {
		v.Lines = append(v.Lines, SettlementLine{
			ItemId: l.ItemID, InvoiceId: l.InvoiceID, ConnectionId: l.ConnectionID, ChargeId: l.ChargeID,
			Description: l.Description, Amount: l.Amount,
		})
	}
	return v
}

// optional is nil for the zero value: the contract leaves absent what there is none of.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// etag is a thing's stream version as a strong entity tag (RFC 9110 section 8.8.3).
func etag(version int64) *string {
	tag := strconv.Quote(strconv.FormatInt(version, 10))
	return &tag
}

// checkMatch returns a Conflict if the request names another version of the thing than the present one.
func checkMatch(ifMatch *string, version int64) error {
	if ifMatch == nil || *ifMatch == "*" || *ifMatch == *etag(version) {
		return nil
	}
	return domain.Errorf(domain.Conflict, "api", "the thing has changed: its ETag is %s, not %.40s", *etag(version), *ifMatch).
		WithHint("read it again and decide anew")
}
