// SPDX-License-Identifier: GPL-2.0-only
//
// The datapath of an edge node: meter, policer, VLAN demultiplexer and gate.
//
// (This one file is under the GPL 2, because the kernel grants some helpers to GPL programs only; it is loaded into the
// kernel and linked with nothing else.)
//
// A frame's way through the node, from the customer's port to the provider's:
//
//	port_ingress     finds the attachment by (port, tag protocol, VLAN), takes the tag off, drops what is about to cross
//	   |             over the ordered bandwidth, counts the rest as "in".
//	   |             Then, by destination: ARP, IPv6 neighbour discovery and our own addresses go up the stack, through the
//	   |             connection's L3 interface, where BGP and ping answer. Anything else may cross only while the gate is
//	   |             open: it is looked up in the connection's own table, addressed to the next hop, and tagged for the
//	   |             other port. What was looked up is remembered for a tenth of a second.
//	port_egress      counts the frame as "out", for the slot that port_ingress left in it or by (port, tag protocol, VLAN), and
//	                 lets it go.
//
// The stack sees a crossing packet only when it needs more than that (no neighbour entry yet, fragmentation or a packet too
// big, TTL or hop limit exceeded, IP options). It enters through the L3 interface with the connection's mark; the gate's rules send it to the
// same table, and the wall behind them keeps it out of every other. What the stack sends through an L3 interface, be it
// forwarded or our own, passes interface_egress, which tags it and hands it to the port.
//
// A frame that crosses touches few cache lines, because a node with a thousand connections has none of them at hand: the
// attachment, the direction's tally and bucket, and what was looked up. Packets are read in place and written with
// bpf_skb_store_bytes, as a program that writes in place has every cloned frame, such as TCP's own, copied whole first.
//
// Invariants: no frame of a connection crosses uncounted (a missing meter drops it); no frame leaves a port but from a
// connection, save LLDP and LACP; a packet that came in through a connection is looked up in no table but its own, and
// reaches none of the node's addresses but the connection's own, and the interface's link-local one for neighbour discovery.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

// Limits; the names are those of datapath.go.
#define MAX_CONNECTIONS 4096
#define MAX_ATTACHMENTS (2 * MAX_CONNECTIONS)
#define MAX_PORTS 256
#define MAX_RECENT 8192

// Numbers that user space knows by the names of datapath.go.
#define MARK_BASE 0xcb000000
#define TABLE_BASE 100000

// Verdicts of a tcx program (enum tcx_action_base in linux/bpf.h since 6.6).
#define VERDICT_NEXT -1
#define VERDICT_DROP 2

// The policer's bucket: what may come at once after a pause. A fifth of a second is as long as a TCP sender waits at
// least before it sends again what was lost at the end of a burst; the floor is two super-packets.
#define BURST_NS 200000000ull
#define BURST_BYTES (2 * 65536)
#define TICKS_PER_NS 16 // so that a short frame at a terabit a second still has a length

// How long a lookup is remembered, about 100 ms, in units of 2^20 ns. User space changes the attachment's generation with
// whatever it changes, so this is for what others do: neighbours, and tables changed by hand.
#define RECENT_UNIT 20
#define RECENT_UNITS 100

// What port_ingress leaves in tc_index for port_egress: this and the slot of the frame's direction. No socket can set it, and
// port_ingress never lets one pass that came with the frame.
#define OUT 0x8000u

#define AF_INET 2
#define AF_INET6 10
#define VLAN_TAG_LEN 4
#define VLAN_ID_MASK 0x0fff
#define IP_FRAGMENT_MASK 0x3fff // more-fragments bit and offset
#define ETH_P_LACP 0x8809       // IEEE 802.3 slow protocols
#define ETH_P_LLDP_FRAME 0x88cc

// wire is how frames of one attachment are known at a port.
struct wire {
	__u32 port; // ifindex
	__u16 vlan; // of the outer tag; 0 when untagged
	__u16 tpid; // 0x8100 or 0x88a8 in host order; 0 when untagged; in a service tag, the customer's VLAN (802.1Q) if there is one
};

#define ATTACHMENT_OPEN 1u // the gate: packets may cross

// attachment is what a port needs to know of one side of a connection. User space replaces it whole, which is atomic. Its
// size makes an entry of the hash two cache lines, the first of which ends behind the bandwidth.
struct attachment {
	__u32 slot;           // of what comes in here, in tallies and buckets; what goes out has slot ^ 1
	__u32 bandwidth_mbps; // ordered, from this side to the other; 0: not limited
	__u32 generation;     // lookups of another generation do not count any more
	__u16 tag;
	__u16 flags;
	__u32 interface; // ifindex of the side's L3 interface
	__u32 opposite;  // ifindex of the other side's
	struct wire other;
	__be32 own[2];    // our addresses: on this side, on the other
	__u8 own6[2][16]; // as own; :: for none
};

// tally is one direction's counters, on one CPU: of what comes in at the slot's side, and of what goes out at the other.
struct tally {
	__u64 bytes_in;
	__u64 packets_in;
	__u64 bytes_out;
	__u64 packets_out;
	__u64 dropped; // between in and out, in neither
	__u64 refused; // of those that came in
	__u64 unused[2]; // a cache line
};

// meter is a port's counters of strays, on one CPU. Each CPU's copy has the same epoch.
struct meter {
	__u64 epoch; // nanoseconds since 1970 UTC
	__u64 bytes_in;
	__u64 bytes_out;
	__u64 packets_in;
	__u64 packets_out;
	__u64 dropped_in;
	__u64 dropped_out;
	__u64 refused;
};

// bucket is one direction's token bucket, for all CPUs, as the time at which it will be full again (the generic cell rate
// algorithm of ITU-T I.371, whose state is one number): a change of the bandwidth needs nothing here. It says whose the slot is, too.
struct bucket {
	__u64 full;          // ticks of the monotonic clock
	__u64 dropped_bytes; // of the frames that did not conform
	__u64 epoch;         // when the tally was at zero, in nanoseconds since 1970 UTC
	__u32 tag;           // the connection's; 0: the slot is free
	__u32 unused;
};

// recent is a lookup and its answer. It is one CPU's own.
struct recent {
	__u32 slot;
	__u32 generation;
	__u32 to[4]; // an IPv4 address is the first
	__u16 family;
	__u16 mtu;
	__u32 at;         // in units of 2^RECENT_UNIT ns
	__u32 link[4];    // two bytes of nothing, destination, source, ethertype
	__u32 hairpin;    // it leaves where it came in
	__u32 unused[2];  // a cache line
};

// node says whose maps these are, so that pins of a namespace that is gone are not taken for this one's.
struct node {
	__u64 netns_cookie;
	__u64 created; // nanoseconds since 1970 UTC
};

// Names of the maps that earlier versions pinned with other contents are not used again: attachments, meters, policers.

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct wire);
	__type(value, struct attachment);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} sides SEC(".maps");

// interfaces: an L3 interface's ifindex to the wire its frames go out on.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct wire);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct tally);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct bucket);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct recent);
	__uint(max_entries, MAX_RECENT);
} recents SEC(".maps");

// strays: per port, the frames that belong to no connection.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, __u32);
	__type(value, struct meter);
	__uint(max_entries, MAX_PORTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} strays SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct node);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} nodes SEC(".maps");

// read_type reads two halfwords of a frame: an ethertype or TPID, and what follows, which is the TCI of a tag.
static __always_inline int read_type(struct __sk_buff *skb, __u32 at, __u16 type[2])
{
	void *data = (void *)(long)skb->data + at, *end = (void *)(long)skb->data_end;

	if (data + 4 > end)
		return bpf_skb_load_bytes(skb, at, type, 4) == 0;
	type[0] = ((__u16 *)data)[0];
	type[1] = ((__u16 *)data)[1];
	return 1;
}

// identify reads the tags, the outer one from the skb's offload field or from the frame. A priority tag (VLAN 0) is no VLAN, and
// in a service tag no customer's. It returns how many tags there are to take off.
static __always_inline int identify(struct __sk_buff *skb, struct wire *wire)
{
	__u32 at = 2 * ETH_ALEN;
	__u16 type[2], vlan;

	wire->port = skb->ifindex;
	wire->vlan = 0;
	wire->tpid = 0;
	if (skb->vlan_present) {
		wire->vlan = skb->vlan_tci & VLAN_ID_MASK;
		if (wire->vlan)
			wire->tpid = bpf_ntohs(skb->vlan_proto);
	} else {
		if (!read_type(skb, at, type) || (type[0] != bpf_htons(ETH_P_8021Q) && type[0] != bpf_htons(ETH_P_8021AD)))
			return 0;
		at += VLAN_TAG_LEN;
		wire->vlan = bpf_ntohs(type[1]) & VLAN_ID_MASK;
		if (wire->vlan)
			wire->tpid = bpf_ntohs(type[0]);
	}
	if (wire->tpid != ETH_P_8021AD || !read_type(skb, at, type) || type[0] != bpf_htons(ETH_P_8021Q))
		return 1;
	vlan = bpf_ntohs(type[1]) & VLAN_ID_MASK;
	if (!vlan)
		return 1;
	wire->tpid = vlan;
	return 2;
}

// strip takes so many tags off. A frame that has more is none of ours: forwarded, it would carry the next one into a VLAN that may be
// another connection's.
static __always_inline int strip(struct __sk_buff *skb, int tags)
{
	if (tags && bpf_skb_vlan_pop(skb) < 0)
		return 0;
	if (tags > 1 && bpf_skb_vlan_pop(skb) < 0)
		return 0;
	return !skb->vlan_present;
}

// tag gives a frame the tags of a wire.
static __always_inline int tag(struct __sk_buff *skb, const struct wire *wire)
{
	__u16 vlan = wire->vlan, tpid = wire->tpid;

	if (!vlan)
		return 1;
	if (tpid <= VLAN_ID_MASK) {
		if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), tpid) < 0)
			return 0;
		tpid = ETH_P_8021AD;
	}
	return bpf_skb_vlan_push(skb, bpf_htons(tpid), vlan) == 0;
}

// header_length is how much of a super-packet every wire frame repeats: Ethernet, tags in the frame, IP (IP in IP too)
// and TCP or UDP. What it cannot read it leaves out.
static __always_inline __u32 header_length(struct __sk_buff *skb)
{
	__u32 at = 2 * ETH_ALEN;
	__u16 type = 0;
	__u8 protocol = IPPROTO_IPIP, byte = 0;
	int i;

	for (i = 0; i < 3; i++) { // up to two tags in the frame
		if (bpf_skb_load_bytes(skb, at, &type, sizeof(type)) < 0)
			return ETH_HLEN;
		at += sizeof(type);
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		at += 2; // the TCI
	}
	if (type == bpf_htons(ETH_P_IPV6))
		protocol = IPPROTO_IPV6;
	else if (type != bpf_htons(ETH_P_IP))
		return at;

	for (i = 0; i < 3; i++) { // the packet, and two more inside it
		if (protocol == IPPROTO_IPIP) {
			if (bpf_skb_load_bytes(skb, at, &byte, 1) < 0 ||
			    bpf_skb_load_bytes(skb, at + 9, &protocol, 1) < 0)
				return at;
			at += (byte & 0x0f) * 4;
		} else if (protocol == IPPROTO_IPV6) {
			if (bpf_skb_load_bytes(skb, at + 6, &protocol, 1) < 0)
				return at;
			at += 40;
		} else {
			break;
		}
	}
	if (protocol == IPPROTO_TCP && bpf_skb_load_bytes(skb, at + 12, &byte, 1) == 0)
		at += (byte >> 4) * 4;
	else if (protocol == IPPROTO_UDP)
		at += 8;
	return at;
}

// measure counts the wire frames an skb stands for and their bytes.
static __always_inline void measure(struct __sk_buff *skb, __u64 *frames, __u64 *bytes)
{
	__u32 header, size = skb->gso_size, segments = 1;

	*bytes = skb->len;
	if (size) {
		header = header_length(skb);
		segments = skb->gso_segs;
		if (!segments && skb->len > header) // as some drivers and virtual machines leave it
			segments = (skb->len - header + size - 1) / size;
		if (!segments)
			segments = 1;
		*bytes += (__u64)(segments - 1) * header;
	}
	if (skb->vlan_present) // the tag is not in the frame yet, or no more
		*bytes += (__u64)segments * VLAN_TAG_LEN;
	*frames = segments;
}

// link_protocol says whether an untagged frame belongs to the link itself, to be handled by a daemon of the node.
static __always_inline int link_protocol(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_LLDP_FRAME) || skb->protocol == bpf_htons(ETH_P_LACP);
}

static __always_inline int same6(const struct in6_addr *a, const struct in6_addr *b)
{
	return !((a->in6_u.u6_addr32[0] ^ b->in6_u.u6_addr32[0]) | (a->in6_u.u6_addr32[1] ^ b->in6_u.u6_addr32[1]) |
		 (a->in6_u.u6_addr32[2] ^ b->in6_u.u6_addr32[2]) | (a->in6_u.u6_addr32[3] ^ b->in6_u.u6_addr32[3]));
}

// no_ipv6 says whether the connection was given no IPv6 address.
static __always_inline int no_ipv6(const struct attachment *attachment)
{
	const struct in6_addr none = {};

	return same6((const struct in6_addr *)attachment->own6[0], &none);
}

static __always_inline int own6(const struct attachment *attachment, const struct in6_addr *to)
{
	return same6(to, (const struct in6_addr *)attachment->own6[0]) ||
	       same6(to, (const struct in6_addr *)attachment->own6[1]);
}

// local_scope says whether an IPv6 address is a link's own business: link-local, or multicast, of which none is forwarded.
static __always_inline int local_scope(const struct in6_addr *address)
{
	return address->in6_u.u6_addr8[0] == 0xff ||
	       (address->in6_u.u6_addr8[0] == 0xfe && (address->in6_u.u6_addr8[1] & 0xc0) == 0x80);
}

// conforms takes bytes out of the direction's bucket, if they are in it.
static __always_inline int conforms(const struct attachment *attachment, __u64 bytes, __u64 ns)
{
	__u32 key = attachment->slot, mbps = attachment->bandwidth_mbps;
	__u64 now, full, next, burst;
	struct bucket *bucket;
	int i;

	if (!mbps)
		return 1;
	bucket = bpf_map_lookup_elem(&buckets, &key);
	if (!bucket)
		return 0;
	now = ns * TICKS_PER_NS;
	burst = BURST_NS * TICKS_PER_NS;
	if (mbps <= BURST_BYTES * 8000ull / BURST_NS)
		burst = BURST_BYTES * 8000ull * TICKS_PER_NS / mbps;
	for (i = 0; i < 8; i++) { // other CPUs take of it at the same time
		full = *(volatile __u64 *)&bucket->full;
		next = (full > now ? full : now) + bytes * 8000 * TICKS_PER_NS / mbps;
		if (next - now > burst) {
			__sync_fetch_and_add(&bucket->dropped_bytes, bytes);
			return 0;
		}
		if (__sync_val_compare_and_swap(&bucket->full, full, next) == full)
			return 1;
	}
	return 1; // the others' frames were counted, and so will be the next of this CPU
}

static __always_inline int refuse(struct tally *tally)
{
	tally->refused++;
	return VERDICT_DROP;
}

// up hands a packet to the stack through the connection's L3 interface.
static __always_inline int up(struct __sk_buff *skb, const struct attachment *attachment)
{
	skb->mark = MARK_BASE | attachment->tag;
	skb->tc_index = 0;
	return bpf_redirect(attachment->interface, BPF_F_INGRESS);
}

// no_source: addresses that no packet on a wire comes from (RFC 1122 section 3.2.1.3), in host order.
static __always_inline int no_source(__u32 address)
{
	return address >> 24 == 0 || address >> 24 == 127 || address >> 28 >= 14;
}

// no_source6: IPv6 addresses that no packet on a wire comes from or goes to beyond its link (RFC 4291 sections 2.5.2 to 2.5.6).
static __always_inline int no_source6(const struct in6_addr *address)
{
	__u32 third = bpf_ntohl(address->in6_u.u6_addr32[2]);

	return local_scope(address) || (!address->in6_u.u6_addr32[0] && !address->in6_u.u6_addr32[1] && (!third || third == 0xffff));
}

// reachable makes sure that a frame's first bytes can be read in place.
static __always_inline int reachable(struct __sk_buff *skb, __u32 length)
{
	return (void *)(long)skb->data + length <= (void *)(long)skb->data_end || bpf_skb_pull_data(skb, length) == 0;
}

// Where a packet goes: nowhere, to the node itself, to the other side.
enum way { STOP, UP, CROSS };

// way_of says where a frame, which has no tag any more, goes by its destination. What is for the node itself (BGP, ARP,
// neighbour discovery) is never dropped for the customer's traffic beside it.
static __always_inline enum way way_of(struct __sk_buff *skb, const struct attachment *attachment)
{
	const struct ipv6hdr *ip6;
	const struct iphdr *ip;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return UP;
	if (skb->protocol == bpf_htons(ETH_P_IP) && reachable(skb, ETH_HLEN + sizeof(*ip))) {
		ip = (void *)(long)skb->data + ETH_HLEN;
		if ((void *)(ip + 1) > (void *)(long)skb->data_end)
			return STOP;
		if (ip->daddr && (ip->daddr == attachment->own[0] || ip->daddr == attachment->own[1]))
			return UP;
		return attachment->flags & ATTACHMENT_OPEN ? CROSS : STOP;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6) && reachable(skb, ETH_HLEN + sizeof(*ip6))) {
		ip6 = (void *)(long)skb->data + ETH_HLEN;
		if ((void *)(ip6 + 1) > (void *)(long)skb->data_end)
			return STOP;
		if (own6(attachment, &ip6->daddr))
			return UP;
		// What neighbour discovery sends to the link comes from the link: its hop limit was never taken from (RFC 4861
		// section 6.1). Nothing else is let near the interface's link-local address.
		if (local_scope(&ip6->daddr))
			return ip6->nexthdr == IPPROTO_ICMPV6 && ip6->hop_limit == 255 && !no_ipv6(attachment) ? UP : STOP;
		return attachment->flags & ATTACHMENT_OPEN ? CROSS : STOP;
	}
	return STOP;
}

// packet is what a lookup depends on.
struct packet {
	__u32 to[4]; // as in recent
	__u32 from[4];
	__be32 flowinfo; // traffic class and flow label, or the type of service
	__u16 family;
	__u16 length; // of the packet, or of the longest a super-packet stands for
	__u8 protocol;
	__u8 exceptional; // only the stack can do what it needs
};

// look asks the kernel for the way of a packet that came in through the attachment.
static __always_inline long look(struct __sk_buff *skb, const struct attachment *attachment, const struct packet *packet,
				 struct bpf_fib_lookup *fib, __u32 flags)
{
	fib->family = packet->family;
	fib->l4_protocol = packet->protocol;
	fib->tot_len = packet->length;
	fib->ifindex = attachment->interface;
	fib->flowinfo = packet->flowinfo;
	__builtin_memcpy(fib->ipv6_src, packet->from, sizeof(fib->ipv6_src));
	__builtin_memcpy(fib->ipv6_dst, packet->to, sizeof(fib->ipv6_dst));
	fib->tbid = TABLE_BASE + attachment->tag;
	return bpf_fib_lookup(skb, fib, sizeof(*fib), flags);
}

// exception hands a packet that is to cross to the stack, unless the stack would take it for the node's own: it looks there
// first, and a customer's prefix may cover an address of the node.
static __always_inline int exception(struct __sk_buff *skb, const struct attachment *attachment, const struct packet *packet,
				     struct tally *tally)
{
	struct bpf_fib_lookup fib = {};
	long result = look(skb, attachment, packet, &fib, 0);

	if (result < 0 || result == BPF_FIB_LKUP_RET_NOT_FWDED)
		return refuse(tally);
	return up(skb, attachment);
}

// cross takes a packet, already counted and without its tag, to the other side or to the stack.
static __always_inline int cross(struct __sk_buff *skb, const struct wire *own, const struct attachment *attachment,
				 struct tally *tally, __u64 ns)
{
	struct packet packet = {};
	__u32 now = ns >> RECENT_UNIT, slot = attachment->slot, index;
	__u32 head[7]; // two bytes of nothing, the Ethernet header, the first 12 bytes of the packet
	const struct ipv6hdr *ip6;
	const struct iphdr *ip;
	const struct wire *wire;
	struct recent *recent;
	__u32 check;
	long result;

	if (skb->pkt_type != PACKET_HOST)
		return refuse(tally); // broadcast, multicast, or flooded by a switch: a router forwards none of them
	packet.length = skb->gso_size ? header_length(skb) - ETH_HLEN + skb->gso_size : skb->len - ETH_HLEN;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		ip = (void *)(long)skb->data + ETH_HLEN;
		if ((void *)(ip + 1) > (void *)(long)skb->data_end)
			return refuse(tally);
		if (no_source(bpf_ntohl(ip->saddr)) || no_source(bpf_ntohl(ip->daddr)))
			return refuse(tally);
		packet.family = AF_INET;
		packet.to[0] = ip->daddr;
		packet.from[0] = ip->saddr;
		*(__u8 *)&packet.flowinfo = ip->tos;
		packet.protocol = ip->protocol;
		packet.exceptional = ip->ttl <= 1 || ip->ihl != 5;
		__builtin_memcpy(head + 4, ip, 12);
		check = ip->check; // RFC 1624: the TTL goes down by one, the checksum up by 0x0100
		check += bpf_htons(0x0100);
		((__u16 *)head)[13] = (__u16)(check + (check >= 0xffff));
		((__u8 *)head)[24]--;
	} else {
		ip6 = (void *)(long)skb->data + ETH_HLEN;
		if ((void *)(ip6 + 1) > (void *)(long)skb->data_end)
			return refuse(tally);
		if (no_source6(&ip6->saddr) || no_source6(&ip6->daddr))
			return refuse(tally);
		packet.family = AF_INET6;
		__builtin_memcpy(packet.to, &ip6->daddr, sizeof(packet.to));
		__builtin_memcpy(packet.from, &ip6->saddr, sizeof(packet.from));
		packet.flowinfo = *(__be32 *)ip6 & bpf_htonl(0x0fffffff);
		packet.protocol = ip6->nexthdr;
		packet.exceptional = ip6->hop_limit <= 1 || ip6->nexthdr == IPPROTO_HOPOPTS;
		__builtin_memcpy(head + 4, ip6, 12);
		((__u8 *)head)[23]--;
	}

	index = (packet.to[0] ^ packet.to[1] ^ packet.to[2] ^ packet.to[3]) * 0x9e3779b1u + slot * 0x85ebca77u;
	index = (index ^ index >> 15) % MAX_RECENT;
	recent = bpf_map_lookup_elem(&recents, &index);
	if (!recent)
		return refuse(tally);
	if (recent->slot != slot || recent->generation != attachment->generation || now - recent->at >= RECENT_UNITS ||
	    recent->family != packet.family || ((recent->to[0] ^ packet.to[0]) | (recent->to[1] ^ packet.to[1]) |
						(recent->to[2] ^ packet.to[2]) | (recent->to[3] ^ packet.to[3]))) {
		struct bpf_fib_lookup fib = {};

		result = look(skb, attachment, &packet, &fib, BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_TBID);
		if (result == BPF_FIB_LKUP_RET_NO_NEIGH || result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
			return exception(skb, attachment, &packet, tally);
		if (result != BPF_FIB_LKUP_RET_SUCCESS || (fib.ifindex != attachment->opposite && fib.ifindex != attachment->interface))
			return refuse(tally); // no route of this connection
		recent->slot = slot;
		recent->generation = attachment->generation;
		recent->at = now;
		recent->family = packet.family;
		recent->mtu = fib.mtu_result;
		recent->hairpin = fib.ifindex == attachment->interface;
		__builtin_memcpy(recent->to, packet.to, sizeof(recent->to));
		__builtin_memcpy((__u16 *)recent->link + 1, fib.dmac, ETH_ALEN);
		__builtin_memcpy((__u16 *)recent->link + 4, fib.smac, ETH_ALEN);
		((__u16 *)recent->link)[7] = skb->protocol;
	}
	if (packet.exceptional || packet.length > recent->mtu)
		return exception(skb, attachment, &packet, tally);

	__builtin_memcpy(head, recent->link, sizeof(recent->link));
	wire = recent->hairpin ? own : &attachment->other;
	skb->tc_index = OUT | (recent->hairpin ? slot ^ 1 : slot);
	if (bpf_skb_store_bytes(skb, 0, (__u8 *)head + 2, sizeof(head) - 2, 0) < 0)
		return refuse(tally);
	if (!tag(skb, wire))
		return refuse(tally);
	return bpf_redirect(wire->port, 0);
}

SEC("tcx/ingress")
int port_ingress(struct __sk_buff *skb)
{
	const struct attachment *attachment;
	struct tally *tally;
	struct meter *stray;
	struct wire wire;
	__u64 frames, bytes, ns = 0;
	enum way way = STOP;
	__u32 slot;
	int tags;

	tags = identify(skb, &wire);
	measure(skb, &frames, &bytes);
	attachment = bpf_map_lookup_elem(&sides, &wire);
	if (!attachment) {
		stray = bpf_map_lookup_elem(&strays, &wire.port);
		if (stray) {
			stray->packets_in += frames;
			stray->bytes_in += bytes;
		}
		return !tags && link_protocol(skb) ? VERDICT_NEXT : VERDICT_DROP;
	}
	slot = attachment->slot;
	tally = bpf_map_lookup_elem(&tallies, &slot);
	if (!tally)
		return VERDICT_DROP;
	if (strip(skb, tags))
		way = way_of(skb, attachment);
	if (way == CROSS) {
		ns = bpf_ktime_get_coarse_ns(); // to some milliseconds, which the burst and the memory of lookups are long beside
		if (!conforms(attachment, bytes, ns)) {
			tally->dropped += frames;
			return VERDICT_DROP;
		}
	}
	tally->packets_in += frames;
	tally->bytes_in += bytes;
	if (way == CROSS)
		return cross(skb, &wire, attachment, tally, ns);
	if (way == UP)
		return up(skb, attachment);
	return refuse(tally);
}

SEC("tcx/egress")
int port_egress(struct __sk_buff *skb)
{
	const struct attachment *attachment;
	struct tally *tally;
	struct meter *stray;
	struct wire wire;
	__u64 frames, bytes;
	__u32 slot = skb->tc_index;
	int tags;

	if (slot & OUT) {
		slot %= OUT;
		skb->tc_index = 0;
	} else {
		tags = identify(skb, &wire);
		attachment = bpf_map_lookup_elem(&sides, &wire);
		if (!attachment) {
			int pass = !tags && link_protocol(skb);

			measure(skb, &frames, &bytes);
			stray = bpf_map_lookup_elem(&strays, &wire.port);
			if (stray && pass) {
				stray->packets_out += frames;
				stray->bytes_out += bytes;
			} else if (stray) {
				stray->dropped_out += frames;
			}
			return pass ? VERDICT_NEXT : VERDICT_DROP;
		}
		slot = attachment->slot ^ 1;
	}
	tally = bpf_map_lookup_elem(&tallies, &slot);
	if (!tally)
		return VERDICT_DROP;
	measure(skb, &frames, &bytes);
	tally->packets_out += frames;
	tally->bytes_out += bytes;
	return VERDICT_NEXT;
}

SEC("tcx/egress")
int interface_egress(struct __sk_buff *skb)
{
	const struct wire *wire;
	__u32 interface = skb->ifindex;

	wire = bpf_map_lookup_elem(&interfaces, &interface);
	if (!wire)
		return VERDICT_DROP;
	if (!tag(skb, wire))
		return VERDICT_DROP;
	return bpf_redirect(wire->port, 0);
}
