package projections

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"

	"crossbill/domain"
)

// Sizes of a page, in items.
const (
	DefaultPageSize = 100
	MaxPageSize     = 500
)

// A page token is the place where the last page ended, bound to the list it was made for:
// one byte of format, six of a digest that names the list, eight of place (big-endian), in base64url.
// It grants nothing: it only ever narrows a query that the caller may make without it.
const (
	tokenFormat = 1
	tokenLen    = 1 + listNameLen + 8
	listNameLen = 6
)

// A list is one query with its filters, such as "the orders of org_…": a page token of one is no token of another.
type list [listNameLen]byte

func listOf(parts ...string) list {
	digest := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return list(digest[:listNameLen])
}

func (l list) token(place int64) string {
	b := append([]byte{tokenFormat}, l[:]...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, uint64(place)))
}

// page is a checked request for one page.
type page struct {
	list  list
	limit int
	place int64 // where the page before ended; fromStart for the first page
}

// fromStart is the place of a first page: before the newest item of a list that runs backwards.
// Lists that run forwards start at 0 themselves.
const fromStart = math.MaxInt64

// pageOf checks a caller's limit (0 for the default) and token ("" for the first page) and returns an Invalid error
// that names the field for either.
func (l list) pageOf(op string, limit int, token string, start int64) (page, error) {
	var problems domain.Problems
	p := page{list: l, limit: limit, place: start}
	if limit == 0 {
		p.limit = DefaultPageSize
	}
	problems.Check(p.limit >= 1 && p.limit <= MaxPageSize, "/limit", "must be between 1 and %d", MaxPageSize)
	if token != "" {
		place, ok := l.parse(token)
		problems.Check(ok, "/page_token", "is not the next_page_token of this list with the same filters")
		p.place = place
	}
	return p, problems.Err(op)
}

func (l list) parse(token string) (place int64, ok bool) {
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenLen) {
		return 0, false
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != tokenLen || b[0] != tokenFormat || list(b[1:1+listNameLen]) != l {
		return 0, false
	}
	place = int64(binary.BigEndian.Uint64(b[1+listNameLen:]))
	return place, place > 0
}

// ask is how many rows to read: one more than the page shows tells whether there is another page.
func (p page) ask() int { return p.limit + 1 }

// cut takes the rows read for p, and the place of each, to the page and the token of the next one ("" at the end).
func cut[T any](p page, rows []T, place func(T) int64) ([]T, string) {
	if len(rows) <= p.limit {
		return rows, ""
	}
	rows = rows[:p.limit]
	return rows, p.list.token(place(rows[p.limit-1]))
}
