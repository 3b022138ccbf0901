package projections

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/exchangerate"
	"crossbill/domain/taxrate"
	"crossbill/events"
)

var (
	taxRates      = familyOf("tax_rate", taxrate.Events())
	exchangeRates = familyOf("exchange_rate", exchangerate.Events())
)

func applyTaxRates(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	return applyRates(ctx, tx, batch, taxRates, `
		INSERT INTO read_tax_rates (country, category, version, position, effective_from, doc) VALUES ($1, $2, $3, $4, $5, $6)`)
}

func applyExchangeRates(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	return applyRates(ctx, tx, batch, exchangeRates, `
		INSERT INTO read_exchange_rates (base, quote, version, position, effective_from, doc) VALUES ($1, $2, $3, $4, $5, $6)`)
}

// applyRates inserts a row for each event of the family. Rates are few.
func applyRates(ctx context.Context, tx pgx.Tx, batch []events.Recorded, family family, insert string) error {
	for _, e := range batch {
		_, ours, err := family.id(e)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		doc, err := json.Marshal(e.Event)
		if err != nil {
			return domain.Errorf(domain.Internal, "projections.applyRates", "event %d has no JSON: %w", e.Position, err)
		}
		var of, in string
		var version int
		var from time.Time
		switch set := e.Event.(type) {
		case taxrate.Set:
			of, in, version, from = string(set.Country), set.Category, set.Version, set.EffectiveFrom
		case exchangerate.Set:
			of, in, version, from = string(set.Base), string(set.Quote), set.Version, set.EffectiveFrom
		default:
			return unhandled(e)
		}
		if _, err := tx.Exec(ctx, insert, of, in, version, int64(e.Position), from, string(doc)); err != nil {
			return err
		}
	}
	return nil
}

// RateSearch narrows a list of rates; what is "" or zero does not.
type RateSearch struct {
	Of, In    string    // country and category, or base and quote
	InForceAt time.Time // of each kind of rate only the one that is in force then
	Limit     int
	PageToken string
}

// instant is how a time stands in a page token and in a query; nil for none.
func (s RateSearch) instant() (text string, at *time.Time) {
	if s.InForceAt.IsZero() {
		return "", nil
	}
	t := s.InForceAt.UTC()
	return t.Format(time.RFC3339Nano), &t
}

// TaxRates returns a page of tax rates, newest first, and the token of the next page ("" at the end).
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) TaxRates(ctx context.Context, s RateSearch) ([]taxrate.Set, string, error) {
	const op = "projections.TaxRates"
	text, at := s.instant()
	p, err := listOf("tax_rates", s.Of, s.In, text).pageOf(op, s.Limit, s.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[taxrate.Set](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_tax_rates AS r -- read_tax_rates_position_key
		WHERE ($1 = '' OR country = $1) AND ($2 = '' OR category = $2) AND position < $3
		  AND ($4::timestamptz IS NULL OR effective_from <= $4 AND NOT EXISTS (
		      SELECT FROM read_tax_rates AS later -- primary key
		      WHERE later.country = r.country AND later.category = r.category AND later.version > r.version AND later.effective_from <= $4))
		ORDER BY position DESC LIMIT $5`, s.Of, s.In, p.place, at, p.ask())
}

// ExchangeRates returns a page of currency rates, newest first, and the token of the next page ("" at the end).
// It returns an Invalid error for a limit or a token that is none.
func (q Queries) ExchangeRates(ctx context.Context, s RateSearch) ([]exchangerate.Set, string, error) {
	const op = "projections.ExchangeRates"
	text, at := s.instant()
	p, err := listOf("exchange_rates", s.Of, s.In, text).pageOf(op, s.Limit, s.PageToken, fromStart)
	if err != nil {
		return nil, "", err
	}
	return docsPage[exchangerate.Set](ctx, q.DB, op, p, `
		SELECT position, doc FROM read_exchange_rates AS r -- read_exchange_rates_position_key
		WHERE ($1 = '' OR base = $1) AND ($2 = '' OR quote = $2) AND position < $3
		  AND ($4::timestamptz IS NULL OR effective_from <= $4 AND NOT EXISTS (
		      SELECT FROM read_exchange_rates AS later -- primary key
		      WHERE later.base = r.base AND later.quote = r.quote AND later.version > r.version AND later.effective_from <= $4))
		ORDER BY position DESC LIMIT $5`, s.Of, s.In, p.place, at, p.ask())
}
