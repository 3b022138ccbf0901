package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/feeschedule"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/pgtest"
	"crossbill/projections"
)

// unheardOf is an event of a version that is not written yet.
type unheardOf struct{}

func (unheardOf) EventType() string { return "order.teleported" }

// TestProjections plays an operator who looks after the read models of a database.
func TestProjections(t *testing.T) {
	t.Parallel()
	url, dir := pgtest.URL(t), t.TempDir()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	codec, err := events.NewCodec(append(vocabulary.Events(), []domain.Event{unheardOf{}})...)
	if err != nil {
		t.Fatal(err)
	}
	log, err := events.Open(t.Context(), pool, codec, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	record := func(stream string, e domain.Event) {
		t.Helper()
		_, err := log.Append(t.Context(), events.Append{Streams: []events.StreamAppend{{Stream: stream, Expected: events.Any, Events: []events.NewEvent{{Event: e}}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	schedule := domain.DeriveID(domain.PrefixFeeSchedule, now, "fees")
	for version := range 3 {
		record(feeschedule.Stream(schedule), feeschedule.Published{FeeScheduleID: schedule, Version: version + 1, BasisPoints: 300, EffectiveFrom: now, At: now})
	}
	// The command's output must match want, and what it says of its failure must contain each of fails; none: it ends well.
	try := func(want string, fails []string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		code := run(t.Context(), append(append([]string{"projections"}, args...), "--database-url", url, "--data-dir", dir), &out, &errs)
		if (code == 0) != (fails == nil) || !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%s: code %d, want %s\n%s%s", strings.Join(args, " "), code, want, &out, &errs)
		}
		for _, text := range fails {
			if !strings.Contains(errs.String(), text) {
				t.Errorf("%s: it does not say %q:\n%s", strings.Join(args, " "), text, &errs)
			}
		}
		return out.String()
	}

	try(`(?m)^NAME +POSITION +LAG +STATE +ERROR\n(.*\n)*fees +0 +3 +never run +\n(.*\n)*provisioning +0 +3 +never run`, nil, "list")
	try(`(?m)^rebuilt fees at position 3, 3 events in [0-9.]+m?s, [0-9]+ events/s$`, nil, "rebuild", "--all")
	try(`(?m)^fees +3 +0 +current *$`, nil, "list")

	verified := `(?m)^verified fees at position 3, .*\n  read_fee_schedules: 3 rows, sha256 [0-9a-f]{64}$`
	try(verified, nil, "rebuild", "fees", "--verify")
	if _, err := pool.Exec(t.Context(), `UPDATE read_fee_schedules SET basis_points = 1 WHERE version = 2`); err != nil {
		t.Fatal(err)
	}
	differs := []string{"read_fee_schedules is not what the log up to position 3 makes it: row 2 differs", schedule + `,2,2,1,`, schedule + `,2,2,300,`}
	try(``, differs, "rebuild", "fees", "--verify")
	try(``, differs, "rebuild", "--all", "--verify")
	try(`rebuilt fees`, nil, "rebuild", "fees")
	try(verified, nil, "rebuild", "--verify", "--all")
	try(`^rebuilt commitments at position 3, 0 orders hold one\n$`, nil, "rebuild", "commitments")
	try(`(?m)^verified commitments at position 3, 0 orders hold one$`, nil, "rebuild", "--verify", "--all")

	try(`^$`, []string{"provisioning is not rebuilt", "jobs"}, "rebuild", "fees", "provisioning")
	try(`^$`, []string{"billing_runs is not rebuilt", "jobs"}, "rebuild", "billing_runs")
	try(`^$`, []string{`there is no read model "fee"`, "projections list"}, "rebuild", "fee")
	try(`^$`, []string{"--all"}, "rebuild")
	try(`^$`, []string{"--all"}, "rebuild", "fees", "--all")

	record("order-x", unheardOf{})
	old, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	oldLog, err := events.Open(t.Context(), pool, old, events.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(oldLog.Close)
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: pool, Log: oldLog, Projections: projections.All()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	runner.Run(ctx) // returns as all have stopped
	stopped := `(?m)^fees +3 +1 +stopped +.*position 4.*order\.teleported.*hint: run a version of crossbill that knows the type order\.teleported, schema 1\)$`
	if ctx.Err() != nil {
		t.Error("the projections do not stop")
	}
	if list := try(stopped, nil, "list"); strings.Count(list, "\n") != len(projections.All())+4 { // a heading, the usage store and the process managers
		t.Errorf("listed:\n%s", list)
	}
	try(``, []string{"position 4", "order.teleported"}, "rebuild", "fees")
	try(verified, nil, "rebuild", "fees", "--verify")
}

// TestProgress draws a bar on a terminal, and now and then a line elsewhere.
func TestProgress(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	play := func(p *progress) {
		for done := int64(1000); done <= 4000; done += 1000 {
			now = now.Add(5 * time.Second)
			p.update(done, 4000)
		}
		p.end()
	}
	var lines bytes.Buffer
	play(newProgress("rebuilding x", nil, &lines, clock))
	want := "rebuilding x: 50%, 2000 of 4000 events, 200 events/s, 10s left\nrebuilding x: 100%, 4000 of 4000 events, 200 events/s, 0s left\n"
	if lines.String() != want {
		t.Errorf("got %q, want %q", &lines, want)
	}

	terminal, err := os.Create(filepath.Join(t.TempDir(), "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	lines.Reset()
	play(newProgress("rebuilding x", terminal, &lines, clock))
	drawn, err := os.ReadFile(terminal.Name())
	if err != nil || lines.Len() > 0 || strings.Count(string(drawn), "\r") != 5 || strings.Contains(string(drawn), "\n") || !strings.HasSuffix(string(drawn), "\r\x1b[K") {
		t.Errorf("drawn %q, %v; lines %q", drawn, err, &lines)
	}
	if !strings.Contains(string(drawn), "[=======                       ] 25%, 1000 of 4000 events, 200 events/s, 15s left") {
		t.Errorf("drawn %q", drawn)
	}
	if isTerminal(terminal) {
		t.Error("a file is taken for a terminal")
	}
	if null, err := os.Open(os.DevNull); err != nil || isTerminal(null) {
		t.Errorf("the null device is taken for a terminal, %v", err)
	}
	for text, got := range map[string]string{
		"0%, 0 of 10 events, 0 events/s, ? left": progressText(0, 10, time.Second),
		"0%, 0 of 0 events, 0 events/s, ? left":  progressText(0, 0, 0),
	} {
		if got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
}
