package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// It runs, ends with one JSON object a line for each figure that was asked for, and leaves nothing behind.
func TestQuick(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "bench-api-") // t.TempDir is closed to the server's account
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := program.Run(t.Context(), []string{"-quick", "-rounds", "1", "-data-dir", dir}, &out, &errs); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	_, lines, found := strings.Cut(out.String(), "\n{")
	if !found {
		t.Fatalf("no JSON:\n%s", &out)
	}
	measured := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace("{"+lines), "\n") {
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
	for _, b := range program.Benches {
		if !measured[b.Name] {
			t.Errorf("%s was not measured", b.Name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
