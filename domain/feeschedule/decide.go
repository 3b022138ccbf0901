package feeschedule

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/pricing"
)

// MaxBasisPoints is a fee of the whole passthrough.
const MaxBasisPoints = pricing.MaxBasisPoints

// Command is what can be asked of a fee schedule.
type Command interface{ command() }

// Publish makes the next version.
type Publish struct {
	FeeScheduleID string
	BasisPoints   int       // hundredths of a percent of the passthrough, 0 to [MaxBasisPoints]
	EffectiveFrom time.Time // zero means At; never before At, nor before that of the version it follows
	At            time.Time
	pricing.FeeTerms
}

func (Publish) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, among them an
// effective time in the past: what was agreed under one version is never billed under a later one.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "feeschedule.Decide"
	switch c := c.(type) {
	case Publish:
		at, from := domain.Instant(c.At), domain.Instant(c.EffectiveFrom)
		if c.EffectiveFrom.IsZero() {
			from = at
		}
		var p domain.Problems
		p.ID("/fee_schedule_id", domain.PrefixFeeSchedule, c.FeeScheduleID)
		p.Check(s.ID == "" || s.ID == c.FeeScheduleID, "/fee_schedule_id", "is not the schedule's own")
		pricing.FeeSchedule{BasisPoints: c.BasisPoints, FeeTerms: c.FeeTerms}.Check(&p, "")
		p.Time("/at", c.At)
		p.Check(!from.Before(at), "/effective_from", "must not be in the past")
		if n := len(s.Versions); n > 0 {
			p.Check(!from.Before(s.Versions[n-1].EffectiveFrom), "/effective_from", "must not be before that of version %d", n)
		}
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Published{
			FeeScheduleID: c.FeeScheduleID, Version: len(s.Versions) + 1, BasisPoints: c.BasisPoints, EffectiveFrom: from, At: at,
			FeeTerms: c.FeeTerms,
		}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}
