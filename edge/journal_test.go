package edge

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// history is a journal's life: what was counted, read and delivered, step by step.
func history() []record {
	m := Meter{Connection: "con_1", Tag: 1, Epoch: 1, Counters: Counters{Meter: 1, BytesIn: 100}}
	steps := []record{{Meter: ptr(m)}}
	m.OpenedAt, m.ReadTo = at("12:00:00"), at("12:00:00")
	steps = append(steps, record{Meter: ptr(m)})
	for i := range 4 {
		counters := m.Counters
		counters.BytesIn += uint64(1000 + i)
		next, r, _ := m.read(counters, instant{wall: m.ReadTo.Add(time.Minute)}, time.Minute, EBPF)
		m = next
		steps = append(steps, record{Meter: ptr(m), Reading: &r})
		if i == 1 {
			steps = append(steps, record{Settled: []ReadingID{r.ReadingID}})
		}
	}
	closed, r := m.closeAt(m.Counters, instant{wall: m.ReadTo.Add(time.Second)}, EBPF)
	return append(steps, record{Meter: &closed, Reading: &r})
}

func ptr[T any](v T) *T { return &v }

// TestJournalCutAtEveryByte cuts a journal at every byte, as a crash can, and looks what is remembered: a prefix of the
// steps, so that the bytes in readings and the baseline of the meter always make the whole, and that the journal goes on.
func TestJournalCutAtEveryByte(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	j, err := openJournal(whole, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	var ends []int64 // size after each step
	var states []journalState
	ends, states = append(ends, j.size), append(states, stateOf(j))
	for _, step := range history() {
		if err := j.Append(step); err != nil {
			t.Fatal(err)
		}
		ends, states = append(ends, j.size), append(states, stateOf(j))
	}
	j.Close()
	content, err := os.ReadFile(filepath.Join(whole, "journal"))
	if err != nil || int64(len(content)) != ends[len(ends)-1] {
		t.Fatalf("the journal has %d bytes, want %d: %v", len(content), ends[len(ends)-1], err)
	}
	dir := t.TempDir()
	for cut := 0; cut <= len(content); cut++ {
		for _, tail := range []string{"", "\x00\x00\x00", "\n"} { // what a file system may show after the cut
			write(t, dir, string(content[:cut])+tail)
			step := 0
			length := int64(cut)
			if strings.HasPrefix(string(content[cut:]), "\n") && tail == "\n" {
				length++ // the record was complete but for this
			}
			for step+1 < len(ends) && ends[step+1] <= length {
				step++
			}
			reopened, err := openJournal(dir, testLogger(t))
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			got := stateOf(reopened)
			if !reflect.DeepEqual(got, states[step]) {
				t.Fatalf("cut at %d with %q after it:\n  %+v\nwant the state after step %d\n  %+v", cut, tail, got, step, states[step])
			}
			m := reopened.Meter("con_1")
			if got.counted != m.Counters.BytesIn && m.Connection != "" {
				t.Fatalf("cut at %d: readings and baseline make %d bytes, the meter was read at %d", cut, got.counted, m.Counters.BytesIn)
			}
			// What is appended after recovery is there the next time.
			if err := reopened.Append(record{Meter: &Meter{Connection: "con_2", Tag: 2}}); err != nil {
				t.Fatal(err)
			}
			reopened.Close()
			again, err := openJournal(dir, testLogger(t))
			if err != nil {
				t.Fatal(err)
			}
			if again.Meter("con_2").Tag != 2 {
				t.Fatalf("cut at %d: an appended record is lost", cut)
			}
			again.Close()
		}
	}
}

// journalState is what a journal remembers.
type journalState struct {
	meters  map[string]Meter
	pending []Reading
	counted uint64 // the baseline at the opening and all bytes in readings up to now
}

func stateOf(j *journal) journalState {
	s := journalState{meters: j.Meters(), pending: j.Pending(maxBatch, func(string) bool { return true })}
	s.counted = 100
	sequences := map[int64]bool{}
	for _, r := range s.pending {
		s.counted += uint64(r.BytesIn)
		sequences[r.Sequence] = true
	}
	// Settled readings are not kept; the test's history settles the second one only.
	if m := s.meters["con_1"]; m.Sequence >= 2 && !sequences[2] {
		s.counted += 1001
	}
	return s
}

func write(t *testing.T, dir, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "journal"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestJournalKeepsADamagedEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := openJournal(dir, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range history() {
		if err := j.Append(step); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	content, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(content), "\n")
	lines[3] = strings.Replace(lines[3], "1000", "9000", 1) // more bytes than were counted, under the old checksum
	write(t, dir, strings.Join(lines, ""))
	j, err = openJournal(dir, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, undelivered := j.Undelivered(""); undelivered != 0 {
		t.Errorf("%d readings are read from a damaged record or after it", undelivered)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "journal.damaged-*"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("the damaged end is kept in %v (%v), want one file", aside, err)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != strings.Join(lines[3:], "") {
		t.Errorf("kept %q (%v)", kept, err)
	}
	// Another format is not guessed at.
	write(t, dir, string(appendRecord(nil, record{Format: 99})))
	if other, err := openJournal(dir, testLogger(t)); err == nil {
		other.Close()
		t.Error("a journal of format 99 was opened")
	}
}

func TestJournalCompacts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := openJournal(dir, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	m := Meter{Connection: "con_1", Tag: 1, Epoch: 1, OpenedAt: at("12:00:00"), ReadTo: at("12:00:00")}
	const batches, perBatch = 40, 300
	var largest int64
	for range batches {
		var records []record
		var settled []ReadingID
		for range perBatch {
			counters := m.Counters
			counters.BytesIn++
			next, r, _ := m.read(counters, instant{wall: m.ReadTo.Add(time.Second)}, time.Second, EBPF)
			m = next
			records = append(records, record{Meter: ptr(m), Reading: &r})
			if r.Sequence%100 != 0 { // leave some
				settled = append(settled, r.ReadingID)
			}
		}
		if err := j.Append(append(records, record{Settled: settled})...); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, j.size)
	}
	before := stateOf(j)
	j.Close()
	if largest > 3*compactAtLeast {
		t.Errorf("the journal grew to %d bytes with next to nothing in it", largest)
	}
	if total := batches * perBatch; before.meters["con_1"].Sequence != int64(total) || len(before.pending) != total/100 {
		t.Fatalf("%d readings pending of %d", len(before.pending), before.meters["con_1"].Sequence)
	}
	j, err = openJournal(dir, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if after := stateOf(j); !reflect.DeepEqual(before, after) {
		t.Errorf("after compaction and reopening there are %d readings, want %d", len(after.pending), len(before.pending))
	}
}

func TestPendingIsFair(t *testing.T) {
	t.Parallel()
	j, err := openJournal(t.TempDir(), testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var records []record
	for c := range 3 {
		for s := range 2000 {
			records = append(records, record{Reading: &Reading{ReadingID: ReadingID{fmt.Sprintf("con_%d", c), 1, int64(s + 1)},
				From: at("12:00:00").Add(time.Duration(s) * time.Second)}})
		}
	}
	if err := j.Append(records...); err != nil {
		t.Fatal(err)
	}
	next := map[string]int64{}
	for _, r := range j.Pending(maxBatch, func(id string) bool { return id != "con_2" }) {
		if next[r.Connection]++; r.Sequence != next[r.Connection] {
			t.Fatalf("%s: reading %d comes where %d should", r.Connection, r.Sequence, next[r.Connection])
		}
	}
	if next["con_0"] != 500 || next["con_1"] != 500 || next["con_2"] != 0 {
		t.Errorf("a batch of 1000 has %v", next)
	}
}
