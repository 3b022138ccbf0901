package migrations_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"crossbill/events/pgtest"
)

// unseen are the tables that nothing is read from on behalf of a caller, and why. The role of callers has no right on them.
var unseen = map[string]string{
	"billing_connections":   "what a billing run goes through",
	"billing_run_progress":  "how far a billing run is, which operators are told through the platform's own rights (api/billingruns.go)",
	"billing_usage_days":    "what a billing run and a preview of loaded connections compute from",
	"commitments":           "what an order is decided by",
	"edge_heard":            "how the edge nodes' agents are, which operators are told through the platform's own rights (api/edgenodes.go)",
	"edge_watch":            "since when the platform listens to edge nodes, which decides what counts as a silence (provisioning/silence.go)",
	"goose_db_version":      "which migrations were applied",
	"idempotency_keys":      "the answers to a caller's own requests, found by its organisation and key (api/idempotency.go)",
	"key_vault":             "keys",
	"ledger_transactions":   "the journal, which operators are told through the platform's own rights (api/ledger.go)",
	"log_archived_ids":      "what an append is compared with",
	"log_archives":          "where events went; what is read there is filtered by their parties (events/view.go)",
	"log_head":              "the size and the root of the log, which everybody is told",
	"log_tiles":             "hashes, which everybody is told",
	"read_recurring_prices": "what quotes come to, of which a connection's terms have what its provider may know",
	"redundancy_members":    "what a move is decided by",
	"rejected_readings":     "what meters sent that was refused, which operators are told through the platform's own rights (api/rejectedreadings.go)",
	"reservations":          "what an allocation is decided by",
	"reserved_keys":         "names that are taken",
	"stripe_shares":         "where money is to be moved, which the payments and payouts in the log tell",
	"stripe_work":           "likewise",
	"streams":               "what an append is decided by",
	"subject_keys":          "keys",
}

// TestEveryTableIsIsolated holds each table to one of two: row-level security with a policy for callers, or no right for
// them at all. One that a new migration adds must choose.
func TestEveryTableIsIsolated(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	rows, err := pool.Query(t.Context(), `
		SELECT relname, relrowsecurity, relispartition,
		       (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid AND 'crossbill_tenant'::regrole = ANY (polroles)),
		       coalesce((SELECT string_agg(DISTINCT privilege_type, ',' ORDER BY privilege_type)
		                   FROM (SELECT relacl UNION SELECT attacl FROM pg_attribute WHERE attrelid = c.oid) AS acls, aclexplode(relacl)
		                  WHERE grantee IN (0, 'crossbill_tenant'::regrole)), '')
		  FROM pg_class AS c WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	type table struct {
		Name                 string
		Secured, IsPartition bool
		Policies             int
		Rights               string
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, table := range tables {
		_, hidden := unseen[table.Name]
		switch {
		case hidden || table.IsPartition: // a partition is read through its table, whose policies count
			if table.Rights != "" {
				t.Errorf("%s is not read for callers, and they have the rights %s on it", table.Name, table.Rights)
			}
		case table.Rights == "":
			t.Errorf("%s: nothing says who sees its rows; see the top of 0060_row_level_security.sql", table.Name)
		case table.Rights != "SELECT":
			t.Errorf("callers have the rights %s on %s", table.Rights, table.Name)
		case !table.Secured || table.Policies == 0:
			t.Errorf("%s shows callers every row: row-level security %t, %d policies", table.Name, table.Secured, table.Policies)
		default:
			seen++
		}
	}
	if seen < 12 {
		t.Errorf("only %d tables are for callers", seen)
	}
}

// impersonal are the policies that show everybody the same, or ask another table's policy; each begins as it must.
var impersonal = []string{
	"read_readings: (EXISTS ( SELECT\n   FROM read_usage",                          // whose own policy is applied
	"subscriptions: (name = 'event_slices'::text)",                                 // how far the slices of the log go
	"read_private_listing_prices: (EXISTS ( SELECT\n   FROM read_private_listings", // likewise
}

// TestPoliciesAskWhoLooks holds every policy but those of what everybody may see to the function that knows who looks.
func TestPoliciesAskWhoLooks(t *testing.T) {
	t.Parallel()
	rows, err := pgtest.New(t).Query(t.Context(), `
		SELECT tablename || ': ' || qual FROM pg_policies WHERE policyname <> 'everybody' AND 'crossbill_tenant' = ANY (roles)`)
	if err != nil {
		t.Fatal(err)
	}
	conditions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, condition := range conditions {
		known := slices.ContainsFunc(impersonal, func(p string) bool { return strings.HasPrefix(condition, p) })
		if !strings.Contains(condition, "crossbill_sees") && !known {
			t.Errorf("a policy does not ask who looks: %s", condition)
		}
	}
	if len(conditions) < 10 {
		t.Errorf("only %d policies", len(conditions))
	}
}
