package postgres

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// attachPatience is how long a running server may take to answer.
const attachPatience = 3 * time.Second

// Attach returns the URL of the server that another process runs on the data directory, for a command that works beside
// it. It never starts or stops one. It returns a NotFound error if there is none that answers, and only who owns the
// directory (or root) gets an answer.
func Attach(ctx context.Context, dataDir string) (url string, err error) {
	const op = "postgres.Attach"
	path, err := filepath.Abs(dataDir)
	if err != nil {
		return "", domain.Errorf(domain.Invalid, op, "the data directory %q: %w", dataDir, err)
	}
	s := Server{socketDir: filepath.Join(path, clusterDir)}
	if note, err := os.ReadFile(filepath.Join(path, socketsFile)); err == nil {
		s.socketDir = string(note)
	}
	url = s.URLFor(database)
	ctx, cancel := context.WithTimeout(ctx, attachPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", domain.Errorf(domain.NotFound, op, "no private PostgreSQL runs in %s: %w", path, err)
	}
	return url, conn.Close(ctx)
}
