package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"crossbill/cmd/internal/bench"
	"crossbill/events"
	"crossbill/projections"
)

// usage returns the read model that takes readings: it writes a row for each and keeps a sum for each connection.
func usage() (projections.Projection, error) {
	all := projections.All()
	i := slices.IndexFunc(all, func(p projections.Projection) bool { return p.Name == "usage" })
	if i < 0 {
		return projections.Projection{}, fmt.Errorf("there is no read model of usage")
	}
	return all[i], nil
}

// project runs the projection over the whole log, from empty tables, with the runner that every node has.
func (l *testLog) project(ctx context.Context, n int) (float64, error) {
	p, err := usage()
	if err != nil {
		return 0, err
	}
	tables := strings.Join(projections.Tables(p.Name), ", ")
	if _, err := l.pool.Exec(ctx, `TRUNCATE `+tables+`, subscriptions`); err != nil {
		return 0, err
	}
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: l.pool, Log: l.Log, Projections: []projections.Projection{p}})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	begun := time.Now()
	go func() { ended <- runner.Run(ctx) }()
	err = runner.WaitFor(ctx, events.Position(n))
	rate := bench.PerSecond(n, begun)
	cancel()
	<-ended
	if err != nil {
		return 0, err
	}
	var rows, sum int
	const count = `SELECT (SELECT count(*) FROM read_readings), (SELECT sum(readings) FROM read_usage)`
	if err := l.pool.QueryRow(context.WithoutCancel(ctx), count).Scan(&rows, &sum); err != nil {
		return 0, err
	}
	if rows != n || sum != n {
		return 0, fmt.Errorf("%d events gave %d readings, of which %d were added up", n, rows, sum)
	}
	return rate, nil
}
