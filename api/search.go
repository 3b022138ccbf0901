package api

import (
	"context"

	"crossbill/domain"
	"crossbill/domain/pricing"
	"crossbill/domain/quote"
	"crossbill/projections"
)

// SearchListings searches what the caller may buy and says what each result costs.
func (s *Server) SearchListings(ctx context.Context, req SearchListingsRequestObject) (SearchListingsResponseObject, error) {
	p := req.Params
	fee, err := s.feeInForce(ctx)
	if err != nil && domain.CodeOf(err) != domain.Unavailable {
		return nil, err
	}
	fees := fee.Schedule() // without one, nothing can be quoted, but the market can be looked at
	gb, err := domain.ParseDecimal(valueOr(p.EstimatedGb, "0"))
	if err != nil {
		return nil, err
	}
	search := projections.ListingSearch{
		Text: valueOr(p.Q, ""), Category: string(valueOr(p.Category, "")), Metro: valueOr(p.Metro, ""), ProviderID: valueOr(p.ProviderId, ""),
		BandwidthMbps: valueOr(p.BandwidthMbps, 0), Currency: valueOr(p.Currency, ""), EstimatedGB: gb,
		Sort: string(valueOr(p.Sort, "")), At: s.now(), Limit: valueOr(p.Limit, 100), PageToken: valueOr(p.PageToken, ""),
	}
	most, err := mostTotal(search.Currency, p.MaxMonthlyPrice)
	if err != nil {
		return nil, err
	}
	if most != nil {
		passthrough, err := mostPassthrough(fees, *most)
		if err != nil {
			return nil, err
		}
		search.MostPassthrough = &passthrough
	}
	found, next, err := s.Queries.SearchListings(ctx, viewer(ctx), search)
	if err != nil {
		return nil, err
	}
	page := ListingPage{Items: make([]Listing, 0, len(found)), NextPageToken: optional(next)}
	for _, l := range found {
		v := offerView(l)
		if v.Price, err = listingPrice(search, l, fees); err != nil {
			return nil, err
		}
		// The table's price with usage is a minor unit off at most; this one is exact.
		if most != nil && (v.Price == nil || v.Price.Total.Minor > most.Minor) {
			continue
		}
		page.Items = append(page.Items, v)
	}
	if valueOr(p.Facets, false) {
		if page.Facets, err = s.facets(ctx, search, fees); err != nil {
			return nil, err
		}
	}
	return SearchListings200JSONResponse(page), nil
}

// bytesDigits is how many digits GB have after the point: a GB is 10⁹ bytes.
const bytesDigits = 9

// listingPrice is what a result costs; nil for one without a price, which can't be quoted either.
func listingPrice(search projections.ListingSearch, l projections.Listing, fees pricing.FeeSchedule) (*ListingPrice, error) {
	mbps := search.BandwidthOf(l.Terms)
	priced, err := quote.Price(l.Terms.Plan, fees, pricing.Expected{BandwidthMbps: mbps, Bytes: search.EstimatedGB.Round(bytesDigits)})
	if domain.CodeOf(err) == domain.Invalid {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &ListingPrice{BandwidthMbps: mbps, Passthrough: priced.Passthrough, Fee: priced.Fee, Total: priced.Total}, nil
}

// mostTotal reads a bound on the price; nil if there is none.
func mostTotal(currency domain.Currency, amount *string) (*domain.Money, error) {
	if amount == nil {
		return nil, nil
	}
	var p domain.Problems
	if !currency.Valid() {
		p.Add("/query/currency", "must be given with max_monthly_price: only prices in one currency can be compared")
		return nil, p.Err("api.mostTotal")
	}
	m, err := domain.ParseMoney(*amount, currency)
	if err != nil {
		p.Add("/query/max_monthly_price", "is no amount of %s", currency)
		return nil, p.Err("api.mostTotal")
	}
	return &m, nil
}

// mostPassthrough is the most that the provider may ask so that with the fee on it the total stays within a bound; −1 if
// the fee alone is more. A fee never falls when the price rises, so half of what is left can be ruled out at a time.
func mostPassthrough(fees pricing.FeeSchedule, most domain.Money) (int64, error) {
	within := func(minor int64) (bool, error) {
		passthrough := domain.Money{Minor: minor, Currency: most.Currency}
		exact, _ := fees.Rate(passthrough)
		fee, err := domain.RoundMoney(exact, most.Currency)
		return err == nil && minor+fee.Minor <= most.Minor, err
	}
	low, high := int64(-1), most.Minor // low is within, or −1
	for low < high {
		middle := low + (high-low+1)/2
		ok, err := within(middle)
		if err != nil {
			return 0, err
		}
		if ok {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low, nil
}

// bandsOf are the tops of the price bands, in major units: 1, 2, 5, 10, … up to a million.
func bandsOf(currency domain.Currency) []domain.Money {
	if !currency.Valid() {
		return nil
	}
	var tops []domain.Money
	for unit := int64(1); unit <= 1_000_000; unit *= 10 {
		for _, step := range []int64{1, 2, 5} {
			if top, err := domain.RoundMoney(domain.DecimalFromInt(unit*step), currency); err == nil {
				tops = append(tops, top)
			}
		}
	}
	return tops
}

func (s *Server) facets(ctx context.Context, search projections.ListingSearch, fees pricing.FeeSchedule) (*Facets, error) {
	bands := bandsOf(search.Currency)
	bounds := make([]int64, len(bands))
	for i, top := range bands {
		var err error
		if bounds[i], err = mostPassthrough(fees, top); err != nil {
			return nil, err
		}
	}
	found, err := s.Queries.FacetsOf(ctx, viewer(ctx), search, bounds)
	if err != nil {
		return nil, err
	}
	f := &Facets{
		Total: found.Total, Category: facetCounts(found.Category), Metro: facetCounts(found.Metro), Provider: facetCounts(found.Provider),
		Bandwidth: facetCounts(found.Bandwidths),
	}
	if found.Prices == nil {
		return f, nil
	}
	prices := []PriceBand{}
	for i, count := range found.Prices {
		if count == 0 {
			continue
		}
		band := PriceBand{Count: count}
		if i > 0 {
			band.Above = &bands[i-1]
		}
		if i < len(bands) {
			band.UpTo = &bands[i]
		}
		prices = append(prices, band)
	}
	f.Price = &prices
	return f, nil
}

func facetCounts(found []projections.FacetCount) []FacetCount {
	counts := make([]FacetCount, 0, len(found))
	for _, c := range found {
		counts = append(counts, FacetCount{Value: c.Value, Count: c.Count})
	}
	return counts
}
