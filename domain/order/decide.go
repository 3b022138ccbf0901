package order

import (
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/edgenode"
	"crossbill/domain/listing"
	"crossbill/domain/port"
	"crossbill/domain/qualification"
	"crossbill/domain/quote"
)

// Limits on an order.
const (
	MaxPurchaseOrder = 60  // characters
	MaxBy            = 120 // characters
	MaxDeadline      = 90 * 24 * time.Hour
	MaxQuestion      = 2000 // characters, and as many in the answer
	MaxQuestions     = 5    // of a provider, one after the other
)

// Command is what can be asked of an order.
type Command interface{ command() }

// Place makes an order from a quote. The caller appends it together with the quote's acceptance.
type Place struct {
	OrderID       string
	ConnectionID  string // of the connection that it makes
	CustomerID    string // who orders
	Quote         quote.State
	QuoteHash     string        // of the quote the customer has read
	MaxTotal      *domain.Money // refuse a quote whose total is above it; nil for no such limit
	Listing       listing.State // that the quote is for; may be retired or published anew since
	PortID        string
	Port          port.State // that PortID names; zero if there is none
	ProviderPort  port.State // that the quoted version of the listing names
	EdgeNode      edgenode.State
	PortUse       qualification.Use // what connections hold of the ports and of the edge node
	ProviderUse   qualification.Use
	EdgeNodeTags  int
	ServiceKeyID  string // of the key that approves the order beforehand; the caller redeems it in the same append
	GroupID       string // of the redundancy group that the connection joins in the same append; may be empty
	BGP           BGP
	Deadline      time.Time // who is asked answers before it; after At, by at most [MaxDeadline]
	PurchaseOrder string    // the customer's own reference; may be empty
	// BillingAccountID is the customer's, and open: the caller sees to that. It may be empty.
	BillingAccountID string
	At               time.Time

	By             apikey.PrincipalRef // who places it
	ApprovalNeeded string              // why a person has to approve it; empty if nobody has to
}

// Approve is a person's yes, for the customer, to an order above what its principal may commit to alone.
type Approve struct {
	By       apikey.PrincipalRef // only a person can
	Total    domain.Money        // of the order's quote, as [TotalOf] has it
	Deadline time.Time           // the provider answers before it; after At, by at most [MaxDeadline]
	At       time.Time
}

// Decline is a person's no, for the customer, to such an order. It is cancelled then.
type Decline struct {
	By     apikey.PrincipalRef // only a person can
	Reason string
	At     time.Time
}

// Accept makes the platform carry the order out. An order that awaits the provider is accepted by the provider; any
// other by the platform itself.
type Accept struct {
	By string // who accepts
	At time.Time
}

// Reject is the provider's refusal.
type Reject struct {
	Reason string
	At     time.Time
}

// Ask is the provider's question before it answers the order. It stops the provider's own clock.
type Ask struct {
	Question string
	AnswerBy time.Time // the customer answers before it; after At, by at most [MaxDeadline]
	At       time.Time
}

// Answer is the customer's answer to the open question. The provider's deadline moves by the time it took.
type Answer struct {
	Number int // of the question
	Answer string
	At     time.Time
}

// Complete ends an order whose connection is in production.
type Complete struct {
	At time.Time
}

// Fail ends an order that could not be carried out, or that nobody answered before its deadline.
type Fail struct {
	Reason string
	At     time.Time
}

// Cancel gives up an order that the customer no longer wants. One that nobody has begun to carry out ends at once; any
// other is being undone first, see [FinishCancel].
type Cancel struct {
	Reason string
	At     time.Time
}

// FinishCancel ends an order that was being cancelled and of which nothing is left.
type FinishCancel struct {
	At time.Time
}

func (PlaceChange) command()  {}
func (PlaceRemoval) command() {}
func (Place) command()        {}
func (Approve) command()      {}
func (Decline) command()      {}
func (Accept) command()       {}
func (Reject) command()       {}
func (Ask) command()          {}
func (Answer) command()       {}
func (Complete) command()     {}
func (Fail) command()         {}
func (Cancel) command()       {}
func (FinishCancel) command() {}

// moves says which states a command takes an order from, and where to. With Approve, which leads to whatever the listing
// asks for, it is the whole state machine after Place.
var moves = map[string][]string{
	StateInProgress: {StateAcknowledged, StateAwaitingProvider},
	StateRejected:   {StateAwaitingProvider},
	StateCompleted:  {StateInProgress},
	StateFailed:     {StateAwaitingApproval, StateAcknowledged, StateAwaitingProvider, StateInProgress},
	StateCancelling: {StateInProgress},
	StateCancelled:  {StateAwaitingApproval, StateAcknowledged, StateAwaitingProvider, StateCancelling},
}

// Decide returns the events that a command makes of a state. A command that was carried out already does nothing when
// it says the same again, so that every step of a saga can be repeated.
//
// It returns an Invalid error for wrong fields, with pointers into the request for an order; NotFound for an order or
// quote that does not exist, or a quote that is another customer's; a Conflict for an order whose state does not allow
// the command or to which it was done with other content, and for a quote that is used, expired, or not the one the
// customer has read; Forbidden for an approval that is not a person's.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "order.Decide"
	switch c := c.(type) {
	case Place, PlaceChange, PlaceRemoval:
		if s.ID != "" {
			return nil, domain.Exists(op, "order", s.ID)
		}
		return c.(interface {
			decide(op string) ([]domain.Event, error)
		}).decide(op)
	}
	if s.ID == "" {
		return nil, domain.Missing(op, "order")
	}
	switch c := c.(type) {
	case Approve:
		return s.approve(op, c)
	case Decline:
		return s.decline(op, c)
	case Accept:
		if err := s.late(op, c.At); err != nil {
			return nil, err
		}
		repeated := s.AcceptedAt != nil && !s.lost()
		return s.move(op, StateInProgress, repeated, "/by", c.By, s.AcceptedBy, c.At,
			Accepted{OrderID: s.ID, By: c.By, At: domain.Instant(c.At)})
	case Reject:
		return s.close(op, StateRejected, c.Reason, c.At, Rejected{OrderID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)})
	case Ask:
		return c.decide(op, s)
	case Answer:
		return c.decide(op, s)
	case Complete:
		return s.finish(op, StateCompleted, StateInProgress, c.At, Completed{OrderID: s.ID, At: domain.Instant(c.At)})
	case Fail:
		return s.close(op, StateFailed, c.Reason, c.At, Failed{OrderID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)})
	case Cancel:
		if s.State == StateInProgress && s.ItemKind() != ItemAdd {
			return nil, domain.InState(op, "order", s.ID, s.State).WithHint("%s", tooLate[s.Item])
		}
		if s.State == StateInProgress || s.State == StateCancelling {
			return s.close(op, StateCancelling, c.Reason, c.At, CancellationRequested{OrderID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)})
		}
		return s.close(op, StateCancelled, c.Reason, c.At, Cancelled{OrderID: s.ID, Reason: c.Reason, At: domain.Instant(c.At)})
	case TakeBack:
		return c.decide(op, s)
	case FinishCancel:
		return s.finish(op, StateCancelled, StateCancelling, c.At, Cancelled{OrderID: s.ID, Reason: s.Reason, At: domain.Instant(c.At)})
	}
	return nil, domain.UnknownCommand(op, c)
}

// late returns a Conflict for an answer to an order that the provider had to answer before. While a question is open the
// provider's clock stands still.
func (s State) late(op string, now time.Time) error {
	if who, by := s.Needs(); who == NeedsProvider && !now.Before(by) {
		return domain.Errorf(domain.Conflict, op, "the order %s had to be answered before %s", s.ID, by.Format(time.RFC3339)).
			WithHint("ask the customer to order again")
	}
	return nil
}

// finish decides a step that says nothing but that it was reached, from the one state that leads to it.
func (s State) finish(op, to, from string, at time.Time, e domain.Event) ([]domain.Event, error) {
	if s.State == to {
		return nil, nil
	}
	if s.State != from {
		return nil, s.refuse(op, to)
	}
	var p domain.Problems
	p.Time("/at", at)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	return []domain.Event{e}, nil
}

// lost reports whether the order ended without a connection.
func (s State) lost() bool { return s.Final() && s.State != StateCompleted }

// close decides one of the ends that have a reason.
func (s State) close(op, to, reason string, at time.Time, e domain.Event) ([]domain.Event, error) {
	return s.move(op, to, s.State == to, "/reason", reason, s.Reason, at, e)
}

// move decides a step whose content is one text. repeated says that the step was made before, with the text before.
func (s State) move(op, to string, repeated bool, pointer, text, before string, at time.Time, e domain.Event) ([]domain.Event, error) {
	limit := domain.MaxReason
	if to == StateInProgress {
		limit = MaxBy
	}
	var p domain.Problems
	p.Text(pointer, text, limit)
	p.Time("/at", at)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	switch {
	case repeated && text == before:
		return nil, nil
	case repeated:
		return nil, domain.Differs(op, "order", s.ID, pointer[1:])
	case !slices.Contains(moves[to], s.State):
		return nil, s.refuse(op, to)
	}
	return []domain.Event{e}, nil
}

// refuse returns the Conflict for a move that the state does not allow, with what can be done instead.
func (s State) refuse(op, to string) error {
	e := domain.InState(op, "order", s.ID, s.State)
	switch {
	case s.State == StateCompleted:
		return e.WithHint("terminate the connection %s", s.ConnectionID)
	case s.Final():
		return e.WithHint("place a new order")
	case s.State == StateCancelling:
		return e.WithHint("it is being undone and will be cancelled")
	case s.State == StateAwaitingApproval:
		return e.WithHint("a person of the customer's approves or declines it first")
	case to == StateCompleted:
		return e.WithHint("accept it first")
	case to == StateRejected && s.State == StateInProgress:
		return e.WithHint("it was accepted; the customer may cancel it")
	case to == StateRejected:
		return e.WithHint("this listing's orders are accepted automatically; the customer may cancel it")
	}
	return e.WithHint("read the order again")
}
