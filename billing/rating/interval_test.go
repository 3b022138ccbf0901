package rating

import (
	"testing"
	"time"
)

func TestBillableIn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, from, to string
		want           Interval
	}{
		{"accruing since before", "2026-02-01T00:00:00Z", "", march},
		{"from inside, cut to the second", "2026-03-11T00:00:00.999999Z", "", Interval{date(2026, 3, 11), march.To}},
		{"until inside, cut to the second", "2026-02-01T00:00:00Z", "2026-03-11T00:00:00.999999Z", Interval{march.From, date(2026, 3, 11)}},
		{"until after", "2026-02-01T00:00:00Z", "2026-05-01T00:00:00Z", march},
		{"another zone", "2026-03-11T02:00:00+02:00", "", Interval{date(2026, 3, 11), march.To}},
		{"over before", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z", Interval{}},
		{"from after", "2026-04-01T00:00:00Z", "", Interval{}},
		{"within one second", "2026-03-11T00:00:00.1Z", "2026-03-11T00:00:00.9Z", Interval{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var to *time.Time
			if test.to != "" {
				stop := at(t, test.to)
				to = &stop
			}
			from, err := time.Parse(time.RFC3339Nano, test.from)
			if err != nil {
				t.Fatal(err)
			}
			if got := BillableIn(march, from, to); !got.Equal(test.want) {
				t.Errorf("%s, not %s", got, test.want)
			}
		})
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	counted := Interval{march.To.Add(-3 * time.Minute), march.To.Add(7 * time.Minute)}
	april := Interval{march.To, date(2026, 5, 1)}
	if early, late := Share(101, counted, march), Share(101, counted, april); early != 30 || late != 71 {
		t.Errorf("101 bytes over ten minutes are %d before the third and %d after; what is left over goes to the later part", early, late)
	}
	if n := Share(1<<62, counted, march) + Share(1<<62, counted, april); n != 1<<62 {
		t.Errorf("the parts of 2^62 sum to %d", n)
	}
	instant := Interval{march.To, march.To}
	if early, late := Share(9, instant, march), Share(9, instant, april); early != 0 || late != 9 {
		t.Errorf("bytes at the very instant: %d before, %d after", early, late)
	}
}

// FuzzShare: however an interval is cut up, the parts are never negative and sum to the whole.
func FuzzShare(f *testing.F) {
	f.Add(int64(101), int64(600), int64(180), int64(181))
	f.Add(int64(1<<63-1), int64(1<<62), int64(1), int64(1<<61))
	f.Add(int64(5), int64(0), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, bytes, length, first, second int64) {
		if bytes < 0 || length < 0 || length > int64(1<<62) {
			t.Skip()
		}
		if first > second {
			first, second = second, first
		}
		start := march.From
		when := func(n int64) time.Time { return start.Add(time.Duration(n)) }
		counted := Interval{start, when(length)}
		cuts := []time.Time{date(1900, 1, 1), when(first), when(second), date(2400, 1, 1)}
		var sum int64
		for i := range 3 {
			window := Interval{cuts[i], cuts[i+1]}
			if window.Empty() {
				continue
			}
			part := Share(bytes, counted, window)
			if part < 0 || part > bytes {
				t.Fatalf("a part of %d bytes is %d", bytes, part)
			}
			sum += part
		}
		if cuts[1].After(cuts[0]) && cuts[2].Before(cuts[3]) && sum != bytes {
			t.Errorf("%d bytes came to %d", bytes, sum)
		}
	})
}
