// Package domain holds Crossbill's pure decisions and the words they are made of.
//
// Each aggregate has a package of its own below this one (organisation, listing, quote, order, connection, …) with
// the same two functions: Decide turns a state and a command into events or an [Error], Evolve turns a state and an
// event into the next state. This package holds what they share: errors, identifiers, exact decimals and money.
//
// Nothing here reads a clock, a random source, a file or a network: time and randomness come in as arguments, so a
// history replayed on another machine gives the same result. Start reading at [Event], then in domain/order.
package domain

// Event is a fact that has happened. Its concrete types are plain structs with JSON tags; the log stores their JSON
// under the name EventType gives, which has the form noun.past-participle ("order.placed") and never changes.
type Event interface {
	EventType() string
}
