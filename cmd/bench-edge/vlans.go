package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"crossbill/cmd/internal/bench"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// asSender makes this program a sender of frames: "interface, MAC address of the port, VLANs, milliseconds".
const asSender = "CROSSBILL_BENCH_SEND"

// frameLength is the shortest frame with a tag (IEEE 802.3 and 802.1Q), without the frame check sequence.
const frameLength = 64

// vsNftables counts the short frames that cross in a second, spread over many VLANs, one connection or one chain each. Ours meters
// where they come in and where they leave, polices, routes and tags them anew. One ruleset counts them once, limits and
// forwards them as they are, so that no router would take them; with another one the next hop would: it sets addresses
// and time to live, and counts what leaves.
func vsNftables(ctx context.Context, b *run) (figures []bench.Figure, err error) {
	ours, err := openVLANs(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	through := func(l *lab.Lab) func() (float64, error) {
		return func() (float64, error) { return flood(ctx, l, b) }
	}
	for _, against := range []struct {
		bench string
		whole bool
	}{{"vs_nftables", false}, {"vs_nftables_whole", true}} {
		rules, err := openRules(ctx, b, against.whole)
		if err != nil {
			return nil, err
		}
		f, err := bench.Alternate(bench.Figure{Bench: against.bench, Unit: "frames/s", Floor: 1}, b.rounds, through(ours.Lab), through(rules))
		if err := errors.Join(err, rules.Close()); err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// openVLANs makes a connection for each VLAN, the same at both ports.
func openVLANs(ctx context.Context, b *run) (p *path, err error) {
	l, err := newLab(ctx, b, "vlans")
	if err != nil {
		return nil, err
	}
	p = &path{Lab: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.Datapath, err = datapath.Open(datapath.Options{PinDir: l.PinDir(), Namespace: l.Namespace(lab.PoP)}); err != nil {
		return p, err
	}
	var neighbours strings.Builder
	for n := 1; n <= b.vlans; n++ {
		address := func(host uint32) netip.Addr { // of links of four addresses, two for a connection
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 172<<24|16<<16+uint32(n)*8+host)))
		}
		c := datapath.Connection{Tag: n, BandwidthMbps: datapath.MaxMbps,
			A: datapath.Attachment{Port: lab.PortA, VLAN: n, Link: datapath.Link{Address: netip.PrefixFrom(address(1), 30), Peer: address(2)}},
			Z: datapath.Attachment{Port: lab.PortZ, VLAN: n, Link: datapath.Link{Address: netip.PrefixFrom(address(5), 30), Peer: address(6)}}}
		if err := p.Ensure(c); err != nil {
			return p, err
		}
		if err := p.SetRoutes(n, []datapath.Route{{Side: datapath.SideZ, Prefix: networkZ, NextHop: c.Z.Peer}}); err != nil {
			return p, err
		}
		if err := p.SetGate(n, true); err != nil {
			return p, err
		}
		fmt.Fprintf(&neighbours, "neigh replace %s lladdr 02:00:00:00:00:06 dev %s nud permanent\n", c.Z.Peer, datapath.InterfaceName(n, datapath.SideZ))
	}
	return p, input(ctx, l, lab.PoP, neighbours.String(), "ip", "-batch", "-")
}

// openRules makes a chain for each VLAN that counts and limits; if it is to do the whole of it, what a router would do, and one for
// what leaves.
func openRules(ctx context.Context, b *run, whole bool) (*lab.Lab, error) {
	l, err := newLab(ctx, b, "rules")
	if err != nil {
		return nil, err
	}
	var chains, comes, leaves strings.Builder
	for n := 1; n <= b.vlans; n++ {
		routed := ""
		if whole {
			routed = "ether saddr set 02:00:00:00:00:05; ether daddr set 02:00:00:00:00:06; ip ttl set 63; "
			fmt.Fprintf(&chains, "chain out%d { counter; }\n", n)
			fmt.Fprintf(&leaves, "%d : jump out%d, ", n, n)
		}
		fmt.Fprintf(&chains, "chain in%d { limit rate over %d mbytes/second drop; counter; %sfwd to %q; }\n", n, datapath.MaxMbps/8/1000, routed, lab.PortZ)
		fmt.Fprintf(&comes, "%d : jump in%d, ", n, n)
	}
	ruleset := fmt.Sprintf("table netdev bench {\n%schain in { type filter hook ingress device %q priority 0; policy drop; vlan id vmap { %s }; }\n", &chains, lab.PortA, &comes)
	if whole {
		ruleset += fmt.Sprintf("chain out { type filter hook egress device %q priority 0; policy accept; vlan id vmap { %s }; }\n", lab.PortZ, &leaves)
	}
	ruleset += "}\n"
	if err := input(ctx, l, lab.PoP, ruleset, "nft", "-f", "-"); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func input(ctx context.Context, l *lab.Lab, place, text, name string, args ...string) error {
	command := l.Command(ctx, place, name, args...)
	command.Stdin = strings.NewReader(text)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %.500s", name, err, out)
	}
	return nil
}

// flood sends as fast as one sender can, and returns how many frames a second left at the other port.
func flood(ctx context.Context, l *lab.Lab, b *run) (float64, error) {
	link, err := l.Command(ctx, lab.PoP, "ip", "-o", "link", "show", "dev", lab.PortA).Output()
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(link), "link/ether ")
	mac, _, _ := strings.Cut(rest, " ")
	_, before, _, err := l.WirePackets("z")
	if err != nil {
		return 0, err
	}
	command := l.Command(ctx, "a", os.Args[0])
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", asSender, lab.RouterInterface, mac, b.vlans, b.flood.Milliseconds()))
	if out, err := command.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("sender: %w: %s", err, out)
	}
	_, after, _, err := l.WirePackets("z")
	if err == nil && after == before {
		err = errors.New("no frame crossed")
	}
	return float64(after-before) / b.flood.Seconds(), err
}

// sendHere is the process that sends.
func sendHere(_ context.Context, task string) error {
	what := strings.Fields(task)
	if len(what) != 4 {
		return fmt.Errorf("%s: %q", asSender, what)
	}
	mac, err := net.ParseMAC(what[1])
	if err != nil {
		return err
	}
	vlans, err := strconv.Atoi(what[2])
	if err != nil {
		return err
	}
	milliseconds, err := strconv.Atoi(what[3])
	if err != nil {
		return err
	}
	frames := make([][]byte, vlans)
	for n := range frames {
		f := append(append([]byte{}, mac...), 2, 0, 0, 0, 0, 2, 0x81, 0, byte((n+1)>>8), byte(n+1), 8, 0)
		f = append(f, 0x45, 0, 0, frameLength-18, 0, 0, 0, 0, 64, 17, 0, 0)
		f = append(append(f, hostA.AsSlice()...), hostZ.AsSlice()...)
		frames[n] = append(f, make([]byte, frameLength-len(f))...)
	}
	return send(what[0], frames, time.Duration(milliseconds)*time.Millisecond)
}
