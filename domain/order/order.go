// Package order is the commercial act that makes a connection: it is placed from a quote, answered, carried out, and ends.
//
// It never says how far provisioning has come: that is the connection's. Start reading at [State], then [Decide].
package order

import (
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/listing"
	"crossbill/domain/quote"
)

// States of an order, after MEF LSO Sonata. Completed, rejected, failed and cancelled are final.
const (
	StateAwaitingApproval = "awaiting_customer_approval" // above what its principal may commit; a person answers until the deadline
	StateAcknowledged     = "acknowledged"               // placed; nobody need be asked
	StateAwaitingProvider = "awaiting_provider"          // the provider answers until the deadline
	StateInProgress       = "in_progress"                // accepted, being provisioned
	StateCompleted        = "completed"                  // the connection is in production
	StateRejected         = "rejected"                   // by the provider
	StateFailed           = "failed"                     // could not be provisioned, or nobody answered in time
	StateCancelling       = "cancelling"                 // given up while it was carried out; being undone
	StateCancelled        = "cancelled"                  // by the customer; nothing of it is left
)

// Who has to act before an order goes on; see [State.Needs].
const (
	NeedsNobody   = ""         // the platform is at it, or the order has ended
	NeedsApproval = "approval" // of a person of the customer's
	NeedsProvider = "provider" // to accept, reject or ask
	NeedsCustomer = "customer" // to answer the provider's question
)

// Why a person has to approve an order.
const (
	AboveOrderLimit = "above_order_limit" // the order is above what its principal may commit with one
	AboveMonthLimit = "above_month_limit" // with what the principal committed this month it is above what it may in one
	OtherCurrency   = "other_currency"    // the principal's limits are in another currency than the quote
)

// Items of an order: what it does to a connection.
const (
	ItemAdd    = "add"    // makes it
	ItemModify = "modify" // brings it to another bandwidth or plan
	ItemRemove = "remove" // ends it, now or at a date
)

// BGP is the customer's side of the sessions.
type BGP = domain.BGP

// Placed says that a customer ordered what a quote offered.
type Placed struct {
	OrderID        string    `json:"order_id"`
	QuoteID        string    `json:"quote_id"`
	QuoteHash      string    `json:"quote_hash"`
	CustomerID     string    `json:"customer_id"`
	ProviderID     string    `json:"provider_id"`
	ListingID      string    `json:"listing_id"`
	ListingVersion int       `json:"listing_version"`
	ConnectionID   string    `json:"connection_id"` // the connection that it makes
	PortID         string    `json:"port_id"`       // the customer's
	BandwidthMbps  int       `json:"bandwidth_mbps"`
	BGP            BGP       `json:"bgp"`
	Approval       string    `json:"approval"` // the listing's: automatic or manual
	Deadline       time.Time `json:"deadline"` // who is asked first answers before it: a person of the customer's, else the provider
	PurchaseOrder  string    `json:"purchase_order"`
	At             time.Time `json:"at"`

	// BillingAccountID is whom the connection is billed to; "" is the customer's default account as it is when invoiced.
	BillingAccountID string `json:"billing_account_id,omitempty"`
	// Item is what the order does to the connection; absent in those that make it.
	Item string `json:"item,omitempty"`
	// Rebuild is what the connection is set up on anew for a change that is not in place; absent in all other orders.
	Rebuild *Rebuild `json:"rebuild,omitempty"`
	// PlacedBy is the principal that placed it; absent in orders from before principals had limits.
	PlacedBy *apikey.PrincipalRef `json:"placed_by,omitempty"`
	// ApprovalNeeded is why a person has to approve it, one of a closed set; absent if nobody has to. It names no amount:
	// the provider reads it too, and what a customer allows its programs is not the provider's to know.
	ApprovalNeeded string `json:"approval_needed,omitempty"`
	// Commitment is what it takes of its principal's allowance; absent while a person has not approved it.
	Commitment *Commitment `json:"commitment,omitempty"`

	ServiceKeyID      string `json:"service_key_id,omitempty"`      // that approved it beforehand
	RedundancyGroupID string `json:"redundancy_group_id,omitempty"` // that the connection joined
}

// Rebuild is the provider's side of a connection that a change sets up anew: that of the ordered version of the listing.
type Rebuild struct {
	ProviderPortID string `json:"provider_port_id"`
	ProviderBGP    BGP    `json:"provider_bgp"`
}

// Commitment is what an order takes of what a principal may commit its organisation to in a calendar month. It is given
// back when the order ends without a connection.
type Commitment struct {
	Principal apikey.PrincipalRef `json:"principal"`
	Month     string              `json:"month"`  // the calendar month of the decision in UTC, as 2006-01
	Amount    domain.Money        `json:"amount"` // see [TotalOf]
}

// TotalOf returns what an order from the quote commits to: the price of a full month, and what is charged once. It returns
// an error only for a sum that is too large.
func TotalOf(q quote.State) (domain.Money, error) {
	if q.OneTime == nil {
		return q.Total, nil
	}
	return q.Total.Add(q.OneTime.Total)
}

// CommitmentOf returns what a principal that decides for an order at a time commits its organisation to.
func CommitmentOf(by apikey.PrincipalRef, total domain.Money, at time.Time) Commitment {
	return Commitment{Principal: by, Month: at.UTC().Format("2006-01"), Amount: total}
}

// Approved says that a person of the customer's takes on an order that its principal may not commit to alone.
type Approved struct {
	OrderID    string     `json:"order_id"`
	CustomerID string     `json:"customer_id"`
	By         string     `json:"by"`       // the person, by its principal's id
	Deadline   time.Time  `json:"deadline"` // the provider answers before it
	Commitment Commitment `json:"commitment"`
	At         time.Time  `json:"at"`
}

// Accepted says that the order is to be carried out.
type Accepted struct {
	OrderID string    `json:"order_id"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// Rejected says that the provider does not want the order.
type Rejected struct {
	OrderID string    `json:"order_id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// QuestionAsked says that the provider wants to know something before it answers. Its own deadline stands still until the
// customer has answered.
type QuestionAsked struct {
	OrderID  string    `json:"order_id"`
	Number   int       `json:"number"` // counts from 1
	Question string    `json:"question"`
	AnswerBy time.Time `json:"answer_by"` // the customer answers before it
	At       time.Time `json:"at"`
}

// QuestionAnswered says what the customer answered, and until when the provider now has time: what it had left when it asked.
type QuestionAnswered struct {
	OrderID  string    `json:"order_id"`
	Number   int       `json:"number"`
	Answer   string    `json:"answer"`
	Deadline time.Time `json:"deadline"`
	At       time.Time `json:"at"`
}

// CancellationRequested says that the customer no longer wants an order that is being carried out. It is cancelled when
// all that was set up for it is undone.
type CancellationRequested struct {
	OrderID string    `json:"order_id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Completed says that the connection is in production.
type Completed struct {
	OrderID string    `json:"order_id"`
	At      time.Time `json:"at"`
}

// Failed says that the order could not be carried out; whatever had been set up for it is undone.
type Failed struct {
	OrderID string    `json:"order_id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Cancelled says that the customer no longer wants the order.
type Cancelled struct {
	OrderID string    `json:"order_id"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// EventType is the name in the log.
func (Placed) EventType() string { return "order.placed" }

// EventType is the name in the log.
func (Approved) EventType() string { return "order.approved" }

// EventType is the name in the log.
func (Accepted) EventType() string { return "order.accepted" }

// EventType is the name in the log.
func (Rejected) EventType() string { return "order.rejected" }

// EventType is the name in the log.
func (QuestionAsked) EventType() string { return "order.question_asked" }

// EventType is the name in the log.
func (QuestionAnswered) EventType() string { return "order.question_answered" }

// EventType is the name in the log.
func (CancellationRequested) EventType() string { return "order.cancellation_requested" }

// EventType is the name in the log.
func (Completed) EventType() string { return "order.completed" }

// EventType is the name in the log.
func (Failed) EventType() string { return "order.failed" }

// EventType is the name in the log.
func (Cancelled) EventType() string { return "order.cancelled" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event {
	return []domain.Event{
		Placed{}, Approved{}, QuestionAsked{}, QuestionAnswered{}, Accepted{}, Rejected{}, Completed{}, Failed{}, CancellationRequested{},
		Cancelled{},
	}
}

// Stream names the stream of one order.
func Stream(id string) string { return "order-" + id }

// Question is what the provider asked, and what the customer answered if it has.
type Question struct {
	Number     int        `json:"number"`
	Question   string     `json:"question"`
	AskedAt    time.Time  `json:"asked_at"`
	AnswerBy   time.Time  `json:"answer_by"`
	Answer     string     `json:"answer,omitempty"`
	AnsweredAt *time.Time `json:"answered_at,omitempty"`
}

// State is what is known of an order. The zero State is one that does not exist.
type State struct {
	ID             string     `json:"id"`
	State          string     `json:"state"`
	QuoteID        string     `json:"quote_id"`
	QuoteHash      string     `json:"quote_hash"`
	CustomerID     string     `json:"customer_id"`
	ProviderID     string     `json:"provider_id"`
	ListingID      string     `json:"listing_id"`
	ListingVersion int        `json:"listing_version"`
	ConnectionID   string     `json:"connection_id"`
	Item           string     `json:"item,omitempty"` // see [State.ItemKind]
	PortID         string     `json:"port_id"`
	BandwidthMbps  int        `json:"bandwidth_mbps"`
	BGP            BGP        `json:"bgp"`
	Approval       string     `json:"approval"`
	Deadline       time.Time  `json:"deadline"` // the provider's; stands still while a question is open
	Questions      []Question `json:"questions,omitempty"`
	PurchaseOrder  string     `json:"purchase_order,omitempty"`
	ServiceKeyID   string     `json:"service_key_id,omitempty"`
	GroupID        string     `json:"redundancy_group_id,omitempty"`
	PlacedAt       time.Time  `json:"placed_at"`
	AcceptedBy     string     `json:"accepted_by,omitempty"`
	AcceptedAt     *time.Time `json:"accepted_at,omitempty"`
	Since          time.Time  `json:"since"`               // when it came into its state
	Reason         string     `json:"reason,omitempty"`    // why it was rejected, failed or cancelled
	ClosedAt       *time.Time `json:"closed_at,omitempty"` // when it reached its final state

	BillingAccountID string `json:"billing_account_id,omitempty"`

	PlacedBy       *apikey.PrincipalRef `json:"placed_by,omitempty"`
	ApprovalNeeded string               `json:"approval_needed,omitempty"` // why; it stays when a person has approved
	ApprovedBy     string               `json:"approved_by,omitempty"`
	ApprovedAt     *time.Time           `json:"approved_at,omitempty"`
	Rebuild        *Rebuild             `json:"rebuild,omitempty"`    // of a change that is not in place
	Commitment     *Commitment          `json:"commitment,omitempty"` // that it holds; gone when it ends without a connection
}

// ItemKind returns what the order does to its connection.
func (s State) ItemKind() string {
	if s.Item == "" {
		return ItemAdd
	}
	return s.Item
}

// Final reports whether nothing can happen to the order any more.
func (s State) Final() bool {
	switch s.State {
	case StateCompleted, StateRejected, StateFailed, StateCancelled:
		return true
	}
	return false
}

// OpenQuestion returns the question that the customer has yet to answer.
func (s State) OpenQuestion() (Question, bool) {
	if n := len(s.Questions); s.State == StateAwaitingProvider && n > 0 && s.Questions[n-1].AnsweredAt == nil {
		return s.Questions[n-1], true
	}
	return Question{}, false
}

// Needs returns who has to act before the order goes on, and until when it is waited for.
func (s State) Needs() (who string, by time.Time) {
	if q, open := s.OpenQuestion(); open {
		return NeedsCustomer, q.AnswerBy
	}
	switch s.State {
	case StateAwaitingApproval:
		return NeedsApproval, s.Deadline
	case StateAwaitingProvider:
		return NeedsProvider, s.Deadline
	}
	return NeedsNobody, time.Time{}
}

// approvedState is where an order stands that its customer stands by.
func (s State) approvedState() string {
	if s.Approval == listing.ApprovalManual {
		return StateAwaitingProvider
	}
	return StateAcknowledged
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	switch e := e.(type) {
	case Placed:
		s = State{
			ID: e.OrderID, QuoteID: e.QuoteID, QuoteHash: e.QuoteHash, CustomerID: e.CustomerID,
			ProviderID: e.ProviderID, ListingID: e.ListingID, ListingVersion: e.ListingVersion, ConnectionID: e.ConnectionID, Item: e.Item,
			PortID: e.PortID, BandwidthMbps: e.BandwidthMbps, BGP: e.BGP, Approval: e.Approval, Deadline: e.Deadline,
			PurchaseOrder: e.PurchaseOrder, ServiceKeyID: e.ServiceKeyID, GroupID: e.RedundancyGroupID, BillingAccountID: e.BillingAccountID, PlacedAt: e.At,
			PlacedBy: e.PlacedBy, ApprovalNeeded: e.ApprovalNeeded, Commitment: e.Commitment, Rebuild: e.Rebuild,
		}
		if e.ApprovalNeeded != "" {
			return s.enter(StateAwaitingApproval, e.At)
		}
		return s.enter(s.approvedState(), e.At)
	case Approved:
		s.Deadline, s.ApprovedBy, s.ApprovedAt, s.Commitment = e.Deadline, e.By, &e.At, &e.Commitment
		return s.enter(s.approvedState(), e.At)
	case QuestionAsked:
		// The full slice expression makes append copy: an earlier State must not see the new element.
		s.Questions = append(s.Questions[:len(s.Questions):len(s.Questions)],
			Question{Number: e.Number, Question: e.Question, AskedAt: e.At, AnswerBy: e.AnswerBy})
	case QuestionAnswered:
		s.Questions = slices.Clone(s.Questions)
		if i := e.Number - 1; i >= 0 && i < len(s.Questions) {
			s.Questions[i].Answer, s.Questions[i].AnsweredAt = e.Answer, &e.At
		}
		s.Deadline = e.Deadline
	case Accepted:
		s.AcceptedBy, s.AcceptedAt = e.By, &e.At
		return s.enter(StateInProgress, e.At)
	case CancellationRequested:
		s.Reason = e.Reason
		return s.enter(StateCancelling, e.At)
	case Completed:
		return s.end(StateCompleted, "", e.At)
	case Rejected:
		return s.end(StateRejected, e.Reason, e.At)
	case Failed:
		return s.end(StateFailed, e.Reason, e.At)
	case Cancelled:
		return s.end(StateCancelled, e.Reason, e.At)
	}
	return s
}

func (s State) enter(state string, at time.Time) State {
	s.State, s.Since = state, at
	return s
}

func (s State) end(state, reason string, at time.Time) State {
	s.Reason, s.ClosedAt = reason, &at
	if state != StateCompleted {
		s.Commitment = nil
	}
	return s.enter(state, at)
}
