package connection

import (
	"time"

	"crossbill/domain"
)

func (c RequestChange) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.ID("/quote_id", domain.PrefixQuote, c.QuoteID)
	p.Check(c.ListingVersion >= 1, "/listing_version", "must be at least 1")
	p.Mbps("/bandwidth_mbps", c.BandwidthMbps)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.ChangeOrderID == c.OrderID { // it was asked for, whatever came of it since
		if s.Change == nil || s.Change.QuoteID == c.QuoteID && s.Change.ListingVersion == c.ListingVersion &&
			s.Change.BandwidthMbps == c.BandwidthMbps && s.Change.InPlace == c.InPlace {
			return nil, nil
		}
		return nil, domain.Differs(op, "connection", s.ID, "change of this order")
	}
	if err := s.Changeable(op, c.At); err != nil {
		return nil, err
	}
	return []domain.Event{ChangeRequested{
		ConnectionID: s.ID, OrderID: c.OrderID, QuoteID: c.QuoteID, ListingVersion: c.ListingVersion, BandwidthMbps: c.BandwidthMbps,
		InPlace: c.InPlace, At: domain.Instant(c.At),
	}}, nil
}

// Changeable returns why the connection can't be changed at a time, a Conflict, or nil.
func (s State) Changeable(op string, at time.Time) error {
	if err := s.movable(op); err != nil {
		return err
	}
	// The first span is the connection's production, and no change.
	if n := len(s.Spans) - MaxChanges; n >= 1 && at.Before(s.Spans[n].From.Add(ChangeWindow)) {
		return domain.Errorf(domain.Conflict, op, "the connection %s has changed %d times in %d days, which is as often as it can", s.ID, MaxChanges, ChangeWindow/(24*time.Hour)).
			WithHint("change it after %s", s.Spans[n].From.Add(ChangeWindow).UTC().Format(time.RFC3339))
	}
	return nil
}

func (c ReportBandwidth) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Mbps("/bandwidth_mbps", c.BandwidthMbps)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.Change == nil || !s.Change.InPlace || s.Change.BandwidthMbps != c.BandwidthMbps || s.Change.BandwidthMbps == s.BandwidthMbps {
		return nil, nil // it waits for no bandwidth, or not for this one, or for another build
	}
	return s.changed(c.At), nil
}

func (c ConfirmChange) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.Change == nil && s.ChangeOrderID == c.OrderID:
		return nil, nil
	case s.Change == nil || s.Change.OrderID != c.OrderID:
		return nil, domain.Errorf(domain.Conflict, op, "no change of the connection %s by this order is pending", s.ID).WithHint("read the connection again")
	case s.Change.BandwidthMbps != s.BandwidthMbps || !s.Change.InPlace:
		return nil, domain.Errorf(domain.Conflict, op, "the edge node %s does not apply the bandwidth yet", s.EdgeNodeID).WithHint("wait for its report")
	}
	return s.changed(c.At), nil
}

// changed puts the pending change into force. What is sold from an instant on begins after what was sold before it, however
// the clocks of the platform's nodes stand to one another; and nothing new begins when the connection is to have ended.
func (s State) changed(at time.Time) []domain.Event {
	from := latest(domain.Instant(at), s.Spans[len(s.Spans)-1].From.Add(time.Microsecond))
	if s.Termination != nil && !from.Before(s.Termination.EffectiveAt) {
		return nil
	}
	return []domain.Event{Changed{
		ConnectionID: s.ID, OrderID: s.Change.OrderID, QuoteID: s.Change.QuoteID, ListingVersion: s.Change.ListingVersion,
		BandwidthMbps: s.Change.BandwidthMbps, At: from,
	}}
}

func (c AbandonChange) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.Change == nil && s.ChangeOrderID == c.OrderID:
		return nil, nil
	case s.Change == nil || s.Change.OrderID != c.OrderID:
		return nil, domain.Errorf(domain.Conflict, op, "no change of the connection %s by this order is pending", s.ID).WithHint("read the connection again")
	case s.Rebuild != nil:
		return nil, domain.Errorf(domain.Conflict, op, "the connection %s is being rebuilt for this change", s.ID).WithHint("give the rebuild up first")
	}
	return []domain.Event{ChangeAbandoned{ConnectionID: s.ID, OrderID: c.OrderID, Reason: c.Reason, At: domain.Instant(c.At)}}, nil
}
