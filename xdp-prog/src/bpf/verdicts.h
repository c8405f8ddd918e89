/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the steering program decides about a frame, and the counters of that. */
#pragma once

/* One counter each. The loader reads them by number: same order as in verdicts.rs. */
enum verdict {
	REDIRECTED,
	NO_SOCKET,
	OTHER_PORT,
	OTHER_ADDRESS,
	OTHER_VLAN,
	NOT_UDP,
	NOT_IP,
	FRAGMENT,
	EXTENSION_HEADER,
	TRUNCATED,
	MALFORMED,
	BULK_ADMITTED,
	BULK_STALE,
	BULK_LENGTH,
	BULK_NO_PLACE,
	BULK_OTHER_QUEUE,
	VERDICTS,
	/* No counters: these are decided further. */
	OURS, /* by the socket map: REDIRECTED or NO_SOCKET */
	BULK, /* by the gate: one of the BULK_ ones above */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

static __always_inline void count(enum verdict verdict)
{
	__u32 key = verdict;
	__u64 *counter = bpf_map_lookup_elem(&verdicts, &key);

	/* No other CPU touches it, and an XDP program is not preempted by another on its CPU. */
	if (counter)
		(*counter)++;
}
