package listing

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/location"
	"crossbill/domain/port"
	"crossbill/domain/pricing"
)

var (
	listingID = scenario.ID(domain.PrefixListing, 1)
	provider  = scenario.ID(domain.PrefixOrganisation, 1)
	portID    = scenario.ID(domain.PrefixPort, 1)
	onPort    = port.State{ID: portID, OrganisationID: provider, CapacityMbps: 1000}
)

func terms(title string) Terms {
	return Terms{
		Title: title, Description: "A private connection.\nOver one port.", Category: "private_connect", PortID: portID, Metro: "Amsterdam",
		BandwidthsMbps: []int{100, 1000}, Approval: ApprovalManual, BGP: BGPTerms{ASN: 64501, Prefixes: []string{"203.0.113.0/24"}},
		Plan: pricing.Plan{Currency: "USD", Charges: []pricing.Charge{
			{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("400")}}},
	}
}

func draft(title string) Draft {
	return Draft{ListingID: listingID, ProviderID: provider, Terms: terms(title), Port: onPort, At: scenario.Noon}
}

func drafted(title string) Drafted {
	return Drafted{listingID, provider, terms(title), scenario.Noon}
}

func published(version int, title string) Published {
	return Published{ListingID: listingID, ProviderID: provider, Version: version, Terms: terms(title), At: scenario.After(1)}
}

func TestLife(t *testing.T) {
	t.Parallel()
	retired := Retired{listingID, scenario.After(2)}
	market := []domain.Event{drafted("One"), published(1, "One")}
	other := draft("Two")
	other.ProviderID, other.Port.OrganisationID = scenario.ID(domain.PrefixOrganisation, 2), scenario.ID(domain.PrefixOrganisation, 2)
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "draft", When: draft("One"), Then: []domain.Event{drafted("One")}},
		{Name: "draft again the same", Given: market[:1], When: draft("One")},
		{Name: "draft again", Given: market[:1], When: draft("Two"), Then: []domain.Event{drafted("Two")}},
		{Name: "draft of another provider's", Given: market[:1], When: other, Code: domain.NotFound},
		{Name: "publish", Given: market[:1], When: Publish{At: scenario.After(1)}, Then: []domain.Event{published(1, "One")}},
		{Name: "publish without a draft", Given: market, When: Publish{At: scenario.After(1)}, Code: domain.Conflict},
		{Name: "draft beside what is published", Given: market, When: draft("One"), Then: []domain.Event{drafted("One")}},
		{Name: "publish again", Given: append(market, drafted("Two")), When: Publish{At: scenario.After(1)}, Then: []domain.Event{published(2, "Two")}},
		{Name: "retire", Given: market, When: Retire{scenario.After(2)}, Then: []domain.Event{retired}},
		{Name: "retire a draft", Given: market[:1], When: Retire{scenario.After(2)}, Then: []domain.Event{retired}},
		{Name: "retire again", Given: append(market, retired), When: Retire{scenario.After(3)}},
		{Name: "draft a retired one", Given: append(market, retired), When: draft("Two"), Code: domain.Conflict},
		{Name: "publish a retired one", Given: []domain.Event{drafted("One"), retired}, When: Publish{At: scenario.After(3)}, Code: domain.Conflict},
		{Name: "publish nothing", When: Publish{At: scenario.Noon}, Code: domain.NotFound},
		{Name: "retire nothing", When: Retire{scenario.Noon}, Code: domain.NotFound},
		{Name: "publish at no time", Given: market[:1], When: Publish{}, Code: domain.Invalid, Fields: []string{"/at"}},
		{Name: "retire at no time", Given: market[:1], When: Retire{}, Code: domain.Invalid, Fields: []string{"/at"}},
	})

	s := scenario.Fold(Evolve, drafted("One"), published(1, "One"), drafted("Two"))
	if s.State != StatePublished || s.Version != 1 || s.Draft.Title != "Two" {
		t.Errorf("the state is %+v", s)
	}
	// Two successors of one state do not see each other's version, though its slice has room for both.
	s = scenario.Fold(Evolve, drafted("One"), published(1, "One"), published(2, "Two"), published(3, "Three"))
	a, b := Evolve(s, published(4, "A")), Evolve(s, published(4, "B"))
	for version, want := range map[int]string{0: "", 1: "One", 3: "Three", 4: "A", 5: ""} {
		if got, ok := a.TermsOf(version); got.Title != want || ok != (want != "") {
			t.Errorf("version %d is %q, want %q", version, got.Title, want)
		}
	}
	if got, _ := b.TermsOf(4); got.Title != "B" {
		t.Error("two states share their versions")
	}
}

func TestVersionsEnd(t *testing.T) {
	t.Parallel()
	s := scenario.Fold(Evolve, drafted("One"))
	s.Version, s.State = MaxVersions, StatePublished
	_, err := Decide(s, Publish{At: scenario.Noon})
	scenario.CheckError(t, err, domain.Conflict)
}

func TestTerms(t *testing.T) {
	t.Parallel()
	many := func(n int) []int {
		var all []int
		for i := range n {
			all = append(all, i+1)
		}
		return all
	}
	for _, c := range []struct {
		name   string
		change func(*Draft)
		fields []string
	}{
		{"nothing", func(d *Draft) { *d = Draft{} }, []string{"/listing_id", "/provider_id", "/title", "/description", "/category", "/metro",
			"/approval", "/bgp/asn", "/bgp/prefixes", "/plan/currency", "/plan/charges", "/port_id", "/port_id", "/bandwidths_mbps", "/at"}},
		{"title", func(d *Draft) { d.Terms.Title = strings.Repeat("a", MaxTitle+1) }, []string{"/title"}},
		{"description", func(d *Draft) { d.Terms.Description = "a\x00" }, []string{"/description"}},
		{"category", func(d *Draft) { d.Terms.Category = "Private" }, []string{"/category"}},
		{"an unknown category", func(d *Draft) { d.Terms.Category = "connectivity" }, []string{"/category"}},
		{"every choice", func(d *Draft) {
			d.Terms.AttachmentTypes, d.Terms.Changes = []string{AttachmentDot1Q}, &Changes{InPlace: []string{ChangeBGP, ChangePlan}}
			d.Terms.SLA = &SLA{Availability: domain.MustDecimal("99.9999"), RepairHours: 4}
			d.Terms.Metering, d.Terms.OfferedTo = MeteringProvider, []string{scenario.ID(domain.PrefixOrganisation, 7)}
		}, nil},
		{"attachment", func(d *Draft) { d.Terms.AttachmentTypes = []string{"token_ring"} }, []string{"/attachment_types/0"}},
		{"change", func(d *Draft) { d.Terms.Changes = &Changes{InPlace: []string{ChangeBGP, ChangeBGP, "owner"}} }, []string{"/changes/in_place/1", "/changes/in_place/2"}},
		{"SLA", func(d *Draft) { d.Terms.SLA = &SLA{} }, []string{"/sla/availability"}},
		{"more than always", func(d *Draft) { d.Terms.SLA = &SLA{Availability: domain.MustDecimal("100.1"), RepairHours: -1} }, []string{"/sla/availability", "/sla/repair_hours"}},
		{"finer SLA", func(d *Draft) { d.Terms.SLA = &SLA{Availability: domain.MustDecimal("99.99999")} }, []string{"/sla/availability"}},
		{"credits", func(d *Draft) { d.Terms.SLA = sla("99.9", "99.9", "10", "99.0", "25", "90", "100") }, nil},
		{"a credit for what is kept", func(d *Draft) { d.Terms.SLA = sla("99.9", "99.95", "10") }, []string{"/sla/credits/0/below"}},
		{"credits the wrong way round", func(d *Draft) { d.Terms.SLA = sla("99.9", "99", "25", "99.9", "10") }, []string{"/sla/credits/1/below", "/sla/credits/1/percent"}},
		{"one bound twice", func(d *Draft) { d.Terms.SLA = sla("99.9", "99", "10", "99.0", "25") }, []string{"/sla/credits/1/below"}},
		{"one percentage twice", func(d *Draft) { d.Terms.SLA = sla("99.9", "99", "10", "98", "10.00") }, []string{"/sla/credits/1/percent"}},
		{"more than everything back", func(d *Draft) { d.Terms.SLA = sla("99.9", "99", "100.01") }, []string{"/sla/credits/0/percent"}},
		{"nothing back", func(d *Draft) { d.Terms.SLA = sla("99.9", "0", "0") }, []string{"/sla/credits/0/below", "/sla/credits/0/percent"}},
		{"finer credits", func(d *Draft) { d.Terms.SLA = sla("99.9", "99.00001", "10.001") }, []string{"/sla/credits/0/below", "/sla/credits/0/percent"}},
		{"too many credits", func(d *Draft) {
			d.Terms.SLA = &SLA{Availability: domain.MustDecimal("99"), Credits: make([]Credit, MaxCredits+1)}
		}, []string{"/sla/credits"}},
		{"an answer within an hour", func(d *Draft) { d.Terms.AnswerHours = 1 }, nil},
		{"an answer within thirty days", func(d *Draft) { d.Terms.AnswerHours = MaxAnswerHours }, nil},
		{"an answer later", func(d *Draft) { d.Terms.AnswerHours = MaxAnswerHours + 1 }, []string{"/answer_within_hours"}},
		{"an answer before the order", func(d *Draft) { d.Terms.AnswerHours = -1 }, []string{"/answer_within_hours"}},
		{"metering", func(d *Draft) { d.Terms.Metering = "customer" }, []string{"/metering"}},
		{"offered to nobody real", func(d *Draft) { d.Terms.OfferedTo = []string{"me", provider} }, []string{"/offered_to/0", "/offered_to/1"}},
		{"location", func(d *Draft) { d.Location = location.State{ID: scenario.ID(domain.PrefixLocation, 1), Metro: "Paris"} }, []string{"/location_id", "/metro"}},
		{"no location", func(d *Draft) { d.Terms.LocationID = scenario.ID(domain.PrefixLocation, 1) }, []string{"/location_id"}},
		{"approval", func(d *Draft) { d.Terms.Approval = "never" }, []string{"/approval"}},
		{"no such port", func(d *Draft) { d.Port = port.State{} }, []string{"/port_id"}},
		{"another's port", func(d *Draft) { d.Port.OrganisationID = scenario.ID(domain.PrefixOrganisation, 9) }, []string{"/port_id"}},
		{"another port", func(d *Draft) { d.Port.ID = scenario.ID(domain.PrefixPort, 9) }, []string{"/port_id"}},
		{"more than the port", func(d *Draft) { d.Port.CapacityMbps = 999 }, []string{"/bandwidths_mbps/1"}},
		{"bandwidths", func(d *Draft) { d.Terms.BandwidthsMbps = []int{0, 100, 100} }, []string{"/bandwidths_mbps/0", "/bandwidths_mbps/2"}},
		{"most bandwidths", func(d *Draft) { d.Terms.BandwidthsMbps = many(MaxBandwidths) }, nil},
		{"more bandwidths", func(d *Draft) { d.Terms.BandwidthsMbps = many(MaxBandwidths + 1) }, []string{"/bandwidths_mbps"}},
		{"plan", func(d *Draft) { d.Terms.Plan.Charges[0].Amount = domain.MustDecimal("-1") }, []string{"/plan/charges/0/amount"}},
		{"prefix", func(d *Draft) { d.Terms.BGP.Prefixes = []string{"203.0.113.0/24", "203.0.113.1/24", "203.0.113.0/24"} }, []string{"/bgp/prefixes/1", "/bgp/prefixes/2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := draft("One")
			c.change(&d)
			code := domain.Invalid
			if c.fields == nil {
				code = ""
			}
			_, err := Decide(State{}, d)
			scenario.CheckError(t, err, code, c.fields...)
		})
	}
}

// sla is a promise with credits, in pairs of a bound and a percentage.
func sla(availability string, credits ...string) *SLA {
	s := &SLA{Availability: domain.MustDecimal(availability)}
	for n := 0; n < len(credits); n += 2 {
		s.Credits = append(s.Credits, Credit{Below: domain.MustDecimal(credits[n]), Percent: domain.MustDecimal(credits[n+1])})
	}
	return s
}

// TestSLA_CreditFor holds months to the second: a month of 31 days has 2 678 400, of which a thousandth is 2678.4.
func TestSLA_CreditFor(t *testing.T) {
	t.Parallel()
	promise := sla("99.95", "99.9", "10", "99.0", "25", "90", "100")
	for _, c := range []struct {
		inScope, down int64
		want          string
	}{
		{2_678_400, 0, ""}, {2_678_400, 2678, ""}, {2_678_400, 2679, "10"}, {2_678_400, 26_784, "10"}, {2_678_400, 26_785, "25"},
		{2_678_400, 267_840, "25"}, {2_678_400, 267_841, "100"}, {2_678_400, 2_678_400, "100"}, {0, 0, ""}, {1, 1, "100"},
	} {
		due, ok := promise.CreditFor(c.inScope, c.down)
		if got := due.Percent.String(); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%d of %d seconds down give %s %t back, want %q", c.down, c.inScope, got, ok, c.want)
		}
	}
	if _, ok := (*SLA)(nil).CreditFor(1, 1); ok {
		t.Error("no promise gives something back")
	}
	if _, ok := sla("99").CreditFor(1, 1); ok {
		t.Error("a promise without credits gives something back")
	}
}
