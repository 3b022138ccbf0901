package order

import (
	"time"

	"crossbill/domain"
)

func (c Ask) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.LongText("/question", c.Question, MaxQuestion)
	p.Time("/at", c.At)
	p.Check(c.AnswerBy.After(c.At) && !c.AnswerBy.After(c.At.Add(MaxDeadline)), "/answer_by", "must be in the future, by at most %s", MaxDeadline)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if q, open := s.OpenQuestion(); open {
		if q.Question == c.Question {
			return nil, nil
		}
		return nil, domain.Errorf(domain.Conflict, op, "the order %s has a question that is not answered yet", s.ID).
			WithHint("wait for the customer's answer, or accept or reject the order")
	}
	if s.State != StateAwaitingProvider {
		return nil, domain.InState(op, "order", s.ID, s.State).WithHint("a provider asks before it accepts or rejects")
	}
	if err := s.late(op, c.At); err != nil {
		return nil, err
	}
	if len(s.Questions) >= MaxQuestions {
		return nil, domain.Errorf(domain.Conflict, op, "the order %s had %d questions, which is all there may be", s.ID, MaxQuestions).
			WithHint("accept or reject it")
	}
	return []domain.Event{QuestionAsked{
		OrderID: s.ID, Number: len(s.Questions) + 1, Question: c.Question, AnswerBy: domain.Instant(c.AnswerBy), At: domain.Instant(c.At),
	}}, nil
}

func (c Answer) decide(op string, s State) ([]domain.Event, error) {
	var p domain.Problems
	p.LongText("/answer", c.Answer, MaxQuestion)
	p.Check(c.Number >= 1 && c.Number <= MaxQuestions, "/number", "must be 1 to %d", MaxQuestions)
	p.Time("/at", c.At)
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if c.Number > len(s.Questions) {
		return nil, domain.Errorf(domain.Conflict, op, "the order %s has no question %d", s.ID, c.Number).WithHint("read the order again")
	}
	asked := s.Questions[c.Number-1]
	if asked.AnsweredAt != nil {
		if asked.Answer == c.Answer {
			return nil, nil
		}
		return nil, domain.Differs(op, "order", s.ID, "answer to this question")
	}
	if _, open := s.OpenQuestion(); !open { // it was answered otherwise: accepted, rejected, cancelled
		return nil, domain.InState(op, "order", s.ID, s.State).WithHint("nobody waits for the answer any more")
	}
	at := domain.Instant(c.At)
	if !at.Before(asked.AnswerBy) {
		return nil, domain.Errorf(domain.Conflict, op, "the question had to be answered before %s", asked.AnswerBy.Format(time.RFC3339)).
			WithHint("place a new order")
	}
	waited := max(at.Sub(asked.AskedAt), 0) // another node's clock may be a little behind
	return []domain.Event{QuestionAnswered{OrderID: s.ID, Number: c.Number, Answer: c.Answer, Deadline: s.Deadline.Add(waited), At: at}}, nil
}
