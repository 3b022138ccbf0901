package order

import (
	"math/rand/v2"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/listing"
)

// table is the state machine, written down apart from the code: where each event may lead from each state.
var table = map[string]map[string]string{
	"":                {"order.placed": "acknowledged or awaiting_provider"},
	StateAcknowledged: {"order.accepted": StateInProgress, "order.failed": StateFailed, "order.cancelled": StateCancelled},
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
				if !ok || to != s.State && from != "" {
					t.Fatalf("seed %d: %s took the order from %q to %q", seed, e.EventType(), from, s.State)
				}
				if s.Final() != (len(table[s.State]) == 0) || s.Final() != (s.ClosedAt != nil) {
					t.Fatalf("seed %d: %+v is not final as the table says", seed, s)
				}
				history = append(history, e)
			}
			if waited, limit := s.Deadline.Sub(s.PlacedAt), 300e9+30*30e9; s.ID != "" && float64(waited) > limit {
				t.Fatalf("seed %d: the provider has %s, longer than there was time", seed, waited)
			}
			if q, open := s.OpenQuestion(); open && (s.State != StateAwaitingProvider || q.Number != len(s.Questions)) || len(s.Questions) > MaxQuestions {
				t.Fatalf("seed %d: question %d of %d is open in %s", seed, q.Number, len(s.Questions), s.State)
			}
			if who, by := s.Needs(); (who == NeedsNobody) != by.IsZero() || (who != NeedsNobody) != (s.State == StateAwaitingProvider) {
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

func randomCommand(rng *rand.Rand, second int) Command {
	at := scenario.After(second)
	pick := func(texts ...string) string { return texts[rng.IntN(len(texts))] }
	switch rng.IntN(20) {
	case 0, 1, 2:
		c := place(pick(listing.ApprovalAutomatic, listing.ApprovalManual))
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
