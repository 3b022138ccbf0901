package edgeidentity

import (
	"slices"
	"time"

	"crossbill/domain"
)

// Limits and lives.
const (
	MaxTokens       = 5 // of a node that can be used
	TokenLife       = time.Hour
	MaxTokenLife    = 24 * time.Hour
	CertificateLife = 24 * time.Hour // a node renews at half of it
	// BackDated is how long before its making a certificate begins, for clocks that are behind; it is no part of its life.
	BackDated = 5 * time.Minute
)

// Command is what can be asked of a node's identity.
type Command interface{ command() }

// IssueToken makes a token.
type IssueToken struct {
	EdgeNodeID string
	SecretHash string
	Life       time.Duration // up to [MaxTokenLife]
	At         time.Time
}

// Join uses a token up. The certificate is made before it is known whether the token is good, and given to nobody if not.
type Join struct {
	EdgeNodeID  string
	SecretHash  string
	Certificate Certificate
	At          time.Time
}

// Renew adds a certificate, for who shows one that is good.
type Renew struct {
	EdgeNodeID  string
	With        string
	Certificate Certificate
	At          time.Time
}

// Revoke takes everything back. Where there is nothing it does nothing.
type Revoke struct {
	EdgeNodeID string
	At         time.Time
}

func (IssueToken) command() {}
func (Join) command()       {}
func (Renew) command()      {}
func (Revoke) command()     {}

// Admit returns the certificate that was shown if it is good at the time, and Unauthorised with what to do if not.
func (s State) Admit(fingerprint string, at time.Time) (Certificate, error) {
	const op = "edgeidentity.Admit"
	const again = "have an operator make a join token for the node, and run crossbill edge join with it on the node"
	c, ok := s.Good(fingerprint)
	switch {
	case !ok && s.RevokedAt != nil:
		return c, domain.Errorf(domain.Unauthorised, op, "the edge node's identity was revoked at %s", s.RevokedAt.Format(time.RFC3339)).WithHint(again)
	case !ok:
		return c, domain.Errorf(domain.Unauthorised, op, "the edge node's certificate is not, or no longer, the node's").WithHint(again)
	case at.After(c.NotAfter):
		return c, domain.Errorf(domain.Unauthorised, op, "the edge node's certificate expired at %s", c.NotAfter.Format(time.RFC3339)).WithHint(again)
	}
	return c, nil
}

// Decide returns the events that a command makes of a state.
// It returns Unauthorised for a token or certificate that is not good, a Conflict for too many tokens, and Invalid for
// wrong fields.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "edgeidentity.Decide"
	var p domain.Problems
	switch c := c.(type) {
	case IssueToken:
		p.ID("/edge_node_id", domain.PrefixEdgeNode, c.EdgeNodeID)
		p.Hash("/secret_hash", c.SecretHash)
		p.Check(c.Life >= time.Second && c.Life <= MaxTokenLife, "/valid_seconds", "must be 1 to %d", int(MaxTokenLife.Seconds()))
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if len(s.lasting(c.At)) >= MaxTokens {
			return nil, domain.Errorf(domain.Conflict, op, "the edge node has %d join tokens that can still be used", MaxTokens).
				WithHint("use one of them, wait until they expire, or revoke the node's identity")
		}
		at := domain.Instant(c.At)
		return []domain.Event{TokenIssued{EdgeNodeID: c.EdgeNodeID, SecretHash: c.SecretHash, ExpiresAt: at.Add(c.Life), At: at}}, nil
	case Join:
		if err := s.usable(op, c.SecretHash, c.At); err != nil {
			return nil, err
		}
		p.ID("/edge_node_id", domain.PrefixEdgeNode, c.EdgeNodeID)
		c.Certificate.check(&p)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Joined{EdgeNodeID: c.EdgeNodeID, SecretHash: c.SecretHash, Certificate: c.Certificate, At: domain.Instant(c.At)}}, nil
	case Renew:
		if _, err := s.Admit(c.With, c.At); err != nil {
			return nil, err
		}
		p.ID("/edge_node_id", domain.PrefixEdgeNode, c.EdgeNodeID)
		c.Certificate.check(&p)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Renewed{EdgeNodeID: c.EdgeNodeID, With: c.With, Certificate: c.Certificate, At: domain.Instant(c.At)}}, nil
	case Revoke:
		if len(s.Tokens) == 0 && len(s.Certificates) == 0 {
			return nil, nil
		}
		p.ID("/edge_node_id", domain.PrefixEdgeNode, c.EdgeNodeID)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Revoked{EdgeNodeID: c.EdgeNodeID, At: domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

// usable returns Unauthorised unless the token can be used. Only who has the token learns why not.
func (s State) usable(op, secretHash string, at time.Time) error {
	const again = "have an operator make a new one"
	i := slices.IndexFunc(s.Tokens, func(t Token) bool { return t.SecretHash == secretHash })
	switch {
	case i < 0 && secretHash != "" && secretHash == s.LastUsed:
		return domain.Errorf(domain.Unauthorised, op, "the join token has been used").WithHint(again)
	case i < 0:
		return domain.Errorf(domain.Unauthorised, op, "the join token is unknown, used or revoked").WithHint(again)
	case !at.Before(s.Tokens[i].ExpiresAt):
		return domain.Errorf(domain.Unauthorised, op, "the join token expired at %s", s.Tokens[i].ExpiresAt.Format(time.RFC3339)).WithHint(again)
	}
	return nil
}

func (c Certificate) check(p *domain.Problems) {
	p.Text("/certificate/serial", c.Serial, 40)
	p.Hash("/certificate/fingerprint", c.Fingerprint)
	p.Check(c.NotAfter.After(c.NotBefore), "/certificate/not_after", "must be after not_before")
}
