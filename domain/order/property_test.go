package order

import (
	"math/rand/v2"
	"testing"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/listing"
)

// table is the state machine, written down apart from the code: where each event may lead from each state.
var table = map[string]map[string]string{
	"":                    {"order.placed": "acknowledged, awaiting_provider or awaiting_customer_approval"},
	StateAwaitingApproval: {"order.approved": "acknowledged or awaiting_provider", "order.failed": StateFailed, "order.cancelled": StateCancelled},
	StateAcknowledged:     {"order.accepted": StateInProgress, "order.failed": StateFailed, "order.cancelled": StateCancelled},
	StateAwaitingProvider: {
		"order.question_asked": StateAwaitingProvider, "order.question_answered": StateAwaitingProvider,
		"order.accepted": StateInProgress, "order.rejected": StateRejected, "order.failed": StateFailed, "order.cancelled": StateCancelled,
	},
	StateInProgress: {"order.completed": StateCompleted, "order.failed": StateFailed, "order.cancellation_requested": StateCancelling},
	StateCancelling: {"order.cancelled": StateCancelled},
	StateCompleted:  {},
	StateRejected:   {},
	StateFailed:     {},
	StateCancelled:  {},
}

// Random commands, sensible and not, in random order: the order never leaves the table, a refusal changes nothing, a
// command that was just carried out does nothing when it comes again, and the history reads back to the same state.
func TestRandomCommands(t *testing.T) {
	t.Parallel()
	reached := map[string]int{}
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var s State
		var history []domain.Event
		for second := range 30 {
			c := randomCommand(rng, second*30)
			events, err := Decide(s, c)
			if err != nil {
				if code := domain.CodeOf(err); code == domain.Internal || events != nil {
					t.Fatalf("seed %d: %T on %s gave %v and %v", seed, c, s.State, events, err)
				}
				continue
			}
			if len(events) > 1 {
				t.Fatalf("seed %d: %T made %d events", seed, c, len(events))
			}
			for _, e := range events {
				to, ok := table[s.State][e.EventType()]
				from := s.State
				s = Evolve(s, e)
				if e.EventType() == "order.placed" || e.EventType() == "order.approved" {
					to = statesAfterAsking(s, e)
				}
				if !ok || to != s.State {
					t.Fatalf("seed %d: %s took the order from %q to %q", seed, e.EventType(), from, s.State)
				}
				if s.Final() != (len(table[s.State]) == 0) || s.Final() != (s.ClosedAt != nil) {
					t.Fatalf("seed %d: %+v is not final as the table says", seed, s)
				}
				if s.Commitment != nil && (s.State == StateAwaitingApproval || s.lost()) {
					t.Fatalf("seed %d: an order that is %s holds %+v", seed, s.State, *s.Commitment)
				}
				history = append(history, e)
			}
			if waited, limit := s.Deadline.Sub(s.PlacedAt), 300e9+30*30e9; s.ID != "" && float64(waited) > limit {
				t.Fatalf("seed %d: the provider has %s, longer than there was time", seed, waited)
			}
			if q, open := s.OpenQuestion(); open && (s.State != StateAwaitingProvider || q.Number != len(s.Questions)) || len(s.Questions) > MaxQuestions {
				t.Fatalf("seed %d: question %d of %d is open in %s", seed, q.Number, len(s.Questions), s.State)
			}
			if who, by := s.Needs(); (who == NeedsNobody) != by.IsZero() || (who != NeedsNobody) != (s.State == StateAwaitingProvider || s.State == StateAwaitingApproval) {
				t.Fatalf("seed %d: %s needs %q by %s", seed, s.State, who, by)
			}
			if _, isPlace := c.(Place); !isPlace {
				if again, err := Decide(s, c); err != nil || again != nil {
					t.Fatalf("seed %d: %T again on %s gave %v and %v", seed, c, s.State, again, err)
				}
			}
		}
		reached[s.State]++
		scenario.CheckReplay(t, Evolve, history...)
	}
	for state, next := range table { // walks that never get anywhere prove nothing
		if len(next) == 0 && reached[state] == 0 {
			t.Errorf("no sequence ended %q: %v", state, reached)
		}
	}
}

// statesAfterAsking says where an order stands after its customer was asked, or need not be.
func statesAfterAsking(s State, e domain.Event) string {
	if placed, ok := e.(Placed); ok && placed.ApprovalNeeded != "" {
		return StateAwaitingApproval
	}
	if s.Approval == listing.ApprovalManual {
		return StateAwaitingProvider
	}
	return StateAcknowledged
}

func randomCommand(rng *rand.Rand, second int) Command {
	at := scenario.After(second)
	pick := func(texts ...string) string { return texts[rng.IntN(len(texts))] }
	switch rng.IntN(24) {
	case 18, 19, 20:
		return Approve{By: apikey.PrincipalRef{Kind: pick(apikey.KindPerson, apikey.KindPerson, apikey.KindProgram), ID: pick("ada", "bob")}, Total: *usd(63286), Deadline: at.Add(300e9), At: at}
	case 21:
		return Decline{By: apikey.PrincipalRef{Kind: pick(apikey.KindPerson, apikey.KindProgram), ID: "ada"}, Reason: pick("too dear", ""), At: at}
	case 0, 1, 2:
		c := place(pick(listing.ApprovalAutomatic, listing.ApprovalManual))
		c.By, c.ApprovalNeeded = bot, pick("", AboveOrderLimit)
		c.At, c.Deadline = at, at.Add(300e9)
		return c
	case 3, 4:
		return Accept{pick("platform", provider, ""), at}
	case 5:
		return Reject{pick("full", "no", ""), at}
	case 6, 7:
		return Complete{at}
	case 8:
		return Fail{pick("no VLAN", "no tag", ""), at}
	case 9, 10:
		return Cancel{pick("enough", "never mind", ""), at}
	case 11, 12:
		return FinishCancel{at}
	case 13, 14:
		return Ask{pick("Which rack?", "Who?", ""), at.Add(120e9), at}
	case 15, 16, 17:
		return Answer{rng.IntN(4), pick("Rack 7", "Me", ""), at}
	}
	return Accept{provider, at}
}
