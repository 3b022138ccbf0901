package focus_test

import (
	"bytes"
	"encoding/csv"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// dataset is what was exported, as a reader has it: types as Parquet has them, values as CSV has them. "" is null.
type dataset struct {
	columns []string
	types   map[string]string // "String", "Date/Time", "Decimal" or "Integer", by column
	rows    []map[string]string
}

// clone is deep enough to be broken.
func (d *dataset) clone() *dataset {
	c := &dataset{columns: slices.Clone(d.columns), types: make(map[string]string)}
	for name, t := range d.types {
		c.types[name] = t
	}
	for _, row := range d.rows {
		copied := make(map[string]string, len(row))
		for name, v := range row {
			copied[name] = v
		}
		c.rows = append(c.rows, copied)
	}
	return c
}

// readDataset reads both files and checks that they say the same, but for what guards CSV against formulas.
func readDataset(t *testing.T, text, binary []byte) *dataset {
	t.Helper()
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(bytes.NewReader(binary), int64(len(binary)))
	if err != nil {
		t.Fatal(err)
	}
	d := &dataset{columns: all[0], types: make(map[string]string)}
	fields := file.Schema().Fields()
	for n, f := range fields {
		if n >= len(d.columns) || f.Name() != d.columns[n] {
			t.Fatalf("Parquet has %s in place %d", f.Name(), n)
		}
		d.types[f.Name()] = typeOf(t, f)
	}
	if file.NumRows() != int64(len(all)-1) || len(fields) != len(d.columns) {
		t.Fatalf("Parquet has %d rows of %d columns, CSV %d of %d", file.NumRows(), len(fields), len(all)-1, len(d.columns))
	}
	n := 1
	for _, group := range file.RowGroups() {
		reader := group.Rows()
		for {
			rows := make([]parquet.Row, 16)
			read, err := reader.ReadRows(rows)
			for _, row := range rows[:read] {
				values := make(map[string]string, len(row))
				for i, v := range row {
					cell := valueOf(t, fields[i], v)
					if got := all[n][i]; got != cell && got != "'"+cell {
						t.Errorf("row %d: %s is %q in CSV and %q in Parquet", n, fields[i].Name(), got, cell)
					}
					values[fields[i].Name()] = cell
				}
				d.rows = append(d.rows, values)
				n++
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		reader.Close()
	}
	return d
}

func typeOf(t *testing.T, f parquet.Field) string {
	t.Helper()
	logical := f.Type().LogicalType()
	if logical != nil {
		switch l := logical.Value.(type) {
		case *format.IntType:
			return "Integer"
		case *format.StringType:
			return "String"
		case *format.DecimalType:
			return "Decimal"
		case *format.TimestampType:
			if l.IsAdjustedToUTC {
				return "Date/Time"
			}
		}
	}
	t.Fatalf("%s is a %v", f.Name(), f.Type())
	return ""
}

func valueOf(t *testing.T, f parquet.Field, v parquet.Value) string {
	t.Helper()
	if v.IsNull() {
		return ""
	}
	switch typeOf(t, f) {
	case "Date/Time":
		return time.UnixMicro(v.Int64()).UTC().Format("2006-01-02T15:04:05Z")
	case "Integer":
		return v.String()
	case "Decimal":
		n := new(big.Int).SetBytes(v.ByteArray())
		if v.ByteArray()[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v.ByteArray()))))
		}
		scale := f.Type().LogicalType().Value.(*format.DecimalType).Scale
		s := new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)).FloatString(int(scale))
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	return string(v.ByteArray())
}
