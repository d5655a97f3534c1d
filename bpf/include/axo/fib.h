/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's own routes and neighbours, asked by a program: whatever writes routes is obeyed.
 */
#ifndef AXO_FIB_H
#define AXO_FIB_H

#include "axo/checksum.h"
#include "axo/forward.h"

#define AXO_AF_INET  2
#define AXO_AF_INET6 10

/* The compiler's header may be older than the kernel. */
#define AXO_FIB_SKIP_NEIGH (1U << 2)

/* The question about a packet that will go from src to dst. */
static __always_inline void axo_fib_ask(struct __sk_buff *skb, const struct axo_ctx *ctx,
					struct bpf_fib_lookup *fib, const struct axo_addr *src,
					const struct axo_addr *dst)
{
	u32 len = axo_wire_len(skb, ctx);

	fib->ifindex = axo_frame_ifindex(skb);
	fib->tot_len = len > 0xffff ? 0xffff : len;
	fib->l4_protocol = ctx->proto;
	fib->sport = ctx->sport;
	fib->dport = ctx->dport;
	if (ctx->family == 4) {
		fib->family = AXO_AF_INET;
		fib->ipv4_src = src->w[3];
		fib->ipv4_dst = dst->w[3];
		return;
	}
	fib->family = AXO_AF_INET6;
	__builtin_memcpy(fib->ipv6_src, src, 16);
	__builtin_memcpy(fib->ipv6_dst, dst, 16);
}

/* One hop less to live. 0 or a drop. */
static __always_inline int axo_hop(struct __sk_buff *skb, struct axo_ctx *ctx)
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

#ifndef AXO_XDP

/*
 * Asks the kernel's routes where to (fib is filled) and says it: hop, and fib->ifindex.
 * BPF_FIB_LKUP_RET_* or negative: the look-up itself failed.
 */
static __always_inline int axo_fib_resolve(struct __sk_buff *skb, struct bpf_fib_lookup *fib,
					   struct bpf_redir_neigh *hop)
{
	int rc;

	rc = bpf_fib_lookup(skb, fib, sizeof(*fib), AXO_FIB_SKIP_NEIGH);
	if (rc < 0) /* a kernel before 6.3 */
		rc = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	if (rc != BPF_FIB_LKUP_RET_SUCCESS && rc != BPF_FIB_LKUP_RET_NO_NEIGH)
		return rc;
	/* The lookup has put the next hop where the destination was, in its own family. */
	hop->nh_family = fib->family;
	if (fib->family == AXO_AF_INET)
		hop->ipv4_nh = fib->ipv4_dst;
	else
		__builtin_memcpy(hop->ipv6_nh, fib->ipv6_dst, 16);
	return BPF_FIB_LKUP_RET_SUCCESS;
}

/* The same for the packet as it is. */
static __always_inline int axo_fib_find(struct __sk_buff *skb, const struct axo_ctx *ctx,
					struct bpf_fib_lookup *fib, struct bpf_redir_neigh *hop)
{
	axo_fib_ask(skb, ctx, fib, &ctx->saddr, &ctx->daddr);
	return axo_fib_resolve(skb, fib, hop);
}

/* Sends the packet to a hop that was found. A TC action or a drop. */
static __always_inline int axo_fib_send(struct __sk_buff *skb, struct axo_ctx *ctx, u32 ifindex,
					struct bpf_redir_neigh *hop)
{
	int rc = axo_hop(skb, ctx);

	if (rc)
		return rc;
	axo_mark_set(skb, AXO_MARK_KEEPS);
	axo_trace(skb, ctx, AXO_TRACE_TO_NETWORK, ifindex);
	return axo_redirect_neigh(ifindex, hop, sizeof(*hop), 0);
}

/*
 * Sends a translated packet on to its destination, by any device, the one it came from too. The stack
 * cannot do it: it would take an address of this node as the sender's for forged. A TC action or a drop.
 */
static __always_inline int axo_fib_forward(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct bpf_redir_neigh hop = {};
	struct bpf_fib_lookup fib = {};
	int rc;

	if (ctx->ttl <= 1)
		return -AXO_DROP_TTL_EXCEEDED;
	rc = axo_fib_find(skb, ctx, &fib, &hop);
	if (rc == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return -AXO_DROP_FRAG_NEEDED;
	if (rc != BPF_FIB_LKUP_RET_SUCCESS)
		return -AXO_DROP_NO_FIB;
	return axo_fib_send(skb, ctx, fib.ifindex, &hop);
}

#else

/* The hop's addresses, one hop less to live, and back out of the device that it came by. */
static __always_inline int axo_fib_return(struct xdp_md *xdp, struct axo_ctx *ctx,
					  struct bpf_fib_lookup *fib)
{
	__u8 macs[12];
	int rc = axo_hop(xdp, ctx);

	if (rc)
		return rc;
	__builtin_memcpy(macs, fib->dmac, 6);
	__builtin_memcpy(macs + 6, fib->smac, 6);
	if (axo_xdp_store(xdp, 0, macs, sizeof(macs)))
		return -AXO_DROP_WRITE_ERROR;
	axo_trace(xdp, ctx, AXO_TRACE_TO_NETWORK, fib->ifindex);
	return XDP_TX;
}

#endif

#endif
