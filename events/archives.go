package events

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What of the archives is kept in memory.
const (
	keepIndexes = 16 // of a million events each, half a megabyte
	keepBlocks  = 16 // mostly well under blockBytes
)

// archives are the events that have gone to files: always those from position 1 up to some end. They only ever grow, in
// whichever process; a reader that finds events gone from the table looks again how far they reach.
type archives struct {
	pool *pgxpool.Pool
	dir  string

	mu     sync.Mutex
	list   []archive // in order, from position 1, without gaps
	files  cache[int64, *archiveFile]
	blocks cache[blockKey, []Record]
}

type blockKey struct {
	partition int64
	block     int
}

func newArchives(pool *pgxpool.Pool, dir string) *archives {
	return &archives{pool: pool, dir: dir, files: cache[int64, *archiveFile]{limit: keepIndexes}, blocks: cache[blockKey, []Record]{limit: keepBlocks}}
}

// all returns the archives that are known of, and the last position in them.
func (a *archives) all() ([]archive, Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) == 0 {
		return nil, 0
	}
	return a.list, a.list[len(a.list)-1].last
}

// refresh looks which archives there are now, and returns the last position in them.
func (a *archives) refresh(ctx context.Context) (end Position, err error) {
	return a.refreshBy(ctx, a.pool)
}

func (a *archives) refreshBy(ctx context.Context, q Querier) (end Position, err error) {
	_, end = a.all()
	rows, err := q.Query(ctx, selectArchives+`WHERE first_position > $1 ORDER BY first_position`, end) // unique on first_position
	if err != nil {
		return end, unreadable(ctx, err)
	}
	fresh, err := pgx.CollectRows(rows, scanArchive)
	if err != nil {
		return end, unreadable(ctx, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.list); n > 0 {
		end = a.list[n-1].last
	}
	for _, f := range fresh {
		if f.first <= end { // another goroutine has added it
			continue
		}
		if f.first != end+1 {
			return end, broken("the archive %s begins at position %d, and what comes before it ends at %d", f.file, f.first, end).
				WithHint("a row of the table log_archives is missing; restore the database from a backup")
		}
		a.list, end = append(slices.Clip(a.list), f), f.last // a slice that was handed out is never written to
	}
	return end, nil
}

const selectArchives = `
	SELECT partition, first_position, last_position, file, bytes, sha256, index_sha256, subtree_root, archived_at
	  FROM log_archives
`

func scanArchive(row pgx.CollectableRow) (a archive, err error) {
	var file, index, root []byte
	err = row.Scan(&a.partition, &a.first, &a.last, &a.file, &a.sums.bytes, &file, &index, &root, &a.archivedAt)
	copy(a.sums.file[:], file)
	copy(a.sums.index[:], index)
	copy(a.root[:], root)
	return a, err
}

// open returns an archive's index, from memory or its file.
func (a *archives) open(of archive) (*archiveFile, error) {
	a.mu.Lock()
	f, ok := a.files.get(of.partition)
	a.mu.Unlock()
	if ok {
		return f, nil
	}
	f, err := openArchive(a.dir, of)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files.put(of.partition, f)
	return f, nil
}

// block returns a block's records, from memory or the file. Nobody may change them.
func (a *archives) block(f *archiveFile, i int) ([]Record, error) {
	key := blockKey{f.partition, i}
	a.mu.Lock()
	records, ok := a.blocks.get(key)
	a.mu.Unlock()
	if ok {
		return records, nil
	}
	records, err := f.block(i)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blocks.put(key, records)
	return records, nil
}

// scan calls visit with the archived events past a position, in order: all, or with a category's name those of it. It
// ends when visit returns false, when there are no more, or with ctx. It returns the last position it has looked at.
func (a *archives) scan(ctx context.Context, after Position, category string, visit func(Record) bool) (Position, error) {
	list, end := a.all()
	for _, of := range list {
		if of.last <= after {
			continue
		}
		f, err := a.open(of)
		if err != nil {
			return after, err
		}
		number, there := f.index.category(category)
		if category != "" && !there {
			after = of.last
			continue
		}
		for i := f.index.blockOf(max(after+1, of.first)); i < len(f.index.blocks); i++ {
			if err := ctx.Err(); err != nil {
				return after, err
			}
			k := &f.index.blocks[i]
			if category != "" && !slices.Contains(k.categories, number) {
				continue
			}
			records, err := a.block(f, i)
			if err != nil {
				return after, err
			}
			for _, r := range records[max(after+1-k.first, 0):] {
				if category != "" && !inCategory(r.Stream, category) {
					continue
				}
				if !visit(r) {
					return after, nil
				}
				after = r.Position
			}
		}
		after = of.last
	}
	return max(after, end), nil
}

func inCategory(stream, category string) bool {
	name, _, _ := strings.Cut(stream, "-")
	return name == category
}

// stream calls visit with the archived events of a stream past a version, in order, until it returns false.
func (a *archives) stream(ctx context.Context, name string, afterVersion int64, visit func(Record) bool) error {
	list, _ := a.all()
	for _, of := range list {
		f, err := a.open(of)
		if err != nil {
			return err
		}
		for i := f.index.chunkOf(name, afterVersion+1); i < len(f.index.chunks) && f.index.chunks[i].stream <= name; i++ {
			entries, err := f.chunk(i)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if e.stream != name {
					continue
				}
				for j := max(afterVersion+1-e.version, 0); j < int64(len(e.positions)); j++ {
					if err := ctx.Err(); err != nil {
						return err
					}
					r, err := a.at(f, e.positions[j])
					if err != nil {
						return err
					}
					if r.Stream != name || r.Version != e.version+j {
						return f.damaged("its stream index has version %d of %.60s at position %d, where another event is", e.version+j, name, r.Position)
					}
					if !visit(r) {
						return nil
					}
					afterVersion = r.Version
				}
			}
		}
	}
	return nil
}

// at returns the event at a position of the archive.
func (a *archives) at(f *archiveFile, p Position) (Record, error) {
	if p < f.first || p > f.last {
		return Record{}, f.damaged("its stream index has the position %d", p)
	}
	i := f.index.blockOf(p)
	records, err := a.block(f, i)
	if err != nil {
		return Record{}, err
	}
	return records[p-f.index.blocks[i].first], nil
}

// event returns an archived event. It asks by the given connection which archives there are.
func (a *archives) event(ctx context.Context, q Querier, p Position) (Record, error) {
	if _, err := a.refreshBy(ctx, q); err != nil {
		return Record{}, err
	}
	list, end := a.all()
	if p < 1 || p > end {
		return Record{}, broken("the table log_archived_ids has the position %d, which no archive has", p)
	}
	return a.find(list, p)
}

// find returns the event at a position that is in one of the archives.
func (a *archives) find(list []archive, p Position) (Record, error) {
	i := sort.Search(len(list), func(i int) bool { return list[i].last >= p })
	f, err := a.open(list[i])
	if err != nil {
		return Record{}, err
	}
	return a.at(f, p)
}

// cache keeps the values that were used last. It is not safe for concurrent use.
type cache[K comparable, V any] struct {
	limit  int
	keys   []K // the last used at the end
	values map[K]V
}

func (c *cache[K, V]) get(k K) (V, bool) {
	v, ok := c.values[k]
	if ok {
		i := slices.Index(c.keys, k)
		c.keys = append(slices.Delete(c.keys, i, i+1), k)
	}
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	if _, ok := c.values[k]; ok {
		return
	}
	if c.values == nil {
		c.values = make(map[K]V)
	}
	if len(c.keys) == c.limit {
		delete(c.values, c.keys[0])
		c.keys = slices.Delete(c.keys, 0, 1)
	}
	c.keys = append(c.keys, k)
	c.values[k] = v
}
