package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"crossbill/cmd/internal/bench"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
)

// The networks behind the routers and the links to them, untagged.
var (
	networkA, networkZ = netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	hostA, hostZ       = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
	linkA, linkZ       = netip.MustParsePrefix("100.64.0.1/30"), netip.MustParsePrefix("100.64.0.5/30")
	routerA, routerZ   = netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.0.6")
)

// path is a lab whose two networks reach each other.
type path struct {
	*lab.Lab
	*datapath.Datapath // nil: the kernel forwards
	connection         datapath.Connection
}

// newLab makes an empty lab.
func newLab(ctx context.Context, b *run, name string) (*lab.Lab, error) {
	name = fmt.Sprintf("bench%d-%s", os.Getpid(), name)
	return lab.New(ctx, lab.Options{Name: name, Dir: filepath.Join(b.Dir(), name)})
}

// open makes the path, through the datapath or through the kernel's own forwarding.
func open(ctx context.Context, b *run, name string, metered bool) (p *path, err error) {
	l, err := newLab(ctx, b, name)
	if err != nil {
		return nil, err
	}
	p = &path{Lab: l}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	for _, side := range []struct {
		place  string
		router netip.Addr
		own    netip.Prefix
		far    netip.Prefix
		via    netip.Addr
		host   netip.Addr
	}{{"a", routerA, networkA, networkZ, linkA.Addr(), hostA}, {"z", routerZ, networkZ, networkA, linkZ.Addr(), hostZ}} {
		err := l.JoinNetwork(ctx, side.place, lab.RouterConfig{Address: netip.PrefixFrom(side.router, 30), Networks: []netip.Prefix{side.own}})
		if err != nil {
			return p, err
		}
		if err := p.do(ctx, side.place, "ip", "route", "replace", side.far.String(), "via", side.via.String(), "src", side.host.String()); err != nil {
			return p, err
		}
	}
	if !metered {
		for _, command := range []string{
			"echo 1 > /proc/sys/net/ipv4/ip_forward",
			"ip addr add " + linkA.String() + " dev " + lab.PortA, "ip addr add " + linkZ.String() + " dev " + lab.PortZ,
			"ip route add " + networkA.String() + " via " + routerA.String(), "ip route add " + networkZ.String() + " via " + routerZ.String(),
		} {
			if err := p.do(ctx, lab.PoP, "sh", "-c", command); err != nil {
				return p, err
			}
		}
		return p, nil
	}
	if p.Datapath, err = datapath.Open(datapath.Options{PinDir: l.PinDir(), Namespace: l.Namespace(lab.PoP)}); err != nil {
		return p, err
	}
	p.connection = datapath.Connection{Tag: 1, BandwidthMbps: datapath.MaxMbps,
		A: datapath.Attachment{Port: lab.PortA, Link: datapath.Link{Address: linkA, Peer: routerA}}, Z: datapath.Attachment{Port: lab.PortZ, Link: datapath.Link{Address: linkZ, Peer: routerZ}}}
	if err := p.Ensure(p.connection); err != nil {
		return p, err
	}
	err = p.SetRoutes(1, []datapath.Route{{Side: datapath.SideA, Prefix: networkA, NextHop: routerA}, {Side: datapath.SideZ, Prefix: networkZ, NextHop: routerZ}})
	if err != nil {
		return p, err
	}
	return p, p.SetGate(1, true)
}

func (p *path) do(ctx context.Context, place, name string, args ...string) error {
	if out, err := p.Command(ctx, place, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func (p *path) close() error {
	var err error
	if p.Datapath != nil {
		err = p.Datapath.Close()
	}
	return errors.Join(err, p.Lab.Close())
}

// tcpThroughput moves what TCP can through meter and policer at a rate that never binds, against the kernel's own forwarding
// between the same interfaces.
func tcpThroughput(ctx context.Context, b *run) (figures []bench.Figure, err error) {
	ours, err := open(ctx, b, "ours", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.close()) }()
	plain, err := open(ctx, b, "plain", false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plain.close()) }()
	through := func(p *path) func() (float64, error) {
		return func() (float64, error) { return p.Throughput(ctx, "a", hostA, "z", hostZ, b.transfer) }
	}
	f, err := bench.Alternate(bench.Figure{Bench: "tcp_throughput", Unit: "Mbps", Floor: 0.95}, b.rounds, through(ours), through(plain))
	return []bench.Figure{f}, err
}

// policer moves what TCP can through a connection, against what was ordered.
func policer(ctx context.Context, b *run) (figures []bench.Figure, err error) {
	p, err := open(ctx, b, "policed", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, mbps := range b.rates {
		p.connection.BandwidthMbps = mbps
		if err := p.Ensure(p.connection); err != nil {
			return nil, err
		}
		f := bench.Figure{Bench: fmt.Sprint("policer_", mbps), Unit: "Mbps", Floor: 0.90, Ceiling: 1.02}
		for range b.rounds {
			got, err := p.Throughput(ctx, "a", hostA, "z", hostZ, b.transfer)
			if err != nil {
				return nil, err
			}
			f.Ours, f.Limit = append(f.Ours, got), append(f.Limit, float64(mbps))
		}
		figures = append(figures, f)
	}
	return figures, nil
}
