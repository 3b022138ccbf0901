package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/domain/subject"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/vault"
)

func eraseCommand() *cobra.Command {
	var db databaseFlags
	var yes, unknown bool
	command := subject.Erase{By: "operator"}
	cmd := &cobra.Command{
		Use:   "erase SUBJECT",
		Short: "Destroy the keys of a person, for good",
		Long: "Destroys the keys under which texts about a person are encrypted in the log, and records that they were.\n" +
			"SUBJECT is <organisation>/<principal>, as api_key.issued names them. The log's events and proofs stay as they are.\n" +
			"Running nodes read the texts for " + vault.KeepFor.String() + " longer at most; read models show the erasure when they are rebuilt.\n" +
			"Dumps and backups from before still hold the wrapped keys: docs/privacy.md says how to make those worthless.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			command.Subject, command.At = args[0], time.Now()
			if !yes {
				if err := confirm(cmd, command.Subject); err != nil {
					return err
				}
			}
			return db.with(cmd.Context(), func(pool *pgxpool.Pool) error {
				return erase(cmd.Context(), pool, platform.ArchiveDir(db.archiveDir, db.dataDir), command, unknown, cmd.OutOrStdout())
			})
		},
	}
	db.add(cmd.Flags())
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().StringVar(&command.Reason, "reason", subject.ReasonRequest, "request, retention, objection, mistake or order; it is kept for good")
	cmd.Flags().BoolVar(&unknown, "unknown", false, "record the erasure of a subject that the vault does not know, so that no backup brings its key back")
	return cmd
}

// confirm has the subject typed again: nothing can take an erasure back.
func confirm(cmd *cobra.Command, subject string) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "Nothing can bring back what is erased. Type %s to erase it: ", subject)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != subject {
		return domain.Errorf(domain.Invalid, "crossbill.erase", "that is not %s; nothing was erased", subject).WithHint("or use --yes")
	}
	return nil
}

func erase(ctx context.Context, pool *pgxpool.Pool, archives string, command subject.Erase, unknown bool, out io.Writer) error {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return err
	}
	log, err := events.Open(ctx, pool, codec, events.Options{ArchiveDir: archives}) // destroying takes no master key
	if err != nil {
		return err
	}
	defer log.Close()
	erasure, err := log.Erase(ctx, command, unknown)
	if err != nil {
		return err
	}
	if erasure.Already {
		fmt.Fprintf(out, "%s was erased before, at position %d, %s\n", command.Subject, erasure.Position, erasure.At.Format(time.RFC3339))
		return nil
	}
	fmt.Fprintf(out, "erased %s; recorded at position %d\n", command.Subject, erasure.Position)
	fmt.Fprintf(out, "running nodes follow within %s; rebuild the read models that show persons; see docs/privacy.md for dumps and backups\n", vault.KeepFor)
	return nil
}

func keysCommand() *cobra.Command {
	var db databaseFlags
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Look after the keys of persons",
		Long: "The keys of persons are in the database, apart from the log, each encrypted by the master key, which is in vault.key in\n" +
			"the data directory or in " + vault.MasterKeyVariable + ". Whoever has a dump or a backup of keys needs it to read anything.",
	}
	db.add(cmd.PersistentFlags())
	open := func(ctx context.Context, run func(*vault.Vault) error) error {
		return db.with(ctx, func(pool *pgxpool.Pool) error {
			v, err := vault.Open(ctx, pool, platform.MasterKeySource(db.dataDir), vault.Options{})
			if err != nil {
				return err
			}
			defer v.Close()
			return run(v)
		})
	}

	backup := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all keys to a new file, encrypted by the master key as they are",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return open(cmd.Context(), func(v *vault.Vault) error {
				n, err := backupTo(cmd.Context(), v, args[0])
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%d keys in %s; back up the master key too, elsewhere\n", n, args[0])
				}
				return err
			})
		},
	}
	restore := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put back the keys that are missing, but for those of erased persons",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return open(cmd.Context(), func(v *vault.Vault) error {
				r, err := v.Restore(cmd.Context(), f)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%d keys restored, %d were there, %d left out because their persons are erased\n", r.Restored, r.Present, r.Erased)
				}
				return err
			})
		},
	}
	var keepOld bool
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Take another master key",
		Long: "Makes another master key in vault.key and encrypts every key by it instead. Older dumps and backups of keys are worth\n" +
			"nothing from then on, unless somebody has the old master key: it is removed from the file. Make a new backup afterwards.\n" +
			"With " + vault.MasterKeyVariable + " set, put a new key before the old one in it, separated by a comma, and take the old one out afterwards.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return open(cmd.Context(), func(v *vault.Vault) error {
				n, err := v.Rotate(cmd.Context(), keepOld)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%d keys are encrypted by another master key; give it to the other nodes, and make a new backup\n", n)
				}
				return err
			})
		},
	}
	rotate.Flags().BoolVar(&keepOld, "keep-old", false, "leave the old master key in the file, to restore older backups with")
	cmd.AddCommand(backup, restore, rotate)
	return cmd
}

// backupTo makes the file appear whole or not at all, and takes no other's place.
func backupTo(ctx context.Context, v *vault.Vault, path string) (keys int, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-") // mode 0600
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	keys, err = v.Backup(ctx, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return 0, domain.Errorf(domain.Conflict, "crossbill.keys", "%s exists", path).WithHint("name a new file")
	} else if err != nil {
		return 0, err
	}
	return keys, nil
}
