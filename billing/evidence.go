package billing

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"time"

	"crossbill/billing/rating"
	"crossbill/billing/usage"
	"crossbill/domain/invoice"
	"crossbill/domain/reading"
	"crossbill/events"
)

// ranges collects the events of one stream that a line is computed from, as ranges without gaps.
type ranges struct {
	stream string
	done   []invoice.Evidence
	open   span
	all    span // over everything, for a stream with too many ranges
}

// span is a range that is being collected: its digest is SHA-256 over the leaf hashes of its events in order.
type span struct {
	from, to int64
	count    int
	digest   hash.Hash
}

func (s *span) add(e events.Recorded) {
	if s.count == 0 {
		s.from, s.digest = e.Version, sha256.New()
	}
	s.to = e.Version
	s.count++
	s.digest.Write(e.LeafHash[:])
}

func (s *span) evidence(stream string) invoice.Evidence {
	return invoice.Evidence{Stream: stream, FromVersion: s.from, ToVersion: s.to, Count: s.count, Digest: hex.EncodeToString(s.digest.Sum(nil))}
}

func (r *ranges) collected() int { return r.all.count }

// add takes an event. Events must come in the order of their versions.
func (r *ranges) add(e events.Recorded) {
	r.stream = e.Stream
	if r.open.count > 0 && e.Version != r.open.to+1 {
		if len(r.done) <= maxRanges { // past that, only the whole is named
			r.done = append(r.done, r.open.evidence(r.stream))
		}
		r.open = span{}
	}
	r.open.add(e)
	r.all.add(e)
}

// evidence returns the ranges. A stream with more than [maxRanges] pieces gives one range with fewer events than versions,
// and the digest is over those that count.
func (r *ranges) evidence() []invoice.Evidence {
	switch {
	case r.all.count == 0:
		return nil
	case len(r.done) >= maxRanges:
		return []invoice.Evidence{r.all.evidence(r.stream)}
	}
	return append(r.done[:len(r.done):len(r.done)], r.open.evidence(r.stream))
}

// readings collects the readings of whole days as evidence.
type readings struct {
	stream string
	window rating.Interval // whole days
	digest usage.Digest    // of days that were counted before
	days   []usage.Day     // of readings that were added one by one, in order
	count  int             // of these readings
}

// over makes the evidence that of all days which an interval touches.
func (r *readings) over(connectionID string, i rating.Interval) {
	*r = readings{stream: reading.Stream(connectionID), window: rating.Interval{From: usage.DayOf(i.From), To: usage.DayOf(i.To.Add(-1)).Add(24 * time.Hour)}}
}

// add takes a reading. Readings must come in the order of their versions.
func (r *readings) add(e events.Recorded, at rating.Interval) {
	counted := false
	usage.Days(at, func(day time.Time) {
		if day.Before(r.window.From) || !day.Before(r.window.To) {
			return
		}
		n, found := slices.BinarySearchFunc(r.days, day, func(d usage.Day, t time.Time) int { return d.Start.Compare(t) })
		if !found {
			r.days = slices.Insert(r.days, n, usage.Day{Start: day})
		}
		r.days[n].Count(at, e.Version, e.LeafHash)
		counted = true
	})
	if counted {
		r.count++
	}
}

// addDays takes days whose readings were counted before, in order.
func (r *readings) addDays(days []usage.Day) {
	for _, d := range days {
		if !d.Start.Before(r.window.From) && d.Start.Before(r.window.To) {
			r.digest.Add(d)
		}
	}
}

// newest returns the version of the newest of the readings; 0: there are none.
func (r *readings) newest() int64 {
	version := r.digest.Last
	for _, d := range r.days {
		version = max(version, d.Last)
	}
	return version
}

func (r *readings) collected() int { return r.count }

// evidence returns one range over all days; none if they have no readings.
func (r *readings) evidence() []invoice.Evidence {
	all := r.digest
	for _, d := range r.days {
		all.Add(d)
	}
	if all.Count == 0 {
		return nil
	}
	from, to := r.window.From, r.window.To
	return []invoice.Evidence{{
		Stream: r.stream, FromVersion: all.First, ToVersion: all.Last, Count: all.Count, Digest: all.String(), From: &from, To: &to,
	}}
}
