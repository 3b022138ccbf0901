package projections_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/subject"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/vault"
	"crossbill/projections"
)

// keyHolders is a read model that shows persons.
func keyHolders() projections.Projection {
	return projections.Projection{
		Name: "key_holders", Tables: []string{"key_holders"},
		Apply: func(ctx context.Context, tx pgx.Tx, batch []events.Recorded) error {
			for _, r := range batch {
				if e, ok := r.Event.(apikey.Issued); ok {
					if _, err := tx.Exec(ctx, `INSERT INTO key_holders VALUES ($1, $2)`, e.Principal.ID, e.Principal.Name); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// TestErasureShowsAfterRebuild erases one of two persons that a read model shows.
func TestErasureShowsAfterRebuild(t *testing.T) {
	t.Parallel()
	k := newTicker(t)
	keys, err := vault.Open(t.Context(), k.pool, vault.KeyFile(filepath.Join(t.TempDir(), "vault.key")), vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		t.Fatal(err)
	}
	if k.log, err = events.Open(t.Context(), k.pool, codec, events.Options{Vault: keys}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.log.Close)
	if _, err := k.pool.Exec(t.Context(), `CREATE TABLE key_holders (id text PRIMARY KEY, name text NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	org := domain.DeriveID(domain.PrefixOrganisation, time.Unix(0, 0), "org")
	issued := func(kind, id, name string) domain.Event {
		return apikey.Issued{OrganisationID: org, Principal: apikey.Principal{Kind: kind, ID: id, Name: name}}
	}
	last := k.appendTo(k.log, issued(apikey.KindPerson, "ada", "Ada Lovelace"), issued(apikey.KindPerson, "bob", "Bob"), issued(apikey.KindProgram, "ci", "Continuous"))
	r, _ := k.run(keyHolders())
	want := func(when, ada string) {
		t.Helper()
		rows, _ := k.pool.Query(t.Context(), `SELECT id || ' ' || name FROM key_holders ORDER BY id`)
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(got) != 3 || got[0] != "ada "+ada || got[1] != "bob Bob" || got[2] != "ci Continuous" {
			t.Errorf("%s it shows %q, %v", when, got, err)
		}
	}
	k.waitFor(r, last)
	want("at first", "Ada Lovelace")

	erasure, err := k.log.Erase(t.Context(), subject.Erase{Subject: subject.Of(org, "ada"), By: "operator", Reason: subject.ReasonRequest, At: time.Now()}, false)
	if err != nil {
		t.Fatal(err)
	}
	k.waitFor(r, erasure.Position) // no projection trips over it
	want("before the rebuild", "Ada Lovelace")
	if _, err := projections.Rebuild(t.Context(), keyHolders(), projections.RebuildOptions{Pool: k.pool, Log: k.log}); err != nil {
		t.Fatal(err)
	}
	want("after the rebuild", domain.Erased)
	if _, err := events.Verify(t.Context(), k.pool, nil, ""); err != nil {
		t.Error(err)
	}
}
