package api

import (
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"crossbill/domain"
)

// Limits of a delegation, in characters.
const maxDelegationReason = 200

// Headers that say for whom a caller acts and why.
const (
	headerOnBehalfOf = "Crossbill-On-Behalf-Of"
	headerReason     = "Crossbill-Reason"
)

// Delegation is for whom a caller says to act, and why. It is recorded with every event of the request and gives the
// caller no right that its key has not.
type Delegation struct {
	OnBehalfOf string
	Reason     string
}

// aPseudonym has no @, so that no mail address is recorded for good.
var aPseudonym = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,119}$`)

func delegationOf(r *http.Request, caller Caller) (d Delegation, _ error) {
	d = Delegation{OnBehalfOf: r.Header.Get(headerOnBehalfOf), Reason: r.Header.Get(headerReason)}
	if d == (Delegation{}) {
		return d, nil
	}
	var p domain.Problems
	p.Check(d.OnBehalfOf == "" || aPseudonym.MatchString(d.OnBehalfOf), "/header/"+headerOnBehalfOf,
		"must be a member's id, or a pseudonym of 1 to 120 of A-Z, a-z, 0-9, _ . : / -")
	if strings.HasPrefix(d.OnBehalfOf, domain.PrefixMember+"_") {
		_, acts := caller.account.organisation.Member(d.OnBehalfOf)
		p.Check(acts, "/header/"+headerOnBehalfOf, "is no member of the organisation")
	}
	p.Check(utf8.ValidString(d.Reason) && utf8.RuneCountInString(d.Reason) <= maxDelegationReason && !strings.ContainsFunc(d.Reason, unicode.IsControl),
		"/header/"+headerReason, "must be at most %d characters of UTF-8, none of which controls", maxDelegationReason)
	return d, p.Err("api.authenticate")
}
