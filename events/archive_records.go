package events

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ArchivedRecordsIn returns the events of a database and of the archives in a directory, as one.
func ArchivedRecordsIn(pool *pgxpool.Pool, archiveDir string) Records {
	return archivedRecords{newArchives(pool, archiveDir), tableRecords{pool}}
}

type archivedRecords struct {
	archives *archives
	table    tableRecords
}

var errGap = errors.New("there is a gap")

// Range implements [Records]. The leaf hash of an archived event is computed: the archive keeps none beside it, and its
// blocks are checked as they are read.
func (a archivedRecords) Range(ctx context.Context, first, last Position, each func(StoredRecord) error) error {
	next := first
	for next <= last {
		if _, end := a.archives.all(); next <= end {
			until := min(last, end)
			if err := a.archived(ctx, next, until, each); err != nil {
				return err
			}
			next = until + 1
			continue
		}
		err := a.table.Range(ctx, next, last, func(r StoredRecord) error {
			if r.Position != next {
				return errGap
			}
			next++
			return each(r)
		})
		gap := errors.Is(err, errGap) || err == nil && next <= last
		if err != nil && !gap {
			return err
		}
		if !gap {
			break
		}
		// Either they are in archives by now, or they are missing.
		end, err := a.archives.refresh(ctx)
		if err != nil {
			return err
		}
		if end < next {
			return a.table.Range(ctx, next, last, each)
		}
	}
	return nil
}

// archived goes through events that are in archives, without keeping any.
func (a archivedRecords) archived(ctx context.Context, first, last Position, each func(StoredRecord) error) error {
	var hasher leafHasher
	list, _ := a.archives.all()
	for _, of := range list {
		if of.last < first || of.first > last {
			continue
		}
		f, err := a.archives.open(of)
		if err != nil {
			return err
		}
		for i := f.index.blockOf(max(first, of.first)); i < len(f.index.blocks) && f.index.blocks[i].first <= last; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			records, err := f.block(i)
			if err != nil {
				return err
			}
			for _, r := range records {
				if r.Position < first || r.Position > last {
					continue
				}
				leaf := hasher.hash(r.leaf())
				if err := each(StoredRecord{r, leaf[:]}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Leaves implements [Records].
func (a archivedRecords) Leaves(ctx context.Context, first, last Position) ([]byte, error) {
	for {
		_, end := a.archives.all()
		var leaves []byte
		if first <= end {
			until := min(last, end)
			err := a.archived(ctx, first, until, func(r StoredRecord) error {
				leaves = append(leaves, r.LeafHash...)
				return nil
			})
			if err != nil || until == last {
				return leaves, err
			}
		}
		rest, err := a.table.Leaves(ctx, max(first, end+1), last)
		if err == nil {
			return append(leaves, rest...), nil
		}
		now, refreshErr := a.archives.refresh(ctx)
		if refreshErr != nil {
			return nil, refreshErr
		}
		if now == end {
			return nil, err
		}
	}
}

// Records returns the log's events as they are stored, in the database and in archives.
func (l *Log) Records() Records { return archivedRecords{l.archives, tableRecords{l.pool}} }
