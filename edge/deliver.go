package edge

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// rejectedReading is one line of the file of readings the platform refused. They are for a person to look at: what was
// counted is not lost, and is not sent again.
type rejectedReading struct {
	At      time.Time `json:"at"`
	Problem string    `json:"problem"`
	Reading Reading   `json:"reading"`
}

// rejectedFile is its name in the state directory.
const rejectedFile = "rejected-readings.jsonl"

// deliver sends readings until the platform has them.
func (a *agent) deliver(ctx context.Context) {
	var retry backoff
	for {
		batch := a.journal.Pending(maxBatch, a.reporter.mayDeliver)
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-a.journal.Ready():
			case <-a.reporter.opened:
			case <-time.After(resyncEvery): // a connection may have left the desired state meanwhile
			}
			continue
		}
		if err := a.deliverBatch(ctx, batch); err != nil {
			if ctx.Err() == nil {
				a.log.Warn("readings cannot be delivered", "error", err)
			}
			if !retry.wait(ctx) {
				return
			}
			continue
		}
		retry.reset()
		poke(a.delivered)
	}
}

// deliverBatch sends a batch and settles what has a verdict. It returns an error if nothing came of it.
func (a *agent) deliverBatch(ctx context.Context, batch []Reading) error {
	verdicts, err := a.platform.SendReadings(ctx, batch)
	var refusal *RefusedError
	if errors.As(err, &refusal) && len(refusal.Wrong) > 0 {
		for i, problem := range refusal.Wrong {
			if i >= 0 && i < len(batch) {
				verdicts = append(verdicts, Verdict{ReadingID: batch[i].ReadingID, Rejected: true, Problem: problem})
			}
		}
		err = nil
	}
	if err != nil {
		return err
	}
	sent := make(map[ReadingID]Reading, len(batch))
	for _, r := range batch {
		sent[r.ReadingID] = r
	}
	var settled []ReadingID
	for _, v := range verdicts {
		r, ok := sent[v.ReadingID]
		if !ok {
			continue
		}
		if v.Rejected {
			a.log.Error("the platform rejects a reading", "connection", r.Connection, "epoch", r.Epoch, "sequence", r.Sequence,
				"bytes_in", r.BytesIn, "bytes_out", r.BytesOut, "problem", v.Problem)
			path := filepath.Join(filepath.Dir(a.cache), rejectedFile)
			if err := appendLine(path, rejectedReading{At: a.now().wall, Problem: v.Problem, Reading: r}); err != nil {
				return err // it stays in the spool
			}
		}
		settled = append(settled, v.ReadingID)
	}
	if len(settled) == 0 {
		return errors.New("the platform gave no verdict on any reading of the batch")
	}
	return a.append(record{Settled: settled})
}
