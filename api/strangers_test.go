package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"crossbill/api"
	"crossbill/api/client"
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/events"
	"crossbill/projections"
)

// everybodys are the operations that show, or do, what is somebody else's, and why. The rest is as if it were not there.
var everybodys = map[string]string{
	"whoAmI":              "the caller itself, whoever that is",
	"getListing":          "a listing on the market is shown to everybody",
	"publishListing":      "a listing on the market may be seen, so the answer is that it is another's",
	"retireListing":       "likewise",
	"updateDraft":         "likewise",
	"submitListing":       "likewise",
	"discardDraft":        "likewise",
	"listListingVersions": "like getListing",
	"estimateListing":     "like getListing",
	"getListingVersion":   "like getListing",
}

// TestKeysThatMayNot calls every operation with every kind of key that may not, and without one. What is asked for must not
// matter: the answer is the same for what is there and for what is not.
func TestKeysThatMayNot(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	person := apikey.Principal{Kind: apikey.KindPerson, ID: "walker", Name: "Walker"}
	revokedID, revoked := m.mintAs(m.customerID, person, api.ScopeTrade, api.ScopeAdmin)
	if status, _, _ := m.do(revoked, "POST", "/v1/api-keys/"+revokedID+":revoke", nil); status != http.StatusNoContent {
		t.Fatalf("revoking answered %d", status)
	}
	expired := m.mintExpired(m.customerID, person)
	unknown := map[string]string{"an expired key": expired, "no key": "", "a revoked key": revoked, "nonsense": "cbk_", "another kind": "sk_1", "a key's id": m.customerKey[:30],
		"a longer key": m.customerKey + "x", "a key of another's id": m.customerKey[:31] + m.providerKey[31:]}
	only := map[string]string{}
	for _, scope := range api.Scopes {
		if scope == api.ScopeEdge {
			only[scope] = m.agentKey
			continue
		}
		_, only[scope] = m.mintAs(m.customerID, person, scope)
	}
	_, only["nothing"] = m.mintAs(m.customerID, person, "nothing")
	before, kept := m.settle(), m.kept()
	for _, o := range m.walk() {
		if slices.Contains(public, o.id) {
			continue
		}
		try := func(what, key string, want int) {
			status, p, body := m.send(o, key, o.path, o.body)
			m.refused(o.id+" with "+what, before, status, p, want)
			other, ids := elsewhere(o.path, nil)
			if status, p, nothing := m.send(o, key, other, o.body); status != want || !bytes.Equal(body, same(nothing, ids)) {
				t.Errorf("%s with %s tells what exists: %d: %s: %s", o.id, what, status, p.Detail, nothing)
			}
		}
		for what, key := range unknown {
			try(what, key, http.StatusUnauthorized)
		}
		for scope, key := range only {
			if !slices.Contains(o.scopes(), scope) {
				try("the scope "+scope+" alone", key, http.StatusForbidden)
			}
		}
	}
	if now := m.kept(); now != kept {
		t.Errorf("%d answers were kept", now-kept)
	}
}

// send sends an operation's request, with an idempotency key of its own where it takes one.
func (m *market) send(o described, key, path string, body any, headers ...string) (int, client.Problem, []byte) {
	m.t.Helper()
	if o.method == http.MethodPost && !slices.Contains(headers, "Idempotency-Key") {
		headers = append(headers, "Idempotency-Key", *m.idempotencyKey())
	}
	if content := o.contentType(); content != "" && !slices.Contains(headers, "Content-Type") {
		headers = append(headers, "Content-Type", content)
	}
	return m.do(key, o.method, path, body, headers...)
}

// elsewhere returns the text with its identifiers, but for those that are kept, in the place of which others stand that
// name nothing.
func elsewhere(text string, keep func(id string) bool) (string, map[string]string) {
	ids := map[string]string{}
	return anID.ReplaceAllStringFunc(text, func(id string) string {
		if keep != nil && keep(id) {
			return id
		}
		ids[id] = unknownID(id[:3])
		return ids[id]
	}), ids
}

// same gives the identifiers that name nothing back the names of those they stand for.
func same(body []byte, ids map[string]string) []byte {
	for id, other := range ids {
		body = bytes.ReplaceAll(body, []byte(other), []byte(id))
	}
	return body
}

// TestStrangers asks, with another organisation's key that has every scope but the operator's, for everything that is
// somebody's: in the path, in the query and in the body. The answer is that of a thing that is not there, to the byte.
//
// Handlers and policies each do this alone: the second walk is without the policies. That policies do without the handlers
// is TestForgottenChecks.
func TestStrangers(t *testing.T) {
	t.Parallel()
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		walkAsStranger(newMarket(t).open())
	})
	t.Run("handlers alone", func(t *testing.T) {
		t.Parallel()
		m := newMarket(t).open()
		_, err := m.pool.Exec(t.Context(), `
			DO $$
			DECLARE p record;
			BEGIN
				FOR p IN SELECT tablename, policyname FROM pg_policies LOOP
					EXECUTE format('ALTER POLICY %I ON %I USING (true)', p.policyname, p.tablename);
				END LOOP;
			END
			$$`)
		must(t, err)
		walkAsStranger(m)
	})
}

func walkAsStranger(m *market) {
	t := m.t
	m.place()
	m.keepBooks()
	person := apikey.Principal{Kind: apikey.KindPerson, ID: "walker", Name: "Walker"}
	_, key := m.mintAs(m.strangerID, person, slices.DeleteFunc(slices.Clone(api.Scopes), func(s string) bool {
		return s == api.ScopeOperate || s == api.ScopeEdge
	})...)
	otherAgent := m.secondAgent()
	before := m.settle()
	compared, secrets := 0, m.secretsFrom(m.strangerID)
	operations := contractOperations()
	for id := range everybodys {
		if operations[id] == nil {
			t.Errorf("everybodys names %s, which is no operation", id)
		}
	}
	for _, o := range m.walk() {
		if everybodys[o.id] != "" || slices.Contains(public, o.id) || slices.Equal(o.scopes(), []string{api.ScopeOperate}) {
			continue // nobody but an operator gets past its scope: TestKeysThatMayNot
		}
		by := key
		if slices.Contains(o.scopes(), api.ScopeEdge) {
			by = otherAgent
		}
		compare := func(what, path, otherPath string, body, otherBody any, ids map[string]string) {
			compared++
			status, p, got := m.send(o, by, path, body)
			otherStatus, _, nothing := m.send(o, by, otherPath, otherBody)
			if status != otherStatus || !bytes.Equal(got, same(nothing, ids)) {
				t.Errorf("%s: %s tells a stranger what exists: %d %s\nand of nothing %d %s", o.id, what, status, got, otherStatus, nothing)
			}
			if status < 400 {
				t.Errorf("%s: %s of another answers %d", o.id, what, status)
			}
			if status == http.StatusUnprocessableEntity && what == "the path" || status >= 500 {
				t.Errorf("%s: the example is not well-formed: %d: %+v", o.id, status, p)
			}
			if after := int64(m.head()); after != before {
				t.Errorf("%s: %s of another appended %d events", o.id, what, after-before)
				before = after
			}
		}
		if path, ids := elsewhere(o.path, nil); len(ids) > 0 {
			compare("the path", o.path, path, o.body, o.body, ids)
			continue // what else it names is not looked at before
		}
		if o.body != nil {
			encoded, err := json.Marshal(o.body)
			must(t, err)
			for _, id := range anID.FindAllString(string(encoded), -1) {
				body, ids := elsewhere(string(encoded), func(other string) bool { return other != id })
				if !secrets[id] {
					continue
				}
				compare(id+" in the body", o.path, o.path, encoded, []byte(body), ids)
			}
		}
		status, _, body := m.send(o, by, o.path, o.body)
		m.showsNone(o.id, secrets, unsaid(body, o))
		if o.method != http.MethodGet {
			before = int64(m.head())
			continue
		}
		if status == http.StatusUnprocessableEntity || status == http.StatusNotFound && !strings.Contains(o.path, "/1/") {
			t.Errorf("%s answers a stranger %d: %s", o.id, status, body)
		}
		for _, parameter := range o.parameters {
			for _, id := range examplesOf(parameter.Value.Schema.Value.Pattern, secrets) {
				query := o.path + separator(o.path) + parameter.Value.Name + "="
				compareQuery(m, o, by, query, id)
			}
		}
	}
	if compared < 25 {
		t.Errorf("only %d things were asked for", compared)
	}
}

func separator(path string) string {
	if strings.Contains(path, "?") {
		return "&"
	}
	return "?"
}

// compareQuery filters a list by a thing of another and by nothing: the lists are the same.
func compareQuery(m *market, o described, key, query, id string) {
	m.t.Helper()
	status, _, got := m.send(o, key, query+url.QueryEscape(id), nil)
	other := unknownID(id[:3])
	otherStatus, _, nothing := m.send(o, key, query+other, nil)
	if status != otherStatus || !bytes.Equal(got, same(nothing, map[string]string{id: other})) {
		m.t.Errorf("%s: %s%s tells a stranger what exists: %d %s\nand of nothing %d %s", o.id, query, id, status, got, otherStatus, nothing)
	}
}

// examplesOf returns a secret identifier for a parameter whose pattern is that of one, such as '^prt_[0-7]…'.
func examplesOf(pattern string, secrets map[string]bool) []string {
	if !strings.HasPrefix(pattern, "^") || len(pattern) < 5 || pattern[4] != '_' {
		return nil
	}
	for id := range secrets {
		if strings.HasPrefix(id, pattern[1:5]) {
			return []string{id}
		}
	}
	return nil
}

// secretsFrom returns the identifiers that an organisation is not to see: those of events that don't name it, but for what
// the market shows everybody.
func (m *market) secretsFrom(organisation string) map[string]bool {
	m.t.Helper()
	secrets, known := map[string]bool{}, []string{organisation, m.listing.Id, m.providerID, m.providerPort}
	all, err := m.log.ReadAll(m.t.Context(), 0, events.MaxRead)
	must(m.t, err)
	for _, e := range all {
		ids := anID.FindAllString(e.Stream+" "+string(e.Data)+" "+strings.Join(e.Metadata.Parties, " "), -1)
		if slices.Contains(e.Metadata.Parties, organisation) || strings.HasPrefix(e.Stream, "fee_schedule-") || strings.HasPrefix(e.Stream, "location-") {
			known = append(append(known, e.Metadata.Actor), ids...)
			continue
		}
		for _, id := range ids {
			secrets[id] = true
		}
	}
	for _, id := range known {
		delete(secrets, id)
	}
	if len(secrets) < 10 {
		m.t.Errorf("only %d secrets", len(secrets))
	}
	return secrets
}

// unsaid is an answer without the identifiers that the request had.
func unsaid(answer []byte, o described) []byte {
	asked, _ := json.Marshal(o.body)
	for _, id := range anID.FindAll(append(asked, o.path...), -1) {
		answer = bytes.ReplaceAll(answer, id, nil)
	}
	return answer
}

// showsNone asserts that an answer has none of the secrets.
func (m *market) showsNone(what string, secrets map[string]bool, body []byte) {
	m.t.Helper()
	for _, id := range anID.FindAllString(string(body), -1) {
		if secrets[id] {
			m.t.Errorf("%s shows %s: %.300s", what, id, body)
			return
		}
	}
}

// TestForgottenChecks reads every stream of the log and every table for a stranger as a handler does that has forgotten its
// check. PostgreSQL alone shows nothing that does not name the stranger; and to the parties it shows all.
func TestForgottenChecks(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	m.place()
	m.keepBooks()
	m.settle()
	server, err := api.NewServer(api.Options{Log: m.log, Pool: m.pool})
	must(t, err)
	all, err := m.log.ReadAll(t.Context(), 0, events.MaxRead)
	must(t, err)
	count := func(n int, _ domain.Event) int { return n + 1 }
	streams, hidden := map[string][]events.Recorded{}, 0
	for _, e := range all {
		streams[e.Stream] = append(streams[e.Stream], e)
	}
	for _, organisation := range []string{m.strangerID, m.customerID, m.providerID} {
		ctx := api.AsCaller(t.Context(), organisation, api.ScopeTrade)
		for stream, recorded := range streams {
			want := 0
			for _, e := range recorded {
				if slices.Contains(e.Metadata.Parties, organisation) {
					want++
				}
			}
			if want != 0 && want != len(recorded) {
				t.Errorf("%s: %d of %d events name %s: no party sees its state", stream, want, len(recorded), organisation)
				continue
			}
			if want == 0 {
				hidden++
			}
			n, version, err := api.ForgetfulLoad(ctx, server, stream, count)
			if wanted := map[bool]domain.Code{true: domain.NotFound}[want == 0]; domain.CodeOf(err) != wanted || n != want || int(version) != want {
				t.Errorf("%s sees %d events of %s and should see %d: %v", organisation, n, stream, want, err)
			}
		}
	}
	operator := api.AsCaller(t.Context(), m.strangerID, api.ScopeOperate)
	for stream, recorded := range streams {
		if n, _, err := api.ForgetfulLoad(operator, server, stream, count); err != nil || n != len(recorded) {
			t.Errorf("an operator sees %d of %d events of %s: %v", n, len(recorded), stream, err)
		}
	}
	if hidden < 10 || len(streams) < 15 {
		t.Errorf("only %d of %d streams are hidden from somebody", hidden, len(streams))
	}
	m.tablesOf(m.strangerID)
}

// tablesOf reads every table that callers may read, without any condition, and finds no identifier that the organisation is
// not to see.
func (m *market) tablesOf(organisation string) {
	m.t.Helper()
	// Of some tables callers have a right on a few columns only.
	rows, err := m.pool.Query(m.t.Context(), `
		SELECT c.table_name, string_agg('r.' || quote_ident(c.column_name), ', ' ORDER BY c.ordinal_position)
		  FROM information_schema.columns AS c
		 WHERE c.table_schema = current_schema() AND c.table_name IN (SELECT tablename FROM pg_policies)
		   AND has_column_privilege('crossbill_tenant', c.table_name, c.column_name, 'SELECT')
		 GROUP BY 1 ORDER BY 1`)
	must(m.t, err)
	tables := make(map[string]string)
	var table, columns string
	_, err = pgx.ForEachRow(rows, []any{&table, &columns}, func() error { tables[table] = columns; return nil })
	must(m.t, err)
	ctx := projections.Viewing(m.t.Context(), projections.Party(organisation))
	secrets, shown := m.secretsFrom(organisation), 0
	for table, columns := range tables {
		rows, err := projections.Door{Pool: m.pool}.Query(ctx, `SELECT ROW(`+columns+`)::text FROM `+table+` AS r`)
		must(m.t, err)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(m.t, err)
		for _, row := range found {
			m.showsNone(table, secrets, []byte(row))
		}
		shown += len(found)
	}
	if len(tables) < 12 || shown < 2 {
		m.t.Errorf("only %d rows of %d tables were looked at", shown, len(tables))
	}
}
