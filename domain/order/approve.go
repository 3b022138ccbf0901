package order

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
)

// approve decides a person's yes. What the person commits to is counted for the person and not for the principal that
// placed the order: a limit is on what a principal does on its own word.
func (s State) approve(op string, c Approve) ([]domain.Event, error) {
	if err := s.checkPerson(op, c.By); err != nil {
		return nil, err
	}
	var p domain.Problems
	p.Time("/at", c.At)
	p.Check(c.Total.Currency.Valid(), "/total", "must have a currency")
	checkDeadline(&p, c.Deadline, c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.ApprovedAt != nil && !s.lost():
		if s.ApprovedBy == c.By.ID {
			return nil, nil
		}
		return nil, domain.Errorf(domain.Conflict, op, "the order %s was approved by somebody else", s.ID).
			WithHint("there is nothing left to do")
	case s.State != StateAwaitingApproval:
		return nil, s.refuse(op, s.approvedState())
	case !c.At.Before(s.Deadline):
		return nil, domain.Errorf(domain.Conflict, op, "the order %s had to be approved before %s", s.ID, s.Deadline.Format(time.RFC3339)).
			WithHint("place a new order")
	}
	return []domain.Event{Approved{
		OrderID: s.ID, CustomerID: s.CustomerID, By: c.By.ID, Deadline: domain.Instant(c.Deadline), Commitment: CommitmentOf(c.By, c.Total, c.At), At: domain.Instant(c.At),
	}}, nil
}

// decline decides a person's no. It is no way to cancel an order that needs no approval.
func (s State) decline(op string, c Decline) ([]domain.Event, error) {
	if err := s.checkPerson(op, c.By); err != nil {
		return nil, err
	}
	if s.State != StateAwaitingApproval && s.State != StateCancelled {
		return nil, s.refuse(op, StateCancelled)
	}
	return s.close(op, StateCancelled, c.Reason, c.At, Cancelled{OrderID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)})
}

// checkPerson holds an answer to its being a person's: a program that could approve what it placed would have no limit.
func (s State) checkPerson(op string, by apikey.PrincipalRef) error {
	if by.Kind == apikey.KindPerson {
		return nil
	}
	return domain.Errorf(domain.Forbidden, op, "the order %s waits for a person, and this is the word of a %.20s", s.ID, by.Kind).
		WithHint("ask a member of the organisation to answer with a key of their own")
}

func checkDeadline(p *domain.Problems, deadline, at time.Time) {
	p.Check(deadline.After(at) && !deadline.After(at.Add(MaxDeadline)), "/deadline", "must be in the future, by at most %s", MaxDeadline)
}

// ApprovalNeeded returns why a person has to approve an order of the given total, or "" if nobody has to. spent is what
// the principal has committed to this month in the total's currency, this order not counted.
func ApprovalNeeded(limits apikey.Limits, total domain.Money, spent int64) string {
	for _, limit := range []*domain.Money{limits.PerOrder, limits.PerMonth} {
		if limit != nil && limit.Currency != total.Currency {
			return OtherCurrency
		}
	}
	switch {
	case limits.PerOrder != nil && total.Minor > limits.PerOrder.Minor:
		return AboveOrderLimit
	case limits.PerMonth != nil && total.Minor > limits.PerMonth.Minor-spent: // the limit is not negative: no overflow
		return AboveMonthLimit
	}
	return ""
}
