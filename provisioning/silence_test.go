package provisioning

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crossbill/domain/edgenode"
	"crossbill/events"
	"crossbill/projections"
)

// silenceOf is a watch over a world's edge node, on a clock of its own.
type silenceOf struct {
	*world
	runner *projections.Runner
	start  time.Time
	at     time.Time
}

func newSilence(t *testing.T) *silenceOf {
	t.Helper()
	w := newWorld(t)
	inventory := slices.DeleteFunc(projections.All(), func(p projections.Projection) bool { return p.Name != "inventory" })
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: w.pool, Log: w.log, Projections: inventory})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { runner.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return &silenceOf{world: w, runner: runner, start: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// to moves the clock to a time after the start.
func (s *silenceOf) to(d time.Duration) *silenceOf { s.at = s.start.Add(d); return s }

func (s *silenceOf) hear() {
	s.Helper()
	if err := NoteHeard(context.Background(), s.pool, s.node, s.at, nil, nil); err != nil {
		s.Fatal(err)
	}
}

// watch returns one of the platform's nodes that watch.
func (s *silenceOf) watch() SilenceWatch {
	at := s.at
	return SilenceWatch{Pool: s.pool, Log: s.log, Clock: func() time.Time { return at }}
}

// look has the node looked at, as it stands in the read model by then.
func (s *silenceOf) look() {
	s.Helper()
	if err := s.watch().Look(context.Background()); err != nil {
		s.Fatal(err)
	}
	s.project()
}

func (s *silenceOf) project() {
	s.Helper()
	head, err := s.log.Head(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.runner.WaitFor(ctx, head.Position, "inventory"); err != nil {
		s.Fatal(err)
	}
}

// looks looks every ten seconds of [from, to).
func (s *silenceOf) looks(from, to time.Duration) {
	s.Helper()
	for at := from; at < to; at += DefaultSilenceInterval {
		s.to(at).look()
	}
}

// said are the node's silences in the log, in minutes and seconds after the start.
func (s *silenceOf) said() string {
	s.Helper()
	page, err := s.log.ReadStream(context.Background(), edgenode.Stream(s.node), 0, events.MaxRead)
	if err != nil {
		s.Fatal(err)
	}
	var all []string
	for _, e := range page {
		switch e := e.Event.(type) {
		case edgenode.FellSilent:
			all = append(all, fmt.Sprintf("silent since %s", e.Since.Sub(s.start)))
		case edgenode.Heard:
			all = append(all, fmt.Sprintf("%s at %s", e.End, e.Until.Sub(s.start)))
		}
	}
	return strings.Join(all, ", ")
}

func TestSilenceWatch(t *testing.T) {
	t.Parallel()
	const s, m = time.Second, time.Minute
	for name, c := range map[string]struct {
		play func(w *silenceOf)
		want string
	}{
		"an agent that is heard": {func(w *silenceOf) {
			for at := time.Duration(0); at < 8*m; at += 30 * s {
				w.to(at).hear()
				w.look()
			}
		}, ""},
		"one that never was": {func(w *silenceOf) { w.looks(0, 10*m) }, ""},
		"as long as may be": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 3*m+s)
		}, ""},
		"a silence that lasts": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 10*m)
		}, "silent since 0s"},
		"a silence that is over": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 10*m)
			w.to(10*m + 1*s).hear()
			w.to(10*m + 4*s).hear()
			w.looks(10*m+5*s, 13*m)
		}, "silent since 0s, heard at 10m1s"},
		"two of them": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 5*m)
			w.to(5 * m).hear()
			w.looks(5*m, 9*m)
			w.to(9 * m).hear()
			w.look()
		}, "silent since 0s, heard at 5m0s, silent since 5m0s, heard at 9m0s"},
		"between two looks": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 2*m+51*s)
			w.to(3*m + 1*s).hear()
			w.to(3*m + 5*s).hear()
			w.look()
			w.looks(3*m+10*s, 4*m)
		}, "silent since 0s, heard at 3m1s"},
		"a word that was under way": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 3*m+11*s)
			w.to(2*m + 59*s).hear() // noted later than it was heard
			w.to(3*m + 20*s).look()
		}, "silent since 0s, heard at 2m59s"},
		"a restart of the platform": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 2*m)
			w.looks(2*m+50*s, 10*m)
		}, "silent since 0s"},
		"the platform was away": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 2*m)
			w.to(2 * time.Hour).look()
			w.to(2*time.Hour + 5*s).hear()
			w.looks(2*time.Hour+10*s, 2*time.Hour+2*m)
		}, ""},
		"the platform was away, and then the agent": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 2*m)
			w.looks(2*time.Hour, 2*time.Hour+10*m)
			w.to(2*time.Hour + 10*m).hear()
			w.look()
		}, "silent since 2h0m0s, heard at 2h10m0s"},
		"the platform went while the agent was silent": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 5*m)
			w.to(2 * time.Hour).look()
			w.to(2*time.Hour + 5*s).hear()
			w.looks(2*time.Hour+10*s, 2*time.Hour+2*m)
		}, "silent since 0s, unwatched at 4m50s"},
		"and it stays silent": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 5*m)
			w.looks(2*time.Hour, 2*time.Hour+5*m)
			w.to(2*time.Hour + 5*m).hear()
			w.look()
		}, "silent since 0s, unwatched at 4m50s, silent since 2h0m0s, heard at 2h5m0s"},
		"heard, and the platform went before it wrote that down": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 5*m)
			w.to(4*m + 45*s).hear()
			w.to(2 * time.Hour).look()
		}, "silent since 0s, heard at 4m45s"},
		"several nodes watch": {func(w *silenceOf) {
			w.to(0).hear()
			w.looks(0, 3*m)
			for _, at := range []time.Duration{3*m + 10*s, 5 * m} {
				w.to(at)
				if at == 5*m {
					w.looks(3*m+20*s, 5*m)
					w.to(at).hear()
				}
				var all sync.WaitGroup
				for range 4 {
					watch := w.watch()
					all.Go(func() {
						if err := watch.Look(context.Background()); err != nil {
							w.Error(err)
						}
					})
				}
				all.Wait()
				w.project()
			}
		}, "silent since 0s, heard at 5m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSilence(t)
			c.play(w)
			if got := w.said(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
