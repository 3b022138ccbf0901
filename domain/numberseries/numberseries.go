// Package numberseries gives documents numbers without gaps: the number of a document is the version of the series'
// stream at which its event stands, so the log itself keeps two documents from having the same.
//
// Invoices are older than this package and have a series of their own (package invoice). Start reading at [Decide].
package numberseries

import (
	"fmt"
	"time"

	"crossbill/domain"
)

// Series that are numbered here, each with the letters that its numbers begin with.
const (
	CreditNotes = "credit_note" // to customers
	SelfBilled  = "settlement"  // settlements: invoices that the platform makes out in the provider's name
	SelfCredits = "settlement_credit"
)

var letters = map[string]string{CreditNotes: "CN", SelfBilled: "ST", SelfCredits: "SC"}

const maxDocumentID = 80 // characters: two ids and what is between them

// Taken says that a document has the series' next number.
type Taken struct {
	Series     string `json:"series"`
	Number     int64  `json:"number"` // counts from 1
	DocumentID string `json:"document_id"`
}

// EventType is the name in the log.
func (Taken) EventType() string { return "number_series.taken" }

// Events returns one zero value of every event type of this package.
func Events() []domain.Event { return []domain.Event{Taken{}} }

// Stream names the stream of an issuer's series.
func Stream(issuer, series string) string { return "number_series-" + issuer + "." + series }

// State is a series. The zero State has no number taken.
type State struct {
	Last       int64  `json:"last"`
	DocumentID string `json:"document_id"` // that has it
}

// Evolve returns the state after the event.
func Evolve(s State, e domain.Event) State {
	if e, ok := e.(Taken); ok {
		return State{Last: e.Number, DocumentID: e.DocumentID}
	}
	return s
}

// Take gives a document the next number. The document that has the last number already keeps it.
type Take struct {
	Series     string
	DocumentID string
}

// Decide returns the events that a command makes of a state. It returns an Invalid error for an unknown series or a missing document.
func Decide(s State, c Take) ([]domain.Event, error) {
	var p domain.Problems
	p.Check(letters[c.Series] != "", "/series", "%.40q is no series", c.Series)
	p.Text("/document_id", c.DocumentID, maxDocumentID)
	if err := p.Err("numberseries.Decide"); err != nil {
		return nil, err
	}
	if s.DocumentID == c.DocumentID {
		return nil, nil
	}
	return []domain.Event{Taken{Series: c.Series, Number: s.Last + 1, DocumentID: c.DocumentID}}, nil
}

// Format writes a number of a series: letters, the year of issue (UTC) for people, and the number, which counts on over years.
func Format(series string, at time.Time, number int64) string {
	return fmt.Sprintf("%s-%04d-%06d", letters[series], at.UTC().Year(), number)
}
