package main

import (
	"context"
	"crypto/rand"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/edge/lab"
)

// demoLabPrefix begins the names of the demo's namespaces. What a killed demo left under it is removed by the next.
const demoLabPrefix = "cbdemo"

// newDemoNetwork returns the lab where this machine can run it, else the software edge, and says which and why.
func newDemoNetwork(ctx context.Context, software bool, dir string, log io.Writer, story *story) (demoNetwork, error) {
	unsupported := lab.Supported()
	if software || unsupported != nil {
		if unsupported != nil {
			story.say("Lab", "no real edge here: %v", unsupported)
		}
		story.say("Lab", "uses the software edge: no eBPF, no BGP, bytes counted by a relay in user space")
		return newSoftwareNetwork(dir, log)
	}
	swept, err := lab.Sweep(demoLabPrefix)
	if err != nil {
		return nil, err
	}
	for _, name := range swept {
		story.say("Lab", "removed what the dead run %s had left", name)
	}
	l, err := lab.New(ctx, lab.Options{Name: demoLabPrefix + strings.ToLower(rand.Text()[:5]), Dir: dir})
	if err != nil {
		return nil, err
	}
	story.say("Lab", "made three network namespaces: the customer's router, the PoP node, the provider's router")
	return &labNetwork{lab: l, dir: dir, log: log}, nil
}

type labNetwork struct {
	lab   *lab.Lab
	dir   string
	log   io.Writer
	agent *exec.Cmd

	customer, provider netip.Addr // a host in each router's network
}

func (n *labNetwork) edge() string                       { return "ebpf" }
func (n *labNetwork) ports() (customer, provider string) { return lab.PortA, lab.PortZ }
func (n *labNetwork) listenOn() string                   { return n.lab.ManagementHost.String() }

// startAgent joins and starts `crossbill edge` inside the PoP's namespace, as it would run on a node.
func (n *labNetwork) startAgent(ctx context.Context, p *platform.Platform, token string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	state := filepath.Join(n.dir, "agent")
	if err := joinAgent(n.lab.Command(ctx, lab.PoP, self, "edge", "join", "--platform", p.EdgeURLs[0], "--token-file", "-", "--state-dir", state), token); err != nil {
		return err
	}
	n.agent = n.lab.Command(ctx, lab.PoP, self, "edge", "--state-dir", state, "--pin-dir", n.lab.PinDir())
	return startAgent(n.agent, n.log)
}

func (n *labNetwork) configureRouter(ctx context.Context, side string, a client.RouterAttachment) error {
	config, err := routerConfig(a)
	if err != nil {
		return err
	}
	host := config.Networks[0].Masked().Addr().Next()
	if side == "a" {
		n.customer = host
	} else {
		n.provider = host
	}
	return n.lab.StartRouter(ctx, side, config)
}

// routerConfig is a router's configuration by what the API tells its owner.
func routerConfig(a client.RouterAttachment) (config lab.RouterConfig, _ error) {
	config = lab.RouterConfig{VLAN: a.Vlan, ASN: a.Asn, PeerASN: a.PeerAsn}
	for _, link := range []struct {
		address, peer *string
		own           *netip.Prefix
		edge          *netip.Addr
	}{{a.Address, a.PeerAddress, &config.Address, &config.Peer}, {a.Ipv6Address, a.Ipv6PeerAddress, &config.IPv6Address, &config.IPv6Peer}} {
		if link.address == nil || link.peer == nil {
			continue
		}
		var err error
		if *link.own, err = netip.ParsePrefix(*link.address); err != nil {
			return config, err
		}
		if *link.edge, err = netip.ParseAddr(*link.peer); err != nil {
			return config, err
		}
	}
	for _, p := range a.Prefixes {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return config, err
		}
		config.Networks = append(config.Networks, prefix)
	}
	return config, nil
}

func (n *labNetwork) bgp(ctx context.Context) (string, error) {
	for _, side := range []string{"a", "z"} {
		state, err := n.lab.BGPState(ctx, side)
		if err != nil {
			return "", err
		}
		if state != "Established" {
			return state, nil
		}
	}
	return "established", nil
}

func (n *labNetwork) learned(ctx context.Context) (customer, provider []netip.Prefix, err error) {
	if customer, err = n.lab.RouterRoutes(ctx, "a"); err != nil {
		return nil, nil, err
	}
	provider, err = n.lab.RouterRoutes(ctx, "z")
	return customer, provider, err
}

const (
	pingCount   = 3
	pingTimeout = time.Second
)

func (n *labNetwork) ping(ctx context.Context) (bool, error) {
	destination := n.provider
	if !destination.IsValid() { // its router has no address yet; any address of the network will do
		destination = netip.MustParsePrefix(demoProviderBGP.Prefixes[0]).Addr().Next()
	}
	received, err := n.lab.Ping(ctx, "a", n.customer, destination, pingCount, pingTimeout)
	return received > 0, err
}

func (n *labNetwork) transfer(ctx context.Context, bytes int64) (int64, error) {
	t, err := n.lab.Iperf(ctx, "a", n.customer, n.provider, bytes)
	return t.BytesReceived, err
}

func (n *labNetwork) wireBytes() (uint64, error) {
	rx, tx, err := n.lab.WireBytes("a")
	return rx + tx, err
}

func (n *labNetwork) close() error {
	stopAgent(n.agent)
	return n.lab.Close()
}
