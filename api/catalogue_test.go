package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
)

func init() { operationLists = append(operationLists, catalogueOperations) }

func catalogueOperations(m *market) []operation {
	listing := "/v1/listings/" + m.listing.Id
	reviewed := time.Now().UTC().Add(time.Hour).Truncate(time.Second)
	return []operation{
		{"createLocation", "POST", "/v1/locations", m.operatorKey, newLocation()},
		{"listLocations", "GET", "/v1/locations", m.customerKey, nil},
		{"getLocation", "GET", "/v1/locations/" + unknownID("loc"), m.customerKey, nil},
		{"listPorts", "GET", "/v1/ports", m.customerKey, nil},
		{"updateDraft", "PUT", listing + "/draft", m.providerKey, m.terms()},
		{"discardDraft", "DELETE", listing + "/draft", m.providerKey, nil},
		{"submitListing", "POST", listing + ":submit", m.providerKey, client.Submission{EffectiveFrom: &reviewed}},
		{"approveListing", "POST", listing + ":approve", m.operatorKey, nil},
		{"rejectListing", "POST", listing + ":reject", m.operatorKey, client.Reason{Reason: "no"}},
		{"listListingVersions", "GET", listing + "/versions", m.customerKey, nil},
		{"getListingVersion", "GET", listing + "/versions/1", m.customerKey, nil},
		{"estimateListing", "POST", listing + ":estimate", m.customerKey, newEstimate()},
		{"listOwnListings", "GET", "/v1/provider/listings", m.providerKey, nil},
		{"listListingReviews", "GET", "/v1/listing-reviews", m.operatorKey, nil},
		{"getMarketPolicy", "GET", "/v1/market-policy", m.customerKey, nil},
		{"setMarketPolicy", "PUT", "/v1/market-policy", m.operatorKey, client.NewMarketPolicy{ListingReview: true}},
	}
}

func newLocation() client.NewLocation {
	peeringDB := 1234
	return client.NewLocation{Name: "First hall", Metro: "Amsterdam", Country: "NL", Facility: "Example street 1", PeeringdbId: &peeringDB}
}

func newEstimate() client.NewEstimate {
	gb := domain.MustDecimal("2000")
	return client.NewEstimate{BandwidthMbps: 100, EstimatedGb: &gb}
}

// TestListingLife goes from a draft through two reviews to a version that comes into force later, a private one, and the end.
func TestListingLife(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	friendID, friendKey := m.register("friend", client.RoleCustomer)
	friend := m.client(friendKey)
	_, position, err := client.Decode[client.MarketPolicy](m.operator.SetMarketPolicy(ctx, nil, client.NewMarketPolicy{ListingReview: true}))
	must(t, err)
	if position == 0 {
		t.Error("switching reviews on has no position")
	}

	terms := m.terms()
	terms.Title = "Reviewed"
	made, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, terms))
	must(t, err)
	if made.State != client.ListingStateDraft || made.Draft == nil || *made.Terms.Metering != client.ListingTermsMeteringPlatform || len(made.Terms.Changes.InPlace) != 4 {
		t.Errorf("drafted: %+v", made)
	}
	path := "/v1/listings/" + made.Id
	expect := func(what string, status int, want int) {
		t.Helper()
		if status != want {
			t.Errorf("%s answered %d, want %d", what, status, want)
		}
	}
	status, _, _ := m.do(m.providerKey, "POST", path+":publish", nil)
	expect("publishing past the review", status, http.StatusConflict)
	submitted, _, err := client.Decode[client.Listing](m.provider.SubmitListing(ctx, made.Id, nil, client.Submission{}))
	must(t, err)
	if submitted.State != client.ListingStateSubmitted || submitted.Review.State != client.ListingReviewStateSubmitted {
		t.Errorf("submitted: %+v", submitted)
	}
	status, _, _ = m.do(m.strangerKey, "GET", path, nil)
	expect("a stranger's look at what is reviewed", status, http.StatusNotFound)
	status, _, _ = m.do(m.strangerKey, "POST", path+":estimate", newEstimate())
	expect("a stranger's estimate of what is reviewed", status, http.StatusNotFound)
	queue := func() client.ListingPage {
		t.Helper()
		at := int64(m.head())
		page, _, err := client.Decode[client.ListingPage](m.operator.ListListingReviews(ctx, &client.ListListingReviewsParams{AtPosition: &at}))
		must(t, err)
		return page
	}
	if page := queue(); len(page.Items) != 1 || page.Items[0].Id != made.Id || page.Items[0].Draft.Title != "Reviewed" {
		t.Errorf("the queue is %+v", page)
	}
	rejected, _, err := client.Decode[client.Listing](m.operator.RejectListing(ctx, made.Id, nil, client.Reason{Reason: "Say more"}))
	must(t, err)
	if rejected.State != client.ListingStateDraft || *rejected.Review.Reason != "Say more" {
		t.Errorf("rejected: %+v", rejected)
	}
	if page := queue(); len(page.Items) != 0 {
		t.Errorf("the queue holds what was rejected: %+v", page)
	}
	terms.Description = "More."
	redrafted, _, err := client.Decode[client.Listing](m.provider.UpdateDraft(ctx, made.Id, nil, terms))
	must(t, err)
	if redrafted.Draft.Description != "More." {
		t.Errorf("drafted anew: %+v", redrafted)
	}
	status, _, _ = m.do(m.operatorKey, "POST", path+":approve", nil)
	expect("approving what was not submitted", status, http.StatusConflict)

	soon := m.now().Add(time.Hour).Truncate(time.Microsecond)
	_, _, err = client.Decode[client.Listing](m.provider.SubmitListing(ctx, made.Id, nil, client.Submission{EffectiveFrom: &soon}))
	must(t, err)
	approved, _, err := client.Decode[client.Listing](m.operator.ApproveListing(ctx, made.Id, nil))
	must(t, err)
	if approved.State != client.ListingStatePublished || !approved.EffectiveFrom.Equal(soon) {
		t.Errorf("approved: %+v", approved)
	}
	status, _, _ = m.do(m.strangerKey, "GET", path, nil)
	expect("a look at what is not in force", status, http.StatusNotFound)
	status, _, _ = m.do(m.customerKey, "POST", "/v1/quotes", client.NewQuote{ListingId: made.Id, BandwidthMbps: 100})
	expect("a quote of what is not in force", status, http.StatusNotFound)
	m.ahead.Store(int64(2 * time.Hour))
	seen, _, err := client.Decode[client.Listing](m.stranger.GetListing(ctx, made.Id))
	must(t, err)
	if seen.Version != 1 || seen.Draft != nil || seen.Review != nil {
		t.Errorf("a stranger sees %+v", seen)
	}
	estimate, _, err := client.Decode[client.Estimate](m.stranger.EstimateListing(ctx, made.Id, newEstimate()))
	must(t, err)
	if estimate.Passthrough.Amount() != "460.00" || estimate.Fee.Amount() != "13.80" || estimate.Total.Amount() != "473.80" || len(estimate.Lines) != 3 {
		t.Errorf("the estimate is %+v", estimate)
	}

	// The second version is for a friend only.
	terms.OfferedTo = &[]string{friendID}
	_, _, err = client.Decode[client.Listing](m.provider.UpdateDraft(ctx, made.Id, nil, terms))
	must(t, err)
	_, _, err = client.Decode[client.Listing](m.provider.SubmitListing(ctx, made.Id, nil, client.Submission{}))
	must(t, err)
	_, _, err = client.Decode[client.Listing](m.operator.ApproveListing(ctx, made.Id, nil))
	must(t, err)
	for _, p := range []string{path, path + "/versions", path + "/versions/1", path + "/versions/2"} {
		status, _, body := m.do(m.strangerKey, "GET", p, nil)
		expect("a stranger's look at a private offer", status, http.StatusNotFound)
		if strings.Contains(string(body), friendID) {
			t.Errorf("%s tells who has the offer", p)
		}
	}
	offer, _, err := client.Decode[client.Listing](friend.GetListing(ctx, made.Id))
	must(t, err)
	if offer.Version != 2 || offer.Terms.OfferedTo != nil {
		t.Errorf("who was named sees %+v", offer)
	}
	for key, want := range map[string]int{m.customerKey: http.StatusNotFound, friendKey: http.StatusCreated} {
		status, _, _ = m.do(key, "POST", "/v1/quotes", client.NewQuote{ListingId: made.Id, BandwidthMbps: 100})
		expect("a quote of a private offer", status, want)
	}
	versions, _, err := client.Decode[client.ListingVersions](m.provider.ListListingVersions(ctx, made.Id))
	must(t, err)
	if len(versions.Items) != 2 || versions.Items[0].Version != 2 || (*versions.Items[0].Terms.OfferedTo)[0] != friendID {
		t.Errorf("the versions are %+v", versions)
	}

	_, _, err = client.Decode[client.Listing](m.provider.RetireListing(ctx, made.Id, nil))
	must(t, err)
	status, _, _ = m.do(friendKey, "GET", path, nil)
	expect("a look at what is retired", status, http.StatusNotFound)
	at, retired := int64(m.head()), client.ListingStateRetired
	own, _, err := client.Decode[client.ListingPage](m.provider.ListOwnListings(ctx, &client.ListOwnListingsParams{AtPosition: &at, State: &retired}))
	must(t, err)
	if len(own.Items) != 1 || own.Items[0].Id != made.Id {
		t.Errorf("the provider's retired listings are %+v", own)
	}
	others, _, err := client.Decode[client.ListingPage](m.stranger.ListOwnListings(ctx, &client.ListOwnListingsParams{}))
	must(t, err)
	if len(others.Items) != 0 {
		t.Errorf("another provider lists %+v", others)
	}
}

// TestDiscardedDrafts discards one that was before an operator beside what is published, and one of a listing that is
// nothing else.
func TestDiscardedDrafts(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	_, _, err := client.Decode[client.MarketPolicy](m.operator.SetMarketPolicy(ctx, nil, client.NewMarketPolicy{ListingReview: true}))
	must(t, err)
	terms := m.terms()
	terms.Title = "Later"
	discard := func(id string) {
		t.Helper()
		if status, p, _ := m.do(m.providerKey, "DELETE", "/v1/listings/"+id+"/draft", nil); status != http.StatusNoContent {
			t.Errorf("discarding answered %d: %s", status, p.Detail)
		}
	}
	get := func(id string) client.Listing {
		t.Helper()
		l, _, err := client.Decode[client.Listing](m.provider.GetListing(ctx, id))
		must(t, err)
		return l
	}

	_, _, err = client.Decode[client.Listing](m.provider.UpdateDraft(ctx, m.listing.Id, nil, terms))
	must(t, err)
	_, _, err = client.Decode[client.Listing](m.provider.SubmitListing(ctx, m.listing.Id, nil, client.Submission{}))
	must(t, err)
	discard(m.listing.Id)
	if l := get(m.listing.Id); l.State != client.ListingStatePublished || l.Draft != nil || l.Review != nil || l.Terms.Title != m.listing.Terms.Title {
		t.Errorf("beside what is published: %+v", l)
	}
	if status, _, _ := m.do(m.operatorKey, "POST", "/v1/listings/"+m.listing.Id+":approve", nil); status != http.StatusConflict {
		t.Errorf("approving what was discarded answered %d", status)
	}

	made, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, terms))
	must(t, err)
	if status, _, _ := m.do(m.strangerKey, "DELETE", "/v1/listings/"+made.Id+"/draft", nil); status != http.StatusNotFound {
		t.Errorf("another's draft answered %d", status)
	}
	discard(made.Id)
	before := m.head()
	discard(made.Id)
	if m.head() != before {
		t.Error("discarding again appended events")
	}
	at := int64(m.head())
	own, _, err := client.Decode[client.ListingPage](m.provider.ListOwnListings(ctx, &client.ListOwnListingsParams{AtPosition: &at}))
	must(t, err)
	if len(own.Items) != 2 || own.Items[0].State != client.ListingStateRetired || own.Items[0].Terms.Title != "Later" || own.Items[0].Draft != nil || own.Items[1].Draft != nil {
		t.Errorf("the provider's listings are %+v", own.Items)
	}
}

// TestLocations holds a node to its location, and a listing to that of its port.
func TestLocations(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	here, _, err := client.Decode[client.Location](m.operator.CreateLocation(ctx, nil, newLocation()))
	must(t, err)
	status, _, _ := m.do(m.operatorKey, "POST", "/v1/locations", newLocation())
	if status != http.StatusConflict {
		t.Errorf("a second location of one facility answered %d", status)
	}
	node := newEdgeNode()
	node.LocationId = &here.Id
	made, _, err := client.Decode[client.EdgeNode](m.operator.CreateEdgeNode(ctx, nil, node))
	must(t, err)
	m.nodeID = made.Id
	port := m.port(m.providerID, "port7")
	terms := m.terms()
	terms.PortId, terms.Metro = port, "Rotterdam"
	status, p, _ := m.do(m.providerKey, "POST", "/v1/listings", terms)
	if status != http.StatusUnprocessableEntity || p.Errors == nil || (*p.Errors)[0].Pointer != "/metro" {
		t.Errorf("a listing in another metro answered %d: %+v", status, p)
	}
	terms.Metro = "amsterdam"
	drafted, _, err := client.Decode[client.Listing](m.provider.CreateListing(ctx, nil, terms))
	must(t, err)
	if drafted.LocationId == nil || *drafted.LocationId != here.Id {
		t.Errorf("the listing is not at its port's location: %+v", drafted)
	}
	at := int64(m.head())
	locations, _, err := client.Decode[client.LocationPage](m.customer.ListLocations(ctx, &client.ListLocationsParams{AtPosition: &at}))
	must(t, err)
	if len(locations.Items) != 1 || locations.Items[0].Id != here.Id {
		t.Errorf("the locations are %+v", locations)
	}
	ports, _, err := client.Decode[client.PortPage](m.provider.ListPorts(ctx, &client.ListPortsParams{AtPosition: &at}))
	must(t, err)
	if len(ports.Items) != 2 || ports.Items[0].Id != port || *ports.Items[0].UsedMbps != 0 {
		t.Errorf("the provider's ports are %+v", ports)
	}
}

// TestSearch tries what the projections' tests can't: that what is shown is what a quote would say, and the bound on the total.
func TestSearch(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	ctx := context.Background()
	at := int64(m.head())
	gb, usd, sort, facets := "2000", domain.Currency("USD"), client.SearchListingsParamsSort("price"), true
	search := func(most string) client.ListingPage {
		t.Helper()
		page, _, err := client.Decode[client.ListingPage](m.customer.SearchListings(ctx, &client.SearchListingsParams{
			EstimatedGb: &gb, Currency: &usd, Sort: &sort, MaxMonthlyPrice: &most, Facets: &facets, AtPosition: &at}))
		must(t, err)
		return page
	}
	quoted := m.takeQuote()
	page := search("473.80")
	if len(page.Items) != 1 || page.Items[0].Price.Total != quoted.Total || page.Items[0].Price.BandwidthMbps != 100 || page.Items[0].Terms.OfferedTo != nil {
		t.Errorf("at the quote's total %s: %+v", quoted.Total, page.Items)
	}
	if bands := *page.Facets.Price; page.Facets.Total != 1 || len(bands) != 1 || bands[0].Above.Amount() != "200.00" || bands[0].UpTo.Amount() != "500.00" {
		t.Errorf("the facets are %+v", page.Facets)
	}
	if page := search("473.79"); len(page.Items) != 0 {
		t.Errorf("a cent under the total: %+v", page.Items)
	}
	for _, query := range []string{"sort=price", "max_monthly_price=5", "max_monthly_price=5&currency=XXX", "max_monthly_price=5.001&currency=USD",
		"sort=luck", "category=nothing", "estimated_gb=-1", "currency=usd", "facets=perhaps", "max_monthly_price=x&currency=USD"} {
		if status, _, _ := m.do(m.customerKey, "GET", "/v1/listings?"+query, nil); status != http.StatusUnprocessableEntity {
			t.Errorf("%s answered %d", query, status)
		}
	}
}
