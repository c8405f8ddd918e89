/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The steering program: which frames of an interface belong to the node.
 *
 * It runs on every received frame. UDP to the node's address and port, in the node's VLAN, goes to the AF_XDP
 * socket of the queue the frame arrived on. What comes to the port after it with the header of a bulk packet is
 * for the bulk lane, if the gate lets it in (gate.h); if not it is dropped. Everything else, and everything in
 * doubt, goes on to the kernel as if this program were not there. Each frame counts one verdict.
 *
 * It reads the headers it needs to decide and no more: lengths and checksums are for whoever
 * receives the frame, the node or the kernel.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "verifier.h"
#include "verdicts.h"
#include "gate.h"

/* The node, filled in before the program is loaded, so that the verifier sees constants. Address and
 * port are in network byte order; an IPv4 address is the first word. */
const volatile __u8 node_version;
const volatile __be32 node_address[4];
const volatile __be16 node_port;
/* Its VLAN; 0 stands for frames without a tag, and with one that says no more than their priority. */
const volatile __u16 node_vlan;

/* The AF_XDP socket of each queue. More queues than any NIC has: the program need not know how many
 * there are, and a queue beyond them is one without a socket. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* The kernel has this structure too, but doesn't export it. */
struct vlan_header {
	__be16 tag;
	__be16 protocol;
};

/* The rest of a tag is priority and drop eligibility. */
#define VLAN_ID 0x0fff

/* More-fragments flag and fragment offset: all zero in a packet that is whole. */
#define IPV4_FRAGMENT 0x3fff

/* Its length has four bits. */
#define IPV4_MAX_WORDS 15

struct cursor {
	void *next;
	void *end;
	__u32 taken; /* bytes: the verifier lets nobody subtract pointers */
};

/* The next `length` bytes of the frame, or NULL if it ends before. */
static __always_inline void *take(struct cursor *frame, __u32 length)
{
	void *header = frame->next;

	if (header + length > frame->end)
		return NULL;
	__builtin_assume(header != NULL); /* or clang compares it with 0: see verifier.h */
	frame->next = header + length;
	frame->taken += length;
	return header;
}

/* Whether a bulk packet's header comes next. */
static __always_inline int is_bulk(struct cursor *frame, struct bulk_packet *bulk)
{
	bulk->header = take(frame, sizeof(*bulk->header));
	bulk->headers = frame->taken;
	return bulk->header && bulk->header->version == BULK_VERSION && bulk->header->kind == BULK_KIND;
}

static __always_inline enum verdict classify_udp(struct cursor *frame, struct bulk_packet *bulk)
{
	struct udphdr *udp = take(frame, sizeof(*udp));

	if (!udp)
		return TRUNCATED;
	if (udp->dest == node_port)
		return OURS;
	/* Not in 16 bits: after the last port there is none. */
	if (bpf_ntohs(udp->dest) != bpf_ntohs(node_port) + 1 || !is_bulk(frame, bulk))
		return OTHER_PORT;
	bulk->source_port = udp->source;
	return BULK;
}

/* Takes the options of an IPv4 header of so many words. */
static __always_inline int take_options(struct cursor *frame, int words)
{
	UNROLLED
	for (int word = 5; word < IPV4_MAX_WORDS; word++) {
		HIDE(words);
		if (word >= words)
			break;
		if (!take(frame, 4))
			return 0;
		HIDE(frame->next);
	}
	return 1;
}

static __always_inline enum verdict classify_ipv4(struct cursor *frame, struct bulk_packet *bulk)
{
	struct iphdr *ip = take(frame, sizeof(*ip));

	if (!ip)
		return TRUNCATED;
	if (ip->version != 4 || ip->ihl < 5)
		return MALFORMED;
	if (!take_options(frame, ip->ihl))
		return TRUNCATED;
	if (node_version != 4 || ip->daddr != node_address[0])
		return OTHER_ADDRESS;
	/* Even the first fragment, which has the port: the kernel needs all of them to reassemble. */
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT))
		return FRAGMENT;
	if (ip->protocol != IPPROTO_UDP)
		return NOT_UDP;
	bulk->source[2] = bpf_htonl(0xffff);
	bulk->source[3] = ip->saddr;
	return classify_udp(frame, bulk);
}

static __always_inline enum verdict classify_ipv6(struct cursor *frame, struct bulk_packet *bulk)
{
	struct ipv6hdr *ip = take(frame, sizeof(*ip));

	if (!ip)
		return TRUNCATED;
	if (ip->version != 6)
		return MALFORMED;
	if (node_version != 6)
		return OTHER_ADDRESS;
	for (int i = 0; i < 4; i++)
		if (ip->daddr.in6_u.u6_addr32[i] != node_address[i])
			return OTHER_ADDRESS;
	switch (ip->nexthdr) {
	case IPPROTO_UDP:
		for (int i = 0; i < 4; i++)
			bulk->source[i] = ip->saddr.in6_u.u6_addr32[i];
		return classify_udp(frame, bulk);
	case IPPROTO_FRAGMENT:
		return FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
	case IPPROTO_MH:
		return EXTENSION_HEADER;
	default:
		return NOT_UDP;
	}
}

static __always_inline enum verdict classify(struct xdp_md *ctx, struct bulk_packet *bulk)
{
	struct cursor frame = {
		.next = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	struct ethhdr *ethernet = take(&frame, sizeof(*ethernet));
	__u16 id = 0;
	__be16 protocol;

	if (!ethernet)
		return TRUNCATED;
	protocol = ethernet->h_proto;
	if (protocol == bpf_htons(ETH_P_8021Q)) {
		struct vlan_header *vlan = take(&frame, sizeof(*vlan));

		if (!vlan)
			return TRUNCATED;
		protocol = vlan->protocol;
		id = bpf_ntohs(vlan->tag) & VLAN_ID;
	}
	if (id != node_vlan)
		return OTHER_VLAN;
	switch (protocol) {
	case bpf_htons(ETH_P_IP):
		return classify_ipv4(&frame, bulk);
	case bpf_htons(ETH_P_IPV6):
		return classify_ipv6(&frame, bulk);
	default:
		return NOT_IP;
	}
}

/* "frags": the program can be attached at any MTU, also where a frame spans several buffers. */
SEC("xdp.frags")
int vmmc_steer(struct xdp_md *ctx)
{
	struct bulk_packet bulk = {};
	enum verdict verdict = classify(ctx, &bulk);
	int action = XDP_PASS;

	if (verdict == OURS) {
		/* The lane's socket takes nothing but what the gate lets in. */
		if (!is_lane(ctx->rx_queue_index))
			action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
		verdict = action == XDP_REDIRECT ? REDIRECTED : NO_SOCKET;
	} else if (verdict == BULK) {
		verdict = admit(ctx, &sockets, &bulk);
		action = verdict == BULK_ADMITTED ? XDP_REDIRECT : XDP_DROP;
	}
	count(verdict);
	return action;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
