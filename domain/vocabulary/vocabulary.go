// Package vocabulary is the list of every event type there is.
//
// It decides nothing: it exists so that whoever reads the log knows all of it, and no package is forgotten. Start
// reading at [Events].
package vocabulary

import (
	"slices"
	"strings"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/availability"
	"crossbill/domain/billingaccount"
	"crossbill/domain/billingrun"
	"crossbill/domain/budget"
	"crossbill/domain/connectedaccount"
	"crossbill/domain/connection"
	"crossbill/domain/creditnote"
	"crossbill/domain/edgeidentity"
	"crossbill/domain/edgenode"
	"crossbill/domain/exchangerate"
	"crossbill/domain/feeallowance"
	"crossbill/domain/feeschedule"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/listing"
	"crossbill/domain/location"
	"crossbill/domain/numberseries"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
	"crossbill/domain/policy"
	"crossbill/domain/port"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/domain/redundancygroup"
	"crossbill/domain/servicekey"
	"crossbill/domain/settlement"
	"crossbill/domain/subject"
	"crossbill/domain/taxrate"
	"crossbill/domain/webhook"
)

// Events returns one zero value of every event type, grouped by the package it belongs to, as a codec takes them.
func Events() [][]domain.Event {
	return [][]domain.Event{
		organisation.Events(), apikey.Events(), location.Events(), policy.Events(), edgenode.Events(), availability.Events(), edgeidentity.Events(), port.Events(), feeschedule.Events(), listing.Events(),
		quote.Events(), order.Events(), connection.Events(), reading.Events(), billingrun.Events(), invoice.Events(),
		settlement.Events(), creditnote.Events(), numberseries.Events(), issuer.Events(), feeallowance.Events(), subject.Events(), webhook.Events(),
		servicekey.Events(), redundancygroup.Events(),
		billingaccount.Events(), budget.Events(), taxrate.Events(), exchangerate.Events(),
		payment.Events(), payout.Events(), connectedaccount.Events(),
	}
}

// types are the names of all event types, sorted.
var types = func() (names []string) {
	for _, group := range Events() {
		for _, e := range group {
			names = append(names, e.EventType())
		}
	}
	slices.Sort(names)
	return names
}()

// Matching returns the names of the event types that patterns name: a type by itself, all of a noun ("order.*"), or all
// there are ("*"). unknown are the patterns that name nothing.
func Matching(patterns ...string) (matching, unknown []string) {
	for _, pattern := range patterns {
		before := len(matching)
		for _, name := range types {
			prefix, wild := strings.CutSuffix(pattern, "*")
			if wild && (prefix == "" || strings.HasSuffix(prefix, ".")) && strings.HasPrefix(name, prefix) || name == pattern {
				matching = append(matching, name)
			}
		}
		if len(matching) == before {
			unknown = append(unknown, pattern)
		}
	}
	slices.Sort(matching)
	return slices.Compact(matching), unknown
}
