package api

import (
	"context"
	"maps"
	"slices"
	"sync"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/organisation"
	"crossbill/events"
)

// maxAccounts is how many keys, and how many edge nodes' identities, a node remembers.
const maxAccounts = 10_000

// account is a key and the organisation it is of, as they are in the log at the given versions. It has no text about a
// person: those are read when they are asked for, so that an erasure is not outlived here.
type account struct {
	key                    apikey.State
	organisation           organisation.State
	keyVersion, orgVersion int64
}

// accounts remembers accounts by their keys' ids. What it has is never taken on trust: with every request the versions
// of both streams are asked for, one lookup by primary key, and an account that is behind is read anew. So a key that
// was revoked or limited by any node, a moment ago, is that from then on.
type accounts struct{ remembered[account] }

// remembered are up to [maxAccounts] things by their ids.
type remembered[T any] struct {
	mutex sync.Mutex
	known map[string]T
}

func (a *remembered[T]) get(id string) (T, bool) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	found, ok := a.known[id]
	return found, ok
}

func (a *remembered[T]) put(id string, found T) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.known == nil {
		a.known = make(map[string]T)
	}
	if len(a.known) >= maxAccounts {
		maps.DeleteFunc(a.known, func(string, T) bool { return len(a.known) > maxAccounts/2 }) // any half
	}
	a.known[id] = found
}

// account returns the account of a key as it is now. A key that there is none of gives a version of 0.
func (s *Server) account(ctx context.Context, id string) (account, error) {
	if found, ok := s.accounts.get(id); ok {
		current, err := s.atVersions(ctx, id, found.key.OrganisationID, found.keyVersion, found.orgVersion)
		if err != nil || current {
			return found, err
		}
	}
	key, keyVersion, err := events.Load(ctx, s.Log, apikey.Stream(id), apikey.Evolve)
	if err != nil || keyVersion == 0 {
		return account{}, err
	}
	org, orgVersion, err := events.Load(ctx, s.Log, organisation.Stream(key.OrganisationID), organisation.Evolve)
	if err != nil {
		return account{}, err
	}
	if key.Principal.Kind == apikey.KindPerson {
		key.Principal.Name = ""
	}
	org.Members = slices.Clone(org.Members)
	for i := range org.Members {
		org.Members[i].Name, org.Members[i].Email = "", ""
	}
	found := account{key: key, organisation: org, keyVersion: keyVersion, orgVersion: orgVersion}
	s.accounts.put(id, found)
	return found, nil
}

const versionsOf = `SELECT coalesce((SELECT version FROM streams WHERE stream = $1), 0), coalesce((SELECT version FROM streams WHERE stream = $2), 0)`

// atVersions reports whether a key's and an organisation's streams are at the given versions.
func (s *Server) atVersions(ctx context.Context, keyID, organisationID string, keyVersion, orgVersion int64) (bool, error) {
	var key, org int64
	err := s.Pool.QueryRow(ctx, versionsOf, apikey.Stream(keyID), organisation.Stream(organisationID)).Scan(&key, &org) // primary key
	if err != nil {
		return false, domain.Errorf(domain.Unavailable, "api.authenticate", "the key can't be looked up: %w", err)
	}
	return key == keyVersion && org == orgVersion, nil
}

// effectiveScopes returns the scopes that a key has now: a person's are those of the key which the person's role allows.
// ok is false if the person no longer acts for the organisation. People from before there were members have their keys'.
func (a account) effectiveScopes() (scopes []string, ok bool) {
	p := a.key.Principal
	if p.Kind != apikey.KindPerson || !domain.ValidID(domain.PrefixMember, p.ID) {
		return a.key.Scopes, true
	}
	member, ok := a.organisation.Member(p.ID)
	if !ok {
		return nil, false
	}
	for _, scope := range a.key.Scopes {
		if member.Role.Allows(scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes, true
}
