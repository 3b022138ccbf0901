package reading

import (
	"math/bits"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/listing"
)

// Limits on a reading.
const (
	// MaxSpan bounds the time a reading covers. Far more than an interval: counting goes on while an agent is down, and
	// what it then finds is one reading.
	MaxSpan = 31 * 24 * time.Hour

	// SpeedSlack is added to the span when its bytes are held against the port's speed: the counters are not read in the
	// instant the boundary passes, and a queue may drain into a short reading.
	SpeedSlack = time.Second

	// MaxEarly bounds how far in the future a reading of an edge node may end and be sent again when its time has come: the node's
	// clock was wrong, and what it counted is not. It is what a node keeps readings for.
	MaxEarly = 24 * time.Hour
)

// Command is what can be asked of the readings of a connection.
type Command interface{ command() }

// Record adds a reading. The log sees to it that an identity is recorded once; see [EventID].
type Record struct {
	Reading      Recorded
	Connection   connection.State // that the reading names; zero if there is none
	CapacityMbps int              // of the customer's port; 0 if unknown: then no port is faster than [domain.MaxMbps]
	Metering     string           // by whom the listing says it is metered; "": the platform
	At           time.Time        // the platform's clock on receipt
}

// RecordUsage adds a reading of a provider's own meter. It has a command of its own because it is known by other names, and
// because a connection has meters of one kind: what both counted would be paid twice.
type RecordUsage struct {
	ProviderID   string // who says so
	Reading      Recorded
	Connection   connection.State
	CapacityMbps int
	Metering     string
	At           time.Time
}

// Limits on what a provider's meter calls itself and its readings.
const (
	MaxMeter      = 200 // characters
	MaxMeterEvent = 200 // characters
)

func (Record) command()      {}
func (RecordUsage) command() {}

// Decide returns the event of a reading. It depends on the connection and not on earlier readings, which may be delivered
// in any order.
//
// It returns an Invalid error for wrong fields, with pointers into the reading, among them a time before billing began or
// after the edge node closed the connection; NotFound for a connection that does not exist or is not on the edge node;
// and Unavailable when the edge node has opened the gate, as it was asked to, and only has not reported it yet, or when all that
// is wrong with its reading is that it ends in the future, by at most [MaxEarly].
func Decide(_ State, c Command) ([]domain.Event, error) {
	const op = "reading.Decide"
	switch c := c.(type) {
	case Record:
		return c.decide(op)
	case RecordUsage:
		return c.decide(op)
	}
	return nil, domain.UnknownCommand(op, c)
}

func (c Record) decide(op string) ([]domain.Event, error) {
	r, conn := c.Reading, c.Connection
	if conn.ID == "" || conn.ID != r.ConnectionID || !conn.MeteredOn(r.EdgeNodeID) && !conn.Concerns(r.EdgeNodeID) {
		return nil, domain.Missing(op, "connection").WithHint("an edge node reports the connections that are on it")
	}
	if c.Metering == listing.MeteringProvider {
		return nil, refusedMeter(op, "is metered by its provider, and readings of the edge node don't count")
	}
	if !conn.MeteredOn(r.EdgeNodeID) { // it moves there
		return nil, domain.Errorf(domain.Unavailable, op, "the gate of the connection %s is not reported open on the edge node %s yet", conn.ID, r.EdgeNodeID).
			WithHint("report when it was opened, then send the reading again")
	}
	r.From, r.To = domain.Instant(r.From), domain.Instant(r.To)
	if c.plain(r) {
		return []domain.Event{r}, nil
	}
	var p domain.Problems
	p.Check(r.Epoch >= 1, "/epoch", "must be at least 1")
	p.Check(r.Sequence >= 1, "/sequence", "must be at least 1")
	p.OneOf("/source", r.Source, SourceEBPF, SourceSoftware)
	if early := r.To.Sub(c.At); early > domain.MaxClockSkew && early <= MaxEarly {
		then := c
		then.At = r.To
		if _, err := then.check(op, p, r); err == nil {
			return nil, domain.Errorf(domain.Unavailable, op, "the reading of the connection %s ends at %s, which is yet to come", conn.ID, r.To.Format(time.RFC3339)).
				WithHint("set the edge node's clock, and send the reading again then")
		}
	}
	return c.check(op, p, r)
}

// refusedMeter is the error for a reading of a meter that is not the connection's.
func refusedMeter(op, why string) error {
	var p domain.Problems
	p.Add("/connection_id", "%s", why)
	return p.Err(op)
}

func (c RecordUsage) decide(op string) ([]domain.Event, error) {
	r, conn := c.Reading, c.Connection
	if conn.ID == "" || conn.ID != r.ConnectionID || conn.ProviderID != c.ProviderID {
		return nil, domain.Missing(op, "connection").WithHint("a provider reports the connections that it sold")
	}
	if c.Metering != listing.MeteringProvider {
		return nil, refusedMeter(op, "is metered by the platform: its listing does not say that the provider does")
	}
	r.From, r.To = domain.Instant(r.From), domain.Instant(r.To)
	r.EdgeNodeID, r.Epoch, r.Sequence, r.Source = "", 0, 0, SourceProvider
	var p domain.Problems
	p.Text("/source", r.Meter, MaxMeter)
	p.Text("/id", r.MeterEvent, MaxMeterEvent)
	return Record{Reading: c.Reading, Connection: conn, CapacityMbps: c.CapacityMbps, At: c.At}.check(op, p, r)
}

// check checks what holds for readings of every meter.
func (c Record) check(op string, p domain.Problems, r Recorded) ([]domain.Event, error) {
	conn := c.Connection
	counted := true
	for _, n := range []struct {
		pointer string
		count   int64
	}{
		{"/bytes_in", r.BytesIn}, {"/bytes_out", r.BytesOut}, {"/packets_in", r.PacketsIn}, {"/packets_out", r.PacketsOut},
		{"/dropped_in", r.DroppedIn}, {"/dropped_out", r.DroppedOut},
	} {
		p.Check(n.count >= 0, n.pointer, "must not be negative")
		counted = counted && n.count >= 0
	}
	timed := c.checkTimes(&p, r)
	if counted && timed {
		most := c.most(r.To.Sub(r.From))
		p.Check(uint64(r.BytesIn) <= most, "/bytes_in", "is more than the port can carry in that time, %d", most)
		p.Check(uint64(r.BytesOut) <= most, "/bytes_out", "is more than the port can carry in that time, %d", most)
	}
	if err := p.Err(op); err != nil {
		return nil, err
	}
	if conn.BillingFrom == nil {
		return nil, domain.Errorf(domain.Unavailable, op, "the gate of the connection %s is not reported open yet", conn.ID).
			WithHint("report when it was opened, then send the reading again")
	}
	return []domain.Event{r}, nil
}

// checkTimes records what is wrong with the reading's times, and reports whether they span anything.
func (c Record) checkTimes(p *domain.Problems, r Recorded) bool {
	conn := c.Connection
	p.Time("/from", c.Reading.From)
	p.Time("/to", c.Reading.To)
	if c.Reading.From.IsZero() || c.Reading.To.IsZero() {
		return false
	}
	p.Check(r.To.After(r.From), "/to", "must be after from")
	p.Check(r.To.Sub(r.From) <= MaxSpan, "/to", "must be at most %s after from", MaxSpan)
	p.Check(!r.To.After(c.At.Add(domain.MaxClockSkew)), "/to", "must not be in the future")
	switch {
	case conn.BillingFrom != nil:
		p.Check(!r.From.Before(*conn.BillingFrom), "/from", "must not be before billing began, %s", conn.BillingFrom.Format(time.RFC3339Nano))
	case conn.DesiredPhase() != connection.PhaseProduction:
		p.Add("/connection_id", "has not been in production: it is %s", conn.State)
	}
	if conn.EdgeClosedAt != nil {
		p.Check(!r.To.After(conn.EdgeClosedAt.Add(domain.MaxClockSkew)), "/to", "must not be after the connection was closed, %s", conn.EdgeClosedAt.Format(time.RFC3339Nano))
	}
	return r.To.After(r.From)
}

// most returns how many bytes the port can carry in a reading's time, each way.
func (c Record) most(span time.Duration) uint64 {
	mbps := c.CapacityMbps
	if mbps <= 0 {
		mbps = domain.MaxMbps
	}
	return capacityBytes(mbps, span+SpeedSlack)
}

// capacityBytes returns how many bytes a port carries in a time, at most the largest uint64: Mbps × 10⁶ / 8 × seconds.
func capacityBytes(mbps int, span time.Duration) uint64 {
	const bytesPerMbpsSecond = 125_000
	hi, lo := bits.Mul64(uint64(mbps)*bytesPerMbpsSecond, uint64(span))
	if hi >= uint64(time.Second) { // the quotient would not fit; cannot be with MaxMbps and MaxSpan
		return 1<<64 - 1
	}
	quotient, _ := bits.Div64(hi, lo, uint64(time.Second))
	return quotient
}

// plain reports, without the cost of saying what is wrong, whether nothing is: all that decide checks. Readings come by the
// thousand, and nearly all of them are right.
func (c Record) plain(r Recorded) bool {
	conn := &c.Connection
	if conn.BillingFrom == nil || c.Reading.From.IsZero() || c.Reading.To.IsZero() || r.From.Before(*conn.BillingFrom) ||
		r.Epoch < 1 || r.Sequence < 1 || r.Source != SourceEBPF && r.Source != SourceSoftware {
		return false
	}
	span := r.To.Sub(r.From)
	if span <= 0 || span > MaxSpan || r.To.After(c.At.Add(domain.MaxClockSkew)) ||
		conn.EdgeClosedAt != nil && r.To.After(conn.EdgeClosedAt.Add(domain.MaxClockSkew)) {
		return false
	}
	if r.BytesIn < 0 || r.BytesOut < 0 || r.PacketsIn < 0 || r.PacketsOut < 0 || r.DroppedIn < 0 || r.DroppedOut < 0 {
		return false
	}
	most := c.most(span)
	return uint64(r.BytesIn) <= most && uint64(r.BytesOut) <= most
}
