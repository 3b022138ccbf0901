package domain_test

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/edgenode"
)

// availabilitySamples returns samples of what availability is measured by.
func availabilitySamples() []domain.Event {
	return []domain.Event{
		edgenode.FellSilent{EdgeNodeID: edgeNode, Since: at, At: at.Add(4 * time.Minute)},
		edgenode.Heard{EdgeNodeID: edgeNode, Since: at, Until: at.Add(10 * time.Minute), End: edgenode.EndHeard, At: at.Add(11 * time.Minute)},
	}
}
