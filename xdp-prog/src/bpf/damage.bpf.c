/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A bad network for tests: loses UDP and TCP packets that an interface receives, and damages UDP packets.
 *
 * It belongs on an interface in between, such as a bridge's port, so that frames meet it on their way.
 * ARP and neighbour discovery work. Damage is done only behind the UDP header, so that a damaged packet
 * still arrives where it was sent; and none to TCP, whose checksum isn't filled in between interfaces that
 * would leave it to their hardware. Chance is the kernel's own.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Shares of 2^32 packets, filled in before the program is loaded. They are 64 bits wide, so that all
 * of them is a share too. */
const volatile __u64 drop_share;
const volatile __u64 damage_share;

/* One counter each. The loader reads them by number: same order as in damage.rs. */
enum outcome {
	SEEN,
	DROPPED,
	DAMAGED,
	OUTCOMES,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} outcomes SEC(".maps");

/* The kernel has this structure too, but doesn't export it. */
struct vlan_header {
	__be16 tag;
	__be16 protocol;
};

static __always_inline void count(enum outcome outcome)
{
	__u32 key = outcome;
	__u64 *counter = bpf_map_lookup_elem(&outcomes, &key);

	if (counter)
		(*counter)++;
}

/* Where the UDP or TCP header begins, or 0 if there is none, or only a part of the packet. */
static __always_inline __u32 transport(struct xdp_md *ctx, __u8 *protocol)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	__u32 at = sizeof(*ethernet);
	__be16 type;

	if (data + at > end)
		return 0;
	type = ethernet->h_proto;
	if (type == bpf_htons(ETH_P_8021Q)) {
		struct vlan_header *vlan = data + at;

		at += sizeof(*vlan);
		if (data + at > end)
			return 0;
		type = vlan->protocol;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + at;

		/* With options, or in fragments: not what is to be tested. */
		if (data + at + sizeof(*ip) > end || ip->ihl != 5 || ip->frag_off & bpf_htons(0x3fff))
			return 0;
		at += sizeof(*ip);
		*protocol = ip->protocol;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + at;

		if (data + at + sizeof(*ip) > end)
			return 0;
		at += sizeof(*ip);
		*protocol = ip->nexthdr;
	} else {
		return 0;
	}
	return *protocol == IPPROTO_UDP || *protocol == IPPROTO_TCP ? at : 0;
}

/* "frags": the program can be attached at any MTU, also where a frame spans several buffers. */
SEC("xdp.frags")
int vmmc_damage(struct xdp_md *ctx)
{
	__u64 length = bpf_xdp_get_buff_len(ctx);
	__u8 protocol = 0, byte;
	__u32 begin = transport(ctx, &protocol), at;

	if (!begin)
		return XDP_PASS;
	count(SEEN);
	if (bpf_get_prandom_u32() < drop_share) {
		count(DROPPED);
		return XDP_DROP;
	}
	begin += sizeof(struct udphdr);
	if (protocol == IPPROTO_UDP && begin < length && bpf_get_prandom_u32() < damage_share) {
		/* The helpers reach every buffer of the frame. */
		at = begin + bpf_get_prandom_u32() % (__u32)(length - begin);
		if (bpf_xdp_load_bytes(ctx, at, &byte, 1))
			return XDP_PASS;
		byte ^= 1 << (bpf_get_prandom_u32() & 7);
		if (!bpf_xdp_store_bytes(ctx, at, &byte, 1))
			count(DAMAGED);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
