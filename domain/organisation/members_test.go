package organisation

import (
	"math/rand/v2"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var org = scenario.ID(domain.PrefixOrganisation, 1)

func member(n int) string { return scenario.ID(domain.PrefixMember, n) }

func TestMembersAndStates(t *testing.T) {
	t.Parallel()
	at := scenario.After(1)
	registered := Registered{org, "Harbour", "harbour", []Role{RoleCustomer}, scenario.Noon}
	ada := MemberAdded{org, member(1), "Ada", "ada@example.org", MemberOwner, scenario.Noon}
	bob := MemberAdded{org, member(2), "Bob", "", MemberTrader, scenario.Noon}
	given := func(e ...domain.Event) []domain.Event { return append([]domain.Event{registered, ada}, e...) }
	suspended, closed := Suspended{org, "unpaid", at}, Closed{org, at}
	key := scenario.ID(domain.PrefixAPIKey, 1)
	owner2, gone := MemberRoleChanged{org, member(2), MemberOwner, at}, MemberRemoved{org, member(2), at}
	add := func(change func(*AddMember)) AddMember {
		c := AddMember{member(2), "Bob", "", MemberTrader, scenario.Noon}
		change(&c)
		return c
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "add", Given: given(), When: add(func(*AddMember) {}), Then: []domain.Event{bob}},
		{Name: "add again", Given: given(bob), When: add(func(*AddMember) {}), Code: domain.Conflict},
		{Name: "add who was removed", Given: given(bob, gone), When: add(func(*AddMember) {}), Code: domain.Conflict},
		{Name: "add nobody", Given: given(), When: AddMember{}, Code: domain.Invalid, Fields: []string{"/member_id", "/name", "/role", "/at"}},
		{Name: "add with no mail address", Given: given(), When: add(func(c *AddMember) { c.Email = "ada" }), Code: domain.Invalid, Fields: []string{"/email"}},
		{Name: "add with two mail addresses", Given: given(), When: add(func(c *AddMember) { c.Email = "a@b,c@d" }), Code: domain.Invalid, Fields: []string{"/email", "/email"}[:1]},
		{Name: "add with a long one", Given: given(), When: add(func(c *AddMember) { c.Email = strings.Repeat("a", MaxEmail) + "@b" }), Code: domain.Invalid, Fields: []string{"/email"}},
		{Name: "add to nothing", When: add(func(*AddMember) {}), Code: domain.NotFound},

		{Name: "promote", Given: given(bob), When: ChangeMemberRole{member(2), MemberOwner, at}, Then: []domain.Event{owner2}},
		{Name: "promote again", Given: given(bob, owner2), When: ChangeMemberRole{member(2), MemberOwner, at}},
		{Name: "demote the last owner", Given: given(bob), When: ChangeMemberRole{member(1), MemberViewer, at}, Code: domain.Conflict},
		{Name: "demote one of two", Given: given(bob, owner2), When: ChangeMemberRole{member(1), MemberViewer, at}, Then: []domain.Event{MemberRoleChanged{org, member(1), MemberViewer, at}}},
		{Name: "change a stranger", Given: given(), When: ChangeMemberRole{member(2), MemberViewer, at}, Code: domain.NotFound},
		{Name: "change to no role", Given: given(bob), When: ChangeMemberRole{member(2), "king", at}, Code: domain.Invalid, Fields: []string{"/role"}},
		{Name: "remove", Given: given(bob), When: RemoveMember{member(2), at}, Then: []domain.Event{gone}},
		{Name: "remove again", Given: given(bob, gone), When: RemoveMember{member(2), at}},
		{Name: "remove the last owner", Given: given(bob), When: RemoveMember{member(1), at}, Code: domain.Conflict},
		{Name: "remove the last owner when another was removed", Given: given(bob, owner2, gone), When: RemoveMember{member(1), at}, Code: domain.Conflict},
		{Name: "remove a stranger", Given: given(), When: RemoveMember{member(2), at}, Code: domain.NotFound},

		{Name: "recover", Given: given(bob), When: Recover{member(1), key, "lost", at}, Then: []domain.Event{Recovered{org, member(1), key, "lost", at}}},
		{Name: "recover what is suspended", Given: given(suspended), When: Recover{member(1), key, "lost", at}, Then: []domain.Event{Recovered{org, member(1), key, "lost", at}}},
		{Name: "recover to a trader", Given: given(bob), When: Recover{member(2), key, "lost", at}, Code: domain.Conflict},
		{Name: "recover to an owner who was removed", Given: given(bob, owner2, gone), When: Recover{member(2), key, "lost", at}, Code: domain.Conflict},
		{Name: "recover to nobody", Given: given(), When: Recover{"", key, "lost", at}, Code: domain.Conflict},
		{Name: "recover for nothing", Given: given(), When: Recover{MemberID: member(1)}, Code: domain.Invalid, Fields: []string{"/key_id", "/reason", "/at"}},
		{Name: "recover what is closed", Given: given(suspended, closed), When: Recover{member(1), key, "lost", at}, Code: domain.Conflict},

		{Name: "rename", Given: given(), When: Rename{"Haven", at}, Then: []domain.Event{Renamed{org, "Haven", at}}},
		{Name: "rename to the same", Given: given(), When: Rename{"Harbour", at}},
		{Name: "rename to nothing", Given: given(), When: Rename{" ", at}, Code: domain.Invalid, Fields: []string{"/name"}},

		{Name: "suspend", Given: given(), When: Suspend{"unpaid", at}, Then: []domain.Event{suspended}},
		{Name: "suspend again", Given: given(suspended), When: Suspend{"unpaid", at}},
		{Name: "suspend for another reason", Given: given(suspended), When: Suspend{"fraud", at}, Then: []domain.Event{Suspended{org, "fraud", at}}},
		{Name: "suspend for nothing", Given: given(), When: Suspend{"", at}, Code: domain.Invalid, Fields: []string{"/reason"}},
		{Name: "reactivate", Given: given(suspended), When: Reactivate{at}, Then: []domain.Event{Reactivated{org, at}}},
		{Name: "reactivate what is active", Given: given(), When: Reactivate{at}},
		{Name: "close what is active", Given: given(), When: Close{0, at}, Code: domain.Conflict},
		{Name: "close", Given: given(suspended), When: Close{0, at}, Then: []domain.Event{closed}},
		{Name: "close with live connections", Given: given(suspended), When: Close{1, at}, Code: domain.Conflict},
		{Name: "close again", Given: given(suspended, closed), When: Close{0, at}},
		{Name: "reactivate what is closed", Given: given(suspended, closed), When: Reactivate{at}, Code: domain.Conflict},
		{Name: "rename what is closed", Given: given(suspended, closed), When: Rename{"Haven", at}, Code: domain.Conflict},
	})
}

// Whatever happens, an organisation that had an owner has one, and no state changes an earlier one.
func TestThereIsAlwaysAnOwner(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := scenario.Fold(Evolve, Registered{org, "Harbour", "harbour", []Role{RoleCustomer}, scenario.Noon},
			MemberAdded{org, member(1), "Ada", "", MemberOwner, scenario.Noon})
		for second := range 40 {
			id, role, at := member(1+rng.IntN(5)), MemberRoles[rng.IntN(len(MemberRoles))], scenario.After(second)
			command := []Command{AddMember{id, "Bob", "", role, at}, ChangeMemberRole{id, role, at}, RemoveMember{id, at}}[rng.IntN(3)]
			events, _ := Decide(s, command)
			for _, e := range events {
				before := len(s.Members)
				m, _ := s.Member(id)
				after := Evolve(s, e)
				if again, _ := s.Member(id); len(s.Members) != before || again != m {
					t.Fatalf("seed %d: %T changed the state before it", seed, e)
				}
				s = after
			}
			owners := 0
			for _, m := range s.Members {
				if m.RemovedAt == nil && m.Role == MemberOwner {
					owners++
				}
			}
			if owners == 0 {
				t.Fatalf("seed %d: nobody owns it after %+v", seed, command)
			}
		}
	}
}

func TestRolesAreScopes(t *testing.T) {
	t.Parallel()
	for role, want := range map[MemberRole]string{MemberOwner: "admin trade approve finance read meter", MemberTrader: "trade approve read", MemberFinance: "finance read", MemberViewer: "read", "": ""} {
		if got := strings.Join(role.Scopes(), " "); got != want {
			t.Errorf("%s may %s, want %s", role, got, want)
		}
	}
	if MemberViewer.Allows("trade") || !MemberViewer.Allows("read") {
		t.Error("a viewer trades, or does not read")
	}
}
