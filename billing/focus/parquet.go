package focus

import (
	"io"
	"math/big"

	"github.com/parquet-go/parquet-go"

	"crossbill/domain"
)

// What a Parquet file is cut into. A row group is held in memory until it is whole, so these bound the memory of an export
// whatever its length; only what the file's footer says of each row group grows, by some 0.2 MB for each.
const (
	rowsPerGroup = 32_768
	rowsPerWrite = 256
	pageBytes    = 32 << 10 // of a column, before compression
)

// decimalBytes is the length of a decimal of up to 38 digits, in two's complement, the most significant byte first.
const decimalBytes = 16

// Parquet writes rows as Parquet: decimals as DECIMAL, times as TIMESTAMP in UTC, null as null.
type Parquet struct {
	out  *parquet.GenericWriter[any]
	rows []parquet.Row
	held int
}

// NewParquet returns a writer. Its errors come with a Write or with Close.
func NewParquet(w io.Writer) *Parquet {
	p := &Parquet{rows: make([]parquet.Row, rowsPerWrite)}
	for n := range p.rows {
		p.rows[n] = make(parquet.Row, 0, len(Columns))
	}
	p.out = parquet.NewGenericWriter[any](w, schema, parquet.MaxRowsPerRowGroup(rowsPerGroup), parquet.PageBufferSize(pageBytes),
		parquet.Compression(&parquet.Snappy), parquet.CreatedBy("crossbill", "", ""), parquet.KeyValueMetadata("FOCUS_Version", Version))
	return p
}

// schema has the columns in their order: a group's fields are sorted by name, as [Columns] are.
var schema = func() *parquet.Schema {
	group := make(parquet.Group, len(Columns))
	for _, c := range Columns {
		var node parquet.Node
		switch c.Type.Name {
		case typeText.Name:
			if node = parquet.String(); c.Name != "x_EvidenceDigest" && c.Name != "x_ItemId" { // of which each row has its own
				node = parquet.Encoded(node, &parquet.RLEDictionary)
			}
		case typeTime.Name:
			node = parquet.Timestamp(parquet.Microsecond)
		case typeInteger.Name:
			node = parquet.Int(64)
		default:
			node = parquet.Decimal(c.Type.Scale, c.Type.Precision, parquet.FixedLenByteArrayType(decimalBytes))
		}
		if !c.Required {
			node = parquet.Optional(node)
		}
		group[c.Name] = node
	}
	return parquet.NewSchema("FOCUS", group)
}()

// Write writes a row.
func (p *Parquet) Write(r *Row) error {
	row := p.rows[p.held][:0]
	for n := range Columns {
		v, err := Columns[n].value(r)
		if err != nil {
			return err
		}
		switch {
		case Columns[n].Required && v.IsNull():
			return domain.Errorf(domain.Internal, "focus.Parquet", "%s of %s, line %d, is null", Columns[n].Name, r.InvoiceID, r.InvoiceLine)
		case Columns[n].Required || v.IsNull():
			v = v.Level(0, 0, n)
		default:
			v = v.Level(0, 1, n)
		}
		row = append(row, v)
	}
	p.rows[p.held] = row
	if p.held++; p.held < len(p.rows) {
		return nil
	}
	return p.flush()
}

func (p *Parquet) flush() error {
	_, err := p.out.WriteRows(p.rows[:p.held])
	p.held = 0
	return unavailable(err)
}

// Close writes what is held, and the footer without which a file is none.
func (p *Parquet) Close() error {
	if err := p.flush(); err != nil {
		return err
	}
	return unavailable(p.out.Close())
}

func (c *Column) value(r *Row) (parquet.Value, error) {
	switch {
	case c.text != nil:
		if s := c.text(r); s != "" {
			return parquet.ByteArrayValue([]byte(s)), nil
		}
	case c.time != nil:
		return parquet.Int64Value(c.time(r).UnixMicro()), nil
	case c.integer != nil:
		if n := c.integer(r); n != 0 {
			return parquet.Int64Value(n), nil
		}
	default:
		n, err := c.unscaled(r)
		if err == nil && n != nil {
			return parquet.FixedLenByteArrayValue(twosComplement(n)), nil
		}
		return parquet.Value{}, err
	}
	return parquet.Value{}, nil
}

// twosComplement returns a number below 2^127 as the Parquet format has decimals (LogicalTypes.md, DECIMAL).
func twosComplement(n *big.Int) []byte {
	b := make([]byte, decimalBytes)
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), 8*decimalBytes))
	}
	return n.FillBytes(b)
}
