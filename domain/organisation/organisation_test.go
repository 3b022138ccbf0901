package organisation

import (
	"strings"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	id := scenario.ID(domain.PrefixOrganisation, 1)
	register := Register{OrganisationID: id, Name: "Harbour Networks", Slug: "harbour-1", Roles: []Role{RoleProvider, RoleCustomer},
		At: scenario.Noon.Add(1234567 * time.Nanosecond).In(time.FixedZone("", 3600))}
	registered := Registered{id, "Harbour Networks", "harbour-1", []Role{RoleProvider, RoleCustomer}, scenario.Noon.Add(1234 * time.Microsecond)}
	with := func(change func(*Register)) Register {
		r := register
		change(&r)
		return r
	}
	cases := []scenario.Case[Command]{
		{Name: "registered", When: register, Then: []domain.Event{registered}},
		{Name: "exists", Given: []domain.Event{registered}, When: register, Code: domain.Conflict},
		{Name: "everything is wrong at once", When: Register{}, Code: domain.Invalid,
			Fields: []string{"/organisation_id", "/name", "/slug", "/roles", "/at"}},
		{Name: "another thing's id", When: with(func(r *Register) { r.OrganisationID = scenario.ID(domain.PrefixPort, 1) }), Code: domain.Invalid, Fields: []string{"/organisation_id"}},
		{Name: "longest name", When: with(func(r *Register) { r.Name = strings.Repeat("é", MaxName) }),
			Then: []domain.Event{Registered{id, strings.Repeat("é", MaxName), registered.Slug, registered.Roles, registered.At}}},
		{Name: "longer name", When: with(func(r *Register) { r.Name = strings.Repeat("é", MaxName+1) }), Code: domain.Invalid, Fields: []string{"/name"}},
		{Name: "name of spaces", When: with(func(r *Register) { r.Name = " \t" }), Code: domain.Invalid, Fields: []string{"/name", "/name"}},
		{Name: "name with a line break", When: with(func(r *Register) { r.Name = "a\nb" }), Code: domain.Invalid, Fields: []string{"/name"}},
		{Name: "name that is not UTF-8", When: with(func(r *Register) { r.Name = "a\xff" }), Code: domain.Invalid, Fields: []string{"/name"}},
		{Name: "unknown role", When: with(func(r *Register) { r.Roles = []Role{"finance"} }), Code: domain.Invalid, Fields: []string{"/roles/0"}},
		{Name: "role twice", When: with(func(r *Register) { r.Roles = []Role{RoleCustomer, RoleCustomer, RoleCustomer} }), Code: domain.Invalid, Fields: []string{"/roles/1"}},
		{Name: "no command", When: nil, Code: domain.Internal},
	}
	for _, slug := range []string{"A", "a_b", "-a", "a-", "a b", "ä", "a/b", strings.Repeat("a", MaxSlug+1)} {
		cases = append(cases, scenario.Case[Command]{Name: "slug " + slug, When: with(func(r *Register) { r.Slug = slug }), Code: domain.Invalid, Fields: []string{"/slug"}})
	}
	scenario.Run(t, Decide, Evolve, cases)

	if s := scenario.Fold(Evolve, registered); !s.Has(RoleProvider) || s.Has(RoleOperator) || s.ID != id {
		t.Errorf("the state is %+v", s)
	}
	if got := Stream(id); got != "organisation-"+id {
		t.Errorf("the stream is %s", got)
	}
}
