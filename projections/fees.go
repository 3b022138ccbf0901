package projections

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/domain/pricing"
	"crossbill/events"
)

var feeSchedules = familyOf("fee_schedule", feeschedule.Events())

func applyFees(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var ids []string
	var versions []int
	var positions []int64
	var basisPoints []int
	var effectiveFrom []time.Time
	var terms []*string // null for none
	for _, e := range batch {
		id, ours, err := feeSchedules.id(e)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		switch published := e.Event.(type) {
		case feeschedule.Published:
			ids = append(ids, id)
			versions = append(versions, published.Version)
			positions = append(positions, int64(e.Position))
			basisPoints = append(basisPoints, published.BasisPoints)
			effectiveFrom = append(effectiveFrom, published.EffectiveFrom)
			text, err := termsText(published.FeeTerms)
			if err != nil {
				return err
			}
			terms = append(terms, text)
		default:
			return unhandled(e)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_fee_schedules (fee_schedule_id, version, position, basis_points, effective_from, terms)
		SELECT id, version, position, basis_points, effective_from, terms::json
		FROM unnest($1::text[], $2::int[], $3::bigint[], $4::int[], $5::timestamptz[], $6::text[])
			AS t (id, version, position, basis_points, effective_from, terms)`,
		ids, versions, positions, basisPoints, effectiveFrom, terms)
	return err
}

func termsText(t pricing.FeeTerms) (*string, error) {
	if t.None() {
		return nil, nil
	}
	doc, err := json.Marshal(t)
	text := string(doc)
	return &text, err
}

// FeeSchedules returns a page of the published versions, newest first, and the token of the next page ("" at the end). It
// returns an Invalid error for a limit or a token that is none.
func (q Queries) FeeSchedules(ctx context.Context, limit int, token string) ([]feeschedule.Version, string, error) {
	const op = "projections.FeeSchedules"
	p, err := listOf("fee_schedules").pageOf(op, limit, token, fromStart)
	if err != nil {
		return nil, "", err
	}
	rows, err := q.DB.Query(ctx, `
		SELECT position, fee_schedule_id, version, basis_points, effective_from, terms
		FROM read_fee_schedules -- read_fee_schedules_position_key
		WHERE position < $1 ORDER BY position DESC LIMIT $2`, p.place, p.ask())
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, err := pgx.CollectRows(rows, scanFee)
	if err != nil {
		return nil, "", unavailable(op, err)
	}
	found, next := cut(p, found, func(f fee) int64 { return f.position })
	versions := make([]feeschedule.Version, len(found))
	for i, f := range found {
		versions[i] = f.Version
	}
	return versions, next, nil
}

// fee is a version and the position of the event that published it.
type fee struct {
	feeschedule.Version
	position int64
}

func scanFee(row pgx.CollectableRow) (f fee, err error) {
	var terms []byte // null for none
	if err = row.Scan(&f.position, &f.FeeScheduleID, &f.Version.Version, &f.BasisPoints, &f.EffectiveFrom, &terms); err != nil {
		return f, err
	}
	f.EffectiveFrom = f.EffectiveFrom.UTC()
	if terms != nil {
		err = json.Unmarshal(terms, &f.FeeTerms)
	}
	return f, err
}

// FeeSchedule returns the newest published fee schedule, under which new quotes are made, or a NotFound error if none
// was ever published.
func (q Queries) FeeSchedule(ctx context.Context) (feeschedule.Version, error) {
	const op = "projections.FeeSchedule"
	rows, err := q.DB.Query(ctx, `
		SELECT position, fee_schedule_id, version, basis_points, effective_from, terms
		FROM read_fee_schedules -- read_fee_schedules_position_key
		ORDER BY position DESC LIMIT 1`)
	if err != nil {
		return feeschedule.Version{}, unavailable(op, err)
	}
	newest, err := pgx.CollectOneRow(rows, scanFee)
	if errors.Is(err, pgx.ErrNoRows) {
		return feeschedule.Version{}, domain.Errorf(domain.NotFound, op, "no fee schedule has been published").
			WithHint("an operator publishes one before the first quote")
	}
	return newest.Version, unavailable(op, err)
}
