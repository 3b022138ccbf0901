package provisioning

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// Reservations lists what a connection holds, or what all hold if connectionID is empty.
func (p *Provisioner) Reservations(ctx context.Context, connectionID string) ([]Reservation, error) {
	return reservations(ctx, p.options.Pool, connectionID)
}

// Orphans lists reservations whose connection does not exist or has ended. There are none unless the table was changed
// by another hand: a reservation comes and goes with its connection's events, in their transactions.
func (p *Provisioner) Orphans(ctx context.Context) ([]Reservation, error) {
	held, err := reservations(ctx, p.options.Pool, "")
	if err != nil {
		return nil, err
	}
	var orphans []Reservation
	owner, live := "", false
	for _, r := range held { // in order of owner
		if r.Owner != owner {
			owner = r.Owner
			c, _, err := loadConnection(ctx, p.options.Log, owner)
			if err != nil {
				return nil, err
			}
			live = c.ID != "" && !c.Final()
		}
		if !live {
			orphans = append(orphans, r)
		}
	}
	return orphans, nil
}

// Reconcile releases the orphans and returns them. A connection's end is final, so what is an orphan once can be
// released at any later time.
func (p *Provisioner) Reconcile(ctx context.Context) (released []Reservation, err error) {
	orphans, err := p.Orphans(ctx)
	if err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, p.options.Pool, func(tx pgx.Tx) error {
		for _, r := range orphans {
			tag, err := tx.Exec(ctx, `DELETE FROM reservations WHERE kind = $1 AND scope = $2 AND number = $3 AND owner = $4`,
				r.Kind, r.Scope, r.Number, r.Owner) // primary key
			if err != nil {
				return domain.Errorf(domain.Unavailable, "provisioning.Reconcile", "an orphan could not be released: %w", err)
			}
			if tag.RowsAffected() > 0 {
				released = append(released, r)
			}
		}
		return nil
	})
	return released, err
}
