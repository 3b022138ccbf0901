package domain

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestErrorf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err     *Error
		message string
		text    string
	}{
		{Errorf(Invalid, "p.F", "%d is odd", 3), "3 is odd", "p.F: 3 is odd"},
		{Errorf(Internal, "p.F", "the disk failed: %w", io.EOF), "the disk failed", "p.F: the disk failed: EOF"},
		{Errorf(Internal, "p.F", "reading (%w) %s", io.EOF, "x"), "reading () x", "p.F: reading () x: EOF"},
		{Errorf(Internal, "p.F", "%w", io.EOF), "", "p.F: : EOF"},
		{Errorf(Internal, "p.F", "%w and %w: two", io.EOF, io.ErrNoProgress), " and : two", "p.F:  and : two: EOF\nmultiple Read calls return no data or error"},
		{Errorf(Conflict, "", "taken").WithHint("take %d", 2), "taken", "taken (hint: take 2)"},
		{Errorf(Invalid, "p.F", "%v", io.EOF), "EOF", "p.F: EOF"}, // the caller chose to show it
		{Errorf(Invalid, "p.F", "failed (%v): %w", io.EOF, io.ErrNoProgress), "failed (EOF)", "p.F: failed (EOF): multiple Read calls return no data or error"},
		{Errorf(Invalid, "p.F", "failed: %w", unequal{"a"}), "failed", "p.F: failed: a"},
	} {
		if c.err.Message != c.message || c.err.Error() != c.text {
			t.Errorf("the message is %q and the text %q, want %q and %q", c.err.Message, c.err.Error(), c.message, c.text)
		}
	}
	if err := Errorf(Internal, "p.F", "reading %w now", io.EOF); !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
	if err := Errorf(Internal, "p.F", "%w, %w", io.EOF, io.ErrNoProgress); !errors.Is(err, io.EOF) || !errors.Is(err, io.ErrNoProgress) {
		t.Error("one of two causes is lost")
	}
}

// unequal is an error that == panics on.
type unequal []string

func (u unequal) Error() string { return u[0] }

func TestCodeOf(t *testing.T) {
	t.Parallel()
	inner := Errorf(NotFound, "p.F", "gone")
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, ""}, {io.EOF, Internal}, {inner, NotFound}, {fmt.Errorf("while reading: %w", inner), NotFound},
		{Errorf(Unavailable, "q.G", "later: %w", inner), Unavailable},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("the code of %v is %q, want %q", c.err, got, c.want)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	var p Problems
	if err := p.Err("p.F"); err != nil {
		t.Errorf("nothing is wrong: %v", err)
	}
	p.Check(true, "/a", "is wrong")
	p.Check(false, "/b", "is %s", "wrong")
	p.Add("/c", "is missing")
	err := p.Err("p.F")
	if CodeOf(err) != Invalid || err.Error() != "p.F: the request has invalid fields; /b: is wrong; /c: is missing" {
		t.Errorf("got %v", err)
	}
}

func TestProblemsOfFields(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		check func(*Problems)
		wrong int
	}{
		{"text", func(p *Problems) { p.Text("/x", "é", 1) }, 0},
		{"blank text", func(p *Problems) { p.Text("/x", "\u00a0", 1) }, 1},
		{"long text", func(p *Problems) { p.Text("/x", "ab", 1) }, 1},
		{"text of two lines", func(p *Problems) { p.Text("/x", "a\nb", 9) }, 1},
		{"long text of two lines", func(p *Problems) { p.LongText("/x", "a\r\n\tb", 9) }, 0},
		{"long text with a bell", func(p *Problems) { p.LongText("/x", "a\a", 9) }, 1},
		{"blank long text", func(p *Problems) { p.LongText("/x", "\n", 9) }, 1},
		{"no UTF-8", func(p *Problems) { p.OptionalText("/x", "\xc3(", 9) }, 1},
		{"no text", func(p *Problems) { p.OptionalText("/x", "", 9) }, 0},
		{"hash", func(p *Problems) { p.Hash("/x", strings.Repeat("0f", 32)) }, 0},
		{"long hash", func(p *Problems) { p.Hash("/x", strings.Repeat("0f", 33)) }, 1},
		{"hash in capitals", func(p *Problems) { p.Hash("/x", strings.Repeat("0F", 32)) }, 1},
		{"one of", func(p *Problems) { p.OneOf("/x", "b", "a", "b") }, 0},
		{"none of", func(p *Problems) { p.OneOf("/x", "c", "a", "b") }, 1},
		{"bandwidth", func(p *Problems) { p.Mbps("/x", 1); p.Mbps("/x", MaxMbps) }, 0},
		{"no bandwidth", func(p *Problems) { p.Mbps("/x", 0); p.Mbps("/x", MaxMbps+1) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p Problems
			if c.check(&p); len(p) != c.wrong {
				t.Errorf("it found %v, want %d problems", p, c.wrong)
			}
		})
	}
}
