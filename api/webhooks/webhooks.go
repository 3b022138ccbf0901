// Package webhooks sends organisations what happens in their slices of the log.
//
// A webhook is a position in its organisation's slice and nothing else: what is past it is still to be sent, in order, and
// the log keeps it for as long as that takes. So a target that is slow or away holds up itself alone, and a node that dies
// loses nothing; at worst it sends one event again. Messages are signed as Standard Webhooks has it, and their bodies are
// CloudEvents.
//
// The package decides nothing about a webhook (package domain/webhook does), follows no redirect, and opens no connection
// into a private network. Start reading at [Dispatcher.Run]; sender.go is one attempt, message.go what is in it.
package webhooks

import "time"

// Limits.
const (
	Timeout       = 10 * time.Second // of one attempt, all in all
	leaseFor      = 30 * time.Second // how long a process that says nothing keeps a webhook; longer than an attempt
	maxAnswer     = 64 << 10         // bytes that are read of an answer
	maxSending    = 64               // webhooks that a node sends to at once
	turn          = 10 * time.Second // how long a webhook that has much to be sent keeps others waiting
	page          = 100              // events that are read at once
	idlePoll      = time.Second      // how often a node looks for what is due
	shortestPoll  = 50 * time.Millisecond
	keepNewest    = 1000 // attempts of a webhook that are kept
	maxErrorText  = 300  // characters of it that are kept
	maxRetryAfter = time.Hour
	maxReplays    = 100 // dead letters that are tried in one turn
)

// DisableAfter is how long every attempt must have failed before a webhook is disabled.
const DisableAfter = 3 * 24 * time.Hour

// Retries are the pauses between the attempts for one event: about a day in all, and then it is a dead letter.
var Retries = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour,
	4 * time.Hour, 8 * time.Hour, 8 * time.Hour,
}
