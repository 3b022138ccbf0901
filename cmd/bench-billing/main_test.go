package main

import (
	"os"
	"testing"

	"crossbill/cmd/internal/bench/benchtest"
)

// TestMain lets the test's binary be the process that bills.
func TestMain(m *testing.M) {
	if os.Getenv(asRun) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestQuick(t *testing.T) {
	t.Parallel()
	benchtest.Quick(t, program.Run, "rate_p95", "invoice_run", "invoice_memory", "invoice_growth", "growth_memory")
}
