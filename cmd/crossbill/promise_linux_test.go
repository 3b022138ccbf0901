package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"crossbill/api/client"
	"crossbill/cmd/internal/platform"
	"crossbill/domain/reading"
	"crossbill/edge"
	"crossbill/edge/datapath"
	"crossbill/edge/lab"
	"crossbill/events/postgres"
)

var (
	soakFor  = flag.Duration("soak", promiseFull, "how long TestPromise goes on; `make soak` takes SOAK")
	soakSeed = flag.Uint64("soak-seed", 0, "of TestPromise's choices; 0 takes one by the clock")
)

// What TestPromise does at least in promiseFull, however slow the machine: it goes on for promiseOvertime to get there.
var promiseLeast = map[string]int{"agent": 20, "platform": 10, "PostgreSQL": 5, "cut": 4}

const (
	promiseFull        = 2 * time.Minute // a shorter soak does a share of it
	promiseKills       = 60              // of the three together
	promiseConnections = 3               // all on the same two ports
	promiseMbps        = 3000            // each; the bucket of 200 ms holds many of the transfers
	promiseFloor       = 0.25            // the part of the least without which the test says nothing
	promiseOvertime    = 6 * time.Minute // for what is lacking when the asked time is over
	promiseStep        = 2 * time.Minute // for any one wait
	promisePort        = "8080"          // on the lab's own address, so nobody else's
	promiseEdgePort    = "8443"
	promiseSettling    = time.Second // before the opening within which its frames are looked for
	promisePrefix      = "cbpromise" // of the labs; what a killed run left is removed by the next
	promiseMetric      = "4000"      // of the routers' static routes: behind those by BGP
	promiseMaxBytes    = 3_000_000   // of one TCP transfer
	promiseMaxRest     = 700 * time.Millisecond
)

// TestPromise holds the edge to its promise: bytes on the wire = bytes metered = bytes in the log = bytes rated, exactly and for
// every connection, while the agent, the platform and PostgreSQL are each killed with SIGKILL again and again and the
// network between agent and platform is cut.
//
// Three connections share the lab's two ports. Behind each is a router of its own on both sides, and traffic crosses
// all the while, both ways. Four hands do damage independently, so that what one does meets whatever the others have
// just done: one kills the agent, one the platform, one the postmaster (its fsync is on), and one cuts the management link, by
// taking the interface down or by sending its frames to nobody. Each waits until the thing works again before its next.
//
// The wire is read from the kernel's counters of each router's own interface, with no code of the edge in between, and
// the ports' counters must be the sum of those.
func TestPromise(t *testing.T) {
	needLab(t) // and not parallel: it takes what the machine has, and the demo's steps have their times
	p := newPromise(t)
	p.provision()

	began := time.Now()
	stopTraffic := p.traffic()
	p.damage(began)
	took := time.Since(began)
	stopTraffic()
	t.Logf("in %v: %s", took.Round(time.Second), &p.done)
	t.Logf("ended by themselves, as when PostgreSQL was away: agent %d, platform %d", p.agent.ended.Load(), p.platform.ended.Load())
	p.settle()
	p.compare()
}

func below(choose *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(choose.Int64N(int64(limit)))
}

// tally counts what was done, by kind.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(kind string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[kind] += n
}

func (c *tally) kills() int { return c.n["agent"] + c.n["platform"] + c.n["PostgreSQL"] }

// enough reports whether that part of the least was done.
func (c *tally) enough(of float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	share := of * min(1, float64(*soakFor)/float64(promiseFull))
	for kind, least := range promiseLeast {
		if float64(c.n[kind]) < share*float64(least) {
			return false
		}
	}
	return float64(c.kills()) >= share*promiseKills
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d kills (agent %d, platform %d, PostgreSQL %d), %d cuts; %d TCP transfers, %d of them broken, %d pings of %d answered",
		c.kills(), c.n["agent"], c.n["platform"], c.n["PostgreSQL"], c.n["cut"], c.n["transfer"], c.n["broken"], c.n["answered"], c.n["ping"])
}

// kept is a process that is started again whenever it ends, as a service manager does.
type kept struct {
	command func() *exec.Cmd
	ended   atomic.Int64 // times it ended without having been killed

	mu      sync.Mutex
	process *exec.Cmd
	started time.Time
	killed  bool
	stopped bool
	done    chan struct{}
}

const keptRestart = 100 * time.Millisecond // after the end

func keep(t *testing.T, command func() *exec.Cmd) *kept {
	k := &kept{command: command, done: make(chan struct{})}
	go k.run(t)
	t.Cleanup(k.stop)
	return k
}

func (k *kept) run(t *testing.T) {
	defer close(k.done)
	runtime.LockOSThread() // the kernel sends a child its death signal when the thread ends that started it
	for {
		k.mu.Lock()
		if k.stopped {
			k.mu.Unlock()
			return
		}
		k.process, k.killed = k.command(), false
		k.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := k.process.Start()
		k.started = time.Now()
		process := k.process
		k.mu.Unlock()
		if err != nil {
			t.Error(err)
			return
		}
		_ = process.Wait()
		k.mu.Lock()
		if !k.killed && !k.stopped {
			k.ended.Add(1)
		}
		k.killed = true // it is dead; the next kill is the next process's
		k.mu.Unlock()
		time.Sleep(keptRestart)
	}
}

// kill kills the process; it reports false if there was none alive.
func (k *kept) kill() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process == nil || k.process.Process == nil || k.killed {
		return false
	}
	k.killed = k.process.Process.Kill() == nil
	return k.killed
}

// since returns when the living process was started; ok is false if none lives.
func (k *kept) since() (_ time.Time, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.started, k.process != nil && !k.killed
}

func (k *kept) stop() {
	k.mu.Lock()
	k.stopped = true
	if k.process != nil && k.process.Process != nil && !k.killed {
		_ = k.process.Process.Kill()
	}
	k.mu.Unlock()
	<-k.done
}

// promise is the whole system of the test.
type promise struct {
	t    *testing.T
	lab  *lab.Lab
	dir  string
	seed uint64
	done tally

	scene    *scene
	server   *postgres.Server
	platform *kept
	agent    *kept

	connections []*promised
	basePorts   bytesBoth // as promised.base
}

// promised is one connection with its two routers.
type promised struct {
	id, order          string
	name               string // of its routers' places: a/name, z/name
	customer, provider netip.Addr
	wire               *routerWire
	samplers           [2]*wireSampler // in and out, until it is in production
	stopSampling       func()
	opening            [2][]uint64 // what the wire may have had when the gate opened
	production         time.Time
	base               bytesBoth // on the wire before the traffic and the damage
	baseMetered        bytesBoth
}

func newPromise(t *testing.T) *promise {
	t.Helper()
	p := &promise{t: t, seed: *soakSeed, done: tally{n: map[string]int{}}}
	if p.seed == 0 {
		p.seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-soak-seed %d", p.seed)
	if _, err := lab.Sweep(promisePrefix); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.dir, err = os.MkdirTemp("", "promise"); err != nil { // short: PostgreSQL's socket is in it
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("everything is left in %s", p.dir)
			return
		}
		os.RemoveAll(p.dir)
	})
	os.Chmod(p.dir, 0o711)
	if p.lab, err = lab.New(t.Context(), lab.Options{Name: fmt.Sprintf("%s%d", promisePrefix, os.Getpid()), Dir: filepath.Join(p.dir, "lab")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	p.startServer()
	if t.Failed() {
		t.FailNow()
	}
	url := p.server.URL // the next ones have the same
	t.Cleanup(func() { p.server.Stop(context.Background()) })
	p.platform = keep(t, func() *exec.Cmd {
		serve := command(context.Background(), "serve", "--data-dir", filepath.Join(p.dir, "data"),
			"--listen", p.lab.ManagementHost.String()+":"+promisePort, "--reading-interval", "1s",
			"--edge-listen", p.lab.ManagementHost.String()+":"+promiseEdgePort)
		serve.Env = append(serve.Env, "DATABASE_URL="+url)
		serve.Stdout, serve.Stderr = p.output("platform.log"), p.output("platform.log")
		return serve
	})
	return p
}

// output is a log that the process of a name appends to.
func (p *promise) output(name string) io.Writer {
	file, err := os.OpenFile(filepath.Join(p.dir, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Error(err)
		return io.Discard
	}
	p.t.Cleanup(func() { file.Close() })
	return file
}

func (p *promise) url() string {
	return "http://" + p.lab.ManagementHost.String() + ":" + promisePort
}

func (p *promise) startServer() {
	server, err := postgres.Start(context.Background(), postgres.Options{DataDir: filepath.Join(p.dir, "pg")})
	if err != nil {
		p.t.Error(err)
		return
	}
	p.server = server
}

// await waits until f is content, or tells what it said last.
func (p *promise) await(what string, f func() error) bool {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), promiseStep)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			p.t.Errorf("not %s within %s: %v", what, promiseStep, err)
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *promise) must(what string, f func() error) {
	p.t.Helper()
	if !p.await(what, f) {
		p.t.FailNow()
	}
}

func (p *promise) fatal(err error, what string) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// healthy asks the platform for the head of its log, which it has from PostgreSQL.
func (p *promise) healthy() error {
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url()+"/v1/health", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// promiseNetwork is the demo's lab, with an agent that is kept.
type promiseNetwork struct {
	labNetwork
	promise *promise
}

func (n *promiseNetwork) startAgent(ctx context.Context, _ *platform.Platform, token string) error {
	p := n.promise
	self, err := os.Executable()
	if err != nil {
		return err
	}
	join := p.lab.Command(ctx, lab.PoP, self, "edge", "join", "--platform", "https://"+p.lab.ManagementHost.String()+":"+promiseEdgePort,
		"--token-file", "-", "--state-dir", p.stateDir())
	if err := joinAgent(join, token); err != nil {
		return err
	}
	p.agent = keep(p.t, func() *exec.Cmd {
		agent := p.lab.Command(context.Background(), lab.PoP, self, "edge", "--state-dir", p.stateDir(), "--pin-dir", p.lab.PinDir())
		agent.Env = append(os.Environ(), asCommand+"=1")
		agent.Stdout, agent.Stderr = p.output("agent.log"), p.output("agent.log")
		return agent
	})
	return nil
}

func (p *promise) stateDir() string { return filepath.Join(p.dir, "agent") }

// provision sells the connections and waits until they are in production.
func (p *promise) provision() {
	t, ctx := p.t, p.t.Context()
	p.must("serving", p.healthy)
	key, err := os.ReadFile(filepath.Join(p.dir, "data", platform.OperatorKeyFile))
	p.fatal(err, "the operator's key")
	d := &scene{story: newStory(io.Discard), platform: &platform.Platform{URL: p.url(), OperatorKey: strings.TrimSpace(string(key))}, outDir: p.dir}
	d.network = &promiseNetwork{labNetwork{lab: p.lab}, p}
	p.scene = d
	p.fatal(d.stageInventory(ctx), "inventory")
	listing, _, err := client.Decode[client.Listing](d.provider.CreateListing(ctx, &client.CreateListingParams{}, client.ListingTerms{
		Title: demoTitle, Description: demoTitle, Category: "private_connect", PortId: d.providerPort, Metro: "Amsterdam",
		BandwidthsMbps: []int{promiseMbps}, Approval: client.ListingTermsApprovalAutomatic, Bgp: demoProviderBGP, Plan: demoPlan(),
	}))
	p.fatal(err, "draft the listing")
	listing, position, err := client.Decode[client.Listing](d.provider.PublishListing(ctx, listing.Id, &client.PublishListingParams{}))
	p.fatal(err, "publish the listing")
	_, _, err = client.Decode[client.ListingPage](d.customer.SearchListings(ctx, &client.SearchListingsParams{AtPosition: &position}))
	p.fatal(err, "search")
	for i := range promiseConnections {
		quote, _, err := client.Decode[client.Quote](d.customer.CreateQuote(ctx, &client.CreateQuoteParams{}, client.NewQuote{ListingId: listing.Id, BandwidthMbps: promiseMbps}))
		p.fatal(err, "quote")
		order, _, err := client.Decode[client.Order](d.customer.PlaceOrder(ctx, &client.PlaceOrderParams{},
			client.NewOrder{QuoteId: quote.Id, QuoteHash: quote.Hash, PortId: d.customerPort, Bgp: demoCustomerBGP}))
		p.fatal(err, "order")
		p.connections = append(p.connections, &promised{id: order.ConnectionId, order: order.Id, name: fmt.Sprintf("r%d", i+1)})
	}
	for _, c := range p.connections {
		p.join(c)
	}
	for _, c := range p.connections {
		p.awaitState(c, client.ConnectionStateProduction)
		p.must("sampled up to production", func() error { return c.opened() })
		c.stopSampling()
		if len(c.opening[0])*len(c.opening[1]) != 1 {
			t.Logf("%s: frames passed shortly before the gate opened: the wire had %v", c.name, c.opening)
		}
	}
	p.must("quiet before the traffic", func() error {
		ports, wires, metered, err := p.still()
		if err != nil {
			return err
		}
		p.basePorts = ports
		for i, c := range p.connections {
			c.base, c.baseMetered = wires[i], metered[i]
		}
		return nil
	})
}

func (p *promise) awaitState(c *promised, state client.ConnectionState) (mine client.Connection) {
	p.t.Helper()
	p.must(string(state), func() (err error) {
		mine, _, err = client.Decode[client.Connection](p.scene.customer.GetConnection(p.t.Context(), c.id))
		if err == nil && mine.State != state {
			err = fmt.Errorf("it is %s", mine.State)
		}
		return err
	})
	if mine.BillingFrom != nil {
		c.production = *mine.BillingFrom
	}
	return mine
}

// join waits until a connection is in testing and starts its routers. The wire is silent until then, and known from there.
func (p *promise) join(c *promised) {
	p.t.Helper()
	ctx := p.t.Context()
	mine := p.awaitState(c, client.ConnectionStateTesting)
	theirs, _, err := client.Decode[client.Connection](p.scene.provider.GetConnection(ctx, c.id))
	p.fatal(err, "the provider's attachment")
	// The agent has the connection when its interface is there: the meter counts from then on.
	for _, side := range []struct {
		name       string
		attachment *client.RouterAttachment
		there      []string
		host       *netip.Addr
	}{{"a", mine.Attachment, demoProviderBGP.Prefixes, &c.customer}, {"z", theirs.Attachment, demoCustomerBGP.Prefixes, &c.provider}} {
		place := side.name + "/" + c.name
		config, err := routerConfig(*side.attachment)
		p.fatal(err, "the attachment")
		*side.host = config.Networks[0].Masked().Addr().Next()
		p.must("metered", func() error { _, err := p.tag(c); return err })
		p.fatal(p.lab.StartRouter(ctx, place, config), "start "+place)
		if side.name == "a" {
			c.wire, err = newRouterWire(p.lab.Namespace(place))
			p.fatal(err, "the wire of "+place)
			p.t.Cleanup(c.wire.close)
			sampling, stop := context.WithCancel(ctx)
			p.t.Cleanup(stop)
			c.stopSampling = stop
			c.samplers = [2]*wireSampler{
				{read: func() (uint64, error) { w, err := c.wire.bytes(); return w[0], err }},
				{read: func() (uint64, error) { w, err := c.wire.bytes(); return w[1], err }},
			}
			for _, s := range c.samplers {
				go s.run(sampling)
			}
		}
		// A static route behind the one by BGP: traffic goes on while a new agent's sessions come up.
		for _, network := range side.there {
			out, err := p.lab.Command(ctx, place, "ip", "route", "add", network, "via", config.Peer.String(), "metric", promiseMetric).CombinedOutput()
			p.fatal(err, "the static route: "+string(out))
		}
	}
}

// tag is the connection's number on the node, once its meter is there.
func (p *promise) tag(c *promised) (int, error) {
	file, err := os.Open(filepath.Join(p.stateDir(), "desired.json"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	tag := 0
	for states := json.NewDecoder(file); states.More(); { // the whole, and what has changed of it since
		var desired edge.DesiredState
		if err := states.Decode(&desired); err != nil {
			return 0, err
		}
		for _, d := range desired.Connections {
			if d.ID == c.id {
				tag = d.Tag
			}
		}
	}
	if tag == 0 {
		return 0, errors.New("the agent does not know the connection")
	}
	out, err := p.lab.Command(p.t.Context(), lab.PoP, "ip", "link", "show", datapath.InterfaceName(tag, datapath.SideZ)).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return tag, nil
}

// bytesBoth is bytes in, from the customer, and out, towards the customer.
type bytesBoth [2]uint64

func (b bytesBoth) minus(o bytesBoth) bytesBoth { return bytesBoth{b[0] - o[0], b[1] - o[1]} }
func (b bytesBoth) plus(o bytesBoth) bytesBoth  { return bytesBoth{b[0] + o[0], b[1] + o[1]} }

// routerWire reads the kernel's counters of a router's own interface. All that crosses it crosses the port, with a tag.
type routerWire struct {
	handle *netlink.Handle
	index  int
}

func newRouterWire(namespace string) (*routerWire, error) {
	there, err := netns.GetFromPath(namespace)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	w := &routerWire{}
	if w.handle, err = netlink.NewHandleAt(there, unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	link, err := w.handle.LinkByName(lab.RouterInterface)
	if err != nil {
		return nil, err
	}
	w.index = link.Attrs().Index
	return w, nil
}

// bytes returns what has crossed, as it was on the port: every frame with its VLAN tag of four bytes.
func (w *routerWire) bytes() (bytesBoth, error) {
	link, err := w.handle.LinkByIndex(w.index)
	if err != nil {
		return bytesBoth{}, err
	}
	const tag = 4
	s := link.Attrs().Statistics
	return bytesBoth{s.TxBytes + tag*s.TxPackets, s.RxBytes + tag*s.RxPackets}, nil
}

func (w *routerWire) close() { w.handle.Close() }

// opened finds what the wire may have had when the gate was opened. The agent reads the meter, keeps that, opens the gate and
// takes the time; so it is one count, but for frames of the sessions that passed just before that time.
func (c *promised) opened() error {
	for way, s := range c.samplers {
		s.mu.Lock()
		values, last, err := s.moves, s.last, s.err
		s.mu.Unlock()
		if err != nil || !last.After(c.production) {
			return fmt.Errorf("sampled up to %v: %v", last, err)
		}
		c.opening[way] = nil
		for i, m := range values {
			begun := !m.after.After(c.production)
			over := i+1 < len(values) && !values[i+1].by.After(c.production.Add(-promiseSettling))
			if begun && !over {
				c.opening[way] = append(c.opening[way], m.bytes)
			}
		}
	}
	return nil
}

// still reads the customer's port, the wires and the meters at an instant when nothing passes; it is an error if something did.
func (p *promise) still() (port bytesBoth, wires, metered []bytesBoth, err error) {
	read := func() (port bytesBoth, wires []bytesBoth, err error) {
		if port[0], port[1], err = p.lab.WireBytes("a"); err != nil {
			return port, nil, err
		}
		for _, c := range p.connections {
			wire, err := c.wire.bytes()
			if err != nil {
				return port, nil, err
			}
			wires = append(wires, wire)
		}
		return port, wires, nil
	}
	before, wiresBefore, err := read()
	if err != nil {
		return port, nil, nil, err
	}
	d, err := datapath.Open(datapath.Options{PinDir: p.lab.PinDir(), Namespace: p.lab.Namespace(lab.PoP)})
	if err != nil {
		return port, nil, nil, err
	}
	defer d.Close()
	strays, err := d.Strays(lab.PortA)
	if err != nil {
		return port, nil, nil, err
	}
	for _, c := range p.connections {
		tag, err := p.tag(c)
		if err != nil {
			return port, nil, nil, err
		}
		a, _, err := d.Counters(tag)
		if err != nil {
			return port, nil, nil, err
		}
		if a.DroppedIn+a.DroppedOut > 0 {
			return port, nil, nil, fmt.Errorf("%d frames were over the ordered bandwidth: they are on the wire and on no bill", a.DroppedIn+a.DroppedOut)
		}
		metered = append(metered, bytesBoth{a.BytesIn, a.BytesOut})
	}
	port, wires, err = read()
	if err == nil && (port != before || !slices.Equal(wires, wiresBefore)) {
		err = errors.New("frames pass")
	}
	return port.minus(bytesBoth{strays.BytesIn, strays.BytesOut}), wires, metered, err
}

// traffic keeps every connection busy both ways, with pings and TCP transfers, until it is stopped.
func (p *promise) traffic() (stop func()) {
	var end atomic.Bool
	var wait sync.WaitGroup
	for i, c := range p.connections {
		ctx, from, to := p.t.Context(), "a/"+c.name, "z/"+c.name
		wait.Go(func() {
			const count = 100 // two seconds of them
			for !end.Load() {
				answered, err := p.lab.Ping(ctx, from, c.customer, c.provider, count, time.Second)
				p.done.add("ping", count)
				p.done.add("answered", answered)
				if err != nil {
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
		wait.Go(func() {
			choose := rand.New(rand.NewPCG(p.seed, uint64(100+i)))
			for !end.Load() {
				bytes := int64(10_000 + choose.IntN(promiseMaxBytes))
				var err error
				if choose.IntN(2) == 0 {
					_, err = p.lab.Iperf(ctx, from, c.customer, c.provider, bytes)
				} else {
					_, err = p.lab.Iperf(ctx, to, c.provider, c.customer, bytes)
				}
				p.done.add("transfer", 1)
				if err != nil {
					p.done.add("broken", 1)
				}
				time.Sleep(below(choose, promiseMaxRest))
			}
		})
	}
	return func() {
		end.Store(true)
		wait.Wait()
	}
}

// damage does what is to be survived, until it has been done for as long as was asked and as often as it has to be.
func (p *promise) damage(began time.Time) {
	var end atomic.Bool
	var wait sync.WaitGroup
	hand := func(number uint64, kind string, rest time.Duration, once func(*rand.Rand) (done bool)) {
		wait.Go(func() {
			choose := rand.New(rand.NewPCG(p.seed, number))
			for !end.Load() && !p.t.Failed() {
				time.Sleep(below(choose, rest))
				if once(choose) {
					p.done.add(kind, 1)
				}
			}
		})
	}
	hand(1, "agent", 2*time.Second, func(*rand.Rand) bool {
		killed := p.agent.kill()
		p.await("read by a new agent", func() error {
			started, lives := p.agent.since()
			if info, err := os.Stat(filepath.Join(p.stateDir(), "journal")); err != nil || !lives || !info.ModTime().After(started) {
				return fmt.Errorf("its journal has nothing new (%v)", err)
			}
			return nil
		})
		return killed
	})
	hand(2, "platform", 2*time.Second, func(*rand.Rand) bool {
		killed := p.platform.kill()
		p.await("healthy again", func() error {
			if _, lives := p.platform.since(); !lives {
				return errors.New("no process")
			}
			return p.healthy()
		})
		return killed
	})
	hand(3, "PostgreSQL", 8*time.Second, func(*rand.Rand) bool {
		killed := p.killServer()
		p.server.Stop(context.Background()) // its owner waits for what is left of it
		p.startServer()
		p.await("healthy on the recovered PostgreSQL", p.healthy)
		return killed
	})
	hand(4, "cut", 10*time.Second, func(choose *rand.Rand) bool {
		cut, restore := "ip link set mgmt0 down", "ip link set mgmt0 up"
		if choose.IntN(2) == 0 {
			to := p.lab.ManagementHost.String() + " dev mgmt0"
			cut, restore = "ip neigh replace lladdr 02:00:00:00:00:01 nud permanent "+to, "ip neigh del "+to
		}
		p.inPoP(cut)
		time.Sleep(time.Second + below(choose, 4*time.Second))
		p.inPoP(restore)
		return true
	})
	limit := began.Add(*soakFor + promiseOvertime)
	said := false
	for !p.t.Failed() {
		over := time.Since(began) > *soakFor
		if over && p.done.enough(1) {
			break
		}
		if time.Now().After(limit) {
			p.t.Logf("after %v there were only %s: it ends here", *soakFor+promiseOvertime, &p.done)
			if !p.done.enough(promiseFloor) {
				p.t.Errorf("that is not a fourth of %v and %d kills", promiseLeast, promiseKills)
			}
			break
		}
		if over && !said {
			said = true
			p.t.Logf("after %v there were only %s: the machine is slow, it goes on", *soakFor, &p.done)
		}
		time.Sleep(100 * time.Millisecond)
	}
	end.Store(true)
	wait.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
}

func (p *promise) inPoP(command string) {
	words := strings.Fields(command)
	if out, err := p.lab.Command(context.Background(), lab.PoP, words[0], words[1:]...).CombinedOutput(); err != nil {
		p.t.Errorf("%s: %v: %s", command, err, out)
	}
}

// killServer kills the postmaster.
func (p *promise) killServer() bool {
	note, err := os.ReadFile(filepath.Join(p.dir, "pg", "postgres", "postmaster.pid"))
	var pid int
	if err == nil {
		_, err = fmt.Sscan(string(note), &pid)
	}
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		p.t.Errorf("kill PostgreSQL: %v", err)
	}
	return err == nil
}

// settle waits until all that was broken is whole and the agent says again and again what it reads.
func (p *promise) settle() {
	p.must("healthy at the end", p.healthy)
	p.must("read at the end", func() error {
		if started, lives := p.agent.since(); !lives || time.Since(started) < time.Second {
			return errors.New("the agent does not stay")
		}
		return nil
	})
}

// logged returns the readings in the log, by connection and in their own order.
func (p *promise) logged() (map[string][]reading.Recorded, error) {
	ctx := p.t.Context()
	all := map[string][]reading.Recorded{}
	limit, after := 500, int64(0)
	types := client.EventTypePatterns{"reading.recorded"}
	for {
		page, _, err := client.Decode[client.EventPage](p.scene.operator.ListEvents(ctx, &client.ListEventsParams{After: &after, Types: &types, Limit: &limit}))
		if err != nil {
			return nil, err
		}
		for _, e := range page.Items {
			var r reading.Recorded
			if err := json.Unmarshal(e.Data, &r); err != nil {
				return nil, err
			}
			all[r.ConnectionID] = append(all[r.ConnectionID], r)
		}
		if len(page.Items) == 0 {
			break
		}
		after = page.NextAfter
	}
	for _, readings := range all {
		slices.SortStableFunc(readings, func(a, b reading.Recorded) int {
			return int(a.Epoch-b.Epoch)*1_000_000 + int(a.Sequence-b.Sequence)
		})
	}
	return all, nil
}

func sumOf(readings []reading.Recorded) (sum bytesBoth) {
	for _, r := range readings {
		sum = sum.plus(bytesBoth{uint64(r.BytesIn), uint64(r.BytesOut)})
	}
	return sum
}

// compare holds wire, meters, log, usage and bill against each other.
func (p *promise) compare() {
	t := p.t
	// The wire and the meters, over the time of the damage.
	p.must("the same on the port, on the wires and in the meters", func() error {
		port, wires, metered, err := p.still()
		if err != nil {
			return err
		}
		var sum bytesBoth
		for i, c := range p.connections {
			sum = sum.plus(wires[i].minus(c.base))
			if wire, read := wires[i].minus(c.base), metered[i].minus(c.baseMetered); wire != read {
				return fmt.Errorf("%s: on the wire %d, metered %d", c.name, wire, read)
			}
		}
		if port = port.minus(p.basePorts); port != sum {
			return fmt.Errorf("on the port %d, on the wires of its connections %d", port, sum)
		}
		return nil
	})
	// The wire and the log, since the gate opened. The sessions' keepalives go on; between two of them the log catches up.
	for _, c := range p.connections {
		p.await("in the log to the byte: "+c.name, func() error { return p.compareWithLog(c) })
	}
	if content, err := os.ReadFile(filepath.Join(p.stateDir(), "rejected-readings.jsonl")); err == nil {
		t.Errorf("the platform rejected readings: %s", content)
	}
	if t.Failed() {
		t.FailNow()
	}
	p.compareBooks()
	p.verify()
}

func (p *promise) compareWithLog(c *promised) error {
	all, err := p.logged()
	if err != nil {
		return err
	}
	readings := all[c.id]
	if err := unbroken(readings); err != nil {
		p.t.Fatalf("%s: %v", c.name, err)
	}
	logged := sumOf(readings)
	wire, err := c.wire.bytes()
	if err != nil {
		return err
	}
	var same int
	for way := range logged {
		if slices.Contains(c.opening[way], wire[way]-logged[way]) {
			same++
		}
		if logged[way]+slices.Min(c.opening[way]) > wire[way] {
			p.t.Fatalf("%s: more is in the log than was on the wire: %d since the gate opened at %d, now %d", c.name, logged, c.opening, wire)
		}
	}
	if same < len(logged) {
		return fmt.Errorf("%d readings with %d bytes are in the log; the wire had %d when the gate opened and now has %d", len(readings), logged, c.opening, wire)
	}
	return nil
}

// unbroken reports a reading that is there twice or is missing, or time that two readings cover or none.
func unbroken(readings []reading.Recorded) error {
	for i, r := range readings {
		if i == 0 {
			if r.Sequence != 1 {
				return fmt.Errorf("the first reading is number %d", r.Sequence)
			}
			continue
		}
		before := readings[i-1]
		if r.Epoch != before.Epoch {
			return fmt.Errorf("the meter began anew at reading %d: epoch %d, before %d", i, r.Epoch, before.Epoch)
		}
		if r.Sequence != before.Sequence+1 {
			return fmt.Errorf("reading %d follows %d", r.Sequence, before.Sequence)
		}
		if !r.From.Equal(before.To) {
			return fmt.Errorf("reading %d begins at %v, the one before ends at %v", r.Sequence, r.From, before.To)
		}
	}
	return nil
}

// compareBooks closes a period over everything and compares what is billed with the log and with the usage that the API tells.
func (p *promise) compareBooks() {
	t, ctx, d := p.t, p.t.Context(), p.scene
	start := p.connections[0].production
	for _, c := range p.connections {
		if c.production.Before(start) {
			start = c.production
		}
	}
	var end time.Time
	var upTo map[string][]reading.Recorded
	p.must("at the same boundary with all readings", func() error {
		all, err := p.logged()
		if err != nil {
			return err
		}
		for _, c := range p.connections {
			readings := all[c.id]
			if last := readings[len(readings)-1].To; c == p.connections[0] || last.Before(end) {
				end = last
			}
		}
		for _, c := range p.connections {
			all[c.id] = slices.DeleteFunc(all[c.id], func(r reading.Recorded) bool { return r.To.After(end) })
			if !all[c.id][len(all[c.id])-1].To.Equal(end) {
				return fmt.Errorf("%s has no reading that ends at %v", c.name, end)
			}
		}
		upTo = all
		return nil
	})
	asked, _, err := client.Decode[client.BillingRun](d.operator.CreateBillingRun(ctx, &client.CreateBillingRunParams{},
		client.NewBillingRun{PeriodStart: start.Truncate(time.Second), PeriodEnd: end, GraceHours: new(int)}))
	p.fatal(err, "close the period")
	run := asked
	p.must("billed", func() error {
		if run, _, err = client.Decode[client.BillingRun](d.operator.GetBillingRun(ctx, asked.Id)); err != nil {
			return err
		}
		if run.State != client.BillingRunStateCompleted {
			return fmt.Errorf("the run is %s", run.State)
		}
		return nil
	})
	if len(run.Invoices) != 1 {
		t.Fatalf("%d invoices, want one", len(run.Invoices))
	}
	invoice, _, err := client.Decode[client.Invoice](d.customer.GetInvoice(ctx, run.Invoices[0]))
	p.fatal(err, "read the invoice")
	rated := map[string]uint64{}
	for _, line := range invoice.Lines {
		if line.Kind == client.InvoiceLineKindPassthrough && valueOr(line.ChargeId, "") == "traffic" {
			billed, err := bytesOf(valueOr(line.Quantity, ""))
			p.fatal(err, "the invoice")
			rated[valueOr(line.ConnectionId, "")] += billed
		}
	}
	for _, c := range p.connections {
		logged := sumOf(upTo[c.id])
		if rated[c.id] != logged[0]+logged[1] {
			t.Errorf("%s: %d bytes in %d readings of the period, %d rated", c.name, logged[0]+logged[1], len(upTo[c.id]), rated[c.id])
		}
		p.await("told by the API as the log has it", func() error {
			usage, _, err := client.Decode[client.Usage](d.customer.GetUsage(ctx, c.id, &client.GetUsageParams{}))
			if err != nil {
				return err
			}
			all, err := p.logged()
			if err != nil {
				return err
			}
			if told, sum := (bytesBoth{uint64(usage.BytesIn), uint64(usage.BytesOut)}), sumOf(all[c.id]); told != sum || int(usage.Readings) != len(all[c.id]) {
				return fmt.Errorf("%d readings with %d bytes, the log has %d with %d", usage.Readings, told, len(all[c.id]), sum)
			}
			return nil
		})
		t.Logf("%s: %d bytes in, %d out, in %d readings: on the wire = metered = in the log, and rated: %d", c.name, logged[0], logged[1], len(upTo[c.id]), rated[c.id])
	}
}

// verify computes the whole log again and compares it with its signed checkpoint.
func (p *promise) verify() {
	pool, err := pgxpool.New(p.t.Context(), p.server.URL)
	p.fatal(err, "connect")
	defer pool.Close()
	p.scene.platform.Pool = pool
	var result demoResult
	p.fatal(p.scene.stageProof(p.t.Context(), &result), "verify the log")
	if result.Events != result.LogSize {
		p.t.Errorf("%d events were read, the log has %d", result.Events, result.LogSize)
	}
	p.t.Logf("the log verifies: %d events, root %s", result.LogSize, result.LogRoot)
}
