package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"crossbill/cmd/internal/bench"
	"crossbill/edge"
	"crossbill/edge/bgp"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// asSpeaker makes this program the node of bgp_scale: "connections, routes of a session, pin directory".
const asSpeaker = "CROSSBILL_BENCH_SPEAK"

// convergence is what the node says of itself.
type convergence struct {
	Milliseconds float64 // from the first call of a router until all routes are in the kernel
	PeakMiB      float64 // the most memory that was resident
}

// bgpScale lets a node with many sessions learn many routes from two BIRDs, each of which has all the sessions of a side, the same
// prefixes in all of them, and a table for each. The time is that from the first call until all routes are in the
// connections' kernel tables, against iproute2 putting the same routes into tables of the same node; the memory is the node's
// process, against that of both BIRDs, which have the same routes.
func bgpScale(ctx context.Context, b *run) ([]bench.Figure, error) {
	took, held := bench.Figure{Bench: "bgp_scale_ms", Unit: "ms"}, bench.Figure{Bench: "bgp_scale_mib", Unit: "MiB"}
	for range b.rounds {
		if err := bgpScaleRound(ctx, b, &took, &held); err != nil {
			return nil, err
		}
	}
	return []bench.Figure{took, held}, nil
}

func bgpScaleRound(ctx context.Context, b *run, took, held *bench.Figure) (err error) {
	connections, each := b.sessions/2, b.routes/b.sessions
	l, err := newLab(ctx, b, "routes")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var birds []*exec.Cmd
	defer func() {
		for _, bird := range birds {
			_ = bird.Process.Kill()
			_ = bird.Wait()
		}
	}()
	for side, place := range []string{"a", "z"} {
		var ports, links strings.Builder
		for n := range connections {
			own, _ := scaleLink(n, side)
			fmt.Fprintf(&ports, "link add %s type veth peer name r%d netns %s\nlink set %s up\n", scalePort(n, side), n, filepath.Base(l.Namespace(place)), scalePort(n, side))
			fmt.Fprintf(&links, "addr add %s/30 dev r%d\nlink set r%d up\n", own.Addr().Next(), n, n)
		}
		if err := input(ctx, l, lab.PoP, ports.String(), "ip", "-batch", "-"); err != nil {
			return err
		}
		if err := input(ctx, l, place, links.String(), "ip", "-batch", "-"); err != nil {
			return err
		}
		bird, err := scaleBird(ctx, l, place, filepath.Join(b.Dir(), "bird-"+place), scaleConfig(side, connections, each))
		if err != nil {
			return err
		}
		birds = append(birds, bird)
	}

	speaker := l.Command(ctx, lab.PoP, os.Args[0])
	speaker.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s", asSpeaker, connections, each, l.PinDir()))
	speaker.Stderr = os.Stderr
	out, err := speaker.Output()
	if err != nil {
		return fmt.Errorf("the node: %w", err)
	}
	var ours convergence
	if err := json.Unmarshal(out, &ours); err != nil {
		return fmt.Errorf("the node says %q: %w", out, err)
	}
	standing, err := l.Command(ctx, lab.PoP, "sh", "-c", "ip -4 route show table all proto bgp | wc -l").Output()
	if err != nil {
		return err
	}
	if want := fmt.Sprint(b.routes); strings.TrimSpace(string(standing)) != want {
		return fmt.Errorf("%s routes are in the kernel, want %s", strings.TrimSpace(string(standing)), want)
	}
	var routes strings.Builder
	for n := range connections {
		for side, name := range []datapath.Side{datapath.SideA, datapath.SideZ} {
			own, _ := scaleLink(n, side)
			for i := range each {
				fmt.Fprintf(&routes, "route replace %s via %s dev %s onlink metric 20 proto static table %d\n",
					scalePrefix(side, i), own.Addr().Next(), datapath.InterfaceName(n+1, name), 1000+n)
			}
		}
	}
	began := time.Now()
	if err := input(ctx, l, lab.PoP, routes.String(), "ip", "-batch", "-"); err != nil {
		return err
	}
	took.Ours, took.Limit = append(took.Ours, ours.Milliseconds), append(took.Limit, time.Since(began).Seconds()*1000)
	var resident float64
	for _, bird := range birds {
		peak, err := peakMiB(bird.Process.Pid)
		if err != nil {
			return err
		}
		resident += peak
	}
	held.Ours, held.Limit = append(held.Ours, ours.PeakMiB), append(held.Limit, resident)
	return nil
}

// scaleLink returns the node's address on a link, and the AS number of the router.
func scaleLink(n, side int) (own netip.Prefix, asn uint32) {
	base := binary.BigEndian.AppendUint32(nil, 100<<24|64<<16|uint32(2*n+side)*4+1)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(base)), 30), uint32(65001 + side)
}

func scalePort(n, side int) string { return fmt.Sprintf("n%d%c", n, "az"[side]) }

// scalePrefix is a prefix that every session of a side announces.
func scalePrefix(side, i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(10 + side), byte(i >> 8), byte(i), 0}), 24)
}

func scaleConfig(side, connections, each int) string {
	var c strings.Builder
	fmt.Fprintf(&c, "log stderr { warning, error, fatal };\nrouter id 192.0.2.%d;\nprotocol device {}\n", 10+side)
	for n := range connections {
		own, asn := scaleLink(n, side)
		fmt.Fprintf(&c, "ipv4 table t%d;\nprotocol static s%d { ipv4 { table t%d; };\n", n, n, n)
		for i := range each {
			fmt.Fprintf(&c, "route %s blackhole;\n", scalePrefix(side, i))
		}
		fmt.Fprintf(&c, "}\nprotocol bgp b%d { local %s as %d; neighbor %s as 64500; connect delay time 1; connect retry time 1; error wait time 1, 2;\n", n, own.Addr().Next(), asn, own.Addr())
		fmt.Fprintf(&c, "ipv4 { table t%d; import all; export where source = RTS_STATIC; }; }\n", n)
	}
	return c.String()
}

// scaleBird starts BIRD and waits until it answers.
func scaleBird(ctx context.Context, l *lab.Lab, place, dir, config string) (*exec.Cmd, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, socket := filepath.Join(dir, "conf"), filepath.Join(dir, "ctl")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	_ = os.Remove(socket)
	bird := l.Command(ctx, place, "bird", "-f", "-c", file, "-s", socket)
	bird.Stderr = os.Stderr
	if err := bird.Start(); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		if exec.CommandContext(ctx, "birdc", "-s", socket, "show", "status").Run() == nil {
			return bird, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return bird, ctx.Err()
}

// peakMiB is the most memory that a process has had resident (proc(5), VmHWM).
func peakMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmHWM", pid)
}

// speakHere is the process that is the node. It does what the agent does when a route has changed, for every connection.
func speakHere(ctx context.Context, task string) error {
	what := strings.Fields(task)
	if len(what) != 3 {
		return fmt.Errorf("%s: %q", asSpeaker, what)
	}
	connections, err := strconv.Atoi(what[0])
	if err != nil {
		return err
	}
	each, err := strconv.Atoi(what[1])
	if err != nil {
		return err
	}
	node, err := edge.OpenKernelNode(edge.KernelOptions{PinDir: what[2], Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer node.Close()
	desired := edge.DesiredState{ASN: 64500, RouterID: netip.MustParseAddr("192.0.2.1"), ReadingInterval: time.Hour}
	for n := range connections {
		c := edge.DesiredConnection{ID: fmt.Sprint("con_", n), Tag: n + 1, Phase: edge.Testing, BandwidthMbps: datapath.MaxMbps}
		for side, a := range []*edge.Attachment{&c.A, &c.Z} {
			own, asn := scaleLink(n, side)
			*a = edge.Attachment{Interface: scalePort(n, side), Address: own, Peer: own.Addr().Next(), PeerASN: asn, PrefixLimit: 2 * each, Down: true}
			for i := range each {
				a.Prefixes = append(a.Prefixes, scalePrefix(side, i))
			}
		}
		desired.Connections = append(desired.Connections, c)
	}
	if err := node.Configure(ctx, desired); err != nil {
		return err
	}
	for _, c := range desired.Connections { // interfaces, meters and empty tables are no part of it
		if err := node.Ensure(ctx, c); err != nil {
			return err
		}
	}
	began := time.Now()
	for i := range desired.Connections {
		desired.Connections[i].A.Down, desired.Connections[i].Z.Down = false, false
	}
	for _, c := range desired.Connections {
		if err := node.Ensure(ctx, c); err != nil {
			return err
		}
	}
	installed := map[int]bool{}
	look := func(tag int) error {
		c := desired.Connections[tag-1]
		sessions, _, err := node.Sessions(ctx, tag)
		if err != nil {
			return err
		}
		full := len(sessions) == 2
		for _, s := range sessions {
			full = full && s.State == bgp.Established && s.PrefixesReceived == each
		}
		installed[tag] = full // what was announced before it is followed is in its table
		return node.Follow(ctx, c)
	}
	isFull := func() bool {
		full := 0
		for _, is := range installed {
			if is {
				full++
			}
		}
		return full == connections
	}
	for !isFull() {
		var tags []int
		select {
		case <-node.Changes():
			tags = node.Changed()
		case <-time.After(5 * time.Second): // as the agent does more seldom
			for _, c := range desired.Connections {
				tags = append(tags, c.Tag)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, tag := range tags {
			if err := look(tag); err != nil {
				return err
			}
		}
	}
	elapsed := time.Since(began)
	peak, err := peakMiB(os.Getpid())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(convergence{Milliseconds: elapsed.Seconds() * 1000, PeakMiB: peak})
}
