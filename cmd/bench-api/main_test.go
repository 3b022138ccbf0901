package main

import (
	"testing"

	"crossbill/cmd/internal/bench/benchtest"
)

func TestQuick(t *testing.T) {
	t.Parallel()
	var names []string
	for _, b := range program.Benches {
		names = append(names, b.Name)
	}
	benchtest.Quick(t, program.Run, names...)
}
