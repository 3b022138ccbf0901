package bench

import (
	"bytes"
	"strings"
	"testing"
)

func TestEnforce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f   Figure
		met bool
	}{
		{Figure{Ours: []float64{7, 1, 8}, Limit: []float64{10, 10, 10}, Floor: 0.7}, true}, // the median, not the worst
		{Figure{Ours: []float64{6, 6, 9}, Limit: []float64{10, 10, 10}, Floor: 0.7}, false},
		{Figure{Ours: []float64{6, 8}, Limit: []float64{10, 10}, Floor: 0.7}, true},
		{Figure{Ours: []float64{201}, Limit: []float64{200}, Ceiling: 1}, false},
		{Figure{Ours: []float64{199}, Limit: []float64{200}, Ceiling: 1}, true},
		{Figure{Ours: []float64{1}, Limit: []float64{200}}, true}, // told only
	} {
		c.f.Bench = "x"
		var out bytes.Buffer
		missed, err := report(&out, []Figure{c.f})
		if err != nil || (missed == 0) != c.met || strings.Contains(out.String(), "missed") == c.met {
			t.Errorf("%v: %d missed, %v\n%s", c.f, missed, err, &out)
		}
	}
	var errs bytes.Buffer
	p := Program[int]{Name: "x", Benches: []Bench[int]{{Name: "something"}}}
	if code := p.Run(t.Context(), []string{"-only", "nothing", "-data-dir", t.TempDir()}, &errs, &errs); code == 0 {
		t.Error("a bench that there is not was run")
	}
}
