package listing

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/port"
)

// Limits on what a listing says.
const (
	MaxTitle       = 120  // characters
	MaxDescription = 4000 // characters
	MaxCategory    = 40   // characters
	MaxMetro       = 40   // characters
	MaxBandwidths  = 50
	MaxVersions    = 1000 // of one listing; its state holds them all
)

// Command is what can be asked of a listing.
type Command interface{ command() }

// Draft says what the next version offers. It makes the listing, or replaces its draft; the same draft again does nothing.
type Draft struct {
	ListingID  string
	ProviderID string // whose it is
	Terms      Terms
	Port       port.State // the port that Terms.PortID names; zero if there is none
	At         time.Time
}

// Publish makes the draft the next version.
type Publish struct {
	At time.Time
}

// Retire takes the listing off the market for good. Retiring a retired listing does nothing.
type Retire struct {
	At time.Time
}

func (Draft) command()   {}
func (Publish) command() {}
func (Retire) command()  {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong terms, with pointers
// into them; NotFound for a listing that does not exist or is another provider's; a Conflict for one that is retired, or
// that has nothing new to publish.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "listing.Decide"
	draft, isDraft := c.(Draft)
	switch {
	case s.ID == "" && !isDraft:
		return nil, domain.Missing(op, "listing")
	case s.ID != "" && isDraft && (draft.ListingID != s.ID || draft.ProviderID != s.ProviderID):
		return nil, domain.Missing(op, "listing")
	}
	switch c := c.(type) {
	case Draft:
		return c.decide(op, s)
	case Publish:
		return c.decide(op, s)
	case Retire:
		if s.State == StateRetired {
			return nil, nil
		}
		var p domain.Problems
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Retired{ListingID: s.ID, At: domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Draft) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/listing_id", domain.PrefixListing, c.ListingID)
	p.ID("/provider_id", domain.PrefixOrganisation, c.ProviderID)
	c.Terms.check(&p, c.ProviderID, c.Port)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.State == StateRetired {
		return nil, domain.InState(op, "listing", s.ID, s.State).WithHint("draft a new listing")
	}
	terms := c.Terms
	terms.BandwidthsMbps, terms.BGP.Prefixes = slices.Clone(terms.BandwidthsMbps), slices.Clone(terms.BGP.Prefixes)
	if s.Draft != nil && sameTerms(*s.Draft, terms) {
		return nil, nil
	}
	return []domain.Event{Drafted{ListingID: s.idOr(c.ListingID), ProviderID: c.ProviderID, Terms: terms, At: domain.Instant(c.At)}}, nil
}

func (s State) idOr(id string) string {
	if s.ID != "" {
		return s.ID
	}
	return id
}

func (c Publish) decide(op string, s State) ([]domain.Event, error) {
	switch {
	case s.State == StateRetired:
		return nil, domain.InState(op, "listing", s.ID, s.State).WithHint("draft a new listing")
	case s.Draft == nil:
		return nil, domain.Errorf(domain.Conflict, op, "the listing %s has no draft since version %d was published", s.ID, s.Version).
			WithHint("draft the new terms first")
	case s.Version >= MaxVersions:
		return nil, domain.Errorf(domain.Conflict, op, "the listing %s has %d versions, which is all it can have", s.ID, s.Version).
			WithHint("draft a new listing")
	}
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Published{
		ListingID: s.ID, ProviderID: s.ProviderID, Version: s.Version + 1, Terms: *s.Draft, At: domain.Instant(c.At),
	}}, nil
}

func (t Terms) check(p *domain.Problems, providerID string, at port.State) {
	p.Text("/title", t.Title, MaxTitle)
	p.LongText("/description", t.Description, MaxDescription)
	p.Check(validCategory(t.Category), "/category", "must be 1 to %d of a-z, 0-9 and _", MaxCategory)
	p.Text("/metro", t.Metro, MaxMetro)
	p.OneOf("/approval", t.Approval, ApprovalAutomatic, ApprovalManual)
	p.BGP("/bgp", t.BGP)
	t.Plan.Check(p, "/plan")
	t.Plan.CheckBandwidths(p, "/plan", t.BandwidthsMbps[:min(len(t.BandwidthsMbps), MaxBandwidths)])

	p.ID("/port_id", domain.PrefixPort, t.PortID)
	known := at.ID != "" && at.ID == t.PortID && at.OrganisationID == providerID
	p.Check(known, "/port_id", "is not a port of the provider")
	p.Check(len(t.BandwidthsMbps) >= 1 && len(t.BandwidthsMbps) <= MaxBandwidths, "/bandwidths_mbps", "must hold 1 to %d bandwidths", MaxBandwidths)
	if len(t.BandwidthsMbps) > MaxBandwidths {
		return
	}
	for i, mbps := range t.BandwidthsMbps {
		here := domain.Pointer("/bandwidths_mbps", i)
		p.Mbps(here, mbps)
		p.Check(!slices.Contains(t.BandwidthsMbps[:i], mbps), here, "%d is listed twice", mbps)
		p.Check(!known || mbps <= at.CapacityMbps, here, "is more than the port's capacity, %d", at.CapacityMbps)
	}
}

// sameTerms compares what would be recorded, byte for byte. Both have been validated, so both have JSON.
func sameTerms(a, b Terms) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func validCategory(category string) bool {
	for i := range len(category) {
		if c := category[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return len(category) >= 1 && len(category) <= MaxCategory
}
