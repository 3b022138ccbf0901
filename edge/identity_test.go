package edge

import (
	"crypto/x509"
	"testing"
	"time"

	"crossbill/domain/edgeidentity"
)

// A certificate is renewed at half of its life by the node's clock, and at once if that clock is certainly wrong.
func TestUntilHalf(t *testing.T) {
	t.Parallel()
	made := at("12:00:00")
	leaf := &x509.Certificate{NotBefore: made.Add(-edgeidentity.BackDated), NotAfter: made.Add(24 * time.Hour)}
	for _, c := range []struct {
		what string
		now  time.Time
		want time.Duration
	}{
		{"just made", made, 12 * time.Hour},
		{"a clock that is a little behind", made.Add(-time.Minute), 12*time.Hour + time.Minute},
		{"later", made.Add(11 * time.Hour), time.Hour},
		{"half", made.Add(12 * time.Hour), 0},
		{"expired, or a clock that is ahead", made.Add(90 * time.Hour), 0},
		{"a clock that was set back", made.Add(-edgeidentity.BackDated - time.Second), 0},
		{"a clock that has forgotten", time.Unix(0, 0), 0},
	} {
		if got := untilHalf(leaf, c.now); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
