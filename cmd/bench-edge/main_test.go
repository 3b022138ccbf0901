package main

import (
	"os"
	"testing"

	"crossbill/cmd/internal/bench/benchtest"
	"crossbill/edge/lab"
)

// TestMain lets the test's binary be the processes that the program starts of itself.
func TestMain(m *testing.M) {
	if here, _ := startedAs(); here != nil {
		main()
	}
	os.Exit(m.Run())
}

func TestQuick(t *testing.T) {
	t.Parallel()
	if err := lab.Supported(); err != nil {
		t.Skip(err)
	}
	benchtest.Quick(t, program.Run, "meter_in_ns", "meter_look_ns", "meter_out_ns", "tcp_throughput", "policer_10", "vs_nftables", "vs_nftables_whole", "bgp_scale_ms", "bgp_scale_mib",
		"agent_cpu", "agent_memory", "order_overhead_1", "order_overhead_3", "order_overhead_3_median")
}
