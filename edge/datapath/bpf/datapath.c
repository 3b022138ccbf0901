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
//	   |             other port.
//	port_egress      counts the frame as "out" by (port, tag protocol, VLAN) and lets it go.
//
// The stack sees a crossing packet only when it needs more than that (no neighbour entry yet, fragmentation or a packet too
// big, TTL or hop limit exceeded, IP options). It enters through the L3 interface with the connection's mark; the gate's rules send it to the
// same table, and the wall behind them keeps it out of every other. What the stack sends through an L3 interface, be it
// forwarded or our own, passes interface_egress, which tags it and hands it to the port.
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

// Verdicts of a tcx program (enum tcx_action_base in linux/bpf.h since 6.6).
#define VERDICT_NEXT -1
#define VERDICT_DROP 2

// The policer's bucket: what may come at once after a pause. A fifth of a second is as long as a TCP sender waits at
// least before it sends again what was lost at the end of a burst; the floor is two super-packets.
#define BURST_NS 200000000ull
#define BURST_BYTES (2 * 65536)
#define TICKS_PER_NS 16 // so that a short frame at a terabit a second still has a length

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
	__u16 vlan; // 0 when untagged
	__u16 tpid; // 0x8100 or 0x88a8 in host order; 0 when untagged
};

#define ATTACHMENT_OPEN 1u // the gate: packets may cross

// attachment is what a port needs to know of one side of a connection. User space replaces it whole, which is atomic.
struct attachment {
	__u32 interface; // ifindex of the side's L3 interface
	__u32 meter;     // key in meters: tag << 1 | side
	__u32 mark;
	__u32 table;
	__be32 own[2]; // our addresses: on this side, on the other
	__u32 flags;
	__u32 bandwidth_mbps; // ordered, from this side to the other; 0: not limited
	__u8 own6[2][16]; // as own; :: for none
};

// meter is one side's counters, on one CPU. Each CPU's copy has the same epoch.
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

// policer is one direction's token bucket, for all CPUs, as the time at which it will be full again (the generic cell rate
// algorithm of ITU-T I.371, whose state is one number): a change of the bandwidth needs nothing here.
struct policer {
	__u64 full;          // ticks of the monotonic clock
	__u64 dropped_bytes; // of the frames that did not conform
};

// node says whose maps these are, so that pins of a namespace that is gone are not taken for this one's.
struct node {
	__u64 netns_cookie;
	__u64 created; // nanoseconds since 1970 UTC
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct wire);
	__type(value, struct attachment);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} attachments SEC(".maps");

// interfaces: an L3 interface's ifindex to the wire its frames go out on.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct wire);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} interfaces SEC(".maps");

// meters takes its memory at once, 512 KiB for each possible CPU: without that the kernel refuses entries (ENOMEM) when
// many are made in a row.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, __u32);
	__type(value, struct meter);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} meters SEC(".maps");

// policers: by the meter's key of the side where the frames come in.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct policer);
	__uint(max_entries, MAX_ATTACHMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} policers SEC(".maps");

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

// identify reads the outer tag, from the skb's offload field or from the frame. A priority tag (VLAN 0) is no VLAN.
// It reports whether there is a tag to take off.
static __always_inline int identify(struct __sk_buff *skb, struct wire *wire)
{
	__u16 ethernet[2]; // what follows the addresses: ethertype or TPID, then the TCI

	wire->port = skb->ifindex;
	wire->vlan = 0;
	wire->tpid = 0;
	if (skb->vlan_present) {
		wire->vlan = skb->vlan_tci & VLAN_ID_MASK;
		if (wire->vlan)
			wire->tpid = bpf_ntohs(skb->vlan_proto);
		return 1;
	}
	if (bpf_skb_load_bytes(skb, 2 * ETH_ALEN, ethernet, sizeof(ethernet)) < 0)
		return 0;
	if (ethernet[0] != bpf_htons(ETH_P_8021Q) && ethernet[0] != bpf_htons(ETH_P_8021AD))
		return 0;
	wire->vlan = bpf_ntohs(ethernet[1]) & VLAN_ID_MASK;
	if (wire->vlan)
		wire->tpid = bpf_ntohs(ethernet[0]);
	return 1;
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

// crossing says whether a frame, which has no tag any more, is about to cross: what is for the node itself (BGP, ARP,
// neighbour discovery) is never dropped for the customer's traffic beside it.
static __always_inline int crossing(struct __sk_buff *skb, const struct attachment *attachment)
{
	struct in6_addr to6;
	__be32 to;

	if (!(attachment->flags & ATTACHMENT_OPEN))
		return 0;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, daddr), &to, sizeof(to)) == 0 &&
		       to != attachment->own[0] && to != attachment->own[1];
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, daddr), &to6, sizeof(to6)) == 0 &&
		       !local_scope(&to6) && !own6(attachment, &to6);
	return 0;
}

// conforms takes bytes out of the side's bucket, if they are in it.
static __always_inline int conforms(const struct attachment *attachment, __u64 bytes)
{
	__u32 key = attachment->meter, mbps = attachment->bandwidth_mbps;
	struct policer *policer;
	__u64 now, full, next, burst;
	int i;

	if (!mbps)
		return 1;
	policer = bpf_map_lookup_elem(&policers, &key);
	if (!policer)
		return 0;
	now = bpf_ktime_get_ns() * TICKS_PER_NS;
	burst = BURST_NS * TICKS_PER_NS;
	if (burst < BURST_BYTES * 8000ull * TICKS_PER_NS / mbps)
		burst = BURST_BYTES * 8000ull * TICKS_PER_NS / mbps;
	for (i = 0; i < 8; i++) { // other CPUs take of it at the same time
		full = *(volatile __u64 *)&policer->full;
		next = (full > now ? full : now) + bytes * 8000 * TICKS_PER_NS / mbps;
		if (next - now > burst) {
			__sync_fetch_and_add(&policer->dropped_bytes, bytes);
			return 0;
		}
		if (__sync_val_compare_and_swap(&policer->full, full, next) == full)
			return 1;
	}
	return 1; // the others' frames were counted, and so will be the next of this CPU
}

static __always_inline int refuse(struct meter *meter)
{
	meter->refused++;
	return VERDICT_DROP;
}

// up hands a packet to the stack through the connection's L3 interface.
static __always_inline int up(struct __sk_buff *skb, const struct attachment *attachment)
{
	skb->mark = attachment->mark;
	return bpf_redirect(attachment->interface, BPF_F_INGRESS);
}

// no_source: addresses that no packet on a wire comes from (RFC 1122 section 3.2.1.3), in host order.
static __always_inline int no_source(__u32 address)
{
	return address >> 24 == 0 || address >> 24 == 127 || address >> 28 >= 14;
}

// deliver addresses a packet to its next hop and hands it to the port.
static __always_inline int deliver(struct __sk_buff *skb, struct ethhdr *ethernet, const struct bpf_fib_lookup *fib,
				   const struct wire *wire, struct meter *meter)
{
	__builtin_memcpy(ethernet->h_dest, fib->dmac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, fib->smac, ETH_ALEN);
	if (wire->vlan && bpf_skb_vlan_push(skb, bpf_htons(wire->tpid), wire->vlan) < 0)
		return refuse(meter);
	return bpf_redirect(wire->port, 0);
}

// cross takes an IPv4 packet, already counted and without its tag, to the other side or to the stack.
static __always_inline int cross(struct __sk_buff *skb, const struct attachment *attachment, struct meter *meter)
{
	struct bpf_fib_lookup fib = {};
	const struct wire *wire;
	struct ethhdr *ethernet;
	struct iphdr *ip;
	void *data, *end;
	__u32 check;
	long result;

	if (bpf_skb_pull_data(skb, sizeof(*ethernet) + sizeof(*ip)) < 0)
		return refuse(meter);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	ethernet = data;
	ip = data + sizeof(*ethernet);
	if ((void *)(ip + 1) > end)
		return refuse(meter);

	if (ip->daddr == attachment->own[0] || ip->daddr == attachment->own[1])
		return up(skb, attachment);
	if (!(attachment->flags & ATTACHMENT_OPEN))
		return refuse(meter);
	if (skb->pkt_type != PACKET_HOST || no_source(bpf_ntohl(ip->saddr)) || no_source(bpf_ntohl(ip->daddr)))
		return refuse(meter); // broadcast, multicast, or flooded by a switch: a router forwards none of them

	fib.family = AF_INET;
	fib.tos = ip->tos;
	fib.l4_protocol = ip->protocol;
	fib.ifindex = attachment->interface;
	fib.ipv4_src = ip->saddr;
	fib.ipv4_dst = ip->daddr;
	fib.tbid = attachment->table;
	result = bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_TBID);
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH || result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return up(skb, attachment);
	if (result != BPF_FIB_LKUP_RET_SUCCESS)
		return refuse(meter); // no route of this connection
	if (ip->ttl <= 1 || ip->ihl != 5)
		return up(skb, attachment);
	wire = bpf_map_lookup_elem(&interfaces, &fib.ifindex);
	if (!wire)
		return refuse(meter);

	check = ip->check; // RFC 1624: the TTL goes down by one, the checksum up by 0x0100
	check += bpf_htons(0x0100);
	ip->check = (__u16)(check + (check >= 0xffff));
	ip->ttl--;
	return deliver(skb, ethernet, &fib, wire, meter);
}

// no_source6: IPv6 addresses that no packet on a wire comes from or goes to beyond its link (RFC 4291 sections 2.5.2 to 2.5.6).
static __always_inline int no_source6(const struct in6_addr *address)
{
	__u32 third = bpf_ntohl(address->in6_u.u6_addr32[2]);

	return local_scope(address) || (!address->in6_u.u6_addr32[0] && !address->in6_u.u6_addr32[1] && (!third || third == 0xffff));
}

// cross6 is cross for an IPv6 packet.
static __always_inline int cross6(struct __sk_buff *skb, const struct attachment *attachment, struct meter *meter)
{
	struct bpf_fib_lookup fib = {};
	const struct wire *wire;
	struct ethhdr *ethernet;
	struct ipv6hdr *ip;
	void *data, *end;
	long result;

	if (bpf_skb_pull_data(skb, sizeof(*ethernet) + sizeof(*ip)) < 0)
		return refuse(meter);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	ethernet = data;
	ip = data + sizeof(*ethernet);
	if ((void *)(ip + 1) > end)
		return refuse(meter);

	if (own6(attachment, &ip->daddr))
		return up(skb, attachment);
	// What neighbour discovery sends to the link comes from the link: its hop limit was never taken from (RFC 4861 section
	// 6.1). Nothing else is let near the interface's link-local address.
	if (local_scope(&ip->daddr))
		return ip->nexthdr == IPPROTO_ICMPV6 && ip->hop_limit == 255 && !no_ipv6(attachment) ? up(skb, attachment) : refuse(meter);
	if (!(attachment->flags & ATTACHMENT_OPEN))
		return refuse(meter);
	if (skb->pkt_type != PACKET_HOST || no_source6(&ip->saddr) || no_source6(&ip->daddr))
		return refuse(meter);

	fib.family = AF_INET6;
	fib.flowinfo = *(__be32 *)ip & bpf_htonl(0x0fffffff); // traffic class and flow label
	fib.l4_protocol = ip->nexthdr;
	fib.ifindex = attachment->interface;
	__builtin_memcpy(fib.ipv6_src, &ip->saddr, sizeof(fib.ipv6_src));
	__builtin_memcpy(fib.ipv6_dst, &ip->daddr, sizeof(fib.ipv6_dst));
	fib.tbid = attachment->table;
	result = bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_TBID);
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH || result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return up(skb, attachment);
	if (result != BPF_FIB_LKUP_RET_SUCCESS)
		return refuse(meter); // no route of this connection
	if (ip->hop_limit <= 1 || ip->nexthdr == IPPROTO_HOPOPTS)
		return up(skb, attachment);
	wire = bpf_map_lookup_elem(&interfaces, &fib.ifindex);
	if (!wire)
		return refuse(meter);
	ip->hop_limit--;
	return deliver(skb, ethernet, &fib, wire, meter);
}

SEC("tcx/ingress")
int port_ingress(struct __sk_buff *skb)
{
	const struct attachment *attachment;
	struct meter *meter;
	struct wire wire;
	__u64 frames, bytes;
	__u32 opposite;
	int tagged, popped;

	tagged = identify(skb, &wire);
	measure(skb, &frames, &bytes);
	attachment = bpf_map_lookup_elem(&attachments, &wire);
	if (!attachment) {
		meter = bpf_map_lookup_elem(&strays, &wire.port);
		if (meter) {
			meter->packets_in += frames;
			meter->bytes_in += bytes;
		}
		return !tagged && link_protocol(skb) ? VERDICT_NEXT : VERDICT_DROP;
	}
	meter = bpf_map_lookup_elem(&meters, &attachment->meter);
	if (!meter)
		return VERDICT_DROP;
	popped = !tagged || bpf_skb_vlan_pop(skb) == 0;
	if (popped && crossing(skb, attachment) && !conforms(attachment, bytes)) {
		meter->dropped_in += frames;
		opposite = attachment->meter ^ 1;
		meter = bpf_map_lookup_elem(&meters, &opposite);
		if (meter)
			meter->dropped_out += frames;
		return VERDICT_DROP;
	}
	meter->packets_in += frames;
	meter->bytes_in += bytes;

	if (!popped)
		return refuse(meter);
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return cross(skb, attachment, meter);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return cross6(skb, attachment, meter);
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return up(skb, attachment);
	return refuse(meter);
}

SEC("tcx/egress")
int port_egress(struct __sk_buff *skb)
{
	const struct attachment *attachment;
	struct meter *meter;
	struct wire wire;
	__u64 frames, bytes;
	int tagged, pass = 1;

	tagged = identify(skb, &wire);
	attachment = bpf_map_lookup_elem(&attachments, &wire);
	if (attachment) {
		meter = bpf_map_lookup_elem(&meters, &attachment->meter);
		if (!meter)
			return VERDICT_DROP;
	} else {
		meter = bpf_map_lookup_elem(&strays, &wire.port);
		pass = !tagged && link_protocol(skb);
		if (!meter)
			return pass ? VERDICT_NEXT : VERDICT_DROP;
	}
	measure(skb, &frames, &bytes);
	if (!pass) {
		meter->dropped_out += frames;
		return VERDICT_DROP;
	}
	meter->packets_out += frames;
	meter->bytes_out += bytes;
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
	if (wire->vlan && bpf_skb_vlan_push(skb, bpf_htons(wire->tpid), wire->vlan) < 0)
		return VERDICT_DROP;
	return bpf_redirect(wire->port, 0);
}
