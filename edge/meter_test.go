package edge

import (
	"cmp"
	"testing"
	"time"
)

func at(text string) time.Time {
	v, err := time.Parse(time.RFC3339Nano, "2026-03-11T"+text+"Z")
	if err != nil {
		panic(err)
	}
	return v
}

func TestReadingEnd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		at       string
		interval time.Duration
		want     string
	}{
		{"12:05:00.003", 5 * time.Minute, "12:05:00"},
		{"12:05:00.45", 5 * time.Minute, "12:05:00"},
		{"12:05:00.55", 5 * time.Minute, "12:05:00.55"}, // later than maxLate: the time as it is
		{"12:07:30", 5 * time.Minute, "12:07:30"},
		{"12:00:07.05", time.Second, "12:00:07"},
		{"12:00:07.2", time.Second, "12:00:07.2"}, // later than a tenth of the interval
		{"12:00:07", time.Second, "12:00:07"},
	} {
		if got := readingEnd(at(test.at), test.interval); !got.Equal(at(test.want)) {
			t.Errorf("a reading every %v, taken at %s, ends at %v, want %s", test.interval, test.at, got, test.want)
		}
	}
}

func TestMeterReads(t *testing.T) {
	t.Parallel()
	opened := Meter{Connection: "con_1", Tag: 1, Epoch: 7, Sequence: 3, OpenedAt: at("12:00:00"), ReadTo: at("12:05:00"),
		Counters: Counters{Meter: 1, BytesIn: 1000, BytesOut: 500, PacketsIn: 10, PacketsOut: 5, DroppedIn: 1}, readAt: time.Hour}
	for name, test := range map[string]struct {
		counters Counters
		wall     string
		passed   time.Duration // since the last reading
		to       string        // "": wall
		want     *Reading      // nil: none
	}{
		"difference": {Counters{Meter: 1, BytesIn: 1700, BytesOut: 500, PacketsIn: 12, PacketsOut: 5, DroppedIn: 4}, "12:10:00", 5 * time.Minute, "",
			&Reading{ReadingID: ReadingID{"con_1", 7, 4}, BytesIn: 700, PacketsIn: 2, DroppedIn: 3}},
		"nothing crossed": {opened.Counters, "12:10:00", 5 * time.Minute, "", &Reading{ReadingID: ReadingID{"con_1", 7, 4}}},
		"another meter that has counted past the old one": {Counters{Meter: 2, BytesIn: 5000, BytesOut: 5000, PacketsIn: 50, PacketsOut: 50, DroppedIn: 9}, "12:10:00", 5 * time.Minute, "",
			&Reading{ReadingID: ReadingID{"con_1", at("12:10:00").Unix(), 1}, BytesIn: 5000, BytesOut: 5000, PacketsIn: 50, PacketsOut: 50, DroppedIn: 9}},
		"one counter went back": {Counters{Meter: 1, BytesIn: 2000, BytesOut: 499, PacketsIn: 12, PacketsOut: 5, DroppedIn: 1}, "12:10:00", 5 * time.Minute, "",
			&Reading{ReadingID: ReadingID{"con_1", at("12:10:00").Unix(), 1}, BytesIn: 2000, BytesOut: 499, PacketsIn: 12, PacketsOut: 5, DroppedIn: 1}},
		"no time has passed": {Counters{Meter: 1, BytesIn: 2000, BytesOut: 900, PacketsIn: 20, PacketsOut: 9, DroppedIn: 1}, "12:05:00", 0, "", nil},
		"the clock went back an hour": {Counters{Meter: 1, BytesIn: 2000, BytesOut: 900, PacketsIn: 20, PacketsOut: 9, DroppedIn: 1}, "11:10:00", 5 * time.Minute, "12:09:59.7",
			&Reading{ReadingID: ReadingID{"con_1", 7, 4}, BytesIn: 1000, BytesOut: 400, PacketsIn: 10, PacketsOut: 4}},
		"the clock went back a second, but not behind the last reading": {Counters{Meter: 1, BytesIn: 2000, BytesOut: 900, PacketsIn: 20, PacketsOut: 9, DroppedIn: 1}, "12:10:00", 301 * time.Second, "12:10:00.699",
			&Reading{ReadingID: ReadingID{"con_1", 7, 4}, BytesIn: 1000, BytesOut: 400, PacketsIn: 10, PacketsOut: 4}},
		"the clock went forward an hour": {Counters{Meter: 1, BytesIn: 2000, BytesOut: 900, PacketsIn: 20, PacketsOut: 9, DroppedIn: 1}, "13:10:00", 5 * time.Minute, "",
			&Reading{ReadingID: ReadingID{"con_1", 7, 4}, BytesIn: 1000, BytesOut: 400, PacketsIn: 10, PacketsOut: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			next, r, ok := opened.read(test.counters, instant{at(test.wall), time.Hour + test.passed}, 5*time.Minute, EBPF)
			if test.want == nil {
				if ok || next != opened {
					t.Fatalf("read %+v and became %+v, want nothing", r, next)
				}
				return
			}
			test.want.From, test.want.To, test.want.Source = opened.ReadTo, at(cmp.Or(test.to, test.wall)), EBPF
			if r != *test.want {
				t.Errorf("read\n  %+v\nwant\n  %+v", r, *test.want)
			}
			if next.Counters != test.counters || !next.ReadTo.Equal(r.To) || next.Epoch != r.Epoch || next.Sequence != r.Sequence || next.readAt != time.Hour+test.passed {
				t.Errorf("became %+v after %+v", next, r)
			}
		})
	}
	// Closed with the clock set back, what was counted is still read.
	closed, r := opened.closeAt(Counters{Meter: 1, BytesIn: 1001, BytesOut: 500, PacketsIn: 11, PacketsOut: 5, DroppedIn: 1}, instant{at("11:00:00"), time.Hour + 10*time.Second}, EBPF)
	if r.BytesIn != 1 || !r.To.Equal(at("12:05:09.99")) || !closed.ClosedAt.Equal(r.To) || closed.open() {
		t.Errorf("closed as %+v with the reading %+v", closed, r)
	}
}

func TestNextEpochNeverRepeats(t *testing.T) {
	t.Parallel()
	if e := nextEpoch(0, at("12:00:00")); e != at("12:00:00").Unix() {
		t.Errorf("the first epoch is %d", e)
	}
	if e := nextEpoch(at("13:00:00").Unix(), at("12:00:00")); e != at("13:00:00").Unix()+1 {
		t.Errorf("with the clock set back the epoch is %d, want one more than the last", e)
	}
}
