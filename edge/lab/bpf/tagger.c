// SPDX-License-Identifier: GPL-2.0-only
//
// VLAN tags for the lab's routers, where the kernel has no 802.1Q devices. (Under the GPL 2 for the kernel's sake.)
//
// A side's link to the PoP is a trunk. Its namespace holds the side's main router, whose frames carry the main VLAN;
// further routers have namespaces of their own, joined to this one by a veth pair, the branch:
//
//	trunk_ingress   takes the tag off a frame from the wire and gives it to the main router or to a branch
//	trunk_egress    tags what the main router sends
//	branch_ingress  tags what another router sends and puts it on the trunk
//
// A VLAN may be inside a service VLAN (IEEE 802.1ad): its frames carry two tags, of TPID 0x88a8 and within it 0x8100.
//
// A frame of no known VLAN is dropped, as is one with a tag too many or of another TPID, and before its VLAN is known a
// router cannot send: the wire stays silent.

#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define VERDICT_NEXT -1
#define VERDICT_DROP 2
#define VLAN_ID_MASK 0x0fff
#define MAX_ROUTERS 256
#define SERVICE_SHIFT 16

// A VLAN is a number: its identifier, and that of the service VLAN around it, 0 for none, shifted; 0 for untagged.

// vlans: a VLAN to the branch's ifindex, 0 for the main router.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, MAX_ROUTERS);
} vlans SEC(".maps");

// senders: the ifindex a frame comes from (a branch, or the trunk for the main router) to its VLAN.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, MAX_ROUTERS);
} senders SEC(".maps");

volatile const __u32 trunk;

// push gives a frame the tags of a VLAN.
static __always_inline int push(struct __sk_buff *skb, __u32 vlan)
{
	if (vlan & VLAN_ID_MASK && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), vlan & VLAN_ID_MASK) < 0)
		return -1;
	if (vlan >> SERVICE_SHIFT && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), vlan >> SERVICE_SHIFT) < 0)
		return -1;
	return 0;
}

SEC("tcx/ingress")
int trunk_ingress(struct __sk_buff *skb)
{
	__u32 vlan = 0, *branch;

	if (skb->vlan_present && skb->vlan_proto == bpf_htons(ETH_P_8021AD)) {
		vlan = (skb->vlan_tci & VLAN_ID_MASK) << SERVICE_SHIFT;
		if (bpf_skb_vlan_pop(skb) < 0 || !skb->vlan_present) // the tag within is in its place now
			return VERDICT_DROP;
	}
	if (skb->vlan_present) {
		if (skb->vlan_proto != bpf_htons(ETH_P_8021Q))
			return VERDICT_DROP;
		vlan |= skb->vlan_tci & VLAN_ID_MASK;
		if (bpf_skb_vlan_pop(skb) < 0 || skb->vlan_present)
			return VERDICT_DROP;
	}
	branch = bpf_map_lookup_elem(&vlans, &vlan);
	if (!branch)
		return VERDICT_DROP;
	return *branch ? bpf_redirect(*branch, 0) : VERDICT_NEXT;
}

SEC("tcx/egress")
int trunk_egress(struct __sk_buff *skb)
{
	__u32 interface = skb->ifindex;
	__u32 *vlan;

	if (skb->vlan_present || skb->ingress_ifindex) // from a branch, which has seen to it
		return VERDICT_NEXT;
	vlan = bpf_map_lookup_elem(&senders, &interface);
	if (!vlan)
		return VERDICT_DROP;
	if (push(skb, *vlan) < 0)
		return VERDICT_DROP;
	return VERDICT_NEXT;
}

SEC("tcx/ingress")
int branch_ingress(struct __sk_buff *skb)
{
	__u32 interface = skb->ifindex;
	__u32 *vlan = bpf_map_lookup_elem(&senders, &interface);

	if (!vlan)
		return VERDICT_DROP;
	if (push(skb, *vlan) < 0)
		return VERDICT_DROP;
	return bpf_redirect(trunk, 0);
}
