package connection

import (
	"maps"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/subject"
)

// SessionSettings is what a party wants of its BGP session, but for its prefixes, which stand with its side of the
// connection, and its secret, which stands in no state that is kept.
type SessionSettings struct {
	Admin       string     `json:"admin"`
	PrefixLimit int        `json:"prefix_limit"`
	SecretSetAt *time.Time `json:"secret_set_at,omitempty"` // nil if the session is not protected
}

// Settings returns the settings in force of one side.
func (s State) Settings(side string) SessionSettings {
	if settings, ok := s.SessionSettings[side]; ok {
		return settings
	}
	return SessionSettings{Admin: AdminUp, PrefixLimit: DefaultPrefixLimit}
}

// Secret returns a session's MD5 secret, "" if it has none. Only a state that was folded from the connection's events
// knows it: one from a read model says the same of every session. It may be [domain.Erased] or [domain.Unreadable].
func (s State) Secret(side string) string { return s.secrets[side] }

// SecretSubject returns whose key the secrets of a connection are encrypted under: its customer's, in a role that is no
// person's, so that erasing a person leaves sessions alone.
func SecretSubject(customerID string) string { return subject.Of(customerID, "bgp-secrets") }

// SessionConfigured says how a BGP session is to be from now on, whole.
type SessionConfigured struct {
	ConnectionID string    `json:"connection_id"`
	Side         string    `json:"side"`
	Admin        string    `json:"admin"`
	Prefixes     []string  `json:"prefixes"` // that the party's router may announce
	PrefixLimit  int       `json:"prefix_limit"`
	At           time.Time `json:"at"`
}

// SecretSet says that a BGP session is protected with TCP MD5 (RFC 2385) from now on. The secret is encrypted in the log as
// texts about persons are, under a key of the customer's.
type SecretSet struct {
	ConnectionID string    `json:"connection_id"`
	CustomerID   string    `json:"customer_id"`
	Side         string    `json:"side"`
	Secret       string    `json:"secret"`
	At           time.Time `json:"at"`
}

// SecretRemoved says that a BGP session is not protected any more.
type SecretRemoved struct {
	ConnectionID string    `json:"connection_id"`
	Side         string    `json:"side"`
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (SessionConfigured) EventType() string { return "bgp_session.configured" }

// EventType is the name in the log.
func (SecretSet) EventType() string { return "bgp_session.secret_set" }

// EventType is the name in the log.
func (SecretRemoved) EventType() string { return "bgp_session.secret_removed" }

// MapPersonal maps the secret.
func (e SecretSet) MapPersonal(f func(domain.PersonalField) string) domain.Event {
	e.Secret = f(domain.PersonalField{Subject: SecretSubject(e.CustomerID), Name: "secret", Text: e.Secret})
	return e
}

func (c ConfigureSession) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.OneOf("/side", c.Side, SideA, SideZ)
	p.Time("/at", c.At)
	if c.Admin != nil {
		p.OneOf("/admin_state", *c.Admin, AdminUp, AdminDown)
	}
	if c.PrefixLimit != nil {
		p.Check(*c.PrefixLimit >= 1 && *c.PrefixLimit <= MaxPrefixLimit, "/prefix_limit", "must be 1 to %d", MaxPrefixLimit)
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	ours, theirs := s.CustomerBGP, s.ProviderBGP
	if c.Side == SideZ {
		ours, theirs = theirs, ours
	}
	now := s.Settings(c.Side)
	configured := SessionConfigured{
		ConnectionID: s.ID, Side: c.Side, Admin: now.Admin, Prefixes: ours.Prefixes, PrefixLimit: now.PrefixLimit, At: domain.Instant(c.At),
	}
	if c.Prefixes != nil {
		wanted := BGP{ASN: ours.ASN, Prefixes: c.Prefixes}
		p.BGP("", wanted)
		p.BGPPair("", wanted, theirs)
		carried := s.Families()
		if c.Side == SideA { // the provider's may be of another family too: it is not carried
			p.InFamilies("", wanted, carried, "the connection was ordered without this family, and has no addresses of it")
		}
		for _, family := range carried {
			p.Check(slices.Contains(wanted.Families(), family), "/prefixes", "must hold an %s prefix: the connection carries it", domain.FamilyName(family))
		}
		configured.Prefixes = slices.Clone(c.Prefixes)
	}
	if c.Admin != nil {
		configured.Admin = *c.Admin
	}
	if c.PrefixLimit != nil {
		configured.PrefixLimit = *c.PrefixLimit
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if configured.Admin == now.Admin && configured.PrefixLimit == now.PrefixLimit && slices.Equal(configured.Prefixes, ours.Prefixes) {
		return nil, nil
	}
	if err := s.hasSessions(op); err != nil {
		return nil, err
	}
	return []domain.Event{configured}, nil
}

func (c SetSecret) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.OneOf("/side", c.Side, SideA, SideZ)
	p.Time("/at", c.At)
	printable := len(c.Secret) >= 1 && len(c.Secret) <= MaxSecret
	for i := range len(c.Secret) {
		printable = printable && c.Secret[i] > ' ' && c.Secret[i] < 0x7f
	}
	// The placeholders of a text that is gone must never be what a session is protected with.
	p.Check(printable && c.Secret != domain.Erased && c.Secret != domain.Unreadable, "/md5_secret",
		"must be 1 to %d printable ASCII characters without spaces", MaxSecret)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.secrets[c.Side] == c.Secret {
		return nil, nil
	}
	if err := s.hasSessions(op); err != nil {
		return nil, err
	}
	return []domain.Event{SecretSet{ConnectionID: s.ID, CustomerID: s.CustomerID, Side: c.Side, Secret: c.Secret, At: domain.Instant(c.At)}}, nil
}

func (c RemoveSecret) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.OneOf("/side", c.Side, SideA, SideZ)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if s.Settings(c.Side).SecretSetAt == nil {
		return nil, nil
	}
	if err := s.hasSessions(op); err != nil {
		return nil, err
	}
	return []domain.Event{SecretRemoved{ConnectionID: s.ID, Side: c.Side, At: domain.Instant(c.At)}}, nil
}

// hasSessions returns the Conflict for a connection that has no sessions yet or any more.
func (s State) hasSessions(op string) error {
	switch {
	case s.pastEdge():
		return s.refuse(op)
	case s.A == nil:
		return s.refuse(op).WithHint("its sessions can be configured once it is allocated")
	}
	return nil
}

// withSession returns the state with a session's new settings; the states before it do not see them.
func (s State) withSession(e domain.Event) State {
	switch e := e.(type) {
	case SessionConfigured:
		side, party := s.A, &s.CustomerBGP
		if e.Side == SideZ {
			side, party = s.Z, &s.ProviderBGP
		}
		party.Prefixes = e.Prefixes
		if side != nil {
			changed := *side
			changed.Prefixes = e.Prefixes
			if side = &changed; e.Side == SideZ {
				s.Z = side
			} else {
				s.A = side
			}
		}
		s.Rebuild = s.Rebuild.withPrefixes(e.Side, e.Prefixes)
		return s.withSettings(e.Side, func(v *SessionSettings) { v.Admin, v.PrefixLimit = e.Admin, e.PrefixLimit })
	case SecretSet:
		s.secrets = maps.Clone(s.secrets)
		if s.secrets == nil {
			s.secrets = make(map[string]string, 2)
		}
		s.secrets[e.Side] = e.Secret
		return s.withSettings(e.Side, func(v *SessionSettings) { v.SecretSetAt = &e.At })
	case SecretRemoved:
		s.secrets = maps.Clone(s.secrets)
		delete(s.secrets, e.Side)
		return s.withSettings(e.Side, func(v *SessionSettings) { v.SecretSetAt = nil })
	}
	return s
}

// withPrefixes returns the rebuild with what a party's router may announce of its new build too.
func (r *Rebuild) withPrefixes(side string, prefixes []string) *Rebuild {
	if r == nil {
		return nil
	}
	changed := *r
	if side == SideZ && r.ProviderBGP != nil {
		changed.ProviderBGP = &BGP{ASN: r.ProviderBGP.ASN, Prefixes: prefixes}
	}
	if r.Build != nil {
		b := *r.Build
		if changed.Build = &b; side == SideZ {
			b.Z.Prefixes = prefixes
		} else {
			b.A.Prefixes = prefixes
		}
	}
	return &changed
}

func (s State) withSettings(side string, change func(*SessionSettings)) State {
	settings := s.Settings(side)
	change(&settings)
	s.SessionSettings = maps.Clone(s.SessionSettings)
	if s.SessionSettings == nil {
		s.SessionSettings = make(map[string]SessionSettings, 2)
	}
	s.SessionSettings[side] = settings
	return s
}
