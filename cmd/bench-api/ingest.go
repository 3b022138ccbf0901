package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"crossbill/api/client"
	"crossbill/cmd/internal/bench"
)

// Readings in a request, the most that the contract takes, and how many agents send at once.
const (
	batchReadings = 1000
	agents        = 8
)

// usageIngest delivers readings as agents do that read a thousand connections at a time: each request has one reading of
// each, is validated, deduplicated, hashed and committed, and is answered with a verdict for each. The limit is COPY of
// the rows that came of it.
func usageIngest(ctx context.Context, r *run) ([]bench.Figure, error) {
	n, err := openNode(ctx, r, "usage_ingest")
	if err != nil {
		return nil, err
	}
	defer n.close()
	m, err := n.openMarket(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := n.connect(ctx, m, batchReadings)
	if err != nil {
		return nil, err
	}
	if err := n.settle(ctx); err != nil {
		return nil, err
	}
	twin, err := r.OpenTwin(ctx, "usage_ingest_twin")
	if err != nil {
		return nil, err
	}
	defer twin.Close(ctx)
	if _, err := twin.CopyNew(ctx, n.pool); err != nil { // what is there before the readings
		return nil, err
	}
	from, sequence := time.Now().UTC().Add(-50*time.Minute).Truncate(time.Second), int64(0)
	f, err := bench.Alternate(bench.Figure{Bench: "usage_ingest", Unit: "readings/s", Floor: 0.35}, r.rounds, func() (float64, error) {
		var bodies [][]byte
		for range r.batches {
			sequence++
			body, err := json.Marshal(client.ReadingBatch{Readings: readings(ids, sequence, from)})
			if err != nil {
				return 0, err
			}
			bodies = append(bodies, body)
			from = from.Add(time.Second)
		}
		begun := time.Now()
		err := together(agents, func(agent int) error {
			for i := agent; i < len(bodies); i += agents {
				if err := n.deliver(ctx, m, bodies[i]); err != nil {
					return err
				}
			}
			return nil
		})
		rate := bench.PerSecond(r.batches*batchReadings, begun)
		if err == nil {
			err = n.caughtUp(ctx) // apart: the read models' work must not slow the limit down
		}
		return rate, err
	}, func() (float64, error) { return twin.CopyNew(ctx, n.pool) })
	if err != nil {
		return nil, err
	}
	return []bench.Figure{f}, twin.RequireSame(ctx, n.pool)
}

// readings are one of each connection.
func readings(ids []string, sequence int64, from time.Time) []client.Reading {
	all := make([]client.Reading, len(ids))
	for i, id := range ids {
		all[i] = client.Reading{
			ConnectionId: id, Epoch: 1, Sequence: sequence, From: from, To: from.Add(time.Second), BytesIn: 748_113 + sequence,
			BytesOut: 91_337 + sequence, PacketsIn: 561, PacketsOut: 488, Source: client.EdgeKindEbpf,
		}
	}
	return all
}

// deliver sends a batch, and wants every reading accepted.
func (n *node) deliver(ctx context.Context, m market, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.server.URL+"/v1/edge-nodes/"+m.nodeID+"/readings", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Text(httpClient.Do(request))
	if err != nil {
		return err
	}
	if accepted := bytes.Count([]byte(answer), []byte(`"accepted"`)); accepted != batchReadings {
		return fmt.Errorf("%d readings of %d were accepted: %.500s", accepted, batchReadings, answer)
	}
	return nil
}
