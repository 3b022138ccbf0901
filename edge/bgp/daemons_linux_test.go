package bgp

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long a condition may take on a machine that has much else to do.
const patience = 2 * time.Minute

// daemon is a router under test: what BIRD and FRR are told and asked alike.
type daemon interface {
	start(asn uint32, password string, routes ...string)
	announce(routes ...string) // these instead of the former ones
	secret(password string)    // another for the session
	shut(down bool)            // by the router's operator
	learnt() []string          // from the node, as "prefix via next-hop", sorted
	sample() ([]string, error) // the same, in no order, and beside the test
	restarting(seconds int)    // before start: it is to ask for its routes to be kept for so long
	crash()
	pause(on bool)
	lastError() string // why the session went down last, in the daemon's words
}

// eachDaemon runs a test against every implementation.
func eachDaemon(t *testing.T, test func(t *testing.T, start func(*router) daemon)) {
	needsRouters(t, "bird", "birdc", frrBGPD, "vtysh")
	t.Run("BIRD", func(t *testing.T) { test(t, func(r *router) daemon { return &birdDaemon{router: r} }) })
	t.Run("FRR", func(t *testing.T) { test(t, func(r *router) daemon { return &frrDaemon{router: r} }) })
}

type birdDaemon struct {
	*router
	config      birdConfig
	restartTime int
}

func (d *birdDaemon) start(asn uint32, password string, routes ...string) {
	again := d.config.asn != 0
	d.config = birdConfig{asn: asn, nodeASN: nodeASN, password: password, routes: routes, restartTime: d.restartTime}
	if again {
		d.config.flags = []string{"-R"} // it has kept its routes
	}
	d.bird(d.config)
}

func (d *birdDaemon) announce(routes ...string) {
	d.config.routes = routes
	d.bird(d.config)
}

func (d *birdDaemon) secret(password string) {
	d.config.password = password
	d.bird(d.config)
}

func (d *birdDaemon) shut(down bool) {
	if down {
		d.birdc("disable", "node")
	} else {
		d.birdc("enable", "node")
	}
}

func (d *birdDaemon) learnt() []string {
	routes := d.router.learnt()
	slices.Sort(routes)
	return routes
}

func (d *birdDaemon) lastError() string {
	for line := range strings.Lines(d.birdc("show", "protocols", "all", "node")) {
		if said, ok := strings.CutPrefix(strings.TrimSpace(line), "Last error:"); ok {
			return strings.TrimSpace(said)
		}
	}
	return ""
}

func (d *birdDaemon) sample() ([]string, error) {
	out, err := d.askBird("show", "route", "protocol", "node")
	return birdRoutes(out), err
}

func (d *birdDaemon) restarting(seconds int) { d.restartTime = seconds }

type frrDaemon struct {
	*router
	asn    uint32
	routes []string
}

func (d *frrDaemon) start(asn uint32, password string, routes ...string) {
	d.asn, d.routes = asn, routes
	d.frr(asn, nodeASN, routes...)
	eventually(d.t, patience, func() string {
		if out, err := d.ask("show version"); err != nil {
			return fmt.Sprintf("FRR does not answer: %v: %s", err, out)
		}
		return ""
	})
	if password != "" {
		d.secret(password)
	}
}

// ask gives vtysh commands.
func (d *frrDaemon) ask(commands ...string) (string, error) {
	args := []string{"netns", "exec", d.namespace, "vtysh", "--vty_socket", d.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("ip", args...).CombinedOutput()
	return string(out), err
}

func (d *frrDaemon) configure(lines ...string) {
	d.t.Helper()
	if out, err := d.ask(append([]string{"configure terminal", fmt.Sprintf("router bgp %d", d.asn)}, lines...)...); err != nil {
		d.t.Fatalf("vtysh %q: %v: %s", lines, err, out)
	}
}

func (d *frrDaemon) announce(routes ...string) {
	lines := []string{"address-family " + d.family() + " unicast"}
	for _, route := range d.routes {
		if !slices.Contains(routes, route) {
			lines = append(lines, "no network "+route)
		}
	}
	for _, route := range routes {
		if !slices.Contains(d.routes, route) {
			lines = append(lines, "network "+route)
		}
	}
	d.routes = routes
	d.configure(lines...)
}

func (d *frrDaemon) secret(password string) {
	d.configure(fmt.Sprintf("neighbor %s password %s", d.local.Addr(), password))
}

func (d *frrDaemon) shut(down bool) {
	line := fmt.Sprintf("neighbor %s shutdown", d.local.Addr())
	if !down {
		line = "no " + line
	}
	d.configure(line)
}

// frrPath is a path in FRR's JSON.
type frrPath struct {
	Valid    bool `json:"valid"`
	Nexthops []struct {
		IP string `json:"ip"`
	} `json:"nexthops"`
}

func (d *frrDaemon) restarting(seconds int) {
	d.frrLines = []string{"bgp graceful-restart", fmt.Sprintf("bgp graceful-restart restart-time %d", seconds), "bgp graceful-restart preserve-fw-state"}
}

func (d *frrDaemon) learnt() []string {
	d.t.Helper()
	routes, err := d.sample()
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Sort(routes)
	return routes
}

func (d *frrDaemon) sample() (routes []string, err error) {
	out, err := d.ask("show bgp " + d.family() + " unicast json")
	var table struct {
		Routes map[string][]frrPath `json:"routes"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &table)
	}
	if err != nil {
		return nil, fmt.Errorf("FRR's table: %v: %s", err, out)
	}
	for prefix, paths := range table.Routes {
		for _, p := range paths {
			if p.Valid && len(p.Nexthops) > 0 && p.Nexthops[0].IP != "0.0.0.0" && p.Nexthops[0].IP != "::" { // which are its own
				routes = append(routes, prefix+" via "+p.Nexthops[0].IP)
			}
		}
	}
	return routes, nil
}

func (d *frrDaemon) lastError() string {
	out, err := d.ask(fmt.Sprintf("show bgp neighbors %s json", d.local.Addr()))
	var neighbours map[string]struct {
		Reason string `json:"lastNotificationReason"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &neighbours)
	}
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return neighbours[d.local.Addr().String()].Reason
}

func awaitTold(t testing.TB, d daemon, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, patience, func() string {
		if got := d.learnt(); !slices.Equal(got, want) {
			return fmt.Sprintf("the router learnt:\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
		return ""
	})
}

func awaitState(t testing.TB, s *Speaker, tag int, side Side, want string) {
	t.Helper()
	eventually(t, patience, func() string {
		if got := sideOf(t, s, tag, side); got.State != want {
			return fmt.Sprintf("side %s of tag %d is %s, want %s: %s", side, tag, got.State, want, got.Message)
		}
		return ""
	})
}

func sideOf(t testing.TB, s *Speaker, tag int, side Side) SessionStatus {
	t.Helper()
	pair := states(t, s, tag)
	if side == Z {
		return pair[1]
	}
	return pair[0]
}
