package api

import (
	"math"
	"strconv"
	"time"

	"crossbill/domain"
	"crossbill/domain/reading"
)

// readingsParser reads the body of sendReadings several times as fast as encoding/json and the contract's validator do. It
// takes only what the contract takes, and of that only what programs write: names and texts without escapes, whole numbers
// without exponents, times in UTC, no name twice. Of anything else it says that it did not read it; then the validator has
// its say. So what is accepted never depends on which of the two read it. (A test holds them to each other.)
type readingsParser struct {
	rest []byte
	bad  bool
	ids  map[string]string // connection ids, once each
}

// parseReadings returns the readings of a body, or false if it did not read it.
func parseReadings(body []byte, edgeNodeID string) ([]reading.Recorded, bool) {
	p := &readingsParser{rest: body, ids: make(map[string]string)}
	p.expect('{')
	if string(p.text()) != "readings" {
		return nil, false
	}
	p.expect(':')
	p.expect('[')
	all := make([]reading.Recorded, 0, min(maxReadings, len(body)/200+1))
	for {
		if len(all) == maxReadings {
			return nil, false
		}
		all = append(all, reading.Recorded{EdgeNodeID: edgeNodeID})
		p.reading(&all[len(all)-1])
		if p.bad || !p.more(']') {
			break
		}
	}
	p.expect('}')
	p.space()
	return all, !p.bad && len(p.rest) == 0
}

// maxReadings is how many readings, or usage events, a request may have.
const maxReadings = 1000

// everyReadingField has a bit for each field that a reading has to have.
const everyReadingField = 1<<12 - 1

func (p *readingsParser) reading(r *reading.Recorded) {
	seen := 0
	field := func(bit int) {
		p.bad = p.bad || seen&(1<<bit) != 0
		seen |= 1 << bit
	}
	p.expect('{')
	for !p.bad {
		name := p.text()
		p.expect(':')
		switch string(name) {
		case "connection_id":
			field(0)
			r.ConnectionID = p.connectionID()
		case "epoch":
			field(1)
			r.Epoch = p.integer(1)
		case "sequence":
			field(2)
			r.Sequence = p.integer(1)
		case "from":
			field(3)
			r.From = p.time()
		case "to":
			field(4)
			r.To = p.time()
		case "bytes_in":
			field(5)
			r.BytesIn = p.integer(0)
		case "bytes_out":
			field(6)
			r.BytesOut = p.integer(0)
		case "packets_in":
			field(7)
			r.PacketsIn = p.integer(0)
		case "packets_out":
			field(8)
			r.PacketsOut = p.integer(0)
		case "dropped_in":
			field(9)
			r.DroppedIn = p.integer(0)
		case "dropped_out":
			field(10)
			r.DroppedOut = p.integer(0)
		case "source":
			field(11)
			r.Source = p.source()
		default:
			p.bad = true
		}
		if p.bad || !p.more('}') {
			break
		}
	}
	p.bad = p.bad || seen != everyReadingField
}

func (p *readingsParser) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\n' || p.rest[0] == '\t' || p.rest[0] == '\r') {
		p.rest = p.rest[1:]
	}
}

// expect takes one character, with the space before it.
func (p *readingsParser) expect(c byte) {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		p.bad = true
		return
	}
	p.rest = p.rest[1:]
}

// more takes a comma, and then there is more, or the end.
func (p *readingsParser) more(end byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != ',' && p.rest[0] != end {
		p.bad = true
		return false
	}
	c := p.rest[0]
	p.rest = p.rest[1:]
	return c == ','
}

// text takes a string of printable ASCII without escapes.
func (p *readingsParser) text() []byte {
	p.expect('"')
	for i := 0; i < len(p.rest) && !p.bad; i++ {
		switch c := p.rest[i]; {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text
		case c < ' ' || c > '~' || c == '\\':
			p.bad = true
		}
	}
	p.bad = true
	return nil
}

func (p *readingsParser) connectionID() string {
	text := p.text()
	if id, known := p.ids[string(text)]; known {
		return id
	}
	id := string(text)
	if !domain.ValidID(domain.PrefixConnection, id) {
		p.bad = true
		return ""
	}
	p.ids[id] = id
	return id
}

func (p *readingsParser) source() string {
	switch string(p.text()) {
	case reading.SourceEBPF:
		return reading.SourceEBPF
	case reading.SourceSoftware:
		return reading.SourceSoftware
	}
	p.bad = true
	return ""
}

// integer takes a whole number, without a sign, a fraction or an exponent.
func (p *readingsParser) integer(least int64) int64 {
	p.space()
	i := 0
	var n uint64
	for ; i < len(p.rest) && p.rest[i] >= '0' && p.rest[i] <= '9'; i++ {
		if n > (math.MaxUint64-9)/10 {
			p.bad = true
			return 0
		}
		n = n*10 + uint64(p.rest[i]-'0')
	}
	if i == 0 || i > 1 && p.rest[0] == '0' || n > math.MaxInt64 || int64(n) < least {
		p.bad = true
		return 0
	}
	p.rest = p.rest[i:]
	return int64(n)
}

// time takes a time in UTC as RFC 3339 has it: 2026-03-11T12:34:56[.123456789]Z, and no leap second.
func (p *readingsParser) time() time.Time {
	text := p.text()
	number := func(from, to int) (n int) {
		for _, c := range text[from:to] {
			if c < '0' || c > '9' {
				p.bad = true
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	if len(text) < 20 || len(text) > 30 || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[len(text)-1] != 'Z' {
		p.bad = true
		return time.Time{}
	}
	year, month, day, hour, minute, second := number(0, 4), number(5, 7), number(8, 10), number(11, 13), number(14, 16), number(17, 19)
	nanoseconds := 0
	if digits := len(text) - 21; digits >= 0 {
		if text[19] != '.' || digits == 0 {
			p.bad = true
			return time.Time{}
		}
		nanoseconds = number(20, len(text)-1)
		for ; digits < 9; digits++ {
			nanoseconds *= 10
		}
	}
	if p.bad || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		p.bad = true
		return time.Time{}
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanoseconds, time.UTC)
	p.bad = t.Day() != day // the month has no such day
	return t
}

// appendVerdicts writes what ReadingVerdicts is encoded as. An early reading has none.
func appendVerdicts(b []byte, batch *meterBatch) ([]byte, error) {
	b = append(b, `{"verdicts":[`...)
	first := true
	for i := range batch.readings {
		r := &batch.readings[i]
		if batch.outcomes[i] == "" {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, `{"connection_id":"`...) // of a form that needs no escapes
		b = append(b, r.ConnectionID...)
		b = strconv.AppendInt(append(b, `","epoch":`...), r.Epoch, 10)
		b = strconv.AppendInt(append(b, `,"sequence":`...), r.Sequence, 10)
		var err error
		if b, err = batch.appendOutcome(b, i); err != nil {
			return nil, err
		}
	}
	return append(b, "]}\n"...), nil
}
