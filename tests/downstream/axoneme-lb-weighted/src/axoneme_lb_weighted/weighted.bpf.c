/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A backend gets connections in proportion to its weight. Runs for packets and for sockets. */
#include "lb_select.h"

#define WEIGHTED_MOST 64

/* Running sums of the weights of slots 1 .. count. Written by the agent. */
struct weighted_sums {
	__u32 count;
	__u32 sum[WEIGHTED_MOST];
};

struct weighted_key {
	__u32 set;
};

BPF_F_TABLE("hash", struct weighted_key, struct weighted_sums, axo_weighted, 4096,
	    BPF_F_NO_PREALLOC);

static __always_inline int weighted_lb_select(void *any, struct axo_ctx *ctx)
{
	struct axo_lb_choice *c = axo_lb_choice_get();
	struct weighted_key key = {};
	struct weighted_sums *w;
	__u32 all, at, i;

	if (!c || c->algorithm != AXO_LB_SELECT_WEIGHTED)
		return AXO_NEXT;
	key.set = c->set;
	w = axo_weighted.lookup(&key);
	if (!w)
		return AXO_NEXT;
	/* the set has changed and its weights are on their way: any of them */
	if (w->count != c->count || !w->count || w->count > WEIGHTED_MOST)
		return AXO_NEXT;
	all = w->sum[(w->count - 1) & (WEIGHTED_MOST - 1)];
	if (!all)
		return AXO_NEXT;
	at = bpf_get_prandom_u32() % all;
	for (i = 0; i < WEIGHTED_MOST; i++) {
		if (i < w->count && at < w->sum[i]) {
			c->slot = i + 1;
			return 0;
		}
	}
	return AXO_NEXT;
}
