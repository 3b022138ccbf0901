package main

import (
	"context"
	"errors"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/pflag"

	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/postgres"
	"crossbill/events/vault"
	"crossbill/migrations"
)

// databaseFlags are the flags of a command that works on a node's database, beside the node or without it.
type databaseFlags struct {
	url        string
	dataDir    string
	archiveDir string
}

func (f *databaseFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.url, "database-url", os.Getenv("DATABASE_URL"), "the database; unset takes the data directory's private PostgreSQL")
	flags.StringVar(&f.dataDir, "data-dir", "crossbill-data", "directory of the keys and the private PostgreSQL")
	addArchiveDir(flags, &f.archiveDir)
}

// with runs f on the database. A private PostgreSQL is used as a running node has it, or started for the time of f.
func (f *databaseFlags) with(ctx context.Context, run func(*pgxpool.Pool) error) (err error) {
	url := f.url
	if url == "" {
		if _, err := os.Stat(f.dataDir); err != nil {
			return domain.Errorf(domain.NotFound, "crossbill", "there is no data directory %s", f.dataDir).
				WithHint("name it with --data-dir, or the database with --database-url")
		}
		if url, err = postgres.Attach(ctx, f.dataDir); domain.CodeOf(err) == domain.NotFound {
			var server *postgres.Server
			if server, err = postgres.Start(ctx, postgres.Options{DataDir: f.dataDir}); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
			url = server.URL
		} else if err != nil {
			return err
		}
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return domain.Errorf(domain.Invalid, "crossbill", "the database URL can't be used: %w", err)
	}
	defer pool.Close()
	if err := migrations.Apply(ctx, pool); err != nil {
		return err
	}
	return run(pool)
}

// openLog opens the log as a node has it, with the keys of persons: what reads events without those would show nobody's
// name. The log has no signing key.
func (f *databaseFlags) openLog(ctx context.Context, pool *pgxpool.Pool) (_ *events.Log, end func(), err error) {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return nil, nil, err
	}
	keys, err := vault.Open(ctx, pool, platform.MasterKeySource(f.dataDir), vault.Options{})
	if err != nil {
		return nil, nil, err
	}
	log, err := events.Open(ctx, pool, codec, events.Options{Vault: keys, ArchiveDir: platform.ArchiveDir(f.archiveDir, f.dataDir)})
	if err != nil {
		keys.Close()
		return nil, nil, err
	}
	return log, func() { log.Close(); keys.Close() }, nil
}
