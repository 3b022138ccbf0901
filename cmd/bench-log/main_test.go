package main

import (
	"os"
	"testing"

	"crossbill/cmd/internal/bench/benchtest"
)

// TestMain lets the test's binary be the process that rebuilds.
func TestMain(m *testing.M) {
	if os.Getenv(asRebuild) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestQuick(t *testing.T) {
	t.Parallel()
	benchtest.Quick(t, program.Run, "append_1000", "append_1", "replay", "project", "growth", "rebuild_memory")
}
