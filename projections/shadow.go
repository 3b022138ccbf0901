package projections

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
)

// buildLock is the first half of the advisory locks of builds; the second is a hash of the schema's name.
const buildLock = 0x72626c64 // "rbld"

// maxIdentifier is how many bytes PostgreSQL looks at of a name.
const maxIdentifier = 63

// claim finds where the projection's tables are and takes the lock of its build.
func (b *build) claim(ctx context.Context) error {
	const op = "projections.Rebuild"
	live := ""
	for _, table := range b.projection.Tables {
		var in string
		err := b.conn.QueryRow(ctx, `
			SELECT coalesce((SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass($1) AND relkind = 'r'), '')
		`, pgx.Identifier{table}.Sanitize()).Scan(&in)
		if err != nil {
			return err
		}
		if in == "" || live != "" && in != live {
			return domain.Errorf(domain.Internal, op, "%s, a table of %s, is not there, or not where the others are", table, b.projection.Name).
				WithHint("start a node of this version once: it migrates the database")
		}
		live = in
		b.tables = append(b.tables, pgx.Identifier{table}.Sanitize())
	}
	name := strings.Trim(live, `"`) + "_rebuild_" + b.projection.Name
	if len(name) > maxIdentifier {
		return domain.Errorf(domain.Invalid, op, "%s is too long a name for a schema", name)
	}
	schema, ours := pgx.Identifier{name}.Sanitize(), false
	if err := b.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, hashtext($2))`, buildLock, schema).Scan(&ours); err != nil {
		return err
	}
	if !ours {
		return domain.Errorf(domain.Conflict, op, "another process rebuilds or verifies %s at this moment", b.projection.Name).
			WithHint("wait for it to end")
	}
	// From here on, what is in the schema is ours to drop.
	b.live, b.schema = live, schema
	b.begin = `begin; set local synchronous_commit = off; set local search_path = ` + b.schema
	return nil
}

// createTables makes the schema and in it a table for each of the projection's, empty and otherwise the same.
func (b *build) createTables(ctx context.Context) error {
	tx, err := b.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	// The first is what a build that died has left.
	if _, err := tx.Exec(ctx, `DROP SCHEMA IF EXISTS `+b.schema+` CASCADE; CREATE SCHEMA `+b.schema); err != nil {
		return err
	}
	for _, table := range b.tables {
		if err := b.copyTable(ctx, tx, table); err != nil {
			return err
		}
	}
	for _, table := range b.tables { // when all are there: the policy of one may name another
		if err := b.copyPolicies(ctx, tx, table); err != nil {
			return err
		}
	}
	if err := b.requireSame(ctx, tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// copyTable makes one table. LIKE leaves out the owner, rights and storage options, and gives indexes new names.
func (b *build) copyTable(ctx context.Context, tx pgx.Tx, table string) error {
	live, ours := b.live+"."+table, b.schema+"."+table
	if _, err := tx.Exec(ctx, `CREATE TABLE `+ours+` (LIKE `+live+` INCLUDING ALL)`); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		SELECT format('ALTER TABLE %s SET (%s)', $2::text, array_to_string(reloptions, ', '))
		  FROM pg_class WHERE oid = $1::text::regclass AND reloptions IS NOT NULL
		UNION ALL
		SELECT format('ALTER TABLE %s OWNER TO %I', $2, pg_get_userbyid(relowner))
		  FROM pg_class WHERE oid = $1::text::regclass AND pg_get_userbyid(relowner) <> current_user
		UNION ALL
		SELECT format('GRANT %s%s ON %s TO %s%s', a.privilege_type, g.columns, $2,
		         CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
		         CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
		  FROM (SELECT '' AS columns, relacl AS acl FROM pg_class WHERE oid = $1::text::regclass
		        UNION ALL
		        SELECT format(' (%I)', attname), attacl FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped) AS g,
		       aclexplode(g.acl) AS a
	`, live, ours)
	if err := execute(ctx, tx, rows, err); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `
		WITH indexes AS ( -- those that say the same are told apart by the order of their names
			SELECT of_table, relname, definition, row_number() OVER (PARTITION BY of_table, definition ORDER BY relname) AS n
			  FROM (SELECT indrelid AS of_table, indexrelid,
			               concat(indisunique, indisprimary, substring(pg_get_indexdef(indexrelid) FROM ' USING .*')) AS definition
			          FROM pg_index) AS i
			  JOIN pg_class ON pg_class.oid = indexrelid
			 WHERE of_table IN ($1::text::regclass, $2::text::regclass)
		)
		SELECT format('ALTER INDEX %s.%I RENAME TO %I', $3::text, ours.relname, live.relname)
		  FROM indexes AS live JOIN indexes AS ours USING (definition, n)
		 WHERE live.of_table = $1::text::regclass AND ours.of_table = $2::text::regclass AND live.relname <> ours.relname
	`, live, ours, b.schema)
	return execute(ctx, tx, rows, err)
}

// execute runs the statements that a query has made.
func execute(ctx context.Context, tx pgx.Tx, rows pgx.Rows, err error) error {
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// copyPolicies gives the build's table the policies of row-level security of the one in use. Names in their conditions
// mean the build's tables where there are such: a policy follows its tables when these change their schema.
func (b *build) copyPolicies(ctx context.Context, tx pgx.Tx, table string) error {
	return b.inSchemas(ctx, tx, []string{b.schema, b.live}, func() error {
		// The conditions are written as they read where only the tables in use are found, so without a schema.
		var statements []string
		err := b.inSchemas(ctx, tx, []string{b.live}, func() error {
			rows, err := tx.Query(ctx, `
				SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY', $2::text, security)
				  FROM pg_class, unnest(ARRAY[CASE WHEN relrowsecurity THEN 'ENABLE' END, CASE WHEN relforcerowsecurity THEN 'FORCE' END]) AS security
				 WHERE oid = $1::text::regclass AND security IS NOT NULL
				UNION ALL
				SELECT concat_ws(' ', format('CREATE POLICY %I ON %s AS', polname, $2), CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
				         'FOR', CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
				         'TO', (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(polroles) AS r),
				         'USING (' || pg_get_expr(polqual, polrelid) || ')', 'WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')')
				  FROM pg_policy WHERE polrelid = $1::text::regclass
			`, b.live+"."+table, b.schema+"."+table)
			if err == nil {
				statements, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			return err
		})
		for _, statement := range statements {
			if err != nil {
				break
			}
			_, err = tx.Exec(ctx, statement)
		}
		return err
	})
}

// inSchemas runs do with a search path of the given schemas, and leaves the transaction with the one it had.
func (b *build) inSchemas(ctx context.Context, tx pgx.Tx, schemas []string, do func() error) error {
	var before string
	const set = `SELECT set_config('search_path', $1, true)`
	if err := tx.QueryRow(ctx, `SELECT current_setting('search_path')`).Scan(&before); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, set, strings.Join(schemas, ", ")); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err // the transaction is of no use now
	}
	_, err := tx.Exec(ctx, set, before)
	return err
}

// requireSame returns an error if a table of the build is not in every respect the one in use: because it has something
// that copyTable does not know of, or because a migration has changed it since.
func (b *build) requireSame(ctx context.Context, tx pgx.Tx) error {
	live, err := b.describeAll(ctx, tx, b.live, b.live)
	if err != nil {
		return err
	}
	// With both in sight, a name without a schema means the build's table; one of the tables in use would have its schema.
	ours, err := b.describeAll(ctx, tx, b.schema, b.schema, b.live)
	if err != nil {
		return err
	}
	for i, table := range b.tables {
		if live[i] != ours[i] {
			return domain.Errorf(domain.Conflict, "projections.Rebuild", "the table %s would not be the same after a rebuild: it has\n%s\nand would have\n%s", table, live[i], ours[i]).
				WithHint("if a migration has just changed it, try again; what others have added (triggers, views, foreign keys, policies that name it) must be dropped first")
		}
	}
	return nil
}

// describeAll describes the tables of a schema, with names as they read in a search path.
func (b *build) describeAll(ctx context.Context, tx pgx.Tx, schema string, path ...string) (all []string, err error) {
	err = b.inSchemas(ctx, tx, path, func() error {
		for _, table := range b.tables {
			description, err := describe(ctx, tx, schema+"."+table)
			if err != nil {
				return err
			}
			all = append(all, description)
		}
		return nil
	})
	return all, err
}

// describe returns everything about a table but its rows and its schema's name.
func describe(ctx context.Context, tx pgx.Tx, table string) (description string, err error) {
	err = tx.QueryRow(ctx, `
		SELECT concat_ws(E'\n',
			format('owner %s, rights %s, options %s, persistence %s, policies %s %s, replica identity %s', pg_get_userbyid(relowner),
				(SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(relacl) AS a), reloptions, relpersistence,
				relrowsecurity, relforcerowsecurity, relreplident),
			(SELECT string_agg(format('column %s %s, not null %s, collation %s, default %s, generated "%s", identity "%s", storage %s, rights %s',
				attname, format_type(atttypid, atttypmod), attnotnull, attcollation, pg_get_expr(adbin, adrelid), attgenerated,
				attidentity, attstorage, attacl), E'\n' ORDER BY attnum)
			   FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
			  WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
			(SELECT string_agg(format('constraint %s %s', conname, pg_get_constraintdef(oid)), E'\n' ORDER BY conname)
			   FROM pg_constraint WHERE conrelid = c.oid AND contype <> 'n'), -- not null is said with the column
			(SELECT string_agg(format('referenced by %s', conname), E'\n' ORDER BY conname) FROM pg_constraint WHERE confrelid = c.oid),
			(SELECT string_agg(format('index %s, unique %s, primary %s%s', i.relname, indisunique, indisprimary,
				substring(pg_get_indexdef(indexrelid) FROM ' USING .*')), E'\n' ORDER BY i.relname)
			   FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid WHERE indrelid = c.oid),
			(SELECT string_agg(format('trigger %s', tgname), E'\n' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),
			(SELECT string_agg(format('policy %s, permissive %s, for %s, to %s, using %s, with check %s', polname, polpermissive, polcmd,
				polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), E'\n' ORDER BY polname)
			   FROM pg_policy WHERE polrelid = c.oid),
			(SELECT string_agg(DISTINCT format('named by policy %s of %s', polname, polrelid::regclass), E'\n')
			   FROM pg_depend JOIN pg_policy ON pg_policy.oid = objid
			  WHERE classid = 'pg_policy'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = c.oid AND polrelid <> c.oid),
			(SELECT string_agg(DISTINCT format('view or rule of %s', ev_class::regclass), E'\n')
			   FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
			  WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = c.oid))
		  FROM pg_class AS c WHERE oid = $1::text::regclass
	`, table).Scan(&description)
	return description, err
}

// analyse gives the planner what it knew of the old tables: a swap must not make queries slow until autovacuum comes by.
func (b *build) analyse(ctx context.Context) error {
	for _, table := range b.tables {
		if _, err := b.conn.Exec(ctx, `ANALYZE `+b.schema+`.`+table); err != nil {
			return err
		}
	}
	return nil
}
