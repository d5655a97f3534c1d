/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Native routing: pods' packets leave by the node's own routes, without going up the stack.
 *
 * The route comes from the kernel's table (bpf_fib_lookup), the neighbour from the kernel too
 * (bpf_redirect_neigh): whatever writes routes - this plugin, a routing daemon, an administrator -
 * is obeyed. Whatever is not a plain "forward it there" is left to the stack, which also answers with the
 * ICMP errors that are due: local destinations, no route, prohibited, too big, expired.
 */
#include "axo/maps.h"
#include "axo/headers.h"
#include "axo/fib.h"

/* Stage egress_forward. */
static __always_inline int native_routing_egress_forward(struct __sk_buff *skb,
							 struct axo_ctx *ctx)
{
	struct bpf_redir_neigh hop = {};
	struct bpf_fib_lookup fib = {};
	int rc;

	if ((ctx->pkt & (AXO_PKT_MULTICAST | AXO_PKT_LINKLOCAL)) || ctx->ttl <= 1)
		return AXO_NEXT;
	rc = axo_fib_find(skb, ctx, &fib, &hop);
	if (rc != BPF_FIB_LKUP_RET_SUCCESS || fib.ifindex == skb->ifindex)
		return AXO_NEXT;
	rc = axo_hop(skb, ctx);
	if (rc)
		return rc;
	if (ctx->pkt & AXO_PKT_KEEPS_ADDR)
		axo_mark_set(skb, AXO_MARK_KEEPS);
	axo_trace(skb, ctx, AXO_TRACE_TO_NETWORK, fib.ifindex);
	return axo_redirect_neigh(fib.ifindex, &hop, sizeof(hop), 0);
}
