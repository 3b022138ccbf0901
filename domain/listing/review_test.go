package listing

import (
	"slices"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func submitted(from time.Time) Submitted {
	return Submitted{ListingID: listingID, EffectiveFrom: from, At: scenario.After(1)}
}

func TestReview(t *testing.T) {
	t.Parallel()
	var (
		now, later = scenario.After(1), scenario.After(3600)
		drafts     = []domain.Event{drafted("One")}
		waiting    = []domain.Event{drafted("One"), submitted(time.Time{})}
		planned    = []domain.Event{drafted("One"), submitted(later)}
		rejected   = Rejected{listingID, "Too short a text", "key_1", now}
	)
	approved := func(from time.Time, at time.Time) Published {
		e := published(1, "One")
		e.ApprovedBy, e.EffectiveFrom, e.At = "key_1", from, at
		return e
	}
	ahead := published(1, "One")
	ahead.EffectiveFrom = later
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "submit without a review", Given: drafts, When: Submit{At: now}, Then: []domain.Event{submitted(time.Time{}), published(1, "One")}},
		{Name: "submit ahead without a review", Given: drafts, When: Submit{EffectiveFrom: later, At: now}, Then: []domain.Event{submitted(later), ahead}},
		{Name: "submit for the past", Given: drafts, When: Submit{EffectiveFrom: scenario.Noon, At: now}, Then: []domain.Event{submitted(time.Time{}), published(1, "One")}},
		{Name: "submit for the far future", Given: drafts, When: Submit{EffectiveFrom: now.Add(MaxAhead + 1), At: now}, Code: domain.Invalid, Fields: []string{"/effective_from"}},
		{Name: "submit", Given: drafts, When: Submit{Review: true, At: now}, Then: waiting[1:]},
		{Name: "submit again", Given: waiting, When: Submit{Review: true, At: later}},
		{Name: "submit for another time", Given: waiting, When: Submit{Review: true, EffectiveFrom: later, At: now}, Then: planned[1:]},
		{Name: "submit when reviews were switched off", Given: waiting, When: Submit{At: now}, Then: []domain.Event{submitted(time.Time{}), published(1, "One")}},
		{Name: "submit no draft", Given: []domain.Event{drafted("One"), published(1, "One")}, When: Submit{Review: true, At: now}, Code: domain.Conflict},
		{Name: "publish past the review", Given: drafts, When: Publish{Review: true, At: now}, Code: domain.Conflict},
		{Name: "approve", Given: waiting, When: Approve{"key_1", now}, Then: []domain.Event{approved(time.Time{}, now)}},
		{Name: "approve for later", Given: planned, When: Approve{"key_1", now}, Then: []domain.Event{approved(later, now)}},
		{Name: "approve too late", Given: planned, When: Approve{"key_1", scenario.After(7200)}, Then: []domain.Event{approved(time.Time{}, scenario.After(7200))}},
		{Name: "approve what was not submitted", Given: drafts, When: Approve{"key_1", now}, Code: domain.Conflict},
		{Name: "approve what was drafted anew", Given: append(slices.Clone(waiting), drafted("Two")), When: Approve{"key_1", now}, Code: domain.Conflict},
		{Name: "approve what was rejected", Given: append(slices.Clone(waiting), rejected), When: Approve{"key_1", now}, Code: domain.Conflict},
		{Name: "reject", Given: waiting, When: Reject{"Too short a text", "key_1", now}, Then: []domain.Event{rejected}},
		{Name: "reject without a reason", Given: waiting, When: Reject{"", "key_1", now}, Code: domain.Invalid, Fields: []string{"/reason"}},
		{Name: "reject what was not submitted", Given: drafts, When: Reject{"No", "key_1", now}, Code: domain.Conflict},
		{Name: "submit after a rejection", Given: append(slices.Clone(waiting), rejected), When: Submit{Review: true, At: now}, Then: waiting[1:]},
		{Name: "review nothing", When: Approve{"key_1", now}, Code: domain.NotFound},
		{Name: "discard a draft that was never published", Given: drafts, When: Discard{now}, Then: []domain.Event{Retired{listingID, now}}},
		{Name: "discard a draft beside what is published", Given: []domain.Event{drafted("One"), published(1, "One"), drafted("Two"), submitted(now)}, When: Discard{now}, Then: []domain.Event{DraftDiscarded{listingID, now}}},
		{Name: "discard no draft", Given: []domain.Event{drafted("One"), published(1, "One")}, When: Discard{now}},
		{Name: "discard again", Given: append(slices.Clone(drafts), Retired{listingID, now}), When: Discard{now}},
		{Name: "discard what was submitted", Given: waiting, When: Discard{now}, Then: []domain.Event{Retired{listingID, now}}},
		{Name: "discard of nothing", When: Discard{now}, Code: domain.NotFound},
		{Name: "publish what was discarded", Given: []domain.Event{drafted("One"), published(1, "One"), drafted("Two"), DraftDiscarded{listingID, now}}, When: Publish{At: now}, Code: domain.Conflict},
		{Name: "retire what was submitted", Given: waiting, When: Retire{now}, Then: []domain.Event{Retired{listingID, now}}},
	})

	for _, c := range []struct {
		name  string
		given []domain.Event
		state string
		open  bool // before an operator
		no    bool // shows a rejection
	}{
		{"draft", drafts, StateDraft, false, false},
		{"submitted", waiting, StateSubmitted, true, false},
		{"drafted anew", append(slices.Clone(waiting), drafted("Two")), StateDraft, false, false},
		{"rejected", append(slices.Clone(waiting), rejected), StateDraft, false, true},
		{"drafted after a rejection", append(slices.Clone(waiting), rejected, drafted("Two")), StateDraft, false, true},
		{"submitted after a rejection", append(slices.Clone(waiting), rejected, submitted(now)), StateSubmitted, true, false},
		{"published", append(slices.Clone(waiting), published(1, "One")), StatePublished, false, false},
		{"submitted beside what is published", append(slices.Clone(waiting), published(1, "One"), drafted("Two"), submitted(now)), StatePublished, true, false},
		{"discarded beside what is published", append(slices.Clone(waiting), published(1, "One"), drafted("Two"), submitted(now), DraftDiscarded{listingID, now}), StatePublished, false, false},
		{"discarded after a rejection", append(slices.Clone(waiting), published(1, "One"), drafted("Two"), submitted(now), rejected, DraftDiscarded{listingID, now}), StatePublished, false, false},
		{"retired", append(slices.Clone(waiting), Retired{listingID, now}), StateRetired, false, false},
	} {
		s := scenario.Fold(Evolve, c.given...)
		if s.State != c.state || (s.Submission != nil) != c.open || (s.Rejection != nil) != c.no {
			t.Errorf("%s: the state is %+v", c.name, s)
		}
	}
}

// TestInForce walks a listing with a version that waits, one that took its place before it came, and private ones.
func TestInForce(t *testing.T) {
	t.Parallel()
	customer, friend := scenario.ID(domain.PrefixOrganisation, 7), scenario.ID(domain.PrefixOrganisation, 8)
	version := func(n int, at, from int, to ...string) Published {
		e := published(n, "One")
		e.At, e.Terms.OfferedTo = scenario.After(at), to
		if from > at {
			e.EffectiveFrom = scenario.After(from)
		}
		return e
	}
	s := scenario.Fold(Evolve, drafted("One"), version(1, 10, 100), version(2, 20, 200, friend), version(3, 150, 180), version(4, 160, 300, friend))
	for _, c := range []struct{ at, want int }{{0, 0}, {99, 0}, {100, 1}, {179, 1}, {180, 3}, {200, 3}, {299, 3}, {300, 4}} {
		if got := s.InForce(scenario.After(c.at)); got != c.want {
			t.Errorf("after %d s version %d is in force, want %d", c.at, got, c.want)
		}
	}
	for _, c := range []struct {
		who  string
		at   int
		want int // on offer; 0: nothing
	}{{customer, 99, 0}, {customer, 100, 1}, {customer, 250, 3}, {customer, 300, 0}, {friend, 300, 4}, {provider, 300, 4}, {provider, 99, 0}} {
		if got, _, ok := s.OnOffer(c.who, scenario.After(c.at)); ok != (c.want > 0) || ok && got != c.want {
			t.Errorf("after %d s %s is offered version %d (%v), want %d", c.at, c.who, got, ok, c.want)
		}
	}
	for n, want := range map[int]bool{0: false, 1: true, 2: false, 3: true, 4: false, 5: false} {
		if _, shown := s.Shown(n, customer, scenario.After(400)); shown != want {
			t.Errorf("version %d is shown to a customer: %v, want %v", n, shown, want)
		}
	}
	if _, shown := s.Shown(4, friend, scenario.After(400)); !shown {
		t.Error("who was named does not see the offer")
	}
	if _, shown := s.Shown(3, customer, scenario.After(179)); shown {
		t.Error("a version is shown before it is in force")
	}
	s = Evolve(s, Retired{listingID, scenario.After(500)})
	if _, _, ok := s.OnOffer(provider, scenario.After(500)); ok || s.InForce(scenario.After(500)) != 0 {
		t.Error("a retired listing is on offer")
	}
	if _, shown := s.Shown(1, customer, scenario.After(500)); shown {
		t.Error("a retired listing is shown")
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	var old Terms // as it was written before there were these fields
	if !old.InPlace(ChangeBandwidthUp) || old.MeteredBy() != MeteringPlatform || !slices.Equal(old.Attachments(), []string{AttachmentDot1Q}) || old.Private() {
		t.Errorf("the defaults are not those of before: %v %v %v", old.InPlaceChanges(), old.MeteredBy(), old.Attachments())
	}
	strict := Terms{Changes: &Changes{}}
	if strict.InPlace(ChangeBGP) || len(strict.InPlaceChanges()) != 0 {
		t.Error("an empty matrix allows changes")
	}
	if old.InPlace("owner") {
		t.Error("what is no change is in place")
	}
}
