/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who and where the destination is. The longest-prefix match costs more than the rest of an
 * established flow's walk, so conntrack remembers the answer until the ipcache changes
 * (AXO_RT_IPCACHE_GEN; the agent raises it after each change, 0 switches the memory off).
 */
#ifndef AXO_ROUTE_H
#define AXO_ROUTE_H

#include "axo/conntrack.h"

/* Asks the ipcache: fills dst_identity and node. Does not remember. */
static __always_inline void axo_destination_lookup(struct axo_ctx *ctx)
{
	struct axo_ipcache *entry;

	/* before the look-up: what changes meanwhile must not pass for the new generation's */
	ctx->node_gen = axo_runtime_get(AXO_RT_IPCACHE_GEN);
	AXO_BARRIER();
	entry = axo_ipcache_lookup(&ctx->daddr);
	if (entry) {
		ctx->dst_identity = entry->identity;
		if (!(entry->flags & AXO_IPCACHE_DIRECT))
			ctx->node = entry->node_ip;
	} else {
		ctx->dst_identity = axo_identity_world(ctx->family);
	}
	ctx->node_known = AXO_NODE_ASKED;
}

static __always_inline void axo_destination_remember(struct axo_ctx *ctx)
{
	struct axo_ct_scratch *s = axo_ct_scratch_get();
	struct axo_ct_entry *e;

	if (!s || !ctx->node_gen || !axo_ct_tracks(ctx) || (ctx->pkt & AXO_PKT_ICMP_ERROR))
		return;
	axo_ct_key_of(s, ctx);
	e = axo_ct_find(s, ctx->family, ctx->proto);
	if (!e)
		return;
	/* another CPU may be reading: the generation goes first and comes back last */
	e->node_gen = 0;
	AXO_BARRIER();
	e->node = ctx->node;
	e->node_identity = ctx->dst_identity;
	e->node_dir = ctx->ct_dir;
	AXO_BARRIER();
	e->node_gen = ctx->node_gen;
	AXO_BARRIER();
	/* LRU: the entry may have become another flow's under our hands */
	if (axo_ct_find(s, ctx->family, ctx->proto) != e)
		e->node_gen = 0;
}

/*
 * Fills ctx->dst_identity and ctx->node (all zero: no other node of the cluster). For use after
 * the egress policy, where the packet's flow is known; costs nothing for an established flow.
 */
static __always_inline void axo_destination(struct axo_ctx *ctx)
{
	if (ctx->node_known == AXO_NODE_RECALLED)
		return;
	if (!ctx->node_known)
		axo_destination_lookup(ctx);
	axo_destination_remember(ctx);
	ctx->node_known = AXO_NODE_RECALLED;
}

#endif
