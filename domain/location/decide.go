package location

import (
	"math"
	"time"

	"crossbill/domain"
)

// Limits on what a location is called, in characters.
const (
	MaxName     = 120
	MaxMetro    = 40
	MaxFacility = 120
)

// Command is what can be asked of a location.
type Command interface{ command() }

// Register makes a location. That no other has the same PeeringDB id is for the caller to see to.
type Register struct {
	LocationID  string
	Name        string
	Metro       string
	Country     string // ISO 3166-1 alpha-2, in capitals
	Facility    string
	PeeringDBID int // of the facility in PeeringDB; 0: it has none
	At          time.Time
}

func (Register) command() {}

// Decide returns the events that a command makes of a state.
// It returns an Invalid error for wrong fields and a Conflict for a location that exists.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "location.Decide"
	switch c := c.(type) {
	case Register:
		if s.ID != "" {
			return nil, domain.Exists(op, "location", s.ID)
		}
		var p domain.Problems
		p.ID("/location_id", domain.PrefixLocation, c.LocationID)
		p.Text("/name", c.Name, MaxName)
		p.Text("/metro", c.Metro, MaxMetro)
		p.Check(isCountry(c.Country), "/country", "must be an ISO 3166-1 alpha-2 code in capitals")
		p.Text("/facility", c.Facility, MaxFacility)
		p.Check(c.PeeringDBID >= 0 && c.PeeringDBID <= math.MaxInt32, "/peeringdb_id", "must be a PeeringDB facility id")
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Registered{
			LocationID: c.LocationID, Name: c.Name, Metro: c.Metro, Country: c.Country, Facility: c.Facility,
			PeeringDBID: c.PeeringDBID, At: domain.Instant(c.At),
		}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

func isCountry(code string) bool {
	return len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z'
}
