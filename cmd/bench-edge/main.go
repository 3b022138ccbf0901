// Command bench-edge measures an edge node on one machine: what a frame costs beside a program that does nothing, TCP across
// the lab beside the kernel's own forwarding, TCP through the policer beside what was ordered, packets of 1 000 VLANs beside an
// nftables ruleset that counts and limits the same 1 000, many BGP sessions and routes, an agent with many
// connections, and orders until they are in production. Ours and the limit are measured in turns.
//
// It needs root on Linux, works in network namespaces of its own, and removes what it made. What the figures mean is in
// docs/performance.md. Start reading at [program].
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"crossbill/cmd/internal/bench"
	"crossbill/edge/datapath"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var code int
	if here, task := startedAs(); here != nil {
		if err := here(ctx, task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	} else {
		code = program.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(code)
}

// startedAs returns what this program is to do if it was started by itself, in another network namespace or to be measured
// alone, and what it was told; nil if it was not.
func startedAs() (here func(ctx context.Context, task string) error, task string) {
	for variable, here := range map[string]func(context.Context, string) error{asSender: sendHere, asSpeaker: speakHere, asAgent: agentHere, asNode: nodeHere, asBare: bareHere} {
		if task := os.Getenv(variable); task != "" {
			return here, task
		}
	}
	return nil, ""
}

var program = bench.Program[*run]{
	Name: "bench-edge", Dir: "build/bench-edge", Rounds: 3,
	Benches: []bench.Bench[*run]{
		{Name: "meter_ns", Measure: meterNS},
		{Name: "tcp_throughput", Measure: tcpThroughput},
		{Name: "policer", Measure: policer},
		{Name: "vs_nftables", Measure: vsNftables},
		{Name: "bgp_scale", Measure: bgpScale},
		{Name: "agent", Measure: agentLoad},
		{Name: "order_overhead", Measure: orderOverhead},
	},
	Open: func(server *bench.Server, rounds int, quick bool) (*run, error) {
		s := full
		if quick {
			s = small
		}
		s.rounds = rounds
		return &run{Server: server, sizes: s}, nil
	},
}

// sizes say how much is measured.
type sizes struct {
	rounds   int
	frames   int           // of each program in a round of meter_ns
	transfer time.Duration // of TCP
	rates    []int         // Mbps ordered
	vlans    int
	flood    time.Duration
	sessions int // of BGP on one node
	routes   int // all of them together

	connections int           // of one agent
	metering    time.Duration // for which it is measured

	orders []int // that are placed at once
}

var (
	full = sizes{frames: 5_000_000, transfer: 10 * time.Second, rates: []int{10, 100, 1000}, vlans: 1000, flood: 5 * time.Second, sessions: 200, routes: 100_000,
		connections: 4000, metering: time.Minute, orders: []int{1, 100}}
	small = sizes{frames: 1000, transfer: time.Second, rates: []int{10}, vlans: 4, flood: 200 * time.Millisecond, sessions: 4, routes: 40,
		connections: 3, metering: 2 * readEvery, orders: []int{1, 3}}
)

// run is what a bench is given.
type run struct {
	*bench.Server
	sizes
}

// meterNS measures one frame through meter and policer, with as many connections as vs_nftables has, against an empty program.
func meterNS(_ context.Context, b *run) ([]bench.Figure, error) {
	in, look, out := bench.Figure{Bench: "meter_in_ns", Unit: "ns/frame"}, bench.Figure{Bench: "meter_look_ns", Unit: "ns/frame"}, bench.Figure{Bench: "meter_out_ns", Unit: "ns/frame"}
	for range b.rounds {
		c, err := datapath.MeasureCost(b.vlans, b.frames)
		if err != nil {
			return nil, err
		}
		empty := float64(c.Empty.Nanoseconds())
		in.Ours, in.Limit = append(in.Ours, float64(c.In.Nanoseconds())), append(in.Limit, empty)
		look.Ours, look.Limit = append(look.Ours, float64(c.Look.Nanoseconds())), append(look.Limit, empty)
		out.Ours, out.Limit = append(out.Ours, float64(c.Out.Nanoseconds())), append(out.Limit, empty)
	}
	return []bench.Figure{in, look, out}, nil
}
