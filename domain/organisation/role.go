package organisation

import "slices"

// MemberRole is what a person may do for an organisation.
type MemberRole string

// The closed set of roles of members.
const (
	MemberOwner   MemberRole = "owner"   // everything, members and keys included
	MemberTrader  MemberRole = "trader"  // orders and sells, and approves what programs order
	MemberFinance MemberRole = "finance" // sees and manages the money
	MemberViewer  MemberRole = "viewer"  // sees
)

// MemberRoles are all roles there are.
var MemberRoles = []MemberRole{MemberOwner, MemberTrader, MemberFinance, MemberViewer}

// roleScopes says which scopes a person's key can have at most. The names are those of the API's closed set.
var roleScopes = map[MemberRole][]string{
	MemberOwner:   {"admin", "trade", "approve", "finance", "read", "meter"},
	MemberTrader:  {"trade", "approve", "read"},
	MemberFinance: {"finance", "read"},
	MemberViewer:  {"read"},
}

// Scopes returns the scopes that a key of a person with this role can have at most.
func (r MemberRole) Scopes() []string { return slices.Clone(roleScopes[r]) }

// Allows reports whether a person with this role can have the scope.
func (r MemberRole) Allows(scope string) bool { return slices.Contains(roleScopes[r], scope) }
