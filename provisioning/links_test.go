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

// Every link of every tag: inside RFC 6598's space, both ends hosts of the same /30, and no /30 twice.
func TestLinksNeverMeet(t *testing.T) {
	t.Parallel()
	seen := make(map[netip.Prefix]int, 2*connection.MaxTag)
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
	}
}
