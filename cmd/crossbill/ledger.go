package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/projections"
)

// ledgerPatience is how long a check waits for the ledger to reach the end of the log.
const ledgerPatience = 10 * time.Minute

func ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "Look after the double-entry ledger"}
	var db databaseFlags
	check := &cobra.Command{
		Use:   "check",
		Short: "Check that every entry balances and that nothing of what is a provider's is kept",
		Long: "Looks at the whole ledger, up to the end of the log: the entries of each event, the trial balance, and what passes through\n" +
			"to each provider in each period, must come to nothing in each currency. The exit status is not 0 if one does not, and\n" +
			"the first of them are named. Nodes may run meanwhile; without one, the ledger is brought up to date first.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return db.with(cmd.Context(), func(pool *pgxpool.Pool) error {
				log, end, err := db.openLog(cmd.Context(), pool)
				if err != nil {
					return err
				}
				defer end()
				return checkLedger(cmd.Context(), cmd.OutOrStdout(), pool, log)
			})
		},
	}
	db.add(check.Flags())
	cmd.AddCommand(check)
	return cmd
}

// checkLedger checks the ledger as it is at the log's head, which is never in the middle of an append.
func checkLedger(ctx context.Context, out io.Writer, pool *pgxpool.Pool, log *events.Log) error {
	head, err := log.Head(ctx)
	if err != nil {
		return err
	}
	if err := followLedger(ctx, pool, log, head.Position); err != nil {
		return err
	}
	q := projections.Queries{DB: pool}
	found, err := q.LedgerDifferences(ctx, head.Position)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		named := make([]string, len(found))
		for n, d := range found {
			named[n] = fmt.Sprintf("%s: %s %s in minor units", d.What, d.Amount, d.In)
		}
		return domain.Errorf(domain.Internal, "ledger check", "at position %d these do not come to nothing: %s", head.Position, strings.Join(named, "; ")).
			WithHint("crossbill projections rebuild ledger --verify tells whether the ledger or the log is at fault; see docs/ledger.md")
	}
	transactions, entries, err := q.LedgerSize(ctx, head.Position)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "checked %d transactions of %d entries at position %d: each balances, and no margin is kept\n", transactions, entries, head.Position)
	return err
}

// followLedger brings the ledger to a position, or waits while a node does.
func followLedger(ctx context.Context, pool *pgxpool.Pool, log *events.Log, to events.Position) error {
	var model []projections.Projection
	for _, p := range projections.All() {
		if p.Name == projections.LedgerModel {
			model = append(model, p)
		}
	}
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: pool, Log: log, Projections: model})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerPatience)
	ended := make(chan struct{})
	go func() { defer close(ended); runner.Run(ctx) }()
	err = runner.WaitFor(ctx, to)
	cancel()
	<-ended
	if err != nil {
		return domain.Errorf(domain.Unavailable, "ledger check", "the ledger does not reach position %d: %w", to, err).
			WithHint("crossbill projections list shows what keeps it")
	}
	return nil
}
