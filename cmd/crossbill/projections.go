package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"crossbill/billing/runs"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/events"
	"crossbill/projections"
	"crossbill/provisioning"
)

func projectionsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "projections", Short: "Look after what is derived from the log"}
	cmd.AddCommand(listProjectionsCommand(), rebuildCommand())
	return cmd
}

// processManagers are projections that make jobs of events. They are here by their names only: without what works the jobs
// they can't be run, and they are never rebuilt.
var processManagers = []string{provisioning.ProjectionName, runs.ProjectionName}

// followers are the projections that a node runs.
func followers() []projections.Projection {
	all := rebuildable()
	for _, name := range processManagers {
		all = append(all, projections.Projection{Name: name})
	}
	return all
}

// rebuildable are the read models, and billing's store of usage.
func rebuildable() []projections.Projection {
	return append(projections.All(), usage.Projection())
}

func listProjectionsCommand() *cobra.Command {
	var db databaseFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show how far each follower of the log is, and what keeps it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return db.with(cmd.Context(), func(pool *pgxpool.Pool) error {
				all, err := projections.List(cmd.Context(), pool, followers())
				if err != nil {
					return err
				}
				return printProjections(cmd.OutOrStdout(), all)
			})
		},
	}
	db.add(cmd.Flags())
	return cmd
}

func printProjections(out io.Writer, all []projections.Listed) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tPOSITION\tLAG\tSTATE\tERROR")
	for _, p := range all {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\n", p.Name, p.Position, p.Lag, p.State, strings.Join(strings.Fields(p.Error), " "))
	}
	return table.Flush()
}

func rebuildCommand() *cobra.Command {
	var db databaseFlags
	var all, verify bool
	cmd := &cobra.Command{
		Use:   "rebuild NAME... | --all",
		Short: "Make read models anew from the log, beside those in use, and exchange them at once",
		Long: "Builds the tables of the named read models from the log's first event, in a schema beside those in use, and then puts\n" +
			"them in their place in one transaction. Nodes may run meanwhile: whoever reads sees the old tables or the new ones.\n" +
			"With --verify nothing is exchanged: the tables are built and compared with those in use byte by byte, and the exit\n" +
			"status is 1 if they differ. The digests it prints are the same on every machine that has the same log.",
		Example: "  crossbill projections rebuild orders\n  crossbill projections rebuild --all --verify",
		RunE: func(cmd *cobra.Command, names []string) error {
			chosen, err := choose(names, all)
			if err != nil {
				return err
			}
			return db.with(cmd.Context(), func(pool *pgxpool.Pool) error {
				log, end, err := db.openLog(cmd.Context(), pool)
				if err != nil {
					return err
				}
				defer end()
				r := rebuilder{pool: pool, log: log, out: cmd.OutOrStdout(), verify: verify}
				if f, ok := cmd.ErrOrStderr().(*os.File); ok && isTerminal(f) {
					r.terminal = f
				}
				for _, p := range chosen {
					if p.Name == provisioning.CommitmentsName {
						if err := r.commitments(cmd.Context()); err != nil {
							return err
						}
						continue
					}
					if err := r.run(cmd.Context(), p); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	db.add(cmd.Flags())
	cmd.Flags().BoolVar(&all, "all", false, "all read models")
	cmd.Flags().BoolVar(&verify, "verify", false, "only compare with the tables in use")
	return cmd
}

// choose returns the projections of the names.
func choose(names []string, all bool) (chosen []projections.Projection, err error) {
	const op = "projections rebuild"
	if all == (len(names) > 0) {
		return nil, domain.Errorf(domain.Invalid, op, "which read models are meant was not said").
			WithHint("name some, or use --all; crossbill projections list shows their names")
	}
	if all {
		return append(rebuildable(), projections.Projection{Name: provisioning.CommitmentsName}), nil
	}
	for _, name := range names {
		if name == provisioning.CommitmentsName {
			chosen = append(chosen, projections.Projection{Name: name})
			continue
		}
		i := slices.IndexFunc(rebuildable(), func(p projections.Projection) bool { return p.Name == name })
		switch {
		case slices.Contains(processManagers, name):
			return nil, domain.Errorf(domain.Invalid, op, "%s is not rebuilt: what it makes of events are jobs, and a job that was done would be done again", name).
				WithHint("it goes on from its checkpoint whenever a node runs")
		case i < 0:
			return nil, domain.Errorf(domain.NotFound, op, "there is no read model %q", name).
				WithHint("crossbill projections list shows their names")
		}
		chosen = append(chosen, rebuildable()[i])
	}
	return chosen, nil
}

// rebuilder rebuilds or verifies read models and says how it is getting on.
type rebuilder struct {
	pool     *pgxpool.Pool
	log      *events.Log
	out      io.Writer
	terminal *os.File // where the progress bar is drawn; nil: there is none
	verify   bool
}

func (r rebuilder) run(ctx context.Context, p projections.Projection) error {
	verb := "rebuilding"
	if r.verify {
		verb = "verifying"
	}
	bar := newProgress(verb+" "+p.Name, r.terminal, r.out, time.Now)
	o := projections.RebuildOptions{Pool: r.pool, Log: r.log, Progress: func(done, target events.Position) {
		bar.update(int64(done), int64(target))
	}}
	if !r.verify {
		position, err := projections.Rebuild(ctx, p, o)
		bar.end()
		if err != nil {
			return err
		}
		fmt.Fprintf(r.out, "rebuilt %s at position %d, %s\n", p.Name, position, bar.summary(int64(position)))
		return nil
	}
	v, err := projections.Verify(ctx, p, o)
	bar.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "verified %s at position %d, %s\n", p.Name, v.Position, bar.summary(int64(v.Position)))
	for _, t := range v.Tables {
		fmt.Fprintf(r.out, "  %s: %d rows, sha256 %x\n", t.Table, t.Rows, t.SHA256)
	}
	return nil
}

// commitments does for what principals are committed to what run does for read models.
func (r rebuilder) commitments(ctx context.Context) error {
	at, held, err := provisioning.RebuildCommitments(ctx, r.pool, r.log, r.verify)
	if err != nil {
		return err
	}
	verb := "rebuilt"
	if r.verify {
		verb = "verified"
	}
	_, err = fmt.Fprintf(r.out, "%s %s at position %d, %d orders hold one\n", verb, provisioning.CommitmentsName, at, held)
	return err
}
