package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/events"
)

func addArchiveDir(flags *pflag.FlagSet, dir *string) {
	flags.StringVar(dir, "archive-dir", "", "directory of the log's archives, the same for all nodes (default: archive in the data directory)")
}

// archiveCommand moves old partitions of the log to files.
func archiveCommand() *cobra.Command {
	var f databaseFlags
	var before int64
	var keep int
	var verify bool
	cmd := &cobra.Command{
		Use:   "archive --keep-partitions N | --before POSITION",
		Short: "Move the oldest full partitions of the log from the database to files",
		Long: "Moves full partitions of the log, from the oldest on, to files in the archive directory. Each file is read back and\n" +
			"computed again to its last leaf before its partition is dropped. Nodes read through archives; each needs the same\n" +
			"--archive-dir. The command may run beside the nodes, may be interrupted at any moment, and goes on where it was.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if !cmd.Flags().Changed("before") && !cmd.Flags().Changed("keep-partitions") {
				return domain.Errorf(domain.Invalid, "log archive", "how much is to be archived was not said").
					WithHint("--keep-partitions 2 leaves the newest two full partitions in the database; --before takes a position")
			}
			if cmd.Flags().Changed("before") && before < 1 {
				return domain.Errorf(domain.Invalid, "log archive", "--before takes a position, which is from 1 on").WithHint("the head's position is in the log's checkpoint")
			}
			dir := platform.ArchiveDir(f.archiveDir, f.dataDir)
			return f.with(ctx, func(pool *pgxpool.Pool) error {
				done, err := events.Archive(ctx, pool, events.ArchiveOptions{
					Dir: dir, Before: events.Position(before), KeepPartitions: keep,
					Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
				})
				out := cmd.OutOrStdout()
				for _, a := range done {
					fmt.Fprintf(out, "archived events %d to %d in %s\n  %d bytes, SHA-256 %x, subtree root %x, events locked for %s\n",
						a.First, a.Last, filepath.Join(dir, a.File), a.Bytes, a.SHA256, a.SubtreeRoot, a.Locked.Round(time.Millisecond/10))
				}
				if err != nil {
					return err
				}
				if len(done) == 0 {
					fmt.Fprintln(out, "nothing to archive")
				}
				if !verify {
					return nil
				}
				head, err := events.VerifyRecords(ctx, pool, events.ArchivedRecordsIn(pool, dir), nil, "")
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "verified %d events through the archives, root %x\n", head.Position, head.Root)
				return nil
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.archiveDir, "dir", "", "the same as --archive-dir")
	cmd.Flags().Int64Var(&before, "before", 0, "archive partitions all of whose events are before this position")
	cmd.Flags().IntVar(&keep, "keep-partitions", 0, "leave this many full partitions in the database")
	cmd.Flags().BoolVar(&verify, "verify", false, "verify the whole log afterwards, through the archives")
	return cmd
}
