package ledger

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"crossbill/domain"
	"crossbill/events"
)

// Journal writes the ledger as a plain-text accounting journal, in the format of hledger 1.25 (hledger.org, "Journal"), one
// thing at a time and in constant memory. It declares all that a strict check wants declared, commodities and accounts, and
// then has the transactions in the order of their dates. Each has the document's number for a code and two tags: event, the
// id of the event that it is of, and position, its place in the log.
//
// Errors of the output come with the next call, or with Flush.
type Journal struct {
	out *bufio.Writer
}

// NewJournal returns a writer that begins with how far the log goes.
func NewJournal(w io.Writer, at events.Position) *Journal {
	j := &Journal{bufio.NewWriterSize(w, 64<<10)}
	fmt.Fprintf(j.out, "; Crossbill's ledger up to log position %d.\n", at)
	return j
}

// Commodity declares a currency with its digits.
func (j *Journal) Commodity(c domain.Currency) error {
	mark := "" // hledger wants a decimal mark even where no digit follows it
	if c.Digits() == 0 {
		mark = "."
	}
	_, err := fmt.Fprintf(j.out, "commodity %s%s %s\n", domain.Money{Minor: power(c.Digits()), Currency: c}.Amount(), mark, c)
	return failed(err)
}

// power is one unit in minor ones.
func power(digits int) int64 {
	n := int64(1)
	for range digits {
		n *= 10
	}
	return n
}

// kinds are what hledger takes an account for in its reports: an asset, cash, a liability, revenue or an expense.
var kinds = []struct{ prefix, kind string }{
	{Receivable, "A"}, {TaxRecoverable, "A"}, {Clearing, "C"}, {Bank, "C"}, {Payable, "L"}, {PassThrough, "L"}, {TaxPayable, "L"},
	{PlatformFee, "R"}, {Processing, "X"},
}

// Account declares an account.
func (j *Journal) Account(name string) error {
	n := slices.IndexFunc(kinds, func(k struct{ prefix, kind string }) bool { return strings.HasPrefix(name, k.prefix) })
	if n < 0 {
		return domain.Errorf(domain.Internal, "ledger.Journal", "there is no kind of account that %s is of", name)
	}
	_, err := fmt.Fprintf(j.out, "account %s  ; type: %s\n", name, kinds[n].kind)
	return failed(err)
}

// Transaction writes a transaction.
func (j *Journal) Transaction(t Transaction) error {
	fmt.Fprintf(j.out, "\n%s ", t.Date.UTC().Format(time.DateOnly))
	if code := plain(t.Code); code != "" {
		fmt.Fprintf(j.out, "(%s) ", code)
	}
	fmt.Fprintf(j.out, "%s  ; event:%s, position:%d\n", plain(t.Description), uuid.UUID(t.EventID), t.Position)
	for _, e := range t.Entries {
		if _, err := fmt.Fprintf(j.out, "    %s  %s\n", e.Account, e.Amount); err != nil {
			return failed(err)
		}
	}
	return nil
}

// Flush writes what is left.
func (j *Journal) Flush() error { return failed(j.out.Flush()) }

func failed(err error) error {
	if err == nil {
		return nil
	}
	return domain.Errorf(domain.Unavailable, "ledger.Journal", "the journal can't be written: %w", err).WithHint("try again")
}

// plain makes of a text what can stand in a code or a description: a parenthesis would end the code, a semicolon or a bar the
// description, and a line break the transaction. The event that the tag names has the text as it was.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '(':
			return '['
		case r == ')':
			return ']'
		case r == ';':
			return ','
		case r == '|':
			return '/'
		case unicode.IsSpace(r), unicode.IsControl(r), r == unicode.ReplacementChar, unicode.In(r, unicode.Cf):
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
