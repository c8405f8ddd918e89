/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Has a bridge send each packet on the queue that it came in on, as a cable would.
 *
 * A veth device leaves in a packet the number of the queue it was sent on. The kernel takes that for the
 * number, plus one, of the queue it came in on (0: unknown), and sends it on by that: what was sent on
 * queue 1 goes on by queue 0, and what was sent on queue 0 by one that its addresses decide.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* TC_ACT_UNSPEC: whatever would happen without this program. */
#define GO_ON (-1)

SEC("tc")
int vmmc_queues(struct __sk_buff *skb)
{
	skb->queue_mapping = skb->queue_mapping + 1;
	return GO_ON;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
