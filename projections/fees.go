package projections

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/events"
)

var feeSchedules = familyOf("fee_schedule", feeschedule.Events())

func applyFees(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
	var ids []string
	var versions []int
	var positions []int64
	var basisPoints []int
	var effectiveFrom []time.Time
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
		default:
			return unhandled(e)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO read_fee_schedules (fee_schedule_id, version, position, basis_points, effective_from)
		SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::int[], $5::timestamptz[])`,
		ids, versions, positions, basisPoints, effectiveFrom)
	return err
}

// FeeSchedule returns the newest published fee schedule, under which new quotes are made, or a NotFound error if none
// was ever published.
func (q Queries) FeeSchedule(ctx context.Context) (feeschedule.Version, error) {
	const op = "projections.FeeSchedule"
	rows, err := q.DB.Query(ctx, `
		SELECT fee_schedule_id, version, basis_points, effective_from
		FROM read_fee_schedules -- read_fee_schedules_position_key
		ORDER BY position DESC LIMIT 1`)
	if err != nil {
		return feeschedule.Version{}, unavailable(op, err)
	}
	newest, err := pgx.CollectOneRow(rows, func(row pgx.CollectableRow) (v feeschedule.Version, err error) {
		err = row.Scan(&v.FeeScheduleID, &v.Version, &v.BasisPoints, &v.EffectiveFrom)
		v.EffectiveFrom = v.EffectiveFrom.UTC()
		return v, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return feeschedule.Version{}, domain.Errorf(domain.NotFound, op, "no fee schedule has been published").
			WithHint("an operator publishes one before the first quote")
	}
	return newest, unavailable(op, err)
}
