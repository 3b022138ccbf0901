package location

import (
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	id := scenario.ID(domain.PrefixLocation, 1)
	right := Register{id, "First hall", "Amsterdam", "NL", "Example street 1", 1234, scenario.Noon}
	registered := Registered{id, "First hall", "Amsterdam", "NL", "Example street 1", 1234, scenario.Noon}
	with := func(change func(*Register)) Register {
		c := right
		change(&c)
		return c
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "register", When: right, Then: []domain.Event{registered}},
		{Name: "again", Given: []domain.Event{registered}, When: right, Code: domain.Conflict},
		{Name: "nothing", When: Register{}, Code: domain.Invalid, Fields: []string{"/location_id", "/name", "/metro", "/country", "/facility", "/at"}},
		{Name: "a country in small letters", When: with(func(c *Register) { c.Country = "nl" }), Code: domain.Invalid, Fields: []string{"/country"}},
		{Name: "a country's name", When: with(func(c *Register) { c.Country = "NLD" }), Code: domain.Invalid, Fields: []string{"/country"}},
		{Name: "a long metro", When: with(func(c *Register) { c.Metro = strings.Repeat("a", MaxMetro+1) }), Code: domain.Invalid, Fields: []string{"/metro"}},
		{Name: "no PeeringDB id", When: with(func(c *Register) { c.PeeringDBID = -1 }), Code: domain.Invalid, Fields: []string{"/peeringdb_id"}},
	})
	if !SameMetro("AMSTERDAM", "Amsterdam") || SameMetro("Amsterdam", "Rotterdam") {
		t.Error("metros are told apart wrongly")
	}
}
