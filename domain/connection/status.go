package connection

import (
	"time"

	"crossbill/domain"
)

// Tags of messages, a closed set.
const (
	TagEdge        = "edge"        // said by the edge node
	TagBGP         = "bgp"         // a session is not established, or can't be
	TagChange      = "change"      // a change is pending
	TagSuspension  = "suspension"  // the gate is closed, or is about to be closed or opened
	TagTermination = "termination" // an end is scheduled or under way
	TagTrouble     = "trouble"     // a step fails
)

// Message is what a person has to know of a connection.
type Message struct {
	Tag     string    `json:"tag"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// MessageChanged says that the edge node has something new to tell of the connection, for people; "" when all is well again.
type MessageChanged struct {
	ConnectionID string    `json:"connection_id"`
	Message      string    `json:"message"`
	At           time.Time `json:"at"`
}

// EventType is the name in the log.
func (MessageChanged) EventType() string { return "connection.message_changed" }

func (c ReportMessage) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.OptionalText("/message", c.Message, MaxMessage)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	known := ""
	if s.EdgeMessage != nil {
		known = s.EdgeMessage.Message
	}
	if !s.OnEdge || known == c.Message {
		return nil, nil
	}
	return []domain.Event{MessageChanged{ConnectionID: s.ID, Message: c.Message, At: domain.Instant(c.At)}}, nil
}

// Status lists what a person has to know of the connection now, besides its state.
func (s State) Status() []Message {
	var all []Message
	add := func(tag string, since time.Time, message string) { all = append(all, Message{tag, message, since}) }
	if s.EdgeMessage != nil {
		all = append(all, *s.EdgeMessage)
	}
	if s.OnEdge && !s.pastEdge() {
		for _, name := range s.SessionNames() {
			session, _ := s.Session(name)
			whose := map[string]string{SideA: "customer's", SideZ: "provider's"}[name.Side] + " BGP session"
			if len(s.Families()) > 1 {
				whose += " for " + domain.FamilyName(name.Family)
			}
			switch {
			case s.Settings(name.Side).Admin == AdminDown:
				add(TagBGP, session.Since, "the "+whose+" is switched off")
			case s.BillingFrom != nil && session.State != SessionEstablished:
				add(TagBGP, session.Since, "the "+whose+" is not established: it is "+session.State)
			}
		}
	}
	if t := s.Trouble; t != nil && t.State == TroubleOperator {
		add(TagTrouble, t.Since, "the platform can't go on by itself ("+t.Step+"), and an operator of it has been told")
	} else if t != nil {
		add(TagTrouble, t.Since, "the platform is trying a step again that failed ("+t.Step+")")
	}
	if r := s.Rebuild; r != nil {
		switch {
		case r.AbandonedAt != nil:
			add(TagChange, *r.AbandonedAt, "another build was given up, and the edge node is to let traffic cross the old one again")
		case r.StoppedAt != nil:
			add(TagChange, *r.StoppedAt, "nothing crosses while it is set up anew: "+r.Reason)
		default:
			add(TagChange, r.RequestedAt, "it is to be set up anew: "+r.Reason)
		}
	}
	if c := s.Change; c != nil {
		add(TagChange, c.RequestedAt, "a change by the order "+c.OrderID+" is pending")
	}
	switch {
	case s.SuspensionRequestedAt != nil:
		add(TagSuspension, *s.SuspensionRequestedAt, "the edge node is to close the gate: "+s.SuspensionReason)
	case s.ResumptionRequestedAt != nil:
		add(TagSuspension, *s.ResumptionRequestedAt, "the edge node is to open the gate again")
	case s.State == StateSuspended:
		add(TagSuspension, *s.SuspendedSince(), "nothing crosses: "+s.SuspensionReason)
	}
	if t := s.Termination; t != nil {
		add(TagTermination, t.EffectiveAt, "it ends at "+t.EffectiveAt.Format(time.RFC3339)+": "+t.Reason)
	}
	return all
}
