package listing

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/location"
	"crossbill/domain/port"
)

// MaxVersions is how many versions a listing can have: its state holds them all.
const MaxVersions = 1000

// MaxAhead is how far ahead a version may be published.
const MaxAhead = 366 * 24 * time.Hour

// Command is what can be asked of a listing.
type Command interface{ command() }

// Draft says what the next version offers. It makes the listing, or replaces its draft, which takes back a submission;
// the same draft again does nothing.
type Draft struct {
	ListingID  string
	ProviderID string // whose it is
	Terms      Terms
	Port       port.State     // the port that Terms.PortID names; zero if there is none
	Location   location.State // where the port's edge node stands; zero if that is not registered
	At         time.Time
}

// Submit asks for the draft to be published. Where listings are not reviewed it publishes it at once. Submitting what is
// before an operator already, for the same time, does nothing.
type Submit struct {
	EffectiveFrom time.Time // when the version is to come into force; zero: as soon as it is published
	Review        bool      // whether an operator looks at it first
	At            time.Time
}

// Publish makes the draft the next version, in force from now: it is Submit for who does not want to hear of a review.
// Where listings are reviewed it is a Conflict.
type Publish struct {
	Review bool // whether an operator looks at listings first
	At     time.Time
}

// Approve makes what was submitted the next version.
type Approve struct {
	By string // the operator's key
	At time.Time
}

// Reject sends what was submitted back, with a reason for the provider.
type Reject struct {
	Reason string
	By     string // the operator's key
	At     time.Time
}

// Discard gives the draft up, and a submission of it. A listing that was never published is retired by it, since there is
// nothing else of it. Discarding no draft does nothing.
type Discard struct {
	At time.Time
}

// Retire takes the listing off the market for good. Retiring a retired listing does nothing.
type Retire struct {
	At time.Time
}

func (Draft) command()   {}
func (Submit) command()  {}
func (Publish) command() {}
func (Approve) command() {}
func (Reject) command()  {}
func (Discard) command() {}
func (Retire) command()  {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong terms, with pointers
// into them; NotFound for a listing that does not exist or is another provider's; a Conflict for one that is retired, that
// has nothing new to publish, or nothing to review.
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
	case Submit:
		return c.decide(op, s)
	case Publish:
		return c.decide(op, s)
	case Approve:
		return c.decide(op, s)
	case Reject:
		return c.decide(op, s)
	case Discard:
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
	c.Terms.check(&p, c.ProviderID, c.Port, c.Location)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.State == StateRetired {
		return nil, domain.InState(op, "listing", s.ID, s.State).WithHint("draft a new listing")
	}
	terms := c.Terms.clone()
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

// publishable returns a Conflict unless there is a draft that can become the next version.
func (s State) publishable(op string) error {
	switch {
	case s.State == StateRetired:
		return domain.InState(op, "listing", s.ID, s.State).WithHint("draft a new listing")
	case s.Draft == nil:
		return domain.Errorf(domain.Conflict, op, "the listing %s has no draft since version %d was published", s.ID, s.Version).
			WithHint("draft the new terms first")
	case s.Version >= MaxVersions:
		return domain.Errorf(domain.Conflict, op, "the listing %s has %d versions, which is all it can have", s.ID, s.Version).
			WithHint("draft a new listing")
	}
	return nil
}

// publish makes the draft the next version. A time that passed while an operator looked at it means at once.
func (s State) publish(effectiveFrom time.Time, approvedBy string, at time.Time) Published {
	at, effectiveFrom = domain.Instant(at), domain.Instant(effectiveFrom)
	if !effectiveFrom.After(at) {
		effectiveFrom = time.Time{}
	}
	return Published{
		ListingID: s.ID, ProviderID: s.ProviderID, Version: s.Version + 1, Terms: *s.Draft, EffectiveFrom: effectiveFrom,
		ApprovedBy: approvedBy, At: at,
	}
}

func (c Submit) decide(op string, s State) ([]domain.Event, error) {
	if err := s.publishable(op); err != nil {
		return nil, err
	}
	var p domain.Problems
	p.Time("/at", c.At)
	p.Check(!c.EffectiveFrom.After(c.At.Add(MaxAhead)), "/effective_from", "must be at most %d days ahead", MaxAhead/(24*time.Hour))
	if err := p.Err(op); err != nil {
		return nil, err
	}
	from := c.EffectiveFrom
	if !from.After(c.At) {
		from = time.Time{}
	}
	submitted := Submitted{ListingID: s.ID, EffectiveFrom: domain.Instant(from), At: domain.Instant(c.At)}
	if c.Review {
		if s.Submission != nil && s.Submission.EffectiveFrom.Equal(submitted.EffectiveFrom) {
			return nil, nil
		}
		return []domain.Event{submitted}, nil
	}
	return []domain.Event{submitted, s.publish(from, "", c.At)}, nil
}

func (c Publish) decide(op string, s State) ([]domain.Event, error) {
	if err := s.publishable(op); err != nil {
		return nil, err
	}
	if c.Review {
		return nil, domain.Errorf(domain.Conflict, op, "listings are reviewed before they are published").WithHint("submit it instead")
	}
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{s.publish(time.Time{}, "", c.At)}, nil
}

// reviewable returns a Conflict unless something is before an operator.
func (s State) reviewable(op string) error {
	if s.Submission == nil {
		return domain.Errorf(domain.Conflict, op, "the listing %s has nothing to review", s.ID).
			WithHint("its provider has not submitted a draft, or drafted anew since")
	}
	return nil
}

func (c Approve) decide(op string, s State) ([]domain.Event, error) {
	if err := s.reviewable(op); err != nil {
		return nil, err
	}
	if err := s.publishable(op); err != nil {
		return nil, err
	}
	var p domain.Problems
	p.Check(c.By != "", "/by", "must be given")
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{s.publish(s.Submission.EffectiveFrom, c.By, c.At)}, nil
}

func (c Reject) decide(op string, s State) ([]domain.Event, error) {
	if err := s.reviewable(op); err != nil {
		return nil, err
	}
	var p domain.Problems
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Check(c.By != "", "/by", "must be given")
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Rejected{ListingID: s.ID, Reason: c.Reason, By: c.By, At: domain.Instant(c.At)}}, nil
}

func (c Discard) decide(op string, s State) ([]domain.Event, error) {
	if s.Draft == nil || s.State == StateRetired {
		return nil, nil
	}
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.Version == 0 {
		return []domain.Event{Retired{ListingID: s.ID, At: domain.Instant(c.At)}}, nil
	}
	return []domain.Event{DraftDiscarded{ListingID: s.ID, At: domain.Instant(c.At)}}, nil
}
