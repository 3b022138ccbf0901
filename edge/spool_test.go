package edge

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// spoolFull has TestSpoolOfADay be about what the spool is made for, and say what it costs; a share of it holds the same.
var spoolFull = flag.Bool("spool-full", false, "fill the spool with a day of 4 000 connections in TestSpoolOfADay: half a minute, 400 MB of disk, 500 MB of memory")

// TestSpoolOfADay reads every connection at each boundary for a day while the platform is away, opens the journal again as
// a restarted agent does, and delivers all of it: every reading once, each connection's in order, and a file that shrinks.
func TestSpoolOfADay(t *testing.T) {
	t.Parallel()
	connections, boundaries := 40, 288
	if *spoolFull {
		connections = 4000
	}
	dir := t.TempDir()
	j, err := openJournal(dir, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	opened := at("00:00:00")
	var records []record
	for c := range connections {
		records = append(records, record{Meter: &Meter{Connection: fmt.Sprintf("con_%026d", c), Tag: c + 1, Epoch: 1, OpenedAt: opened, ReadTo: opened}})
	}
	if err := j.Append(records...); err != nil {
		t.Fatal(err)
	}
	began, slowest := time.Now(), time.Duration(0)
	for b := range boundaries {
		records = records[:0]
		for _, m := range j.Meters() {
			counters := m.Counters
			counters.BytesIn += 748_113_000
			counters.PacketsIn += 561_000
			next, r, ok := m.read(counters, instant{wall: opened.Add(time.Duration(b+1) * 5 * time.Minute)}, 5*time.Minute, EBPF)
			if !ok {
				t.Fatal("a meter was not read")
			}
			records = append(records, record{Meter: &next, Reading: &r})
		}
		step := time.Now()
		if err := j.Append(records...); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(step))
	}
	_, undelivered := j.Undelivered("")
	if want := connections * boundaries; undelivered != want || undelivered > DefaultSpoolLimit {
		t.Fatalf("%d readings are kept, want %d", undelivered, want)
	}
	written, size := time.Since(began), j.size
	j.Close()

	began = time.Now()
	if j, err = openJournal(dir, testLogger(t)); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	reopened := time.Since(began)
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)

	began = time.Now()
	next := map[string]int64{}
	for {
		batch := j.Pending(maxBatch, func(string) bool { return true })
		if len(batch) == 0 {
			break
		}
		settled := make([]ReadingID, len(batch))
		for i, r := range batch {
			if next[r.Connection]++; r.Sequence != next[r.Connection] {
				t.Fatalf("%s: reading %d is sent where %d should be", r.Connection, r.Sequence, next[r.Connection])
			}
			settled[i] = r.ReadingID
		}
		if err := j.Append(record{Settled: settled}); err != nil {
			t.Fatal(err)
		}
	}
	for id, sent := range next {
		if sent != int64(boundaries) {
			t.Errorf("%s: %d readings were sent, want %d", id, sent, boundaries)
		}
	}
	if len(next) != connections {
		t.Errorf("readings of %d connections were sent, want %d", len(next), connections)
	}
	t.Logf("%d readings: written in %v (slowest boundary %v), %d bytes on disk (%d a reading), opened in %v with %d MiB in use, delivered in %v; then %d bytes",
		undelivered, written.Round(time.Millisecond), slowest.Round(time.Millisecond), size, size/int64(undelivered), reopened.Round(time.Millisecond),
		memory.HeapAlloc>>20, time.Since(began).Round(time.Millisecond), j.size)
	if left := int64(connections)*4*compactRecord + 3*compactAtLeast; j.size > left {
		t.Errorf("with everything delivered the journal has %d bytes", j.size)
	}
}

// TestClockSteps sets the node's clock forward and back at random while a meter is read, paused and closed: what was counted
// is in the readings exactly, none is negative or of less time than it was counted in, and they neither overlap nor leave a gap but
// for pauses.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		choose := rand.New(rand.NewPCG(seed, 1))
		clock := instant{wall: at("12:00:00")}
		m := Meter{Connection: "con_1", Tag: 1, Epoch: 1, OpenedAt: clock.wall, ReadTo: clock.wall, Counters: Counters{Meter: 1}}
		counters, last, lastUp := m.Counters, clock.wall, clock.up
		var counted, read uint64
		take := func(r Reading) {
			if r.From.Before(last) || !r.To.After(r.From) || r.BytesIn < 0 {
				t.Fatalf("seed %d: after %v comes %+v", seed, last, r)
			}
			if counted := clock.up - lastUp; r.To.Sub(r.From) < counted-counted/slew-maxLate-time.Microsecond {
				t.Fatalf("seed %d: what was counted in %v is in %+v", seed, counted, r)
			}
			if most := last.Add(clock.up - lastUp + time.Microsecond); r.To.After(most) && r.To.After(clock.wall) {
				t.Fatalf("seed %d: at %v and at most %v comes %+v", seed, clock.wall, most, r)
			}
			last, lastUp, read = r.To, clock.up, read+uint64(r.BytesIn)
		}
		for range 60 {
			n := uint64(choose.IntN(1_000_000))
			counters.BytesIn, counted = counters.BytesIn+n, counted+n
			passed := time.Duration(choose.Int64N(int64(10 * time.Minute)))
			clock.wall, clock.up = clock.wall.Add(passed), clock.up+passed
			switch choose.IntN(8) {
			case 0:
				clock.wall = clock.wall.Add(time.Duration(choose.Int64N(int64(48 * time.Hour)))) // NTP, a first time
			case 1:
				clock.wall = clock.wall.Add(-time.Duration(choose.Int64N(int64(48 * time.Hour))))
			}
			if choose.IntN(10) == 0 {
				var r Reading
				m, r = m.pauseAt(counters, clock, EBPF)
				take(r)
				counters.BytesIn += 7 // what is counted while it is paused is nobody's
				clock.wall, clock.up = clock.wall.Add(time.Hour), clock.up+time.Hour
				m = m.rebase(counters).resumeAt(clock)
				last, lastUp = m.ReadTo, clock.up
				continue
			}
			before := m
			next, r, ok := m.read(counters, clock, 5*time.Minute, EBPF)
			if m = next; !ok { // no time to cover: it counts on, and the next reading has it
				if m != before || clock.up-lastUp > maxLate+time.Millisecond {
					t.Fatalf("seed %d: nothing was read, and the meter went from %+v to %+v", seed, before, m)
				}
				continue
			}
			if !r.From.Equal(last) {
				t.Fatalf("seed %d: between %v and %+v there is a gap", seed, last, r)
			}
			take(r)
		}
		_, r := m.closeAt(counters, clock, EBPF)
		take(r)
		if read != counted {
			t.Fatalf("seed %d: %d bytes were counted, the readings have %d", seed, counted, read)
		}
	}
}
