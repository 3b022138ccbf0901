package edge

import (
	"context"
	"slices"

	"crossbill/domain"
)

// Node is the machine under the agent, by what can be done to it. Every method converges: it may be called again, and in
// any state a killed agent left behind. Tests wrap it to fail or to stop between any two steps.
type Node interface {
	Kind() Kind
	// Configure sets what all sessions have in common. It is called before any of the others.
	Configure(ctx context.Context, d DesiredState) error
	// Ensure sets up interfaces, meters, sessions and routes of a connection. The gate stays as it is, at first closed.
	Ensure(ctx context.Context, c DesiredConnection) error
	// Follow makes the routes of a connection that was set up what its sessions have announced meanwhile.
	Follow(ctx context.Context, c DesiredConnection) error
	// Sessions returns all sessions' states and what a person should know of them.
	Sessions(ctx context.Context, tag int) (sessions []Session, message string, err error)
	// Probe sends test packets across in both directions and reports whether all of them arrived.
	Probe(ctx context.Context, c DesiredConnection) (passed bool, detail string)
	// SetGate lets traffic cross, or not.
	SetGate(tag int, open bool) error
	Gate(tag int) (open bool, err error)
	// Counters reads the meter of the customer's port. NotFound if there is none.
	Counters(tag int) (Counters, error)
	// Bandwidth returns the bandwidth in Mbps that is set for a connection, 0 if it is not on the node.
	Bandwidth(tag int) (mbps int, err error)
	// Pause closes the gate and stops the meter, both until the next Ensure, which leaves the gate closed. Sessions stay.
	Pause(tag int) error
	// Halt closes the gate and the sessions for good and stops the meter, which can still be read.
	Halt(ctx context.Context, tag int) error
	// Remove takes everything of a connection off the node, the meter too.
	Remove(ctx context.Context, tag int) error
	// List looks at the whole node and returns the tags of which anything is there. The next Ensure of each connection may go by
	// what it has seen.
	List() ([]int, error)
	// Changes is signalled when a session or a route has changed.
	Changes() <-chan struct{}
	// Changed returns the tags of which that is so since it was last asked.
	Changed() []int
}

// Counters are the totals of a meter since it was made.
type Counters struct {
	Meter      int64  `json:"meter"` // which meter: another number means counting began anew at zero
	BytesIn    uint64 `json:"bytes_in"`
	BytesOut   uint64 `json:"bytes_out"`
	PacketsIn  uint64 `json:"packets_in"`
	PacketsOut uint64 `json:"packets_out"`
	DroppedIn  uint64 `json:"dropped_in"`
	DroppedOut uint64 `json:"dropped_out"`
}

// follow reports whether c can be a later state of the same meter as before.
func (c Counters) follow(before Counters) bool {
	return c.Meter == before.Meter && c.BytesIn >= before.BytesIn && c.BytesOut >= before.BytesOut &&
		c.PacketsIn >= before.PacketsIn && c.PacketsOut >= before.PacketsOut &&
		c.DroppedIn >= before.DroppedIn && c.DroppedOut >= before.DroppedOut
}

// families returns the address families that the connection carries.
func (c DesiredConnection) families() (families []string) {
	if c.A.Address.IsValid() {
		families = append(families, domain.IPv4)
	}
	if c.A.IPv6Address.IsValid() {
		families = append(families, domain.IPv6)
	}
	return families
}

func unique(tags []int) []int {
	slices.Sort(tags)
	return slices.Compact(tags)
}
