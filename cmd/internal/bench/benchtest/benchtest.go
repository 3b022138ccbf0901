// Package benchtest is the test that every bench program has: it runs, and says what it was asked for. It measures
// nothing. Start reading at [Quick].
package benchtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
)

// Quick runs a program with its small sizes. It must end with one JSON object a line for each figure, the named ones among
// them, and leave nothing behind.
func Quick(t *testing.T, run func(ctx context.Context, args []string, stdout, stderr io.Writer) int, figures ...string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bench-") // t.TempDir is closed to the server's account
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"-quick", "-rounds", "1", "-data-dir", dir}, &out, &errs); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	_, lines, found := strings.Cut(out.String(), "\n{")
	if !found {
		t.Fatalf("no JSON:\n%s", &out)
	}
	measured := make(map[string]bool)
	for line := range strings.Lines("{" + lines) {
		var f struct {
			Bench              string
			Ours, Limit, Ratio float64
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if f.Ours <= 0 || f.Limit <= 0 || f.Ratio <= 0 {
			t.Errorf("%s says nothing", line)
		}
		measured[f.Bench] = true
	}
	for _, name := range figures {
		if !measured[name] {
			t.Errorf("%s was not measured", name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
