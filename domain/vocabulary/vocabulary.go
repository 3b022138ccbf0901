// Package vocabulary is the list of every event type there is.
//
// It decides nothing: it exists so that whoever reads the log knows all of it, and no package is forgotten. Start
// reading at [Events].
package vocabulary

import (
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/edgenode"
	"crossbill/domain/feeschedule"
	"crossbill/domain/invoice"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/domain/organisation"
	"crossbill/domain/port"
	"crossbill/domain/quote"
	"crossbill/domain/reading"
	"crossbill/domain/settlement"
	"crossbill/domain/subject"
)

// Events returns one zero value of every event type, grouped by the package it belongs to, as a codec takes them.
func Events() [][]domain.Event {
	return [][]domain.Event{
		organisation.Events(), apikey.Events(), edgenode.Events(), port.Events(), feeschedule.Events(), listing.Events(),
		quote.Events(), order.Events(), connection.Events(), reading.Events(), billingrun.Events(), invoice.Events(),
		settlement.Events(), subject.Events(),
	}
}
