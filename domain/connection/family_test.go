package connection

import (
	"slices"
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

// Prefixes of both families; each test picks of them.
const (
	customer4, customer6 = "198.51.100.0/24", "2001:db8:a::/48"
	provider4, provider6 = "203.0.113.0/24", "2001:db8:b::/48"
)

// ordered returns a connection ordered with these prefixes, and its allocation.
func ordered(ours, theirs []string) (Requested, Allocate) {
	c := request()
	c.CustomerBGP.Prefixes, c.ProviderBGP.Prefixes = ours, theirs
	a := allocate()
	a.A.Prefixes, a.Z.Prefixes = ours, theirs
	families := c.CustomerBGP.Families()
	if slices.Contains(families, domain.IPv6) {
		a.A.IPv6Address, a.A.IPv6PeerAddress = "2001:db8:1::2/127", "2001:db8:1::3"
		a.Z.IPv6Address, a.Z.IPv6PeerAddress = "2001:db8:1::4/127", "2001:db8:1::5"
	}
	if !slices.Contains(families, domain.IPv4) {
		a.A.Address, a.A.PeerAddress, a.Z.Address, a.Z.PeerAddress = "", "", "", ""
	}
	return Requested(c), a
}

// allocatedWith is the life of such a connection up to its test.
func allocatedWith(ours, theirs []string) []domain.Event {
	r, a := ordered(ours, theirs)
	return []domain.Event{r, Allocated{connectionID, edgeNode, 64500, 7, a.A, a.Z, scenario.After(1)}, underTest}
}

func TestFamiliesAreThoseOfTheCustomersPrefixes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		ours, theirs []string
		families     []string
		fields       []string // of the request; none: allowed
	}{
		{"IPv4", []string{customer4}, []string{provider4}, []string{domain.IPv4}, nil},
		{"IPv6", []string{customer6}, []string{provider6}, []string{domain.IPv6}, nil},
		{"both", []string{customer6, customer4}, []string{provider4, provider6}, []string{domain.IPv4, domain.IPv6}, nil},
		{"one of a provider's two", []string{customer6}, []string{provider4, provider6}, []string{domain.IPv6}, nil},
		{"one the provider has not", []string{customer4, customer6}, []string{provider4}, nil, []string{"/customer_bgp/prefixes/1"}},
	} {
		requested, allocation := ordered(c.ours, c.theirs)
		_, err := Decide(State{}, Request(requested))
		code := domain.Invalid
		if c.fields == nil {
			code = ""
		}
		scenario.CheckError(t, err, code, c.fields...)
		if c.fields != nil {
			continue
		}
		state := Evolve(State{}, requested)
		if got := state.Families(); !slices.Equal(got, c.families) {
			t.Errorf("%s: carries %v, want %v", c.name, got, c.families)
		}
		if _, err := Decide(state, allocation); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got := (State{}).Families(); !slices.Equal(got, []string{domain.IPv4}) {
		t.Errorf("without prefixes: %v", got)
	}
}

func TestAllocateAddressesOfEachFamily(t *testing.T) {
	t.Parallel()
	both, only4, only6 := [2][]string{{customer4, customer6}, {provider4, provider6}}, [2][]string{{customer4}, {provider4, provider6}}, [2][]string{{customer6}, {provider6}}
	for _, c := range []struct {
		name    string
		ordered [2][]string
		change  func(*Allocate)
		fields  []string // none: allowed
	}{
		{"a /126", both, func(a *Allocate) { a.A.IPv6Address, a.A.IPv6PeerAddress = "2001:db8:1::9/126", "2001:db8:1::a" }, nil},
		{"the first of a /126, the routers' anycast address", both, func(a *Allocate) { a.A.IPv6Address = "2001:db8:1::8/126" }, []string{"/a/ipv6_address"}},
		{"none", both, func(a *Allocate) { a.A.IPv6Address, a.A.IPv6PeerAddress = "", "" }, []string{"/a/ipv6_address"}},
		{"no IPv4", both, func(a *Allocate) { a.Z.Address = "" }, []string{"/z/address"}},
		{"IPv4 in its place", both, func(a *Allocate) { a.A.IPv6Address, a.A.IPv6PeerAddress = a.A.Address, a.A.PeerAddress }, []string{"/a/ipv6_address"}},
		{"IPv4 in IPv6", both, func(a *Allocate) { a.A.IPv6Address, a.A.IPv6PeerAddress = "::ffff:100.64.0.1/126", "::ffff:100.64.0.2" }, []string{"/a/ipv6_address"}},
		{"a /128", both, func(a *Allocate) { a.A.IPv6Address = "2001:db8:1::2/128" }, []string{"/a/ipv6_address"}},
		{"a peer elsewhere", both, func(a *Allocate) { a.A.IPv6PeerAddress = "2001:db8:1::5" }, []string{"/a/ipv6_peer_address"}},
		{"one link for both", both, func(a *Allocate) { a.Z.IPv6Address, a.Z.IPv6PeerAddress = a.A.IPv6Address, a.A.IPv6PeerAddress }, []string{"/z/ipv6_address"}},
		{"of what was not ordered", only4, func(a *Allocate) { a.Z.IPv6Address = "2001:db8:1::4/127" }, []string{"/z/ipv6_address"}},
		{"IPv4 that was not ordered", only6, func(a *Allocate) { a.A.Address, a.A.PeerAddress = "100.64.0.1/30", "100.64.0.2" }, []string{"/a/address"}},
	} {
		requested, a := ordered(c.ordered[0], c.ordered[1])
		c.change(&a)
		_, err := Decide(Evolve(State{}, requested), a)
		code := domain.Invalid
		if c.fields == nil {
			code = ""
		}
		t.Run(c.name, func(t *testing.T) { scenario.CheckError(t, err, code, c.fields...) })
	}
}

// Every session of every family has to be up, and each is known by itself.
func TestEstablishedInEachFamily(t *testing.T) {
	t.Parallel()
	state := scenario.Fold(Evolve, allocatedWith([]string{customer4, customer6}, []string{provider4, provider6})...)
	for i, name := range []SessionName{{SideA, domain.IPv4}, {SideZ, domain.IPv4}, {SideA, domain.IPv6}, {SideZ, domain.IPv6}} {
		if state.Established() {
			t.Fatalf("established with %d sessions of 4", i)
		}
		if _, err := Decide(state, RequestProbe{probe1, scenario.After(5)}); domain.CodeOf(err) != domain.Conflict {
			t.Errorf("a probe with %d sessions of 4: %v", i, err)
		}
		up := ReportSession{edgeNode, name.Side, name.Family, Session{SessionEstablished, scenario.After(3), i, 1}, scenario.After(4)}
		happened, err := Decide(state, up)
		if err != nil || len(happened) != 1 {
			t.Fatalf("%v: %v, %v", name, happened, err)
		}
		state = scenario.Fold(Evolve, append(allocatedWith([]string{customer4, customer6}, []string{provider4, provider6}), allSessions(i+1)...)...)
		if session, known := state.Session(name); !known || session.PrefixesReceived != i {
			t.Errorf("%v is %+v, %v", name, session, known)
		}
		if again, err := Decide(state, up); err != nil || len(again) != 0 {
			t.Errorf("%v again: %v, %v", name, again, err)
		}
	}
	if _, err := Decide(state, RequestProbe{probe1, scenario.After(5)}); err != nil || !state.Established() {
		t.Errorf("with all up: %v", err)
	}
	four := scenario.Fold(Evolve, upTo(underTest)...)
	_, err := Decide(four, ReportSession{edgeNode, SideA, domain.IPv6, Session{SessionIdle, scenario.After(3), 0, 0}, scenario.After(4)})
	scenario.CheckError(t, err, domain.Invalid, "/family")
}

// allSessions are the first n sessions coming up, those of IPv4 as they were always written.
func allSessions(n int) (all []domain.Event) {
	for i, name := range []SessionName{{SideA, ""}, {SideZ, ""}, {SideA, domain.IPv6}, {SideZ, domain.IPv6}} {
		if i < n {
			all = append(all, SessionChanged{connectionID, name.Side, SessionEstablished, scenario.After(3), i, 1, scenario.After(4), name.Family, false})
		}
	}
	return all
}

func TestPrefixesChangeWithinTheFamilies(t *testing.T) {
	t.Parallel()
	only4 := allocatedWith([]string{customer4}, []string{provider4, provider6})
	both := allocatedWith([]string{customer4, customer6}, []string{provider4, provider6})
	configure := func(side string, prefixes ...string) ConfigureSession {
		return ConfigureSession{Side: side, Prefixes: prefixes, At: scenario.After(9)}
	}
	to := func(side string, prefixes ...string) []domain.Event {
		return []domain.Event{SessionConfigured{connectionID, side, AdminUp, prefixes, DefaultPrefixLimit, scenario.After(9)}}
	}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "others of both", Given: both, When: configure(SideA, "192.0.2.0/24", "2001:db8:c::/48"), Then: to(SideA, "192.0.2.0/24", "2001:db8:c::/48")},
		{Name: "the last of one goes", Given: both, When: configure(SideA, customer4), Code: domain.Invalid, Fields: []string{"/prefixes"}},
		{Name: "the provider's last goes", Given: both, When: configure(SideZ, provider6), Code: domain.Invalid, Fields: []string{"/prefixes"}},
		{Name: "a family that was not ordered", Given: only4, When: configure(SideA, customer4, customer6), Code: domain.Invalid, Fields: []string{"/prefixes/1"}},
		{Name: "the provider's of what is not carried go", Given: only4, When: configure(SideZ, provider4), Then: to(SideZ, provider4)},
	})
}

func TestStatusNamesTheFamily(t *testing.T) {
	t.Parallel()
	life := append(allocatedWith([]string{customer4, customer6}, []string{provider4, provider6}), allSessions(3)...)
	state := scenario.Fold(Evolve, append(life, activated)...)
	status := state.Status()
	if len(status) != 1 || status[0].Message != "the provider's BGP session for IPv6 is not established: it is " {
		t.Errorf("got %+v", status)
	}
}
