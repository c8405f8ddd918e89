/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The bulk lane's gate: lets in exactly the packets that a place is posted for, and keeps account of them.
 *
 * What is let in lands at the next place of the lane's fill ring, in an application's memory. So this is where
 * that memory is protected: a packet of another sender or grant, or of another length than its place, must not
 * pass. Its headers are taken off (they would land on what lies below), and what they said is written to a log:
 * the i-th entry belongs to the i-th packet that was let in, which is the i-th that lands.
 *
 * User space maps the gate into its memory; gate.rs is the other half of all this.
 */
#pragma once

#define RUNS 16
#define LOG 4096

/* Places that follow each other in the fill ring and are for packets of one grant, all of one length. */
struct run {
	/* The numbers of its places, among all that were ever posted. User space writes `end` last. */
	__u64 first, end;
	__u64 token;
	__u32 grant;
	__u32 segment;
	/* The sender, in network byte order; an IPv4 address is in its IPv4-mapped form. */
	__be32 source[4];
	__be16 source_port;
	__u16 pad;
	__u32 pad2;
};

/* What the header of a packet said, in the host's byte order. */
struct entry {
	__u32 grant;
	__u32 segment;
	__u32 checksum;
	__u32 flags;
};

struct gate {
	__u64 posted; /* places that may be used */
	__u64 used;   /* of these, so many were; the program alone writes it, and the log */
	__u32 queue;  /* the lane's */
	__u32 strip;  /* whether the headers are taken off: not if the NIC has written them to the place already */
	__u64 pad[5];
	struct run runs[RUNS];
	struct entry log[LOG];
};

_Static_assert(sizeof(struct run) == 56, "as in gate.rs");
_Static_assert(sizeof(struct gate) == 64 + 56 * RUNS + 16 * LOG, "as in gate.rs");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gate);
} gates SEC(".maps");

/* The token is in two halves: where the header stands, 8 bytes aren't aligned. */
struct bulk_header {
	__be32 checksum;
	__u8 version;
	__u8 kind;
	__u8 flags;
	__u8 reserved;
	__be32 token[2];
	__be32 grant;
	__be32 segment;
};

#define BULK_VERSION 7
#define BULK_KIND 7

/* A packet for the gate, and where its payload begins. */
struct bulk_packet {
	struct bulk_header *header;
	__be32 source[4]; /* as that of a run */
	__be16 source_port;
	__u32 headers; /* bytes of all headers together */
};

/* A field that user space writes or reads at any moment: it is read or written just there and then, once. */
#define SHARED(field) (*(volatile typeof(field) *)&(field))

static __always_inline struct gate *find_gate(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&gates, &key);
}

static __always_inline int is_lane(__u32 queue)
{
	struct gate *gate = find_gate();

	return gate && SHARED(gate->queue) == queue;
}

/* `used`, read with a full memory barrier: of BPF's instructions only an atomic one whose result is used is one. */
static __always_inline __u64 used_with_barrier(struct gate *gate)
{
	return __sync_fetch_and_add(&gate->used, 0);
}

/*
 * The run that the next place belongs to, or NULL: no place is left.
 *
 * Runs are written and written over while this looks at them. `end` is written last and read first, with the
 * barrier in between: so what belongs to it is there, or `first` gives it away, which is beyond all that
 * was posted before. The same barrier keeps what the kernel reads of the fill ring later behind `posted`.
 */
static __always_inline struct run *next_run(struct gate *gate, __u64 used)
{
	struct run *run = gate->runs;

	if (used >= SHARED(gate->posted))
		return NULL;
	UNROLLED
	for (int i = 0; i < RUNS; i++, run++) {
		HIDE(run);
		if (used >= SHARED(run->end) || used < SHARED(run->first))
			continue;
		if (used_with_barrier(gate) >= SHARED(run->first))
			return run;
	}
	return NULL;
}

static __always_inline int is_of_run(const struct bulk_packet *packet, const struct run *run)
{
	const struct bulk_header *header = packet->header;
	__u64 token = (__u64)bpf_ntohl(header->token[0]) << 32 | bpf_ntohl(header->token[1]);

	for (int i = 0; i < 4; i++)
		if (packet->source[i] != run->source[i])
			return 0;
	return packet->source_port == run->source_port && token == run->token && bpf_ntohl(header->grant) == run->grant;
}

static __always_inline enum verdict admit(struct xdp_md *ctx, void *sockets, const struct bulk_packet *packet)
{
	const struct bulk_header *header = packet->header;
	struct gate *gate = find_gate();
	struct entry entry, *logged;
	struct run *run;
	__u64 used;

	if (!gate || SHARED(gate->queue) != ctx->rx_queue_index)
		return BULK_OTHER_QUEUE;
	used = SHARED(gate->used);
	run = next_run(gate, used);
	if (!run)
		return BULK_NO_PLACE;
	if (!is_of_run(packet, run))
		return BULK_STALE;
	if (bpf_xdp_get_buff_len(ctx) != (__u64)packet->headers + run->segment)
		return BULK_LENGTH;
	/* This only notes where the packet is to go: it goes there when the program has ended, after all that is
	 * written below. */
	if (bpf_redirect_map(sockets, ctx->rx_queue_index, XDP_DROP) != XDP_REDIRECT)
		return BULK_NO_PLACE;
	entry.grant = bpf_ntohl(header->grant);
	entry.segment = bpf_ntohl(header->segment);
	entry.checksum = bpf_ntohl(header->checksum);
	entry.flags = header->flags;
	/* From here on the packet can't be read any more. The kernel refuses if less than an Ethernet header would
	 * be left in its first buffer. */
	if (gate->strip && bpf_xdp_adjust_head(ctx, packet->headers))
		return BULK_LENGTH;
	/* No other CPU is here at the same time: a queue is served by one at a time. */
	logged = &gate->log[used & (LOG - 1)];
	*logged = entry;
	SHARED(gate->used) = used + 1;
	return BULK_ADMITTED;
}
