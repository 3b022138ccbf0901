package webhook

import "net/netip"

// private4 are the IPv4 addresses that nobody in the public internet has (IANA IPv4 Special-Purpose Address Registry), and
// one public address at which a cloud's machines reach their own platform.
var private4 = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"168.63.129.16/32", // Azure
)

// public6 is all of IPv6 that is handed out for use in the internet (RFC 4291 section 2.4). Loopback, link-local, unique
// local, multicast, IPv4-mapped (::ffff:0:0/96) and NAT64 (64:ff9b::/96, 64:ff9b:1::/48) are outside of it.
var public6 = netip.MustParsePrefix("2000::/3")

// private6 is what of public6 is special: protocol assignments with Teredo, documentation, and 6to4, which has an IPv4
// address inside (IANA IPv6 Special-Purpose Address Registry).
var private6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// PublicAddress reports whether an address may be sent to: it is nobody's private network, nor a machine's or a cloud's own
// services. An IPv4 address inside an IPv6 one is none either, whatever it is: nothing public needs it.
func PublicAddress(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	private := private6
	if a.Is4() {
		private = private4
	} else if !public6.Contains(a) { // of an IPv4-mapped address too
		return false
	}
	for _, p := range private {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
