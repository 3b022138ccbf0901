package provisioning

import "testing"

// Jobs of one process choose different numbers. Whether one that all others have claimed is to be had is only known when it
// is reserved; there is none when all that are left are one's own.
func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := claims{held: map[number]*claim{}}
	choose := func(c *claim, scope string, highest, skip int) (int, bool) {
		t.Helper()
		n, ok, err := c.firstFree(t.Context(), w.pool, reservedTag, scope, 1, highest, skip)
		if err != nil {
			t.Fatal(err)
		}
		return n, ok
	}
	_, err := w.pool.Exec(t.Context(), `INSERT INTO reservations (kind, scope, number, owner, mbps) VALUES ($1, 'x', 2, 'con_x', 0)`, reservedTag)
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := &claim{of: &all}, &claim{of: &all}, &claim{of: &all}
	for _, c := range []struct {
		what          string
		claim         *claim
		scope         string
		highest, skip int
		want          int // 0: none
	}{
		{"the first", first, "x", 10, 0, 1},
		{"past what is reserved", second, "x", 10, 0, 3},
		{"of another scope", second, "y", 10, 0, 1},
		{"skipping one", third, "x", 10, 1, 5},
		{"skipping more than there are", third, "x", 6, 9, 6},
		{"claimed by another", second, "x", 3, 0, 1},
		{"all one's own", first, "x", 1, 0, 0},
		{"all reserved", third, "z", 0, 0, 0},
	} {
		if got, ok := choose(c.claim, c.scope, c.highest, c.skip); got != c.want || ok != (c.want > 0) {
			t.Errorf("%s: %d, %v, want %d", c.what, got, ok, c.want)
		}
	}
	first.release()
	if got, _ := choose(third, "x", 10, 0); got != 1 {
		t.Errorf("after it was given up: %d, want 1", got)
	}
}
