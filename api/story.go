package api

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/domain/quote"
	"crossbill/events"
)

// sentence says what happened, to either party: it holds nothing that only one of them may know, such as a VLAN, an
// address, a secret, or what a principal may spend. An event of another stream than a story's has no words and is told by
// its type.
func sentence(e events.Recorded) string {
	text := wordsFor(e.Event)
	if text == "" {
		subject, what, _ := strings.Cut(e.Type, ".")
		text = strings.ReplaceAll("The "+subject+": "+what, "_", " ")
	}
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") || strings.HasSuffix(text, "!") {
		return text
	}
	return text + "."
}

// wordsFor returns what happened, or "" for an event of no quote, order or connection.
func wordsFor(e domain.Event) string { return cmp.Or(ofTheOrder(e), ofTheConnection(e)) }

func ofTheOrder(e domain.Event) string {
	switch e := e.(type) {
	case quote.Issued:
		return fmt.Sprintf("A quote was made for %d Mbps at %s a month, of which %s is the platform's fee; it stands until %s", e.BandwidthMbps, e.Total, e.Fee, when(e.ValidUntil))
	case quote.Accepted:
		return "An order was placed from the quote"
	case quote.Withdrawn:
		return "The quote was withdrawn"
	case order.Placed:
		text := fmt.Sprintf("The customer ordered %d Mbps", e.BandwidthMbps)
		switch e.Item {
		case order.ItemModify:
			text = fmt.Sprintf("The customer ordered a change of the connection to %d Mbps, under version %d of its listing", e.BandwidthMbps, e.ListingVersion)
		case order.ItemRemove:
			text = "The customer ordered the connection to end"
		}
		if e.ServiceKeyID != "" {
			text += " with a service key of the provider's"
		}
		if e.PurchaseOrder != "" {
			text += ", as its purchase order " + e.PurchaseOrder
		}
		if e.ApprovalNeeded != "" {
			text += "; a person of the customer's has to approve it by " + when(e.Deadline)
		}
		return text
	case order.Approved:
		return "A person of the customer's approved the order"
	case order.QuestionAsked:
		return fmt.Sprintf("The provider asked, for an answer by %s: %s", when(e.AnswerBy), e.Question)
	case order.QuestionAnswered:
		return "The customer answered: " + e.Answer
	case order.Accepted:
		if e.By == systemActor {
			return "The order was accepted, for it needs no answer of the provider's"
		}
		return "The provider accepted the order"
	case order.Rejected:
		return "The provider rejected the order: " + e.Reason
	case order.CancellationRequested:
		return "The order is being cancelled: " + e.Reason
	case order.Cancelled:
		return "The order is cancelled: " + e.Reason
	case order.Completed:
		return "The order is completed"
	case order.Failed:
		return "The order failed: " + e.Reason
	}
	return ""
}

// systemActor is who did what a saga does, as provisioning writes it.
const systemActor = "system"

func ofTheConnection(e domain.Event) string {
	switch e := e.(type) {
	case connection.Requested:
		return "The connection is made known under its id"
	case connection.Allocated:
		return "VLANs and addresses are reserved for the connection"
	case connection.TestingStarted:
		return "The edge node sets the connection up; it has to be in production by " + when(e.Deadline)
	case connection.SessionChanged:
		if e.Family == domain.IPv6 {
			return fmt.Sprintf("The IPv6 BGP session with the %s's router is %s", partyOf(e.Side), e.State)
		}
		return fmt.Sprintf("The BGP session with the %s's router is %s", partyOf(e.Side), e.State)
	case connection.ProbeRequested:
		return "A test packet is sent across"
	case connection.Probed:
		if e.Passed {
			return "The test packet crossed"
		}
		return "The test packet did not cross"
	case connection.CutoverRequested:
		return "The edge node is asked to let traffic cross"
	case connection.Activated:
		return "Traffic crosses, and is billed, since " + when(e.At)
	case connection.ChangeRequested:
		return fmt.Sprintf("The connection is being changed to %d Mbps, under version %d of its listing", e.BandwidthMbps, e.ListingVersion)
	case connection.Changed:
		return fmt.Sprintf("The connection has %d Mbps, and is billed under version %d of its listing, since %s", e.BandwidthMbps, e.ListingVersion, when(e.At))
	case connection.ChangeAbandoned:
		return "The change is given up, and the connection stays as it was: " + e.Reason
	case connection.SuspensionRequested:
		return "The connection is to be suspended: " + e.Reason
	case connection.Suspended:
		return "The connection is suspended: nothing crosses since " + when(e.At)
	case connection.ResumptionRequested:
		return "The connection is to be resumed"
	case connection.Resumed:
		return "The connection is resumed: traffic crosses again since " + when(e.At)
	case connection.MoveRequested:
		return "The connection is to be moved to other ports: " + e.Reason
	case connection.RebuildStarted:
		return "The connection is set up anew; that has to carry traffic by " + when(e.Deadline) + ": " + e.Reason
	case connection.TrafficStopped:
		return "Nothing crosses since " + when(e.At) + ", while the connection is set up anew"
	case connection.Rebuilt:
		return "The connection is set up anew: traffic crosses there since " + when(e.At)
	case connection.RebuildAbandoned:
		return "Setting the connection up anew is given up: " + e.Reason
	case connection.TrafficRestored:
		return "Traffic crosses as before again, since " + when(e.At)
	case connection.BuildRemoved:
		return "Nothing is left of the connection on an edge node that it was on"
	case connection.BuildReleased:
		return "What was reserved where the connection was is free again"
	case connection.TerminationScheduled:
		return fmt.Sprintf("The connection is to end at %s: %s", when(e.EffectiveAt), e.Reason)
	case connection.TerminationUnscheduled:
		return "The connection is not to end after all"
	case connection.SessionConfigured:
		return fmt.Sprintf("The %s configured its BGP session, which is to be %s", partyOf(e.Side), e.Admin)
	case connection.SecretSet:
		return fmt.Sprintf("The BGP session with the %s's router is protected with a secret", partyOf(e.Side))
	case connection.SecretRemoved:
		return fmt.Sprintf("The BGP session with the %s's router is no longer protected with a secret", partyOf(e.Side))
	case connection.MessageChanged:
		if e.Message == "" {
			return "The edge node says that all is well again"
		}
		return "The edge node says: " + e.Message
	case connection.DecommissionRequested:
		return fmt.Sprintf("The connection is to end: %s. It is billed until %s", strings.TrimSuffix(e.Reason, "."), when(e.EffectiveAt))
	case connection.EdgeClosed:
		return "Nothing of the connection is left on the edge node, and its last readings are in"
	case connection.Decommissioned:
		return "The connection has ended"
	case connection.StepFailed:
		if e.NextRetryAt == nil {
			return "The platform can't go on by itself (" + e.Step + "); a person of its own is needed"
		}
		return fmt.Sprintf("A step failed (%s) and is tried again at %s", e.Step, when(*e.NextRetryAt))
	case connection.StepRecovered:
		return "The platform goes on by itself"
	case connection.StepRetried:
		return "An operator has the step tried again (" + e.Step + "): " + e.Reason
	case connection.StepSkipped:
		return "An operator has the platform go on without the step (" + e.Step + "): " + e.Reason
	case connection.StepRolledBack:
		return "An operator has it undone (" + e.Step + "): " + e.Reason
	case connection.CancellationRequested:
		return "The connection is given up: " + e.Reason
	case connection.Cancelled:
		return "The connection is cancelled; what was reserved for it is free again"
	}
	return ""
}

func partyOf(side string) string {
	if side == connection.SideA {
		return "customer"
	}
	return "provider"
}

func when(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }
