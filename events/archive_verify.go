package events

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// archivesCheck holds what the database keeps about archived events against the archives: the rows of the table streams,
// and the ids that a repeated append is known by.
type archivesCheck struct {
	pool     *pgxpool.Pool
	archives *archives
}

// tables holds what the database keeps beside the events against them, again if more has been archived meanwhile.
func (v *verification) tables(ctx context.Context) error {
	for {
		archived, err := v.checkArchives(ctx)
		if err != nil {
			return err
		}
		wrong := v.streams(ctx, archived)
		if wrong == nil {
			return nil
		}
		records, ok := v.records.(archivedRecords)
		if !ok {
			return wrong
		}
		if end, err := records.archives.refresh(ctx); err != nil || end == archived {
			return wrong
		}
	}
}

// checkArchives verifies every archive to its last byte, and returns the last archived position.
func (v *verification) checkArchives(ctx context.Context) (Position, error) {
	records, ok := v.records.(archivedRecords)
	if !ok {
		return 0, nil
	}
	c := archivesCheck{v.pool, records.archives}
	end, err := c.archives.refresh(ctx)
	if err != nil {
		return 0, err
	}
	list, _ := c.archives.all()
	for _, of := range list {
		if err := c.one(ctx, of); err != nil {
			return 0, err
		}
	}
	return end, nil
}

func (c *archivesCheck) one(ctx context.Context, of archive) error {
	f, err := openArchive(c.archives.dir, of)
	if err != nil {
		return err
	}
	if err := f.fileSum(); err != nil {
		return err
	}
	ids := idCheck{pool: c.pool, of: of}
	if err := f.recompute(ctx, func(r Record) error { return ids.add(ctx, r) }); err != nil {
		return err
	}
	if err := ids.finish(ctx); err != nil {
		return err
	}
	return c.streams(ctx, f)
}

// idCheck holds log_archived_ids against an archive's events.
type idCheck struct {
	pool      *pgxpool.Pool
	of        archive
	ids       [][16]byte
	positions []int64
	digests   [][]byte
}

func (c *idCheck) add(ctx context.Context, r Record) error {
	digest := saidDigest(r.Stream, r.Type, r.Schema, r.Payload)
	c.ids, c.positions, c.digests = append(c.ids, r.ID), append(c.positions, int64(r.Position)), append(c.digests, digest[:])
	if len(c.ids) < verifyPage {
		return nil
	}
	return c.flush(ctx)
}

func (c *idCheck) flush(ctx context.Context) error {
	var bad *int64
	err := c.pool.QueryRow(ctx, `
		SELECT min(e.position)
		  FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS e (event_id, position, digest)
		  LEFT JOIN log_archived_ids a -- index log_archived_ids_p…_event_id
		    ON a.event_id = e.event_id AND a.position = e.position AND a.digest = e.digest AND a.position BETWEEN $4 AND $5
		 WHERE a.event_id IS NULL
	`, c.ids, c.positions, c.digests, c.of.first, c.of.last).Scan(&bad)
	if err != nil {
		return unreadable(ctx, err)
	}
	if bad != nil {
		return broken("the table log_archived_ids is wrong about the event at position %d, or does not have it", *bad).
			WithHint("the event is in the archive %s as it was recorded; restore the table from a backup", c.of.file)
	}
	c.ids, c.positions, c.digests = c.ids[:0], c.positions[:0], c.digests[:0]
	return nil
}

func (c *idCheck) finish(ctx context.Context) error {
	if err := c.flush(ctx); err != nil {
		return err
	}
	var n int64
	err := c.pool.QueryRow(ctx, `SELECT count(*) FROM log_archived_ids WHERE position BETWEEN $1 AND $2`, c.of.first, c.of.last).Scan(&n)
	if err != nil {
		return unreadable(ctx, err)
	}
	if want := int64(c.of.last - c.of.first + 1); n != want {
		return broken("the table log_archived_ids has %d ids at the positions %d to %d of the archive %s, which are %d",
			n, c.of.first, c.of.last, c.of.file, want)
	}
	return nil
}

// lastPlaces are where streams have their last events in an archive.
type lastPlaces struct {
	streams             []string
	versions, positions []int64
}

// streams holds the table streams against an archive: each stream in it is at its last version there, or past the archive.
func (c *archivesCheck) streams(ctx context.Context, f *archiveFile) error {
	var places lastPlaces
	ends := int64(0) // streams whose last event is in this archive
	flush := func() error {
		n, err := c.compare(ctx, f, places)
		ends += n
		places = lastPlaces{places.streams[:0], places.versions[:0], places.positions[:0]}
		return err
	}
	err := f.entries(ctx, func(e streamEntry) error {
		at, last := len(places.streams)-1, len(e.positions)-1
		if at < 0 || places.streams[at] != e.stream {
			if at+1 == verifyPage {
				if err := flush(); err != nil {
					return err
				}
			}
			places.streams = append(places.streams, e.stream)
			places.versions, places.positions = append(places.versions, 0), append(places.positions, 0)
			at = len(places.streams) - 1
		}
		places.versions[at], places.positions[at] = e.version+int64(last), int64(e.positions[last])
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	var there int64
	err = c.pool.QueryRow(ctx, `SELECT count(*) FROM streams WHERE position BETWEEN $1 AND $2`, f.first, f.last).Scan(&there)
	if err != nil {
		return unreadable(ctx, err)
	}
	if there > ends { // fewer: streams have gone on since
		return c.stranger(ctx, f)
	}
	return nil
}

// stranger names a stream whose row is wrong about where in the archive its last event is.
func (c *archivesCheck) stranger(ctx context.Context, f *archiveFile) error {
	rows, err := c.pool.Query(ctx, `SELECT stream, version, position FROM streams WHERE position BETWEEN $1 AND $2`, f.first, f.last)
	if err != nil {
		return unreadable(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var stream string
		var version int64
		var position Position
		if err := rows.Scan(&stream, &version, &position); err != nil {
			return unreadable(ctx, err)
		}
		r, err := c.archives.at(f, position)
		if err != nil {
			return err
		}
		if r.Stream != stream || r.Version != version {
			return broken("the table streams is wrong about %s: position %d of the archive %s is not its version %d", stream, position, f.file, version)
		}
	}
	if err := rows.Err(); err != nil {
		return unreadable(ctx, err)
	}
	return broken("the table streams has streams whose last event is not the last they have in the archive %s", f.file)
}

func (c *archivesCheck) compare(ctx context.Context, f *archiveFile, p lastPlaces) (ends int64, err error) {
	var bad *string
	err = c.pool.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE s.position = e.position),
		       min(e.stream COLLATE "C") FILTER (WHERE s.stream IS NULL
		        OR NOT (s.version = e.version AND s.position = e.position OR s.version > e.version AND s.position > $4))
		  FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS e (stream, version, position)
		  LEFT JOIN streams s ON s.stream = e.stream -- primary key
	`, p.streams, p.versions, p.positions, f.last).Scan(&ends, &bad)
	if err != nil {
		return 0, unreadable(ctx, err)
	}
	if bad != nil {
		return 0, broken("the table streams is wrong about %s: it is not where the archive %s has its last event, nor past it", *bad, f.file)
	}
	return ends, nil
}
