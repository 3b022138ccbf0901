package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tap notes the SQL that requests to a node run, so that the bare handler runs the very same.
type tap struct {
	mu    sync.Mutex
	on    bool
	steps []step
}

// step is one round trip: a query, or a batch of them.
type step []query

type query struct {
	sql  string
	args []any
}

type requestKey struct{}

// baseContext marks what requests do, apart from what the node does by itself.
func (t *tap) baseContext(net.Listener) context.Context {
	return context.WithValue(context.Background(), requestKey{}, true)
}

// record returns what do, one request, runs.
func (t *tap) record(do func() error) ([]step, error) {
	t.mu.Lock()
	t.on, t.steps = true, nil
	t.mu.Unlock()
	err := do()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.on = false
	return t.steps, err
}

func (t *tap) note(ctx context.Context, add func()) {
	if ctx.Value(requestKey{}) == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.on {
		add()
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (t *tap) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.note(ctx, func() { t.steps = append(t.steps, step{{data.SQL, slices.Clone(data.Args)}}) })
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t *tap) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (t *tap) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	t.note(ctx, func() {
		var s step
		for _, q := range data.Batch.QueuedQueries {
			s = append(s, query{q.SQL, slices.Clone(q.Arguments)})
		}
		t.steps = append(t.steps, s)
	})
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (t *tap) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (t *tap) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// bare serves what was recorded of one request, with its subject replaced by that of each request, and nothing else: the
// statements on one connection of the pool, and the bytes of their rows as they came.
func bare(ctx context.Context, url string, steps []step, recorded string, subject func(*http.Request) string) (*httptest.Server, func(), error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, nil, err
	}
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := replay(r.Context(), pool, steps, recorded, subject(r), w); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	return server, func() { server.Close(); pool.Close() }, nil
}

func replay(ctx context.Context, pool *pgxpool.Pool, steps []step, recorded, subject string, w http.ResponseWriter) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for _, s := range steps {
		if len(s) == 1 {
			rows, err := conn.Query(ctx, s[0].sql, replaced(s[0].args, recorded, subject)...)
			if err != nil {
				return err
			}
			if err := pour(rows, w); err != nil {
				return err
			}
			continue
		}
		var batch pgx.Batch
		for _, q := range s {
			batch.Queue(q.sql, replaced(q.args, recorded, subject)...)
		}
		results := conn.SendBatch(ctx, &batch)
		for range s {
			rows, err := results.Query()
			if err == nil {
				err = pour(rows, w)
			}
			if err != nil {
				results.Close()
				return err
			}
		}
		if err := results.Close(); err != nil {
			return err
		}
	}
	return nil
}

func pour(rows pgx.Rows, w http.ResponseWriter) error {
	for rows.Next() {
		for _, column := range rows.RawValues() {
			if _, err := w.Write(column); err != nil {
				rows.Close()
				return err
			}
		}
	}
	rows.Close()
	return rows.Err()
}

// replaced returns the arguments of a statement for another subject than that of the recorded request.
func replaced(args []any, recorded, subject string) []any {
	if recorded == "" {
		return args
	}
	out := slices.Clone(args)
	for i, arg := range out {
		switch v := arg.(type) {
		case string:
			out[i] = strings.ReplaceAll(v, recorded, subject)
		case []string:
			list := slices.Clone(v)
			for j := range list {
				list[j] = strings.ReplaceAll(list[j], recorded, subject)
			}
			out[i] = list
		}
	}
	return out
}
