package organisation

import (
	"strings"

	"crossbill/domain"
)

func (c AddMember) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/member_id", domain.PrefixMember, c.MemberID)
	p.Text("/name", c.Name, MaxName)
	if c.Email != "" {
		p.OptionalText("/email", c.Email, MaxEmail)
		p.Check(validEmail(c.Email), "/email", "must be a mail address")
	}
	checkRole(&p, c.Role)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case s.indexOf(c.MemberID) >= 0:
		return nil, domain.Exists(op, "member", c.MemberID)
	case s.acting() >= MaxMembers:
		return nil, domain.Errorf(domain.Conflict, op, "the organisation has %d members, which is all there may be", MaxMembers).
			WithHint("remove somebody first")
	case len(s.Members) >= MaxMembersEver:
		return nil, domain.Errorf(domain.Conflict, op, "the organisation has had %d members, which is all there may be", MaxMembersEver).
			WithHint("ask the operator for another organisation")
	}
	return []domain.Event{MemberAdded{
		OrganisationID: s.ID, MemberID: c.MemberID, Name: c.Name, Email: c.Email, Role: c.Role, At: domain.Instant(c.At),
	}}, nil
}

func (c ChangeMemberRole) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	checkRole(&p, c.Role)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	m, ok := s.Member(c.MemberID)
	switch {
	case !ok:
		return nil, domain.Missing(op, "member")
	case m.Role == c.Role:
		return nil, nil
	case s.lastOwner(m):
		return nil, lastOwner(op)
	}
	return []domain.Event{MemberRoleChanged{OrganisationID: s.ID, MemberID: m.ID, Role: c.Role, At: domain.Instant(c.At)}}, nil
}

func (c RemoveMember) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	m, ok := s.Member(c.MemberID)
	switch {
	case !ok && s.indexOf(c.MemberID) >= 0:
		return nil, nil // removed before
	case !ok:
		return nil, domain.Missing(op, "member")
	case s.lastOwner(m):
		return nil, lastOwner(op)
	}
	return []domain.Event{MemberRemoved{OrganisationID: s.ID, MemberID: m.ID, At: domain.Instant(c.At)}}, nil
}

func (c Recover) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/key_id", domain.PrefixAPIKey, c.KeyID)
	p.Text("/reason", c.Reason, domain.MaxReason)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if m, ok := s.Member(c.MemberID); !ok || m.Role != MemberOwner {
		return nil, domain.Errorf(domain.Conflict, op, "there is no such owner of the organisation %s", s.ID).WithHint("name a new owner")
	}
	return []domain.Event{Recovered{OrganisationID: s.ID, MemberID: c.MemberID, KeyID: c.KeyID, Reason: c.Reason, At: domain.Instant(c.At)}}, nil
}

// lastOwner reports whether nobody but m owns the organisation: without m it could never again be changed by itself.
func (s State) lastOwner(m Member) bool {
	for _, other := range s.Members {
		if other.ID != m.ID && other.RemovedAt == nil && other.Role == MemberOwner {
			return false
		}
	}
	return m.Role == MemberOwner
}

func lastOwner(op string) error {
	return domain.Errorf(domain.Conflict, op, "the organisation would be left without an owner").WithHint("make somebody else an owner first")
}

func (s State) acting() (n int) {
	for _, m := range s.Members {
		if m.RemovedAt == nil {
			n++
		}
	}
	return n
}

func checkRole(p *domain.Problems, role MemberRole) {
	p.OneOf("/role", string(role), string(MemberOwner), string(MemberTrader), string(MemberFinance), string(MemberViewer))
}

// validEmail looks for what every mail address has. Whether it is one only a mail to it shows.
func validEmail(email string) bool {
	local, host, found := strings.Cut(email, "@")
	return found && local != "" && host != "" && !strings.ContainsAny(host, "@") && !strings.ContainsAny(email, " ,;<>")
}
