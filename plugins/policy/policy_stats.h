/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * policy-accounting: how often each policy entry decided, and about how many bytes. Counted are the
 * packets that policy is asked about: the first of a flow, one after each change of policy, and
 * each that is refused. What conntrack answers for costs nothing and is not counted.
 *
 * The rule is part of the key: when another rule takes an entry over, it starts from zero.
 */
#ifndef AXO_POLICY_STATS_H
#define AXO_POLICY_STATS_H

#include "policy.h"

/* What of a found entry its counters need. */
struct axo_policy_hit {
	u32 peer; /* of the entry: 0 = anybody */
	u8 prefix_len;
	u8 found;
};

#ifdef AXO_POLICY_ACCOUNTING
/* An entry of axo_policy, as its subject has it. */
struct axo_policy_stat_key {
	__u32 subject;
	__u32 peer; /* identity, 0 = anybody */
	__u32 cookie;
	__u32 prefix_len; /* bits of proto and port */
	__be16 port;	  /* network order, without what prefix_len leaves open */
	__u8 proto;
	__u8 dir; /* AXO_DIR_* of the subject */
};

struct axo_policy_stat {
	__u64 packets;
	__u64 bytes; /* of the frames */
};

BPF_TABLE("lru_percpu_hash", struct axo_policy_stat_key, struct axo_policy_stat, axo_policystats,
	  65536);

/* port: of the packet, as policy sees it. Without branches, which the verifier would multiply. */
static __always_inline void policy_account(struct __sk_buff *skb, const struct axo_ctx *ctx,
					   const struct axo_policy_hit *hit, u32 subject, u8 dir,
					   __be16 port)
{
	struct axo_policy_stat first = {.packets = 1, .bytes = skb->len}, *sum;
	struct axo_policy_stat_key key;
	u32 l4;

	if (!hit->found)
		return;
	l4 = (u32)ctx->proto << 16 | bpf_ntohs(port);
	l4 &= 0xffffff000000ULL >> (hit->prefix_len & 31); /* 0, 8, 9..24 */
	key.subject = subject;
	key.peer = hit->peer;
	key.cookie = ctx->cookie;
	key.prefix_len = hit->prefix_len;
	key.port = bpf_htons((u16)l4);
	key.proto = l4 >> 16;
	key.dir = dir;
	sum = axo_policystats.lookup(&key);
	AXO_OPAQUE(sum);
	if (AXO_LIKELY(sum)) {
		sum->packets++;
		sum->bytes += first.bytes;
		return;
	}
	axo_policystats.update(&key, &first);
}
#endif

#endif
