package servicekey

import (
	"crypto/subtle"
	"time"

	"crossbill/domain"
	"crossbill/domain/port"
)

// Limits on a service key.
const (
	MaxNote     = 200 // characters
	MaxValidity = 366 * 24 * time.Hour
)

// Command is what can be asked of a service key.
type Command interface{ command() }

// Issue gives a key for a port. That the customer exists is for the caller to see to.
type Issue struct {
	ServiceKeyID string
	ProviderID   string // who issues it
	PortID       string
	Port         port.State // that PortID names; zero if there is none
	CustomerID   string     // may be empty
	MaxMbps      int        // 0 for no limit of its own
	Note         string
	SecretHash   string
	ExpiresAt    time.Time // after At, by at most [MaxValidity]
	At           time.Time
}

// Redeem uses the key for an order. The same order again does nothing.
type Redeem struct {
	SecretHash    string // of the key that was presented
	CustomerID    string // who orders
	PortID        string // the provider's, that the order is for
	BandwidthMbps int
	OrderID       string
	At            time.Time
}

// Revoke takes the key back. Revoking a revoked key does nothing.
type Revoke struct {
	At time.Time
}

func (Issue) command()  {}
func (Redeem) command() {}
func (Revoke) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, with pointers
// into the request for a key or for an order; NotFound for a key that does not exist; a Conflict for one that was used,
// was revoked or has expired. Who presents a key that does not exist, or is not its own, learns only that it is none.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "servicekey.Decide"
	switch c := c.(type) {
	case Issue:
		if s.ID != "" {
			return nil, domain.Exists(op, "service key", s.ID)
		}
		return c.decide(op)
	case Redeem:
		return c.decide(op, s)
	case Revoke:
		if s.ID == "" {
			return nil, domain.Missing(op, "service key")
		}
		if s.State == StateRevoked {
			return nil, nil
		}
		if s.State == StateRedeemed {
			return nil, domain.InState(op, "service key", s.ID, s.State).WithHint("what was ordered with it is the order %s", s.OrderID)
		}
		var p domain.Problems
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Revoked{ServiceKeyID: s.ID, At: domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Issue) decide(op string) ([]domain.Event, error) {
	var p domain.Problems
	p.ID("/service_key_id", domain.PrefixServiceKey, c.ServiceKeyID)
	p.ID("/provider_id", domain.PrefixOrganisation, c.ProviderID)
	p.Check(c.Port.ID != "" && c.Port.ID == c.PortID && c.Port.OrganisationID == c.ProviderID, "/port_id", "is not a port of the organisation")
	p.Check(c.CustomerID == "" || domain.ValidID(domain.PrefixOrganisation, c.CustomerID), "/customer_id", "is not an organisation")
	p.Check(c.MaxMbps >= 0 && c.MaxMbps <= domain.MaxMbps, "/max_mbps", "must be at most %d", domain.MaxMbps)
	p.OptionalText("/note", c.Note, MaxNote)
	p.Hash("/secret_hash", c.SecretHash)
	p.Check(c.ExpiresAt.After(c.At) && !c.ExpiresAt.After(c.At.Add(MaxValidity)), "/expires_at", "must be in the future, by at most %d days", MaxValidity/(24*time.Hour))
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{Issued{
		ServiceKeyID: c.ServiceKeyID, ProviderID: c.ProviderID, PortID: c.PortID, CustomerID: c.CustomerID, MaxMbps: c.MaxMbps,
		Note: c.Note, SecretHash: c.SecretHash, ExpiresAt: domain.Instant(c.ExpiresAt), At: domain.Instant(c.At),
	}}, nil
}

func (c Redeem) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	known := s.ID != "" && subtle.ConstantTimeCompare([]byte(s.SecretHash), []byte(c.SecretHash)) == 1
	if !known || s.CustomerID != "" && s.CustomerID != c.CustomerID {
		p.Add("/service_key", "is not a service key for this organisation")
		return nil, p.Err(op)
	}
	if s.State == StateRedeemed && s.OrderID == c.OrderID {
		return nil, nil
	}
	p.Check(s.PortID == c.PortID, "/service_key", "is for another port than the listing's")
	p.Check(s.MaxMbps == 0 || c.BandwidthMbps <= s.MaxMbps, "/service_key", "is for at most %d Mbps", s.MaxMbps)
	p.ID("/order_id", domain.PrefixOrder, c.OrderID)
	p.ID("/customer_id", domain.PrefixOrganisation, c.CustomerID)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if state := s.StateAt(c.At); state != StateActive {
		return nil, domain.InState(op, "service key", s.ID, state).WithHint("ask the provider for a new one, or order without")
	}
	return []domain.Event{Redeemed{ServiceKeyID: s.ID, OrderID: c.OrderID, CustomerID: c.CustomerID, At: domain.Instant(c.At)}}, nil
}
