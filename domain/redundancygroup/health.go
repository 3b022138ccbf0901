package redundancygroup

import "crossbill/domain/connection"

// What a group comes to with its members as they are.
const (
	HealthEmpty       = "empty"       // no member that has not ended
	HealthForming     = "forming"     // no member carries traffic
	HealthUnprotected = "unprotected" // one does
	HealthRedundant   = "redundant"   // two or more do
	HealthTerminating = "terminating" // the group was terminated, and not all members have ended
	HealthTerminated  = "terminated"
)

// Carries reports whether traffic can cross a connection: its gate is open, and BGP is established on both sides.
func Carries(c connection.State) bool {
	return (c.State == connection.StateProduction || c.State == connection.StateChangePending) && c.Established()
}

// Health returns what the group comes to. members are the states of its connections.
func (s State) Health(members []connection.State) string {
	live, carrying := 0, 0
	for _, c := range members {
		if !c.Final() {
			live++
		}
		if Carries(c) {
			carrying++
		}
	}
	switch {
	case s.TerminatedAt != nil && live > 0:
		return HealthTerminating
	case s.TerminatedAt != nil:
		return HealthTerminated
	case live == 0:
		return HealthEmpty
	case carrying == 0:
		return HealthForming
	case carrying == 1:
		return HealthUnprotected
	}
	return HealthRedundant
}
