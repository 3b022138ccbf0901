package billing

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"

	"crossbill/domain/invoice"
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

// add takes an event. Events must come in the order of their versions.
func (r *ranges) add(e events.Recorded) {
	r.stream = e.Stream
	if r.open.count > 0 && e.Version != r.open.to+1 {
		if len(r.done) <= maxUsageRanges { // past that, only the whole is named
			r.done = append(r.done, r.open.evidence(r.stream))
		}
		r.open = span{}
	}
	r.open.add(e)
	r.all.add(e)
}

// evidence returns the ranges. Readings that came late or out of order tear holes into a period's range; a stream with
// more than [maxUsageRanges] pieces gives one range with fewer events than versions, and the digest is over those that count.
func (r *ranges) evidence() []invoice.Evidence {
	switch {
	case r.all.count == 0:
		return nil
	case len(r.done) >= maxUsageRanges:
		return []invoice.Evidence{r.all.evidence(r.stream)}
	}
	return append(r.done[:len(r.done):len(r.done)], r.open.evidence(r.stream))
}

// EvidenceDigest returns one digest for all the evidence of a line: SHA-256, in lower-case hexadecimal, over a line
// "stream from_version to_version count digest\n" for each range in order.
func EvidenceDigest(evidence []invoice.Evidence) string {
	h := sha256.New()
	for _, e := range evidence {
		line := e.Stream
		for _, n := range []int64{e.FromVersion, e.ToVersion, int64(e.Count)} {
			line += " " + strconv.FormatInt(n, 10)
		}
		h.Write([]byte(line + " " + e.Digest + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}
