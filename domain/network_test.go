package domain

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValidASN(t *testing.T) {
	t.Parallel()
	for asn, want := range map[uint32]bool{
		0: false, 1: true, 23455: true, 23456: false, 23457: true, 64512: true, 65534: true, 65535: false, 65536: true, 4294967294: true, 4294967295: false,
	} {
		if ValidASN(asn) != want {
			t.Errorf("%d is valid: %v", asn, !want)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"192.0.2.0/24", "10.0.0.0/8", "172.16.5.4/32", "198.18.0.0/15", "1.0.0.0/8", "192.0.0.0/3",
		"2001:db8::/32", "2000::/3", "fd00::/16", "2001:db8::1/128", "64:ff9b::/96"} {
		if p, err := ParsePrefix(text); err != nil || p.String() != text {
			t.Errorf("%s is read as %s, %v", text, p, err)
		}
	}
	for text, about := range map[string]string{
		"":                      "CIDR",
		"192.0.2.0":             "CIDR",
		"192.0.2.0/33":          "CIDR",
		"192.0.2.0/024":         "CIDR",
		"192.0.2.00/24":         "CIDR",
		" 192.0.2.0/24":         "CIDR",
		"2001:db8::1/32":        "host bits",
		"2001:DB8::/32":         "canonical",
		"2001:db8:0::/48":       "canonical",
		"2001:db8::/129":        "CIDR",
		"fe80::%eth0/64":        "CIDR",
		"::ffff:1.2.3.0/120":    "IPv4",
		"::/0":                  "default",
		"::/1":                  "::/96",
		"::1/128":               "::/96",
		"fe80::/64":             "fe80::/10",
		"ff02::1/128":           "ff00::/8",
		"fd65:3ce5:bca8:1::/64": "fd65:3ce5:bca8::/48",
		"fc00::/7":              "fd65:3ce5:bca8::/48",
		"0.0.0.0/0":             "default",
		"192.0.2.1/24":          "host bits",
		"0.0.0.0/1":             "0.0.0.0/8",
		"127.0.0.0/24":          "127.0.0.0/8",
		"169.254.0.0/16":        "169.254",
		"239.0.0.0/8":           "224.0.0.0/4",
		"255.255.255.255/32":    "240.0.0.0/4",
		"100.64.7.0/24":         "100.64.0.0/10",
		"100.0.0.0/8":           "100.64.0.0/10",
	} {
		_, err := ParsePrefix(text)
		if CodeOf(err) != Invalid || !strings.Contains(err.Error(), about) {
			t.Errorf("%q: %v, want something about %s", text, err, about)
		}
	}
}

func TestProblemsOfBGP(t *testing.T) {
	t.Parallel()
	var p Problems
	p.BGP("/bgp", BGP{ASN: 0, Prefixes: []string{"192.0.2.0/24", "192.0.2.0/24", "x"}})
	p.BGPPair("/bgp", BGP{1, []string{"192.0.2.0/24", "10.0.0.0/8"}}, BGP{1, []string{"10.0.0.0/8", "10.1.0.0/16"}})
	var got []string
	for _, f := range p {
		got = append(got, f.Pointer)
	}
	if want := "/bgp/asn /bgp/prefixes/1 /bgp/prefixes/2 /bgp/asn /bgp/prefixes/1"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	a := BGP{1, []string{"10.0.0.0/8"}}
	if !a.Equal(BGP{1, []string{"10.0.0.0/8"}}) || a.Equal(BGP{2, a.Prefixes}) || a.Equal(BGP{1, nil}) {
		t.Error("equality is not that of what is said")
	}
}

// Whatever is read is canonical, routable and not the platform's.
func FuzzParsePrefix(f *testing.F) {
	for _, seed := range []string{"192.0.2.0/24", "0.0.0.0/0", "10.0.0.1/8", "100.64.0.0/10", "::/0", "1.2.3.4/32", "1.2.3.4", "/", "fe80::%eth0/64", "2001:db8::/32", "::ffff:1.2.3.0/120", "2001:DB8::/32"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePrefix(text)
		if err != nil {
			if CodeOf(err) != Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if p.String() != text || p.Masked() != p || p.Bits() == 0 || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			t.Fatalf("%q is read as %s", text, p)
		}
		for _, inside := range []string{"0.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255", "100.64.0.1", "100.127.255.255",
			"::", "::1", "fe80::1", "ff02::1", "fd65:3ce5:bca8::1"} {
			if p.Contains(netip.MustParseAddr(inside)) {
				t.Fatalf("%q holds %s", text, inside)
			}
		}
	})
}
