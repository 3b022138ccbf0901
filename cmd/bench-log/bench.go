package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/cmd/internal/bench"
	"crossbill/domain/vocabulary"
	"crossbill/events"
)

// run is one run of the benches.
type run struct {
	sizes
	*bench.Server
	codec *events.Codec
}

func newRun(s sizes, server *bench.Server) (*run, error) {
	codec, err := events.NewCodec(vocabulary.Events()...)
	return &run{s, server, codec}, err
}

// testLog is a log in a database of its own.
type testLog struct {
	*events.Log
	pool   *pgxpool.Pool
	source *source
}

func (b *run) log(ctx context.Context, name string) (*testLog, error) {
	pool, err := b.Database(ctx, name)
	if err != nil {
		return nil, err
	}
	log, err := events.Open(ctx, pool, b.codec, events.Options{})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &testLog{log, pool, newSource()}, nil
}

func (l *testLog) close() {
	l.Close()
	l.pool.Close()
}

// head returns the log's last position.
func (l *testLog) head(ctx context.Context) (int64, error) {
	head, err := l.Head(ctx)
	return int64(head.Position), err
}
