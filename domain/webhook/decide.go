package webhook

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"crossbill/domain"
)

// Limits on a webhook.
const (
	MaxURL         = 2000 // bytes
	MaxDescription = 200  // characters
	MaxTypes       = 50   // patterns
	MaxType        = 80   // bytes of a pattern
	MaxDetail      = 500  // characters
	MaxOverlap     = 7 * 24 * time.Hour

	// SecretPrefix begins a secret; base64 of 24 to 64 random bytes follows (Standard Webhooks, "Signature scheme").
	SecretPrefix = "whsec_"
	minSecret    = 24
	maxSecret    = 64
)

// Command is what can be asked of a webhook.
type Command interface{ command() }

// Create makes a webhook.
type Create struct {
	WebhookID      string
	OrganisationID string
	Target         Target
	Secret         string
	After          int64 // the log position after which events are sent
	Anywhere       bool  // targets may be plain HTTP and in private networks: for tests
	At             time.Time
}

// Update gives it another target.
type Update struct {
	Target   Target
	Anywhere bool
	At       time.Time
}

// RotateSecret signs with another secret, and for the overlap with the present one too.
type RotateSecret struct {
	Secret  string
	Overlap time.Duration
	At      time.Time
}

// Disable stops it. What is disabled already stays so.
type Disable struct {
	Reason string
	Detail string
	At     time.Time
}

// Enable lets it go on where it stopped. What is enabled already stays so.
type Enable struct{ At time.Time }

// Rewind sends everything past a position again.
type Rewind struct {
	After int64
	At    time.Time
}

// ReplayDeadLetter tries one undelivered event again. That there is such a one is known to who keeps them.
type ReplayDeadLetter struct {
	Position int64
	At       time.Time
}

// Delete ends it. What is deleted already stays so.
type Delete struct{ At time.Time }

func (Create) command()           {}
func (Update) command()           {}
func (RotateSecret) command()     {}
func (Disable) command()          {}
func (Enable) command()           {}
func (Rewind) command()           {}
func (ReplayDeadLetter) command() {}
func (Delete) command()           {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, NotFound for a
// webhook that does not exist or is deleted, Conflict for one that exists.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "webhook.Decide"
	var p domain.Problems
	if c, ok := c.(Create); ok {
		if s.ID != "" {
			return nil, domain.Exists(op, "webhook", s.ID)
		}
		p.ID("/webhook_id", domain.PrefixWebhook, c.WebhookID)
		p.ID("/organisation_id", domain.PrefixOrganisation, c.OrganisationID)
		c.Target.check(&p, c.Anywhere)
		checkSecret(&p, c.Secret)
		p.Check(c.After >= 0, "/after", "must not be negative")
		p.Time("/at", c.At)
		return events(p.Err(op), Created{c.WebhookID, c.OrganisationID, c.Target.clone(), c.Secret, c.After, domain.Instant(c.At)})
	}
	if s.ID == "" || s.State == StateDeleted {
		return nil, domain.Missing(op, "webhook")
	}
	switch c := c.(type) {
	case Update:
		c.Target.check(&p, c.Anywhere)
		p.Time("/at", c.At)
		return events(p.Err(op), Updated{s.ID, c.Target.clone(), domain.Instant(c.At)})
	case RotateSecret:
		checkSecret(&p, c.Secret)
		p.Check(c.Overlap >= 0 && c.Overlap <= MaxOverlap, "/overlap_seconds", "must be 0 to %d", int(MaxOverlap.Seconds()))
		p.Time("/at", c.At)
		return events(p.Err(op), SecretRotated{s.ID, s.OrganisationID, c.Secret, domain.Instant(c.At.Add(c.Overlap)), domain.Instant(c.At)})
	case Disable:
		if s.State == StateDisabled {
			return nil, nil
		}
		p.OneOf("/reason", c.Reason, ReasonRequest, ReasonFailing, ReasonGone)
		p.OptionalText("/detail", c.Detail, MaxDetail)
		p.Time("/at", c.At)
		return events(p.Err(op), Disabled{s.ID, c.Reason, c.Detail, domain.Instant(c.At)})
	case Enable:
		if s.State == StateEnabled {
			return nil, nil
		}
		p.Time("/at", c.At)
		return events(p.Err(op), Enabled{s.ID, domain.Instant(c.At)})
	case Rewind:
		p.Check(c.After >= 0, "/after", "must not be negative")
		p.Time("/at", c.At)
		return events(p.Err(op), Rewound{s.ID, c.After, domain.Instant(c.At)})
	case ReplayDeadLetter:
		if s.State == StateDisabled {
			return nil, domain.InState(op, "webhook", s.ID, s.State).WithHint("enable it first")
		}
		p.Check(c.Position >= 1, "/position", "must be at least 1")
		p.Time("/at", c.At)
		return events(p.Err(op), DeadLetterReplayed{s.ID, c.Position, domain.Instant(c.At)})
	case Delete:
		p.Time("/at", c.At)
		return events(p.Err(op), Deleted{s.ID, domain.Instant(c.At)})
	}
	return nil, domain.UnknownCommand(op, c)
}

// events is the one event that was decided, unless there is an error.
func events(err error, e domain.Event) ([]domain.Event, error) {
	if err != nil {
		return nil, err
	}
	return []domain.Event{e}, nil
}

func (t Target) clone() Target {
	t.Types = slices.Clone(t.Types)
	return t
}

var typePattern = regexp.MustCompile(`^(\*|[a-z_]+\.(\*|[a-z_]+))$`)

func (t Target) check(p *domain.Problems, anywhere bool) {
	checkURL(p, t.URL, anywhere)
	p.OptionalText("/description", t.Description, MaxDescription)
	p.Check(len(t.Types) >= 1 && len(t.Types) <= MaxTypes, "/types", "must hold 1 to %d patterns", MaxTypes)
	if len(t.Types) <= MaxTypes {
		for i, pattern := range t.Types {
			p.Check(len(pattern) <= MaxType && typePattern.MatchString(pattern), domain.Pointer("/types", i), "must be an event type, a noun with .*, or *")
		}
	}
}

// checkURL holds a target to HTTPS and to names and addresses that are not our own network's. What a name stands for is
// looked at again each time a connection is made.
func checkURL(p *domain.Problems, text string, anywhere bool) {
	const pointer = "/url"
	if len(text) > MaxURL {
		p.Add(pointer, "must have at most %d bytes", MaxURL)
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" {
		p.Add(pointer, "must be an absolute URL")
		return
	}
	p.Check(u.Scheme == "https" || anywhere && u.Scheme == "http", pointer, "must be an https URL")
	p.Check(u.User == nil, pointer, "must not have a user name or password; the signature tells who sends")
	p.Check(u.Fragment == "", pointer, "must not have a fragment")
	if !anywhere {
		p.Check(PublicHost(u.Hostname()), pointer, "must be a name or an address in the public internet")
	}
}

// PublicHost reports whether a host may be a target: a name with a dot that is not special, or a public address. Anything
// that is an address in some old notation (0x7f.1, 2130706433) is refused: resolvers take them for addresses.
func PublicHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return PublicAddress(a)
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if !strings.Contains(host, ".") || len(host) > 253 || last == "" || last[0] >= '0' && last[0] <= '9' {
		return false
	}
	// RFC 6761, 6762, 8375 and 9476, and what clouds use for themselves.
	return !slices.Contains([]string{"localhost", "local", "internal", "invalid", "test", "example", "onion", "alt", "arpa", "lan", "home", "corp"}, last)
}

func checkSecret(p *domain.Problems, secret string) {
	body, ok := strings.CutPrefix(secret, SecretPrefix)
	raw, err := base64.StdEncoding.Strict().DecodeString(body)
	p.Check(ok && err == nil && len(raw) >= minSecret && len(raw) <= maxSecret, "/secret", "must be %s and base64 of %d to %d bytes", SecretPrefix, minSecret, maxSecret)
}
