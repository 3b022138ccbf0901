package connection

import (
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

// The gate is closed and opened when it is asked for, at the instant that the edge node says; what it repeats, or says of a
// suspension that is over or of a connection that has ended, is never refused: it could not go on.
func TestSuspensions(t *testing.T) {
	t.Parallel()
	at := scenario.After
	closing, shut := SuspensionRequested{connectionID, "away", at(20)}, Suspended{connectionID, at(21)}
	opening, open := ResumptionRequested{connectionID, at(30)}, Resumed{connectionID, at(31)}
	suspended := func(since time.Time) ReportSuspended { return ReportSuspended{edgeNode, since, at(40)} }
	resumed := func(since time.Time) ReportResumed { return ReportResumed{edgeNode, since, at(40)} }
	skewed := domain.MaxClockSkew + time.Microsecond
	again := SuspensionRequested{connectionID, "away", at(35)}
	scenario.Run(t, Decide, Evolve, []one{
		{Name: "suspend", Given: upTo(activated), When: RequestSuspension{"away", at(20)}, Then: facts{closing}},
		{Name: "suspend again", Given: upTo(activated, closing), When: RequestSuspension{"away", at(22)}},
		{Name: "suspend what is suspended", Given: upTo(activated, closing, shut), When: RequestSuspension{"away", at(22)}},
		{Name: "suspend what is being resumed", Given: upTo(activated, closing, shut, opening), When: RequestSuspension{"away", at(32)}, Code: domain.Conflict},
		{Name: "suspend what is tested", Given: upTo(cutover), When: RequestSuspension{"away", at(20)}, Code: domain.Conflict},
		{Name: "suspend what has ended", Given: upTo(leaving), When: RequestSuspension{"away", at(120)}, Code: domain.Conflict},
		{Name: "resume", Given: upTo(activated, closing, shut), When: RequestResumption{at(30)}, Then: facts{opening}},
		{Name: "resume again", Given: upTo(activated, closing, shut, opening), When: RequestResumption{at(32)}},
		{Name: "resume before it is suspended", Given: upTo(activated, closing), When: RequestResumption{at(30)}, Code: domain.Conflict},
		{Name: "resume what is not suspended", Given: upTo(activated), When: RequestResumption{at(30)}, Code: domain.Conflict},

		{Name: "closed", Given: upTo(activated, closing), When: suspended(at(21)), Then: facts{shut}},
		{Name: "closed again", Given: upTo(activated, closing, shut), When: suspended(at(21))},
		{Name: "closed for the suspension before", Given: upTo(activated, closing, shut, opening, open, again), When: suspended(at(21))},
		{Name: "closed for the next one", Given: upTo(activated, closing, shut, opening, open, again), When: suspended(at(36)), Then: facts{Suspended{connectionID, at(36)}}},
		{Name: "closed unasked", Given: upTo(activated), When: suspended(at(21)), Code: domain.Conflict},
		{Name: "closed before it was asked for", Given: upTo(activated, closing), When: suspended(at(20).Add(-skewed)), Code: domain.Invalid, Fields: []string{"/suspended_at", "/suspended_at"}},
		{Name: "closed in the future", Given: upTo(activated, closing), When: suspended(at(40).Add(skewed)), Code: domain.Invalid, Fields: []string{"/suspended_at"}},
		{Name: "closed and ended meanwhile", Given: upTo(activated, closing, leaving), When: suspended(at(21))},
		{Name: "closed and removed meanwhile", Given: upTo(activated, closing, leaving, closed), When: suspended(at(21))},

		{Name: "opened", Given: upTo(activated, closing, shut, opening), When: resumed(at(31)), Then: facts{open}},
		{Name: "opened again", Given: upTo(activated, closing, shut, opening, open), When: resumed(at(31))},
		{Name: "opened after the suspension before", Given: upTo(activated, closing, shut, opening, open, again, Suspended{connectionID, at(36)}), When: resumed(at(31))},
		{Name: "opened, never suspended", Given: upTo(activated), When: resumed(at(31))},
		{Name: "opened unasked", Given: upTo(activated, closing, shut), When: resumed(at(31)), Code: domain.Conflict},
		{Name: "opened before it was asked for", Given: upTo(activated, closing, Suspended{connectionID, at(21).Add(-time.Hour)}, opening), When: resumed(at(30).Add(-skewed)),
			Code: domain.Invalid, Fields: []string{"/resumed_at"}},
		{Name: "opened in the future", Given: upTo(activated, closing, shut, opening), When: resumed(at(40).Add(skewed)), Code: domain.Invalid, Fields: []string{"/resumed_at"}},
		{Name: "opened and ended meanwhile", Given: upTo(activated, closing, shut, opening, leaving), When: resumed(at(31))},
		{Name: "opened unasked and ended meanwhile", Given: upTo(activated, closing, shut, leaving), When: resumed(at(31))},
		{Name: "opened and removed meanwhile", Given: upTo(activated, closing, shut, opening, leaving, closed), When: resumed(at(31))},
		{Name: "opened and gone meanwhile", Given: upTo(activated, closing, shut, opening, leaving, closed, gone), When: resumed(at(31))},
	})
}
