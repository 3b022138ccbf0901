package edge

import "time"

// Meter is the durable memory of one connection's meter. It goes through three states: read for the first time
// (OpenedAt zero), open, closed (ClosedAt set). An open one may be paused, while its connection is suspended: nothing is
// read of it until it is rebased, to what the counters say just before the gate is opened again.
type Meter struct {
	Connection string    `json:"connection"`
	Tag        int       `json:"tag"`
	Epoch      int64     `json:"epoch"`    // of the readings; see nextEpoch
	Sequence   int64     `json:"sequence"` // of the last reading in this epoch
	Counters   Counters  `json:"counters"` // as of the last reading, or when the meter was opened
	OpenedAt   time.Time `json:"opened_at,omitzero"`
	ReadTo     time.Time `json:"read_to,omitzero"` // where the next reading begins
	ClosedAt   time.Time `json:"closed_at,omitzero"`

	Paused      bool      `json:"paused,omitempty"`
	Rebased     bool      `json:"rebased,omitempty"`     // while it is paused: Counters are those from before the gate opens
	SuspendedAt time.Time `json:"suspended_at,omitzero"` // of the last suspension
	ResumedAt   time.Time `json:"resumed_at,omitzero"`   // when traffic last began to cross; zero while it is suspended
}

func (m Meter) open() bool   { return !m.OpenedAt.IsZero() && m.ClosedAt.IsZero() }
func (m Meter) closed() bool { return !m.ClosedAt.IsZero() }

// counts reports whether what the meter counts is the customer's traffic.
func (m Meter) counts() bool { return m.open() && !m.Paused }

// latePart is the share of the interval by which a meter may be read late and the reading still end on the boundary.
const latePart = 10

// maxLate bounds it. What crosses in between is attributed to the interval that has just ended; it has to stay below the
// second that the platform allows when it holds a reading against the port's speed (SpeedSlack in domain/reading).
const maxLate = 500 * time.Millisecond

// readingEnd is where a reading taken at the given time ends: on the UTC boundary of the interval that has just passed,
// or, when the agent comes late (it was down, or had no room for readings), now, so that no bytes are attributed to a
// time long before they were counted. Such a reading may span several intervals, and billing splits it by time.
func readingEnd(at time.Time, interval time.Duration) time.Time {
	boundary := at.Truncate(interval)
	if at.Sub(boundary) <= min(interval/latePart, maxLate) {
		return boundary
	}
	return at
}

// read turns the counters into a reading up to the given end and the meter's next state. Every interval has its reading,
// also one of zero bytes: it says that the meter was looked at. It reports false if there is no time to cover, as when
// the clock was set back.
//
// Counters of another meter, or such as went back, begin a new epoch at zero: bytes the lost meter had counted after its
// last reading are gone, but no difference is negative and none is counted twice.
func (m Meter) read(counters Counters, end time.Time, source Kind) (Meter, Reading, bool) {
	if !end.After(m.ReadTo) {
		return m, Reading{}, false
	}
	before := m.Counters
	if !counters.follow(before) {
		before = Counters{Meter: counters.Meter}
		m.Epoch, m.Sequence = nextEpoch(m.Epoch, end), 0
	}
	m.Sequence++
	r := Reading{
		ReadingID: ReadingID{Connection: m.Connection, Epoch: m.Epoch, Sequence: m.Sequence}, From: m.ReadTo, To: end,
		BytesIn: int64(counters.BytesIn - before.BytesIn), BytesOut: int64(counters.BytesOut - before.BytesOut),
		PacketsIn: int64(counters.PacketsIn - before.PacketsIn), PacketsOut: int64(counters.PacketsOut - before.PacketsOut),
		DroppedIn: int64(counters.DroppedIn - before.DroppedIn), DroppedOut: int64(counters.DroppedOut - before.DroppedOut),
		Source: source,
	}
	m.Counters, m.ReadTo = counters, end
	return m, r, true
}

// closeAt ends the meter with a last reading. The end is later than the last reading's even if the clock was set back,
// so that nothing that was counted is left out.
func (m Meter) closeAt(counters Counters, at time.Time, source Kind) (Meter, Reading) {
	m, r := m.readLast(counters, at, source)
	m.ClosedAt = m.ReadTo
	return m, r
}

// pauseAt suspends the meter with a last reading, as closeAt ends it.
func (m Meter) pauseAt(counters Counters, at time.Time, source Kind) (Meter, Reading) {
	m, r := m.readLast(counters, at, source)
	m.Paused, m.Rebased, m.SuspendedAt, m.ResumedAt = true, false, m.ReadTo, time.Time{}
	return m, r
}

// rebase forgets what was counted while the meter was paused. Counting goes on from the given counters once the gate is open.
func (m Meter) rebase(counters Counters) Meter {
	m.Counters, m.Rebased = counters, true
	return m
}

// resumeAt counts on, from the time the gate was opened: after the suspension began, even if the clock was set back.
func (m Meter) resumeAt(at time.Time) Meter {
	if !at.After(m.ReadTo) {
		at = m.ReadTo.Add(time.Microsecond)
	}
	m.Paused, m.Rebased, m.ResumedAt, m.ReadTo = false, false, at, at
	return m
}

func (m Meter) readLast(counters Counters, at time.Time, source Kind) (Meter, Reading) {
	if !at.After(m.ReadTo) {
		at = m.ReadTo.Add(time.Microsecond)
	}
	m, r, _ := m.read(counters, at, source)
	return m, r
}

// nextEpoch returns an epoch after the given one. It is taken from the clock (Unix seconds), not counted from one, so
// that an agent that has lost its state directory does not give new readings the identity of old ones.
func nextEpoch(after int64, at time.Time) int64 { return max(after+1, at.Unix()) }
