package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"

	"crossbill/domain"
)

// How long BIRD may take to answer, and to stop.
const (
	birdStart = 5 * time.Second
	birdStop  = 3 * time.Second
	birdPoll  = 20 * time.Millisecond
)

// router is one running BIRD.
type router struct {
	config  RouterConfig
	control string // its socket
	process *exec.Cmd
	ended   chan struct{}
	log     *os.File
}

// birdConfig keeps every timer at the second, so that a lab comes up as soon as the edge does.
var birdConfig = template.Must(template.New("bird").Parse(`log stderr all;
router id {{.RouterID}};
protocol device { scan time 5; }
{{$router := .}}{{range $family := .Families}}
protocol static announced_{{.Name}} {
  {{.Name}};
{{range .Networks}}  route {{.}} blackhole; # announced only: the addresses are on the loopback
{{end}}}
protocol kernel {
  {{.Name}} { import none; export where source = RTS_BGP; };
}
protocol bgp {{.Session}} {
  local {{.Address.Addr}} as {{$router.ASN}};
  neighbor {{.Peer}} as {{$router.PeerASN}};
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  hold time 9;
  keepalive time 3;
  {{.Name}} { import all; export where proto = "announced_{{.Name}}"; };
}
{{end}}`))

// family is what a router has of one address family.
type family struct {
	Name     string // BIRD's, and the system's
	Session  string // the name of its BGP protocol
	Address  netip.Prefix
	Peer     netip.Addr
	Networks []netip.Prefix
}

// Links of Ethernet have room for one tag above their MTU (IEEE 802.3 clause 3.2.7), which is their packets', in bytes.
const (
	ethernetMTU = 1500
	vlanTag     = 4
)

// Families returns the address families that the router has a link in.
func (c RouterConfig) Families() (all []family) {
	for _, f := range []family{{"ipv4", "edge", c.Address, c.Peer, nil}, {"ipv6", "edge6", c.IPv6Address, c.IPv6Peer, nil}} {
		if !f.Address.IsValid() {
			continue
		}
		for _, network := range c.Networks {
			if network.Addr().Is4() == f.Address.Addr().Is4() {
				f.Networks = append(f.Networks, network)
			}
		}
		all = append(all, f)
	}
	return all
}

// RouterID returns the router's BGP identifier: its IPv4 address, or the octets of its AS number without one.
func (c RouterConfig) RouterID() netip.Addr {
	if c.Address.IsValid() {
		return c.Address.Addr()
	}
	return netip.AddrFrom4([4]byte{byte(c.ASN >> 24), byte(c.ASN >> 16), byte(c.ASN >> 8), byte(c.ASN)})
}

// StartRouter starts BIRD at a place: on a side's main router ("a", "z"), or on a further one ("a/second"), which gets
// a namespace of its own behind the same port, and needs a VLAN of its own.
func (l *Lab) StartRouter(ctx context.Context, place string, c RouterConfig) error {
	if err := checkPlace("lab.StartRouter", place); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.routers[place] != nil {
		return domain.Errorf(domain.Conflict, "lab.StartRouter", "a router runs at %s already", place)
	}
	r, err := l.startRouter(ctx, place, c)
	if err != nil {
		return domain.Errorf(domain.Unavailable, "lab.StartRouter", "the router at %s does not start: %w", place, err)
	}
	l.routers[place] = r
	return nil
}

func (l *Lab) startRouter(ctx context.Context, place string, c RouterConfig) (*router, error) {
	if err := l.joinNetwork(ctx, place, c); err != nil {
		return nil, err
	}
	file := strings.ReplaceAll(place, "/", "-")
	// The socket's path has at most 107 bytes (unix(7)), which a test's directory may exceed.
	r := &router{config: c, control: filepath.Join(runDir(l.record.Name), file+".ctl"), ended: make(chan struct{})}
	var text bytes.Buffer
	if err := birdConfig.Execute(&text, c); err != nil {
		return nil, err
	}
	path := filepath.Join(l.dir, "bird-"+file+".conf")
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return nil, err
	}
	var err error
	if r.log, err = os.Create(filepath.Join(l.dir, "bird-"+file+".log")); err != nil {
		return nil, err
	}
	// Not CommandContext: the router outlives the call. Close, StopRouter or Sweep ends it.
	r.process = l.Command(context.WithoutCancel(ctx), place, "bird", "-f", "-c", path, "-s", r.control)
	r.process.Stdout, r.process.Stderr = r.log, r.log
	if err := r.process.Start(); err != nil {
		r.log.Close()
		return nil, err
	}
	go func() {
		_ = r.process.Wait()
		close(r.ended)
	}()
	if err := r.waitReady(ctx); err != nil {
		said, _ := os.ReadFile(r.log.Name())
		return nil, errors.Join(fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said))), r.stop())
	}
	return r, nil
}

func checkPlace(op, place string) error {
	if placePattern.MatchString(place) {
		return nil
	}
	return domain.Errorf(domain.Invalid, op, "%q is no place for a router", place).
		WithHint(`"a", "z", or a further router such as "a/second"`)
}

// JoinNetwork gives a place its VLAN, its address on the link and its networks, as StartRouter does, but no BGP.
func (l *Lab) JoinNetwork(ctx context.Context, place string, c RouterConfig) error {
	if err := checkPlace("lab.JoinNetwork", place); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.joinNetwork(ctx, place, c); err != nil {
		return domain.Errorf(domain.Unavailable, "lab.JoinNetwork", "the router at %s cannot join: %w", place, err)
	}
	return nil
}

func (l *Lab) joinNetwork(ctx context.Context, place string, c RouterConfig) error {
	side, more, further := strings.Cut(place, "/")
	branch := ""
	if further {
		branch = "br-" + more[:min(len(more), 12)]
		if _, err := os.Stat(l.Namespace(place)); errors.Is(err, os.ErrNotExist) {
			if err := makeNamespace(ctx, l.namespaceName(place)); err != nil {
				return err
			}
			if err := linkNamespaces(l.Namespace(side), branch, l.Namespace(place), RouterInterface); err != nil {
				return err
			}
			// So that a further router's own counters are those of the wire too, but for the tag.
			if err := errors.Join(l.offloadsOff(ctx, side, branch), l.offloadsOff(ctx, place, RouterInterface)); err != nil {
				return err
			}
			if err := inNamespace(l.Namespace(side), func() error { return linkUp(branch) }); err != nil {
				return err
			}
		}
	}
	if c.ServiceVLAN > 0 && !further {
		return errors.New("a service VLAN needs a further router")
	}
	if err := l.trunks[side].assign(c.ServiceVLAN, c.VLAN, branch); err != nil {
		return err
	}
	return inNamespace(l.Namespace(place), func() error {
		if c.ServiceVLAN > 0 {
			if err := setMTU(RouterInterface, ethernetMTU-vlanTag); err != nil {
				return err
			}
		}
		for _, family := range c.Families() {
			if err := configureAddress(RouterInterface, family.Address); err != nil {
				return err
			}
		}
		for _, network := range c.Networks {
			first := network.Masked().Addr().Next()
			if err := configureAddress("lo", netip.PrefixFrom(first, first.BitLen())); err != nil {
				return err
			}
		}
		return nil
	})
}

// AddInterface gives a side's main namespace an interface with an address, for a router of the caller's own that has many links.
// Nothing passes it before [Lab.SetVLAN].
func (l *Lab) AddInterface(ctx context.Context, side, name string, address netip.Prefix) error {
	space, branch := l.Namespace(side), "br-"+name
	err := linkNamespaces(space, branch, space, name)
	if err == nil {
		err = errors.Join(l.offloadsOff(ctx, side, branch), l.offloadsOff(ctx, side, name))
	}
	if err == nil {
		err = inNamespace(space, func() error { return errors.Join(linkUp(branch), configureAddress(name, address)) })
	}
	if err != nil {
		return domain.Errorf(domain.Unavailable, "lab.AddInterface", "side %s can't have an interface %s: %w", side, name, err)
	}
	return nil
}

// SetVLAN says which VLAN of the side's port the frames of an interface from AddInterface are in.
func (l *Lab) SetVLAN(side, name string, vlan int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.trunks[side].assign(0, vlan, "br-"+name); err != nil {
		return domain.Errorf(domain.Unavailable, "lab.SetVLAN", "the VLAN of %s on side %s can't be set: %w", name, side, err)
	}
	return nil
}

func (r *router) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, birdStart)
	defer cancel()
	for {
		if _, err := r.birdc(ctx, "show", "status"); err == nil {
			return nil
		}
		select {
		case <-r.ended:
			return errors.New("BIRD ended at once")
		case <-ctx.Done():
			return fmt.Errorf("BIRD does not answer: %w", ctx.Err())
		case <-time.After(birdPoll):
		}
	}
}

// stop ends BIRD, which withdraws its routes from the kernel, and waits for that.
func (r *router) stop() error {
	defer r.log.Close()
	_ = r.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.ended:
		return nil
	case <-time.After(birdStop):
	}
	_ = r.process.Process.Kill()
	<-r.ended
	return nil
}

// StopRouter stops the BIRD at a place, as a router that is shut down: its session closes, its routes go. The place
// keeps its addresses. One that does not run is no error.
func (l *Lab) StopRouter(place string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.routers[place]
	if r == nil {
		return nil
	}
	delete(l.routers, place)
	return r.stop()
}

func (r *router) birdc(ctx context.Context, command ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "birdc", append([]string{"-s", r.control, "-r"}, command...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("birdc %s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func (l *Lab) ask(ctx context.Context, op, place string, command ...string) (string, error) {
	l.mu.Lock()
	r := l.routers[place]
	l.mu.Unlock()
	if r == nil {
		return "", domain.Errorf(domain.NotFound, op, "no router runs at %s", place)
	}
	out, err := r.birdc(ctx, command...)
	if err != nil {
		return "", domain.Errorf(domain.Unavailable, op, "the router at %s does not answer: %w", place, err)
	}
	return out, nil
}

// RouterRoutes returns the prefixes a router learned by BGP and uses, sorted.
func (l *Lab) RouterRoutes(ctx context.Context, place string) ([]netip.Prefix, error) {
	const op = "lab.RouterRoutes"
	var all []netip.Prefix
	for _, session := range l.sessionsOf(place) {
		out, err := l.ask(ctx, op, place, "show", "route", "primary", "protocol", session)
		if err != nil {
			return nil, err
		}
		all = append(all, parseRoutes(out)...)
	}
	return all, nil
}

// sessionsOf returns the names of a router's BGP protocols.
func (l *Lab) sessionsOf(place string) (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.routers[place]; r != nil {
		for _, family := range r.config.Families() {
			names = append(names, family.Session)
		}
		return names
	}
	return []string{"edge"} // for the error to say that no router runs there
}

// parseRoutes reads BIRD's table: a route's line begins with its prefix, what belongs to it is indented.
func parseRoutes(out string) []netip.Prefix {
	var prefixes []netip.Prefix
	for line := range strings.Lines(out) {
		if word, _, ok := strings.Cut(line, " "); ok {
			if prefix, err := netip.ParsePrefix(word); err == nil {
				prefixes = append(prefixes, prefix)
			}
		}
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return prefixes
}

// BGPState returns BIRD's word for the state of a router's session, such as "Established" or "Active"; of two sessions, that
// of the first that is not established.
func (l *Lab) BGPState(ctx context.Context, place string) (state string, err error) {
	for _, session := range l.sessionsOf(place) {
		out, err := l.ask(ctx, "lab.BGPState", place, "show", "protocols", "all", session)
		if err != nil {
			return "", err
		}
		if state = parseState(out); state != "Established" {
			break
		}
	}
	return state, nil
}

func parseState(out string) string {
	for line := range strings.Lines(out) {
		if state, ok := strings.CutPrefix(strings.TrimSpace(line), "BGP state:"); ok {
			return strings.TrimSpace(state)
		}
	}
	return "Down"
}
