package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"crossbill/api/client"
	"crossbill/cmd/internal/bench"
	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/order"
	"crossbill/domain/pricing"
	"crossbill/edge"
	"crossbill/edge/lab"
	"crossbill/events"
)

// asNode makes this program the agent of a node that joins: a JSON [nodeRun].
const asNode = "CROSSBILL_BENCH_NODE"

// overheadLimit is what an order may take beside its BGP sessions, in milliseconds.
const overheadLimit = 1000

// What is sold, and between whom.
const (
	orderMbps    = 100
	orderNodeASN = 64512
)

// spareLinks are the routers' beside those of the connections: no connection was on the node before, but sagas that choose a tag
// at once skip some.
const spareLinks = 32

var (
	orderASNs     = [2]uint32{65010, 65020} // customer's, provider's
	orderNetworks = [2]string{"198.51.100.0/24", "203.0.113.0/24"}
	orderSides    = [2]string{"a", "z"}
)

// orderOverhead measures what orders take from their entry into the log to the connection in production, less what the
// same BIRDs need with a speaker that does nothing else: a whole platform, an agent in its namespace, and two BIRDs
// with a session for each connection. Of several orders placed at once the last counts.
func orderOverhead(ctx context.Context, b *run) ([]bench.Figure, error) {
	var all []bench.Figure
	for _, n := range b.orders {
		last := bench.Figure{Bench: fmt.Sprint("order_overhead_", n), Unit: "ms", Ceiling: 1}
		middle := bench.Figure{Bench: last.Bench + "_median", Unit: "ms"}
		for round := range b.rounds {
			ours, err := orderedAtOnce(ctx, b, fmt.Sprintf("order%d-%d", n, round), n)
			if err != nil {
				return nil, err
			}
			bare, err := establishedAtOnce(ctx, b, fmt.Sprintf("bare%d-%d", n, round), n)
			if err != nil {
				return nil, err
			}
			b.Say("%d orders: the last in production after %.0f ms, half of them after %.0f; bare BGP %.0f and %.0f ms, load %s",
				n, slices.Max(ours), bench.Median(ours), slices.Max(bare), bench.Median(bare), bench.Load())
			last.Ours, last.Limit = append(last.Ours, slices.Max(ours)-slices.Max(bare)), append(last.Limit, overheadLimit)
			middle.Ours, middle.Limit = append(middle.Ours, bench.Median(ours)-bench.Median(bare)), append(middle.Limit, overheadLimit)
		}
		all = append(all, last)
		if n > 1 {
			all = append(all, middle)
		}
	}
	return all, nil
}

// orderedAtOnce returns the milliseconds of each of n orders.
func orderedAtOnce(ctx context.Context, b *run, name string, n int) (_ []float64, err error) {
	l, err := newLab(ctx, b, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for side, place := range orderSides {
		for tag := 1; tag <= n+spareLinks; tag++ {
			own, _ := scaleLink(tag, side)
			if err := l.AddInterface(ctx, place, orderLink(tag), netip.PrefixFrom(own.Addr().Next(), own.Bits())); err != nil {
				return nil, err
			}
		}
	}
	birds, err := orderBirds(ctx, b, l, n)
	defer func() { end(birds) }()
	if err != nil {
		return nil, err
	}
	pool, err := b.Database(ctx, strings.ReplaceAll(name, "-", "_"))
	if err != nil {
		return nil, err
	}
	pool.Close()
	p, err := platform.Start(ctx, platform.Config{
		DataDir: filepath.Join(b.Dir(), name+"-data"), DatabaseURL: b.URLFor(strings.ReplaceAll(name, "-", "_")), ReadingInterval: 5 * time.Minute,
		Listen: []string{"127.0.0.1:0"}, EdgeListen: []string{l.ManagementHost.String() + ":0"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	m, err := openShop(ctx, p)
	if err != nil {
		return nil, err
	}
	node, err := startNode(ctx, l, nodeRun{Platform: p.EdgeURLs[0], Token: m.token, StateDir: filepath.Join(b.Dir(), name+"-state"), PinDir: l.PinDir()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopNode(node)) }()
	if err := m.awaitNode(ctx); err != nil {
		return nil, err
	}
	quotes, err := m.quotes(ctx, n)
	if err != nil {
		return nil, err
	}
	head, err := p.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	placing := make(chan error, 1)
	go func() {
		err := m.order(ctx, quotes)
		if err != nil {
			stop()
		}
		placing <- err
	}()
	took, err := followOrders(ctx, p.Log, head.Position, l, n)
	return took, errors.Join(<-placing, err)
}

// orderLink names a router's interface on the link of a tag.
func orderLink(tag int) string { return fmt.Sprint("r", tag) }

// orderBirds starts a BIRD on each side with a session on the link of each tag. Its timers are the lab's routers'.
func orderBirds(ctx context.Context, b *run, l *lab.Lab, n int) (birds []*exec.Cmd, _ error) {
	for side, place := range orderSides {
		var c strings.Builder
		fmt.Fprintf(&c, "log stderr { error, fatal };\nrouter id 192.0.2.%d;\nprotocol device {}\n", 10+side)
		fmt.Fprintf(&c, "protocol static announced { ipv4; route %s blackhole; }\n", orderNetworks[side])
		c.WriteString("protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }\n")
		for tag := 1; tag <= n+spareLinks; tag++ {
			own, _ := scaleLink(tag, side)
			fmt.Fprintf(&c, "protocol bgp b%d { local %s as %d; neighbor %s as %d; connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 9; keepalive time 3;\n",
				tag, own.Addr().Next(), orderASNs[side], own.Addr(), orderNodeASN)
			c.WriteString("ipv4 { import all; export where proto = \"announced\"; }; }\n")
		}
		bird, err := scaleBird(ctx, l, place, filepath.Join(b.Dir(), "bird-"+place), c.String())
		if bird != nil {
			birds = append(birds, bird)
		}
		if err != nil {
			return birds, err
		}
	}
	return birds, nil
}

func end(processes []*exec.Cmd) {
	for _, p := range processes {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
}

// followOrders reads the log until n connections are in production and returns how long each took. The customers' and the
// provider's networks are configured meanwhile: each link is in the VLAN that its connection was given.
func followOrders(ctx context.Context, log *events.Log, after events.Position, l *lab.Lab, n int) (took []float64, _ error) {
	placed := map[string]time.Time{} // by connection
	for len(took) < n {
		page, err := log.ReadAll(ctx, after, 1000)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			if err := log.Wait(ctx, after); err != nil {
				return nil, err
			}
		}
		for _, r := range page {
			after = r.Position
			switch e := r.Event.(type) {
			case order.Placed:
				placed[e.ConnectionID] = r.RecordedAt
			case connection.Allocated:
				if err := errors.Join(l.SetVLAN("a", orderLink(e.Tag), e.A.VLAN), l.SetVLAN("z", orderLink(e.Tag), e.Z.VLAN)); err != nil {
					return nil, err
				}
			case connection.Activated:
				took = append(took, milliseconds(r.RecordedAt.Sub(placed[e.ConnectionID])))
			case connection.Cancelled:
				return nil, fmt.Errorf("an order came to nothing: %s", e.Reason)
			}
		}
	}
	return took, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// shop is a provider with a listing on the node, and a customer with a port there.
type shop struct {
	operator, customer             *client.Client
	nodeID, token, port, listingID string
}

func openShop(ctx context.Context, p *platform.Platform) (m shop, err error) {
	if m.operator, err = client.New(p.URL, p.OperatorKey); err != nil {
		return m, err
	}
	if _, _, err := client.Decode[client.FeeSchedule](m.operator.PublishFeeSchedule(ctx, nil, client.NewFeeSchedule{BasisPoints: 300})); err != nil {
		return m, err
	}
	node, _, err := client.Decode[client.EdgeNode](m.operator.CreateEdgeNode(ctx, nil,
		client.NewEdgeNode{Name: "pop-1", Metro: "Amsterdam", Facility: "Dock 1", Asn: orderNodeASN, RouterId: "192.0.2.1"}))
	if err != nil {
		return m, err
	}
	m.nodeID = node.Id
	register := func(role client.Role, iface string) (c *client.Client, port string, _ error) {
		made, _, err := client.Decode[client.OrganisationWithKey](m.operator.CreateOrganisation(ctx, nil,
			client.NewOrganisation{Name: string(role), Slug: string(role), Roles: []client.Role{role}}))
		if err != nil {
			return nil, "", err
		}
		plugged, _, err := client.Decode[client.Port](m.operator.CreatePort(ctx, nil, client.NewPort{
			EdgeNodeId: node.Id, OrganisationId: made.Organisation.Id, Name: iface, Interface: iface, CapacityMbps: 800_000}))
		if err != nil {
			return nil, "", err
		}
		c, err = client.New(p.URL, made.ApiKey.Secret)
		return c, plugged.Id, err
	}
	provider, sold, err := register(client.RoleProvider, lab.PortZ)
	if err != nil {
		return m, err
	}
	if m.customer, m.port, err = register(client.RoleCustomer, lab.PortA); err != nil {
		return m, err
	}
	listing, _, err := client.Decode[client.Listing](provider.CreateListing(ctx, nil, client.ListingTerms{
		Title: "Private connect", Description: "A private connection.", Category: "private_connect", PortId: sold, Metro: "Amsterdam",
		BandwidthsMbps: []int{orderMbps}, Approval: client.ListingTermsApprovalAutomatic, Bgp: domain.BGP{ASN: orderASNs[1], Prefixes: []string{orderNetworks[1]}},
		Plan: pricing.Plan{Currency: "USD", Charges: []pricing.Charge{{ID: "port", Kind: pricing.KindRecurring, Description: "Port", Amount: domain.MustDecimal("400.00")}}},
	}))
	if err != nil {
		return m, err
	}
	m.listingID = listing.Id
	if _, _, err := client.Decode[client.Listing](provider.PublishListing(ctx, listing.Id, nil)); err != nil {
		return m, err
	}
	token, _, err := client.Decode[client.JoinToken](m.operator.CreateJoinToken(ctx, node.Id, nil, client.NewJoinToken{}))
	m.token = token.Token
	return m, err
}

// awaitNode waits until the node's agent has asked for its desired state.
func (m shop) awaitNode(ctx context.Context) error {
	for {
		node, _, err := client.Decode[client.EdgeNodeStatus](m.operator.GetEdgeNode(ctx, m.nodeID))
		if err != nil || node.LastSeenAt != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m shop) quotes(ctx context.Context, n int) ([]client.Quote, error) {
	quotes := make([]client.Quote, n)
	for i := range quotes {
		var err error
		quotes[i], _, err = client.Decode[client.Quote](m.customer.CreateQuote(ctx, nil, client.NewQuote{ListingId: m.listingID, BandwidthMbps: orderMbps}))
		if err != nil {
			return nil, err
		}
	}
	return quotes, nil
}

// order accepts the quotes, all of them at once.
func (m shop) order(ctx context.Context, quotes []client.Quote) error {
	errs := make([]error, len(quotes))
	var placing sync.WaitGroup
	for i, q := range quotes {
		placing.Go(func() {
			_, _, errs[i] = client.Decode[client.Order](m.customer.PlaceOrder(ctx, nil, client.NewOrder{
				QuoteId: q.Id, QuoteHash: q.Hash, PortId: m.port, Bgp: domain.BGP{ASN: orderASNs[0], Prefixes: []string{orderNetworks[0]}}}))
		})
	}
	placing.Wait()
	return errors.Join(errs...)
}

// nodeRun is what the process of a node is told.
type nodeRun struct {
	Platform, Token, StateDir, PinDir string
}

func startNode(ctx context.Context, l *lab.Lab, r nodeRun) (*exec.Cmd, error) {
	task, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	node := l.Command(ctx, lab.PoP, os.Args[0])
	node.Env = append(os.Environ(), asNode+"="+string(task))
	node.Stderr = os.Stderr
	return node, node.Start()
}

func stopNode(node *exec.Cmd) error {
	if err := node.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return node.Wait()
}

// nodeHere is the process of the node: it joins, and is its agent until it is told to end.
func nodeHere(ctx context.Context, task string) (err error) {
	var r nodeRun
	if err := json.Unmarshal([]byte(task), &r); err != nil {
		return err
	}
	if _, err := edge.Join(ctx, r.Platform, r.Token, r.StateDir); err != nil {
		return err
	}
	identity, err := edge.OpenIdentity(r.StateDir, r.Platform)
	if err != nil {
		return err
	}
	api, err := edge.NewAPI(identity)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	node, err := edge.OpenKernelNode(edge.KernelOptions{PinDir: r.PinDir, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	return edge.Run(ctx, edge.Config{Platform: api, Identity: identity, Node: node, StateDir: r.StateDir, Logger: log})
}

// asBare makes this program a bare speaker: the number of connections.
const asBare = "CROSSBILL_BENCH_BARE"

// establishedAtOnce returns the milliseconds that the sessions of each of n connections take with the same BIRDs, from the
// first call on, until both are established and a route has come over each. The speaker calls at once and knows no timer: a
// real one waits before its first call (BIRD for a second), and less would be left for the order.
func establishedAtOnce(ctx context.Context, b *run, name string, n int) (_ []float64, err error) {
	l, err := newLab(ctx, b, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for side, place := range orderSides {
		var ports, links strings.Builder
		for tag := 1; tag <= n; tag++ {
			own, _ := scaleLink(tag, side)
			port := scalePort(tag, side)
			fmt.Fprintf(&ports, "link add %s type veth peer name %s netns %s\naddr add %s dev %s\nlink set %s up\n", port, orderLink(tag), filepath.Base(l.Namespace(place)), own, port, port)
			fmt.Fprintf(&links, "addr add %s/30 dev %s\nlink set %s up\n", own.Addr().Next(), orderLink(tag), orderLink(tag))
		}
		if err := input(ctx, l, lab.PoP, ports.String(), "ip", "-batch", "-"); err != nil {
			return nil, err
		}
		if err := input(ctx, l, place, links.String(), "ip", "-batch", "-"); err != nil {
			return nil, err
		}
	}
	birds, err := orderBirds(ctx, b, l, n)
	defer func() { end(birds) }()
	if err != nil {
		return nil, err
	}
	speaker := l.Command(ctx, lab.PoP, os.Args[0])
	speaker.Env = append(os.Environ(), fmt.Sprintf("%s=%d", asBare, n))
	speaker.Stderr = os.Stderr
	out, err := speaker.Output()
	if err != nil {
		return nil, fmt.Errorf("the bare speaker: %w", err)
	}
	var took []float64
	return took, json.Unmarshal(out, &took)
}

// bareHere is the process of the bare speaker.
func bareHere(ctx context.Context, task string) error {
	var n int
	if _, err := fmt.Sscan(task, &n); err != nil {
		return err
	}
	took, errs := make([][2]float64, n), make([][2]error, n)
	var running sync.WaitGroup
	began := time.Now()
	for i := range n {
		for side := range orderSides {
			running.Go(func() {
				own, _ := scaleLink(i+1, side)
				errs[i][side] = bareSession(ctx, own.Addr(), own.Addr().Next(), func() { took[i][side] = milliseconds(time.Since(began)) })
			})
		}
	}
	running.Wait()
	slower := make([]float64, n)
	for i := range took {
		if err := errors.Join(errs[i][:]...); err != nil {
			return err
		}
		slower[i] = max(took[i][0], took[i][1])
	}
	return json.NewEncoder(os.Stdout).Encode(slower)
}

// The messages of RFC 4271 section 4 that a session needs at least, and the length of their header.
const (
	bgpOpen      = 1
	bgpUpdate    = 2
	bgpKeepalive = 4
	bgpHeader    = 19
)

// bareSession opens a session with a router, announces a route, and calls done when one has come.
func bareSession(ctx context.Context, own, peer netip.Addr, done func()) error {
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, 0)), Timeout: time.Minute}
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(peer, 179).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	say := func(kind byte, body ...byte) error {
		message := slices.Concat(slices.Repeat([]byte{0xff}, 16), []byte{0, byte(bgpHeader + len(body)), kind}, body)
		_, err := conn.Write(message)
		return err
	}
	address := own.As4()
	// Version, AS number, 90 s of hold time, identifier, no optional parameters.
	if err := say(bgpOpen, slices.Concat([]byte{4, orderNodeASN >> 8, orderNodeASN & 0xff, 0, 90}, []byte{192, 0, 2, 1}, []byte{0})...); err != nil {
		return err
	}
	for header := make([]byte, bgpHeader); ; {
		if _, err := io.ReadFull(conn, header); err != nil {
			return err
		}
		body := make([]byte, max(0, int(header[16])<<8+int(header[17])-bgpHeader))
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
		switch header[18] {
		case bgpOpen:
			err = say(bgpKeepalive)
		case bgpKeepalive: // the session is established. ORIGIN, AS_PATH, NEXT_HOP, and a /30
			network := netip.PrefixFrom(own, 30).Masked().Addr().As4()
			err = say(bgpUpdate, slices.Concat([]byte{0, 0, 0, 18, 0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, orderNodeASN >> 8, orderNodeASN & 0xff, 0x40, 3, 4},
				address[:], []byte{30}, network[:])...)
		case bgpUpdate:
			if len(body) > 4 { // else it ends the initial update
				done()
				return nil
			}
		default:
			err = fmt.Errorf("the router at %s says %d: %x", peer, header[18], body)
		}
		if err != nil {
			return err
		}
	}
}
