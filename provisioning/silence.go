package provisioning

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/domain"
	"crossbill/domain/edgenode"
	"crossbill/events"
)

const (
	// DefaultSilenceInterval is the time between two looks at when edge nodes were heard.
	DefaultSilenceInterval = 10 * time.Second
	// maxWatchGap is how long nobody may have looked for the watch to be one: a restart is shorter. Where it was longer the
	// platform was away, and no agent could have been heard.
	maxWatchGap = time.Minute

	silenceActor = "edge_watch" // of the events, in their metadata
)

// NoteHeard notes that an edge node's agent was heard, and what it says it is and acts on, if it says so. It is no fact of the
// log: it says how the machinery is, many times a minute. What the log has of it are the silences, which [SilenceWatch] makes
// of this: so the newest gap that may be one is kept too. It returns an Unavailable error if the database can't be reached.
func NoteHeard(ctx context.Context, pool *pgxpool.Pool, edgeNodeID string, at time.Time, kind *string, revision *int64) error {
	const upsert = `
		INSERT INTO edge_heard (edge_node_id, heard_at, kind, revision) VALUES ($1, $2, $3, $4)
		ON CONFLICT (edge_node_id) DO UPDATE SET heard_at = greatest(edge_heard.heard_at, EXCLUDED.heard_at),
			gone_at = CASE WHEN EXCLUDED.heard_at > edge_heard.heard_at + $5::interval THEN edge_heard.heard_at ELSE edge_heard.gone_at END,
			back_at = CASE WHEN EXCLUDED.heard_at > edge_heard.heard_at + $5::interval THEN EXCLUDED.heard_at ELSE edge_heard.back_at END,
			kind = coalesce(EXCLUDED.kind, edge_heard.kind), revision = coalesce(EXCLUDED.revision, edge_heard.revision)`
	if _, err := pool.Exec(ctx, upsert, edgeNodeID, domain.Instant(at), kind, revision, edgenode.SilentAfter); err != nil {
		return domain.Errorf(domain.Unavailable, "provisioning.NoteHeard", "that %s was heard can't be noted: %w", edgeNodeID, err)
	}
	return nil
}

// SilenceWatch writes down when edge nodes fall silent and when they are heard again: once for each silence, whichever nodes
// of the platform watch, killed and restarted as they may be. When an agent is heard stands in edge_heard, many times a
// minute; what this makes of it is in the log, where everything that follows from it can be made anew.
type SilenceWatch struct {
	Pool     *pgxpool.Pool
	Log      *events.Log
	Interval time.Duration    // default [DefaultSilenceInterval]
	Clock    func() time.Time // default time.Now
	Logger   *slog.Logger     // default: discard
}

// Run looks again and again until ctx ends, and returns its error. A look that fails is logged, and the next one tries again.
func (w SilenceWatch) Run(ctx context.Context) error {
	if w.Interval == 0 {
		w.Interval = DefaultSilenceInterval
	}
	if w.Logger == nil {
		w.Logger = slog.New(slog.DiscardHandler)
	}
	tick := time.NewTicker(w.Interval)
	defer tick.Stop()
	for {
		if err := w.Look(ctx); err != nil && ctx.Err() == nil {
			w.Logger.WarnContext(ctx, "the silences of edge nodes could not be looked at", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// watch is how long the platform has been listening.
type watch struct {
	Since   time.Time
	EndedAt *time.Time // the last look of the watch before
}

// heardNode is what was last heard of an edge node.
type heardNode struct {
	ID           string
	At           time.Time
	Gone, Back   *time.Time // around the newest gap of more than [edgenode.SilentAfter]
	silentSince  *time.Time // as the read model has it, which may be late: each decision looks at the log
	silenceEnded *time.Time
}

// Look writes down what is new. It returns an Unavailable error if it could not look or write; what it had written by then
// stays, and the next look goes on from there.
func (w SilenceWatch) Look(ctx context.Context) error {
	const op = "provisioning.SilenceWatch"
	clock := w.Clock
	if clock == nil {
		clock = time.Now
	}
	now := domain.Instant(clock())
	var current watch
	err := w.Pool.QueryRow(ctx, `
		INSERT INTO edge_watch AS w (since, seen_at) VALUES ($1, $1)
		ON CONFLICT (one) DO UPDATE SET
			since = CASE WHEN w.seen_at < $1 - $2::interval THEN $1 ELSE w.since END,
			ended_at = CASE WHEN w.seen_at < $1 - $2::interval THEN w.seen_at ELSE w.ended_at END,
			seen_at = greatest(w.seen_at, $1)
		RETURNING since, ended_at`, now, maxWatchGap).Scan(&current.Since, &current.EndedAt)
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "the watch can't be kept: %w", err)
	}
	rows, err := w.Pool.Query(ctx, `
		SELECT h.edge_node_id, h.heard_at, h.gone_at, h.back_at, (n.doc ->> 'silent_since')::timestamptz, (n.doc ->> 'silent_until')::timestamptz
		FROM edge_heard AS h JOIN read_edge_nodes AS n USING (edge_node_id) ORDER BY 1`) // both whole: there are hundreds
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "when the edge nodes were heard can't be read: %w", err)
	}
	nodes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n heardNode, err error) {
		return n, row.Scan(&n.ID, &n.At, &n.Gone, &n.Back, &n.silentSince, &n.silenceEnded)
	})
	if err != nil {
		return domain.Errorf(domain.Unavailable, op, "when the edge nodes were heard can't be read: %w", err)
	}
	for _, n := range nodes {
		if !current.concerns(n, now) {
			continue
		}
		if err := w.record(ctx, n, current, now); err != nil && domain.CodeOf(err) != domain.Conflict { // then another node was first
			return err
		}
	}
	return nil
}

// concerns reports whether there may be something to write down of a node.
func (v watch) concerns(n heardNode, now time.Time) bool {
	return n.silentSince != nil || now.Sub(v.from(n.At)) > edgenode.SilentAfter ||
		v.missed(n) && (n.silenceEnded == nil || n.silenceEnded.Before(*n.Back))
}

// missed reports whether the newest gap that is over was a silence, as far as this watch can tell.
func (v watch) missed(n heardNode) bool {
	return n.Back != nil && n.Back.Sub(v.from(*n.Gone)) > edgenode.SilentAfter
}

// from returns since when a node is silent whose last word is given, as far as this watch can tell.
func (v watch) from(heard time.Time) time.Time {
	if heard.Before(v.Since) {
		return v.Since
	}
	return heard
}

// commands returns what is to be said of a node's silences, in order. What was said before does nothing.
func (v watch) commands(n heardNode, s edgenode.State, now time.Time) []edgenode.Command {
	var all []edgenode.Command
	since := s.SilentSince
	end := func(until time.Time, how string) {
		if until.Before(*since) {
			until = *since
		}
		all, since = append(all, edgenode.NoteHeard{Until: until, End: how, At: now}), nil
	}
	ofBefore := since != nil && since.Before(v.Since) && v.EndedAt != nil // the watch that it began in is over
	back := since != nil && n.Back != nil && since.Before(*n.Back)
	switch {
	case back && !(ofBefore && n.Back.After(*v.EndedAt)):
		end(*n.Back, edgenode.EndHeard)
	case ofBefore:
		end(*v.EndedAt, edgenode.EndUnwatched)
	case since != nil && since.Before(n.At): // a word that was being written down when the silence was
		end(earlier(n.At, since.Add(edgenode.SilentAfter)), edgenode.EndHeard)
	case since == nil && v.missed(n) && (s.SilentUntil == nil || !v.from(*n.Gone).Before(*s.SilentUntil)):
		gone := v.from(*n.Gone)
		since, all = &gone, append(all, edgenode.NoteSilence{Since: gone, At: now})
		end(*n.Back, edgenode.EndHeard)
	}
	if gone := v.from(n.At); since == nil && now.Sub(gone) > edgenode.SilentAfter {
		all = append(all, edgenode.NoteSilence{Since: gone, At: now})
	}
	return all
}

// record decides and appends what is to be said of a node.
func (w SilenceWatch) record(ctx context.Context, n heardNode, current watch, now time.Time) error {
	const op = "provisioning.SilenceWatch"
	stream := edgenode.Stream(n.ID)
	state, version, err := events.Load(ctx, w.Log, stream, edgenode.Evolve)
	if err != nil || version == 0 {
		return err
	}
	a := events.StreamAppend{Stream: stream, Expected: events.ExpectedVersion(version)}
	for _, c := range current.commands(n, state, now) {
		decided, err := edgenode.Decide(state, c)
		if err != nil {
			return domain.Errorf(domain.Internal, op, "the silence of %s can't be written down: %w", n.ID, err)
		}
		for _, e := range decided {
			state = edgenode.Evolve(state, e)
			a.Events = append(a.Events, events.NewEvent{Event: e, Metadata: events.Metadata{Actor: silenceActor}})
		}
	}
	if len(a.Events) == 0 {
		return nil
	}
	if _, err := w.Log.Append(ctx, events.Append{Streams: []events.StreamAppend{a}}); err != nil {
		return err
	}
	if w.Logger != nil {
		w.Logger.InfoContext(ctx, "an edge node's silence", "edge_node", n.ID, "silent_since", state.SilentSince, "last_ended", state.SilentUntil)
	}
	return nil
}
