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
#include "axo/forward.h"

#define AXO_AF_INET  2
#define AXO_AF_INET6 10

/* The compiler's header may be older than the kernel. */
#define AXO_FIB_SKIP_NEIGH (1U << 2)

static __always_inline void native_routing_ask(struct __sk_buff *skb, const struct axo_ctx *ctx,
					       struct bpf_fib_lookup *fib)
{
	u32 len = axo_wire_len(skb, ctx);

	fib->ifindex = skb->ifindex;
	fib->tot_len = len > 0xffff ? 0xffff : len;
	fib->l4_protocol = ctx->proto;
	fib->sport = ctx->sport;
	fib->dport = ctx->dport;
	if (ctx->family == 4) {
		fib->family = AXO_AF_INET;
		fib->ipv4_src = ctx->saddr.w[3];
		fib->ipv4_dst = ctx->daddr.w[3];
		return;
	}
	fib->family = AXO_AF_INET6;
	__builtin_memcpy(fib->ipv6_src, &ctx->saddr, 16);
	__builtin_memcpy(fib->ipv6_dst, &ctx->daddr, 16);
}

/* One hop less to live. 0 or a drop. */
static __always_inline int native_routing_hop(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	u8 ttl = ctx->ttl - 1;

	if (ctx->family == 4) {
		/* the TTL is the high byte of its 16-bit word: the sum changes by 1 << 8 */
		if (bpf_l3_csum_replace(skb, AXO_ETH_HLEN + 10, bpf_htons((u16)ctx->ttl << 8),
					bpf_htons((u16)ttl << 8), 2))
			return -AXO_DROP_CSUM_L3;
		ctx->ttl = ttl;
		return bpf_skb_store_bytes(skb, AXO_ETH_HLEN + 8, &ttl, 1, 0) ?
			       -AXO_DROP_WRITE_ERROR :
			       0;
	}
	ctx->ttl = ttl;
	return bpf_skb_store_bytes(skb, AXO_ETH_HLEN + 7, &ttl, 1, BPF_F_RECOMPUTE_CSUM) ?
		       -AXO_DROP_WRITE_ERROR :
		       0;
}

/* Stage egress_forward. */
static __always_inline int native_routing_egress_forward(struct __sk_buff *skb,
							 struct axo_ctx *ctx)
{
	struct bpf_redir_neigh hop = {};
	struct bpf_fib_lookup fib = {};
	int rc;

	if ((ctx->pkt & (AXO_PKT_MULTICAST | AXO_PKT_LINKLOCAL)) || ctx->ttl <= 1)
		return AXO_NEXT;
	native_routing_ask(skb, ctx, &fib);
	rc = bpf_fib_lookup(skb, &fib, sizeof(fib), AXO_FIB_SKIP_NEIGH);
	if (rc < 0) /* a kernel before 6.3 */
		rc = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_NO_NEIGH)
		return AXO_NEXT;
	if (fib.ifindex == skb->ifindex)
		return AXO_NEXT;
	/* The lookup has put the next hop where the destination was, in its own family. */
	hop.nh_family = fib.family;
	if (fib.family == AXO_AF_INET)
		hop.ipv4_nh = fib.ipv4_dst;
	else
		__builtin_memcpy(hop.ipv6_nh, fib.ipv6_dst, 16);
	rc = native_routing_hop(skb, ctx);
	if (rc)
		return rc;
	if (ctx->pkt & AXO_PKT_KEEPS_ADDR)
		axo_mark_set(skb, AXO_MARK_KEEPS);
	axo_trace(skb, ctx, AXO_TRACE_TO_NETWORK, fib.ifindex);
	return axo_redirect_neigh(fib.ifindex, &hop, sizeof(hop), 0);
}
