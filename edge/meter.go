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
	ReadTo     time.Time `json:"read_to,omitzero"` // where the next reading begins; of one that is not open yet, where the last of its former stay ended
	ClosedAt   time.Time `json:"closed_at,omitzero"`

	Paused      bool      `json:"paused,omitempty"`
	Rebased     bool      `json:"rebased,omitempty"`     // while it is paused: Counters are those from before the gate opens
	SuspendedAt time.Time `json:"suspended_at,omitzero"` // of the last suspension
	ResumedAt   time.Time `json:"resumed_at,omitzero"`   // when traffic last began to cross; zero while it is suspended

	readAt time.Duration // when ReadTo was, by how long this agent has been running: zero of what another one has read
}

func (m Meter) open() bool   { return !m.OpenedAt.IsZero() && m.ClosedAt.IsZero() }
func (m Meter) closed() bool { return !m.ClosedAt.IsZero() }

// counts reports whether what the meter counts is the customer's traffic.
func (m Meter) counts() bool { return m.open() && !m.Paused }

// slew is the part by which a meter's time runs slower than time until a clock that was set back has caught up with it. It is
// twice what NTP's own is (500 ppm), and of an interval it is less than the platform allows (SpeedSlack in domain/reading).
const slew = 1000

// at is a moment in the meter's own time, always after its last reading. It is the node's clock's; but when that was set back,
// as much after the last reading as has passed since. So what is read next is of the time that it was counted in, nearly, and
// no time is read twice.
func (m Meter) at(now instant) time.Time {
	passed := now.up - m.readAt
	own := m.ReadTo.Add(max(passed-passed/slew, time.Microsecond).Truncate(time.Microsecond))
	if now.wall.After(own) {
		return now.wall
	}
	return own
}

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

// read turns the counters into a reading up to now and the meter's next state. Every interval has its reading, also one of
// zero bytes: it says that the meter was looked at. It reports false if there is no time to cover.
//
// Counters of another meter, or such as went back, begin a new epoch at zero: bytes the lost meter had counted after its
// last reading are gone, but no difference is negative and none is counted twice.
func (m Meter) read(counters Counters, now instant, interval time.Duration, source Kind) (Meter, Reading, bool) {
	end := readingEnd(m.at(now), interval)
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
	m.Counters, m.ReadTo, m.readAt = counters, end, now.up
	return m, r, true
}

// closeAt ends the meter with a last reading.
func (m Meter) closeAt(counters Counters, now instant, source Kind) (Meter, Reading) {
	m, r := m.readLast(counters, now, source)
	m.ClosedAt = m.ReadTo
	return m, r
}

// pauseAt suspends the meter with a last reading, as closeAt ends it.
func (m Meter) pauseAt(counters Counters, now instant, source Kind) (Meter, Reading) {
	m, r := m.readLast(counters, now, source)
	m.Paused, m.Rebased, m.SuspendedAt, m.ResumedAt = true, false, m.ReadTo, time.Time{}
	return m, r
}

// rebase forgets what was counted while the meter was paused. Counting goes on from the given counters once the gate is open.
func (m Meter) rebase(counters Counters) Meter {
	m.Counters, m.Rebased = counters, true
	return m
}

// resumeAt counts on, from the time the gate was opened.
func (m Meter) resumeAt(now instant) Meter {
	m.ResumedAt = m.at(now)
	m.Paused, m.Rebased, m.ReadTo, m.readAt = false, false, m.ResumedAt, now.up
	return m
}

// readLast reads up to the very moment.
func (m Meter) readLast(counters Counters, now instant, source Kind) (Meter, Reading) {
	m, r, _ := m.read(counters, now, 0, source)
	return m, r
}

// nextEpoch returns an epoch after the given one. It is taken from the clock (Unix seconds), not counted from one, so
// that an agent that has lost its state directory does not give new readings the identity of old ones.
func nextEpoch(after int64, at time.Time) int64 { return max(after+1, at.Unix()) }
