/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet that a pod sends to a guarded port is counted and dropped, whatever policy says.
 */
#include "axo/abi.h"

struct portguard_key {
	__be16 port; /* network order */
	__u8 proto;  /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

struct portguard_count {
	__u64 packets;
	__u64 bytes; /* of whole frames */
};

/* Guarded ports. Written by the agent, counted here; pinned, so counts survive a restart. */
BPF_TABLE("hash", struct portguard_key, struct portguard_count, axo_portguard, 1024);

static __always_inline int portguard_egress(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct portguard_key key = {.port = ctx->dport, .proto = ctx->proto};
	struct portguard_count *count = axo_portguard.lookup(&key);

	if (!count)
		return AXO_NEXT;
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, skb->len);
	return -AXO_DROP_POLICY_DENY;
}
