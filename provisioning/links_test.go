package provisioning

import (
	"net/netip"
	"testing"

	"crossbill/domain"
	"crossbill/domain/connection"
)

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tag                        int
		address, peer, zAddr, zPee string
	}{
		{1, "100.64.0.9/30", "100.64.0.10", "100.64.0.13/30", "100.64.0.14"},
		{2, "100.64.0.17/30", "100.64.0.18", "100.64.0.21/30", "100.64.0.22"},
		{32, "100.64.1.1/30", "100.64.1.2", "100.64.1.5/30", "100.64.1.6"},
		{16383, "100.65.255.249/30", "100.65.255.250", "100.65.255.253/30", "100.65.255.254"},
	} {
		a, z, err := links(c.tag)
		if err != nil {
			t.Fatal(err)
		}
		got := [4]string{a.address.String(), a.peer.String(), z.address.String(), z.peer.String()}
		if want := [4]string{c.address, c.peer, c.zAddr, c.zPee}; got != want {
			t.Errorf("tag %d: got %v, want %v", c.tag, got, want)
		}
	}
	for _, tag := range []int{-1, 0, connection.MaxTag + 1} {
		if _, _, err := links(tag); err == nil {
			t.Errorf("tag %d was accepted", tag)
		}
	}
}

func TestIPv6Links(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tag                        int
		prefix                     string
		address, peer, zAddr, zPee string
	}{
		{1, "", "fd65:3ce5:bca8::4/127", "fd65:3ce5:bca8::5", "fd65:3ce5:bca8::6/127", "fd65:3ce5:bca8::7"},
		{16383, "", "fd65:3ce5:bca8::fffc/127", "fd65:3ce5:bca8::fffd", "fd65:3ce5:bca8::fffe/127", "fd65:3ce5:bca8::ffff"},
		{1, "2001:db8:1::/64", "2001:db8:1::4/127", "2001:db8:1::5", "2001:db8:1::6/127", "2001:db8:1::7"},
		{16383, "2001:db8:1::2:0/112", "2001:db8:1::2:fffc/127", "2001:db8:1::2:fffd", "2001:db8:1::2:fffe/127", "2001:db8:1::2:ffff"},
	} {
		a, z, err := ipv6Links(c.tag, c.prefix)
		if err != nil {
			t.Fatal(err)
		}
		got := [4]string{a.address.String(), a.peer.String(), z.address.String(), z.peer.String()}
		if want := [4]string{c.address, c.peer, c.zAddr, c.zPee}; got != want {
			t.Errorf("tag %d of %q: got %v, want %v", c.tag, c.prefix, got, want)
		}
	}
	for _, wrong := range []struct {
		tag    int
		prefix string
	}{{0, ""}, {connection.MaxTag + 1, ""}, {1, "10.0.0.0/8"}, {1, "2001:db8::/113"}, {1, "x"}} {
		if a, z, err := ipv6Links(wrong.tag, wrong.prefix); err == nil {
			t.Errorf("tag %d of %q has the links %v and %v", wrong.tag, wrong.prefix, a, z)
		}
	}
}

// Every link of every tag: inside RFC 6598's space, both ends hosts of the same /30, and no /30 twice.
func TestLinksNeverMeet(t *testing.T) {
	t.Parallel()
	seen := make(map[netip.Prefix]int, 4*connection.MaxTag)
	for tag := connection.MinTag; tag <= connection.MaxTag; tag++ {
		a, z, err := links(tag)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []link{a, z} {
			network := l.address.Masked()
			if other, taken := seen[network]; taken {
				t.Fatalf("tags %d and %d share %s", other, tag, network)
			}
			seen[network] = tag
			host, peer := network.Addr().Next(), network.Addr().Next().Next()
			if !domain.LinkSpace.Contains(l.address.Addr()) || l.address.Addr() != host || l.peer != peer || !network.Contains(peer.Next()) {
				t.Fatalf("tag %d: %v is not a link", tag, l)
			}
		}
		a, z, err = ipv6Links(tag, "2001:db8::/32")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []link{a, z} {
			network := l.address.Masked()
			if other, taken := seen[network]; taken {
				t.Fatalf("tags %d and %d share %s", other, tag, network)
			}
			seen[network] = tag
			if !netip.MustParsePrefix("2001:db8::/112").Contains(l.peer) || !network.Contains(l.peer) || l.address.Addr() == l.peer || network.Addr() == netip.MustParseAddr("2001:db8::") {
				t.Fatalf("tag %d: %v is not a link", tag, l)
			}
		}
	}
}
