package api

import (
	"context"
	"net/http"
	"time"

	"crossbill/domain"
	"crossbill/domain/exchangerate"
	"crossbill/domain/taxrate"
	"crossbill/events"
	"crossbill/projections"
)

// SetTaxRate records a tax rate.
func (s *Server) SetTaxRate(ctx context.Context, req SetTaxRateRequestObject) (SetTaxRateResponseObject, error) {
	b := req.Body
	var answer TaxRate
	var position *int64
	err := again(nil, func() error {
		stream := taxrate.Stream(domain.Country(b.Country), string(b.Category))
		state, version, err := events.Load(ctx, s.Log, stream, taxrate.Evolve)
		if err != nil {
			return err
		}
		decided, err := taxrate.Decide(state, taxrate.SetRate{
			Country: domain.Country(b.Country), Category: string(b.Category), Percent: b.Percent, Reason: valueOr(b.Reason, ""),
			EffectiveFrom: b.EffectiveFrom, At: s.now(),
		})
		if err != nil {
			return err
		}
		if len(decided) == 0 {
			last := state.Versions[len(state.Versions)-1]
			answer = taxRateView(taxrate.Set{
				Country: state.Country, Category: state.Category, Version: last.Version, Percent: last.Percent, Reason: last.Reason,
				EffectiveFrom: last.EffectiveFrom, At: last.At,
			})
			return nil
		}
		answer = taxRateView(decided[0].(taxrate.Set))
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(stream, version, decided...)}}, http.StatusCreated, answer)
		return err
	})
	if err != nil {
		return nil, err
	}
	return SetTaxRate201JSONResponse{Body: answer, Headers: SetTaxRate201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListTaxRates lists the tax rates, which are everybody's to see.
func (s *Server) ListTaxRates(ctx context.Context, req ListTaxRatesRequestObject) (ListTaxRatesResponseObject, error) {
	p := req.Params
	found, next, err := s.Queries.TaxRates(ctx, projections.RateSearch{
		Of: valueOr(p.Country, ""), In: string(valueOr(p.Category, "")), InForceAt: valueOr(p.InForceAt, time.Time{}),
		Limit: valueOr(p.Limit, 100), PageToken: valueOr(p.PageToken, ""),
	})
	if err != nil {
		return nil, err
	}
	page := TaxRatePage{Items: []TaxRate{}, NextPageToken: optional(next)}
	for _, e := range found {
		page.Items = append(page.Items, taxRateView(e))
	}
	return ListTaxRates200JSONResponse(page), nil
}

func taxRateView(e taxrate.Set) TaxRate {
	return TaxRate{
		Country: string(e.Country), Category: TaxCategory(e.Category), Version: e.Version, Percent: e.Percent, Reason: optional(e.Reason),
		EffectiveFrom: e.EffectiveFrom, RecordedAt: e.At,
	}
}

// SetExchangeRate records what a currency is worth in another.
func (s *Server) SetExchangeRate(ctx context.Context, req SetExchangeRateRequestObject) (SetExchangeRateResponseObject, error) {
	b := req.Body
	var answer ExchangeRate
	var position *int64
	err := again(nil, func() error {
		stream := exchangerate.Stream(b.Base, b.Quote)
		state, version, err := events.Load(ctx, s.Log, stream, exchangerate.Evolve)
		if err != nil {
			return err
		}
		decided, err := exchangerate.Decide(state, exchangerate.SetRate{
			Base: b.Base, Quote: b.Quote, Rate: b.Rate, Source: b.Source, EffectiveFrom: b.EffectiveFrom, At: s.now(),
		})
		if err != nil {
			return err
		}
		if len(decided) == 0 {
			last := state.Versions[len(state.Versions)-1]
			answer = exchangeRateView(exchangerate.Set{
				Base: state.Base, Quote: state.Quote, Version: last.Version, Rate: last.Rate, Source: last.Source,
				EffectiveFrom: last.EffectiveFrom, At: last.At,
			})
			return nil
		}
		answer = exchangeRateView(decided[0].(exchangerate.Set))
		position, err = s.commit(ctx, events.Append{Streams: []events.StreamAppend{appendTo(stream, version, decided...)}}, http.StatusCreated, answer)
		return err
	})
	if err != nil {
		return nil, err
	}
	return SetExchangeRate201JSONResponse{Body: answer, Headers: SetExchangeRate201ResponseHeaders{CrossbillPosition: position}}, nil
}

// ListExchangeRates lists the currency rates, which are everybody's to see.
func (s *Server) ListExchangeRates(ctx context.Context, req ListExchangeRatesRequestObject) (ListExchangeRatesResponseObject, error) {
	p := req.Params
	found, next, err := s.Queries.ExchangeRates(ctx, projections.RateSearch{
		Of: string(valueOr(p.Base, "")), In: string(valueOr(p.Quote, "")), InForceAt: valueOr(p.InForceAt, time.Time{}),
		Limit: valueOr(p.Limit, 100), PageToken: valueOr(p.PageToken, ""),
	})
	if err != nil {
		return nil, err
	}
	page := ExchangeRatePage{Items: []ExchangeRate{}, NextPageToken: optional(next)}
	for _, e := range found {
		page.Items = append(page.Items, exchangeRateView(e))
	}
	return ListExchangeRates200JSONResponse(page), nil
}

func exchangeRateView(e exchangerate.Set) ExchangeRate {
	return ExchangeRate{
		Base: e.Base, Quote: e.Quote, Version: e.Version, Rate: e.Rate, Source: e.Source, EffectiveFrom: e.EffectiveFrom, RecordedAt: e.At,
	}
}
