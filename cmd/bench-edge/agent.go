package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"crossbill/cmd/internal/bench"
	"crossbill/edge"
	"crossbill/edge/lab"
)

// asAgent makes this program an agent that is measured: a JSON [agentRun].
const asAgent = "CROSSBILL_BENCH_AGENT"

// readEvery is how often the meters are read.
const readEvery = 10 * time.Second

// agentRun is what such a process is told.
type agentRun struct {
	PinDir, StateDir string
	Connections      int
	For              time.Duration
}

// agentCost is what it says.
type agentCost struct {
	Opened   float64 `json:"opened"` // seconds until all connections were in production, and had been read once
	CPU      float64 `json:"cpu"`    // µs in a second, from then on
	Bare     float64 `json:"bare"`   // likewise, of reading the meters and keeping the same readings
	PeakKB   int64   `json:"peak_kb"`
	Readings int     `json:"readings"`
}

// agentLoad measures an agent with many connections in production, whose meters are read every 10 seconds, against
// a loop that reads the same meters and syncs the same readings. Sessions are not wanted: they are measured by bgp_scale.
func agentLoad(ctx context.Context, b *run) ([]bench.Figure, error) {
	cpu, memory := bench.Figure{Bench: "agent_cpu", Unit: "µs/s"}, bench.Figure{Bench: "agent_memory", Unit: "MB"}
	for n := range b.rounds {
		var said agentCost
		err := b.agent(ctx, fmt.Sprint("agent", n), &said)
		if err != nil {
			return nil, err
		}
		b.Say("agent: %d connections in production after %.0f s, %d readings since, load %s", b.connections, said.Opened, said.Readings, bench.Load())
		cpu.Ours, cpu.Limit = append(cpu.Ours, said.CPU), append(cpu.Limit, said.Bare)
		memory.Ours, memory.Limit = append(memory.Ours, float64(said.PeakKB)*1024/1e6), append(memory.Limit, agentMemory)
	}
	return []bench.Figure{cpu, memory}, nil
}

// agentMemory is what an agent may have resident at most, in MB of 10⁶ bytes: 100 kB for each of its connections.
const agentMemory = 400

func (b *run) agent(ctx context.Context, name string, said *agentCost) (err error) {
	l, err := newLab(ctx, b, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	task, err := json.Marshal(agentRun{PinDir: l.PinDir(), StateDir: filepath.Join(b.Dir(), name+"-state"), Connections: b.connections, For: b.metering})
	if err != nil {
		return err
	}
	command := l.Command(ctx, lab.PoP, os.Args[0])
	command.Env = append(os.Environ(), asAgent+"="+string(task))
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("the agent: %w", err)
	}
	return json.Unmarshal(out, said)
}

// agentHere is the process that is measured.
func agentHere(ctx context.Context, task string) error {
	var r agentRun
	if err := json.Unmarshal([]byte(task), &r); err != nil {
		return err
	}
	said, err := measureAgent(ctx, r)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

func measureAgent(ctx context.Context, r agentRun) (said agentCost, err error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	node, err := edge.OpenKernelNode(edge.KernelOptions{PinDir: r.PinDir, Logger: log})
	if err != nil {
		return said, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	p := &counting{read: map[string]int{}, desired: edge.DesiredState{
		Revision: 1, ASN: 64500, RouterID: netip.MustParseAddr("192.0.2.1"), ReadingInterval: readEvery, Connections: manyConnections(r.Connections)}}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	begun := time.Now()
	go func() {
		ended <- edge.Run(ctx, edge.Config{Platform: p, Node: node, StateDir: r.StateDir, Logger: log})
	}()
	for p.connections() < r.Connections {
		select {
		case err := <-ended:
			return said, errors.Join(err, errors.New("the agent ended by itself"))
		case <-time.After(50 * time.Millisecond):
		}
	}
	said.Opened = time.Since(begun).Seconds()
	before, used := p.readings(), cpuTime()
	time.Sleep(r.For)
	said.CPU = float64((cpuTime() - used).Microseconds()) / r.For.Seconds()
	said.Readings = p.readings() - before
	stop()
	if err := <-ended; err != nil {
		return said, err
	}
	if least := int(r.For/readEvery) - 1; said.Readings < least*r.Connections {
		return said, fmt.Errorf("%d readings of %d connections in %s: not all were read in time", said.Readings, r.Connections, r.For)
	}
	if said.PeakKB, err = bench.PeakResident(); err != nil {
		return said, err
	}
	said.Bare, err = bareReading(node, r)
	return said, err
}

// bareReading reads all meters and syncs a line for each, a few times, and returns what that costs if done every 10 seconds.
func bareReading(node *edge.KernelNode, r agentRun) (float64, error) {
	const times = 5
	file, err := os.Create(filepath.Join(r.StateDir, "bare"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	used := cpuTime()
	for range times {
		var lines []byte
		for tag := 1; tag <= r.Connections; tag++ {
			counters, err := node.Counters(tag)
			if err != nil {
				return 0, err
			}
			line, err := json.Marshal(counters)
			if err != nil {
				return 0, err
			}
			lines = append(append(lines, line...), '\n')
		}
		if _, err := file.Write(lines); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
	}
	return float64((cpuTime() - used).Microseconds()) / times / readEvery.Seconds(), nil
}

// cpuTime is what this process has used of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it is always allowed to ask
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// manyConnections are in production, each on a VLAN of its own at either port, without sessions.
func manyConnections(n int) []edge.DesiredConnection {
	all := make([]edge.DesiredConnection, 0, n)
	for tag := 1; tag <= n; tag++ {
		side := func(port string, host uint32) edge.Attachment {
			link := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 172<<24|16<<16+uint32(tag)*8+host)))
			return edge.Attachment{Interface: port, VLAN: tag, Address: netip.PrefixFrom(link, 30), Peer: link.Next(), PeerASN: 64501, PrefixLimit: 10, Down: true}
		}
		all = append(all, edge.DesiredConnection{ID: fmt.Sprint("con_", tag), Tag: tag, Phase: edge.Production, BandwidthMbps: 100, A: side(lab.PortA, 1), Z: side(lab.PortZ, 5)})
	}
	return all
}

// counting is a platform that takes everything, and counts the readings.
type counting struct {
	desired edge.DesiredState

	mu   sync.Mutex
	read map[string]int // by connection
	all  int
}

func (p *counting) DesiredState(ctx context.Context, after int64, wait time.Duration) (edge.DesiredState, error) {
	if after >= p.desired.Revision {
		select {
		case <-ctx.Done():
			return edge.DesiredState{}, ctx.Err()
		case <-time.After(wait):
		}
	}
	return p.desired, nil
}

func (p *counting) Report(context.Context, edge.Kind, int64, []edge.Observation) error { return nil }

func (p *counting) SendReadings(_ context.Context, readings []edge.Reading) ([]edge.Verdict, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	verdicts := make([]edge.Verdict, len(readings))
	for n, r := range readings {
		p.read[r.Connection]++
		p.all++
		verdicts[n].ReadingID = r.ReadingID
	}
	return verdicts, nil
}

func (p *counting) connections() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.read) }
func (p *counting) readings() int    { p.mu.Lock(); defer p.mu.Unlock(); return p.all }
