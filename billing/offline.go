package billing

import (
	"crossbill/billing/rating"
	"crossbill/domain/invoice"
	"crossbill/domain/reading"
	"crossbill/events"
)

// HeldEvidence says how much of a line's evidence is among some events, such as those of a bundle.
type HeldEvidence struct {
	Line  int // its number on the invoice
	Named int // events that the line's evidence names
	Held  int // of them, how many are there
	Whole bool
}

// EvidenceIn holds each line of an invoice to events that are proven to be in the log: its evidence is whole if they have, of
// every range, exactly as many as the line names and come to the digest that it names. Then none was left out, exchanged or
// added after the line was computed. It needs no log, so anyone can do it with a bundle. The events must be decoded, with
// their leaf hashes, in the order of positions.
func EvidenceIn(i invoice.Content, all []events.Recorded) []HeldEvidence {
	streams := make(map[string][]events.Recorded)
	for _, e := range all {
		streams[e.Stream] = append(streams[e.Stream], e)
	}
	held := make([]HeldEvidence, len(i.Lines))
	for n, l := range i.Lines {
		held[n] = HeldEvidence{Line: l.Number, Whole: len(l.Evidence) > 0}
		for _, said := range l.Evidence {
			count, whole := heldOf(said, streams[said.Stream])
			held[n].Named += said.Count
			held[n].Held += count
			held[n].Whole = held[n].Whole && whole
		}
	}
	return held
}

// heldOf collects a range's events as the line's computation did, and compares what it comes to.
func heldOf(said invoice.Evidence, stream []events.Recorded) (count int, whole bool) {
	var plain ranges
	var days readings
	if said.From != nil && said.To != nil {
		days = readings{stream: said.Stream, window: rating.Interval{From: said.From.UTC(), To: said.To.UTC()}}
	}
	for _, e := range stream {
		if e.Version < said.FromVersion || e.Version > said.ToVersion {
			continue
		}
		if said.From == nil {
			plain.add(e)
		} else if r, ok := e.Event.(reading.Recorded); ok {
			days.add(e, rating.Interval{From: r.From.UTC(), To: r.To.UTC()})
		}
	}
	if said.From != nil {
		again := days.evidence()
		return days.count, len(again) == 1 && again[0].Digest == said.Digest && again[0].Count == said.Count
	}
	if plain.all.count == 0 {
		return 0, false
	}
	again := plain.all.evidence(said.Stream)
	return again.Count, again.Count == said.Count && again.Digest == said.Digest
}
