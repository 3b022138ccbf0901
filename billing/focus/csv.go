package focus

import (
	"encoding/csv"
	"io"

	"crossbill/billing"
	"crossbill/domain"
)

// Writer writes rows. Both kinds are done with a row when Write returns, and must be closed at the end. Both return an
// Unavailable error if the output does not take what they write, and an Invalid error for a number that has no room.
type Writer interface {
	Write(*Row) error
	Close() error
}

var _, _ Writer = (*CSV)(nil), (*Parquet)(nil)

// CSV writes rows as CSV (RFC 4180: CRLF, a header row; UTF-8). An empty cell is null. A text that a spreadsheet would take
// for a formula has an apostrophe in front ([billing.PlainText]); Parquet has it as it is.
type CSV struct {
	out   *csv.Writer
	cells []string
}

// NewCSV returns a writer that begins with the header. Its errors come with the first Write or Close.
func NewCSV(w io.Writer) *CSV {
	c := &CSV{out: csv.NewWriter(w), cells: make([]string, len(Columns))}
	c.out.UseCRLF = true
	for n := range Columns {
		c.cells[n] = Columns[n].Name
	}
	_ = c.out.Write(c.cells) // it keeps its error
	return c
}

// Write writes a row.
func (c *CSV) Write(r *Row) error {
	for n := range Columns {
		s, written, err := Columns[n].cell(r)
		if err != nil {
			return err
		}
		if written {
			s = billing.PlainText(s)
		}
		c.cells[n] = s
	}
	return unavailable(c.out.Write(c.cells))
}

// Close writes what is buffered.
func (c *CSV) Close() error {
	c.out.Flush()
	return unavailable(c.out.Error())
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return domain.Errorf(domain.Unavailable, "focus.Writer", "the dataset could not be written: %w", err)
}
