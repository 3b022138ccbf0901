package connection

import (
	"maps"
	"slices"

	"crossbill/domain"
)

// Evolve returns the state after the event. What leads to another state ends a trouble: its step was taken, or is none any more.
func Evolve(s State, e domain.Event) State {
	after := evolve(s, e)
	if after.State != s.State || after.OnEdge != s.OnEdge {
		after.Trouble = nil
	}
	return after
}

func evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Requested:
		return State{
			ID: e.ConnectionID, State: StateRequested, Billing: BillingNone, OrderID: e.OrderID, QuoteID: e.QuoteID,
			CustomerID: e.CustomerID, ProviderID: e.ProviderID, ListingID: e.ListingID, ListingVersion: e.ListingVersion,
			BandwidthMbps: e.BandwidthMbps, CustomerPortID: e.CustomerPortID, ProviderPortID: e.ProviderPortID,
			CustomerBGP: e.CustomerBGP, ProviderBGP: e.ProviderBGP, BillingAccountID: e.BillingAccountID, RequestedAt: e.At,
		}
	case Allocated:
		s.State, s.EdgeNodeID, s.EdgeASN, s.Tag, s.A, s.Z = StateAllocated, e.EdgeNodeID, e.EdgeASN, e.Tag, &e.A, &e.Z
	case TestingStarted:
		s.State, s.TestingDeadline, s.OnEdge = StateTesting, &e.Deadline, true
	case SessionChanged:
		if e.Rebuild {
			return s.withRebuild(e)
		}
		s.Sessions = maps.Clone(s.Sessions) // an earlier State must not see the change
		if s.Sessions == nil {
			s.Sessions = make(map[string]Session, 4)
		}
		s.Sessions[sessionKey(e.Side, e.Family)] = Session{e.State, e.Since, e.PrefixesReceived, e.PrefixesSent}
	case ProbeRequested:
		if e.Rebuild {
			return s.withRebuild(e)
		}
		s.LastProbe = &Probe{ID: e.ProbeID, RequestedAt: e.At}
	case Probed:
		if e.Rebuild {
			return s.withRebuild(e)
		}
		probe := Probe{ID: e.ProbeID, ReportedAt: &e.At, Passed: e.Passed, Detail: e.Detail}
		if s.LastProbe != nil {
			probe.RequestedAt = s.LastProbe.RequestedAt
		}
		s.LastProbe = &probe
		if !e.Passed {
			s.FailedProbes++
		}
	case CutoverRequested:
		if e.Rebuild {
			return s.withRebuild(e)
		}
		s.CutoverRequestedAt = &e.At
	case Activated:
		s.State, s.Billing, s.BillingFrom = StateProduction, BillingAccruing, &e.At
		s.Spans = []Span{{e.At, s.QuoteID, s.ListingVersion, s.BandwidthMbps}}
	case ChangeRequested:
		s.State = StateChangePending
		s.Change = &Change{e.OrderID, e.QuoteID, e.ListingVersion, e.BandwidthMbps, e.InPlace, e.At}
		s.ChangeOrderID = e.OrderID
	case Changed:
		s.State, s.Change = StateProduction, nil
		s.QuoteID, s.ListingVersion, s.BandwidthMbps = e.QuoteID, e.ListingVersion, e.BandwidthMbps
		s.Spans = append(slices.Clip(s.Spans), Span{e.At, e.QuoteID, e.ListingVersion, e.BandwidthMbps})
	case ChangeAbandoned:
		s.State, s.Change = StateProduction, nil
	case SuspensionRequested:
		s.SuspensionRequestedAt, s.SuspensionReason = &e.At, e.Reason
	case Suspended:
		s.State, s.SuspensionRequestedAt = StateSuspended, nil
		s.Suspensions = append(slices.Clip(s.Suspensions), Suspension{From: e.At})
	case ResumptionRequested:
		s.ResumptionRequestedAt = &e.At
	case Resumed:
		s.State, s.ResumptionRequestedAt, s.SuspensionReason = StateProduction, nil, ""
		if last := len(s.Suspensions) - 1; last >= 0 {
			s.Suspensions = slices.Clone(s.Suspensions) // an earlier State must not see the end
			s.Suspensions[last].To = &e.At
		}
	case TerminationScheduled:
		s.Termination, s.TerminationOrderID = &Termination{e.OrderID, e.Reason, e.EffectiveAt}, e.OrderID
	case TerminationUnscheduled:
		s.Termination = nil
	case MoveRequested, RebuildStarted, TrafficStopped, Rebuilt, RebuildAbandoned, TrafficRestored, BuildRemoved, BuildReleased:
		s = s.withRebuild(e)
	case DecommissionRequested:
		s = s.withRebuild(e)
		s.State, s.Reason, s.EndRequestedAt = StateDecommissionRequested, e.Reason, &e.At
		s.Change, s.SuspensionRequestedAt, s.ResumptionRequestedAt, s.Termination = nil, nil, nil, nil
		if e.OrderID != "" {
			s.TerminationOrderID = e.OrderID
		}
		s.Billing, s.BillingTo = BillingStopped, &e.EffectiveAt
	case SessionConfigured, SecretSet, SecretRemoved:
		s = s.withSession(e)
	case MessageChanged:
		if s.EdgeMessage = nil; e.Message != "" {
			s.EdgeMessage = &Message{TagEdge, e.Message, e.At}
		}
	case EdgeClosed:
		s.EdgeMessage = nil
		s.OnEdge, s.EdgeRemoved, s.EdgeClosedAt = false, true, &e.ClosedAt
	case Decommissioned:
		s.State, s.ClosedAt, s.Leaving = StateDecommissioned, &e.At, nil
	case CancellationRequested:
		s.State, s.Reason, s.EndRequestedAt = StateCancelling, e.Reason, &e.At
	case Cancelled:
		s.State, s.ClosedAt = StateCancelled, &e.At
	case StepFailed, StepRecovered, StepRetried, StepSkipped, StepRolledBack:
		s = s.withTrouble(e)
	}
	return s
}
