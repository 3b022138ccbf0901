package events

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"crossbill/domain"
)

// MaxGroup is how many members a group of readers may have.
const MaxGroup = 1024

// Part says which of a category's events to read. The zero Part is all of them.
type Part struct {
	// Group, if it is not 0, is how many readers share the category between them, and Member which of them this one is,
	// from 0. A stream is always the same member's, and so are all streams of one cardinal id, which is what stands after
	// the first dash of a name, up to a plus sign if there is one: order-7, order-7+3 and invoice-7 go together.
	Group, Member int
	// Correlation, if it is not empty, is the metadata's correlation of the events, or the category of the stream that is
	// their correlation.
	Correlation string
}

func (p Part) check() error {
	if p.Group < 0 || p.Group > MaxGroup || p.Member < 0 || p.Member >= max(p.Group, 1) {
		return domain.Errorf(domain.Invalid, "events.ReadPart", "there is no member %d in a group of %d", p.Member, p.Group).
			WithHint("a group has up to %d members, counted from 0", MaxGroup)
	}
	return nil
}

// query returns the statement that reads from the table. Whatever the part, the index events_category gives the
// category's events in order, from the position on; what is not of the part is left out as it comes by. A reader to whom
// few of many events belong pays for those too.
//
// CASE keeps the planner from judging the conditions: it would take an equation to hold for one event in 200, and so read
// the rest of the category and sort it for each page.
func (p Part) query(category string, after Position, limit int) (string, []any) {
	sql := selectRecorded + `WHERE split_part(stream, '-', 1) = $1 AND position > $2` // index events_category
	args := []any{category, after, limit}
	if p.Group > 0 {
		args = append(args, p.Group, p.Member) // memberOf, in SQL
		sql += fmt.Sprintf(`
			AND CASE WHEN ('x0' || substr(encode(sha256(convert_to(split_part(substr(stream, strpos(stream, '-') + 1), '+', 1), 'UTF8')), 'hex'), 1, 15))
			              ::bit(64)::bigint %% $%d::bigint = $%d THEN true ELSE false END`, len(args)-1, len(args))
	}
	if p.Correlation != "" {
		args = append(args, p.Correlation)
		const correlation = `convert_from(metadata, 'UTF8')::json->>'correlation'`
		sql += fmt.Sprintf(`
			AND CASE WHEN $%d IN (%s, split_part(%s, '-', 1)) THEN true ELSE false END`, len(args), correlation, correlation)
	}
	return sql + `
		 ORDER BY position LIMIT $3`, args
}

// archived returns what adds an archived event to a page, if it is of the part.
func (p Part) archived(to *page) func(Record) bool {
	if p == (Part{}) {
		return to.addRecord
	}
	return func(record Record) bool {
		r, err := to.scan.record(record)
		if err == nil && !p.has(r) {
			return true
		}
		return to.add(r, err)
	}
}

func (p Part) has(r Recorded) bool {
	if p.Group > 0 && memberOf(r.Stream, p.Group) != p.Member {
		return false
	}
	category, _, _ := strings.Cut(r.Metadata.Correlation, "-")
	return p.Correlation == "" || p.Correlation == r.Metadata.Correlation || p.Correlation == category
}

// memberOf returns whose a stream is in a group: the first 60 bits of its cardinal id's SHA-256, modulo the group's size.
// Unlike PostgreSQL's own hashes, it comes out the same everywhere.
func memberOf(stream string, group int) int {
	_, id, _ := strings.Cut(stream, "-")
	cardinal, _, _ := strings.Cut(id, "+")
	sum := sha256.Sum256([]byte(cardinal))
	return int(binary.BigEndian.Uint64(sum[:8]) >> 4 % uint64(group))
}
