package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"crossbill/billing"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/budget"
	"crossbill/domain/pricing"
	"crossbill/events"
)

// Limits of a backtest.
const (
	maxPlanFile       = 1 << 20 // bytes
	maxBacktestMonths = 120
	backtestPage      = 300 // connections at a time
)

// backtestQuestion is what a backtest is asked.
type backtestQuestion struct {
	plan                pricing.Plan
	first, last         billing.Period // months
	listing, connection string         // "": any
}

func priceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "price", Short: "Try price plans"}
	var db databaseFlags
	var file, from, to, output string
	var q backtestQuestion
	last := billing.MonthOf(billing.MonthOf(time.Now()).From.Add(-time.Second))
	backtest := &cobra.Command{
		Use:   "backtest --plan FILE",
		Short: "Rate a price plan over months that are over",
		Long: "Rates a plan, JSON or YAML as the API takes it, by what was metered of each connection in past months, and compares it with\n" +
			"the connection's own plan: the provider's price, without the platform's fee and without taxes. Nothing is recorded.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if q.plan, err = readPlan(file); err != nil {
				return err
			}
			if q.first, err = billing.ParseMonth(cmp.Or(from, budget.MonthOf(last.From))); err != nil {
				return err
			}
			if q.last, err = billing.ParseMonth(cmp.Or(to, budget.MonthOf(last.From))); err != nil {
				return err
			}
			if q.first.From.After(q.last.From) || q.last.From.After(last.From) || q.first.From.AddDate(0, maxBacktestMonths, 0).Before(q.last.To) {
				return domain.Errorf(domain.Invalid, "price backtest", "--from must not be after --to, nor more than %d months before it, and --to must be over", maxBacktestMonths)
			}
			if output != "table" && output != "json" {
				return domain.Errorf(domain.Invalid, "price backtest", "%.20q is no output", output).WithHint("say table or json")
			}
			return db.with(cmd.Context(), func(pool *pgxpool.Pool) error {
				log, end, err := db.openLog(cmd.Context(), pool)
				if err != nil {
					return err
				}
				defer end()
				rows, err := backtestRows(cmd.Context(), pool, log, q)
				if err != nil {
					return err
				}
				return writeBacktest(cmd.OutOrStdout(), rows, output)
			})
		},
	}
	flags := backtest.Flags()
	flags.StringVar(&file, "plan", "", "the plan's file; - is the standard input")
	flags.StringVar(&from, "from", "", "the first month, as 2026-03 (default: the last that is over)")
	flags.StringVar(&to, "to", "", "the last month (default: the last that is over)")
	flags.StringVar(&q.listing, "listing", "", "only connections of this listing")
	flags.StringVar(&q.connection, "connection", "", "only this connection")
	flags.StringVar(&output, "output", "table", "table or json")
	_ = backtest.MarkFlagRequired("plan")
	db.add(flags)
	cmd.AddCommand(backtest)
	return cmd
}

// readPlan reads a plan; JSON is YAML. It returns an Invalid error for one that is not a valid plan.
func readPlan(file string) (plan pricing.Plan, err error) {
	const op = "price backtest"
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return plan, domain.Errorf(domain.Invalid, op, "the plan can't be read: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxPlanFile))
	if err != nil {
		return plan, domain.Errorf(domain.Invalid, op, "the plan can't be read: %w", err)
	}
	var v any
	if err = yaml.Unmarshal(data, &v); err == nil {
		data, err = json.Marshal(v)
	}
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&plan)
	}
	if err != nil {
		return plan, domain.Errorf(domain.Invalid, op, "%s is no price plan: %w", file, err).WithHint(`write amounts in quotes, such as "0.05"`)
	}
	return plan, plan.Validate()
}

func backtestRows(ctx context.Context, pool *pgxpool.Pool, log *events.Log, q backtestQuestion) (all []billing.BacktestRow, err error) {
	store := usage.Store{Pool: pool, Log: log}
	head, err := log.Head(ctx)
	if err != nil {
		return nil, err
	}
	if err := store.CatchUp(ctx, head.Position); err != nil {
		return nil, err
	}
	for month := q.first; !month.From.After(q.last.From); month = billing.MonthOf(month.To) {
		for after := (usage.Billable{}); ; {
			page, err := store.Connections(ctx, month.From, month.To, after, backtestPage)
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1]
			page = slices.DeleteFunc(page, func(b usage.Billable) bool { return q.connection != "" && b.ConnectionID != q.connection })
			rows, err := billing.Backtest(ctx, log, store, q.plan, q.listing, month, page)
			if err != nil {
				return nil, err
			}
			all = append(all, rows...)
		}
	}
	return all, nil
}

// writeBacktest writes rows, and what they come to in each pair of currencies.
func writeBacktest(out io.Writer, rows []billing.BacktestRow, output string) error {
	type line struct {
		Month        string       `json:"month,omitempty"`
		ConnectionID string       `json:"connection_id,omitempty"`
		ListingID    string       `json:"listing_id,omitempty"`
		Own          domain.Money `json:"own"`
		Plan         domain.Money `json:"plan"`
	}
	lines, totals := []line{}, []line{}
	for _, r := range rows {
		lines = append(lines, line{budget.MonthOf(r.Month.From), r.ConnectionID, r.ListingID, r.Own, r.Other})
		n := slices.IndexFunc(totals, func(t line) bool { return t.Own.Currency == r.Own.Currency })
		if n < 0 {
			totals = append(totals, line{Own: r.Own, Plan: r.Other})
			continue
		}
		var err error
		if totals[n].Own, err = totals[n].Own.Add(r.Own); err != nil {
			return err
		}
		if totals[n].Plan, err = totals[n].Plan.Add(r.Other); err != nil {
			return err
		}
	}
	if output == "json" {
		return json.NewEncoder(out).Encode(struct {
			Rows   []line `json:"rows"`
			Totals []line `json:"totals"`
		}{lines, totals})
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MONTH\tCONNECTION\tLISTING\tOWN PLAN\tTHIS PLAN")
	for _, l := range lines {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", l.Month, l.ConnectionID, l.ListingID, l.Own, l.Plan)
	}
	for _, t := range totals {
		fmt.Fprintf(table, "total\t\t\t%s\t%s\n", t.Own, t.Plan)
	}
	return table.Flush()
}
