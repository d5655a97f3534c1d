/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * On to a backend on another node, at tc: the way is found before the packet is changed, so what does not
 * fit is answered about as its client has sent it. And what a client says about a backend's answers.
 */
#ifndef AXO_NODEPORT_AWAY_H
#define AXO_NODEPORT_AWAY_H

#include "axo/fib.h"
#include "axo/route.h"
#include "axo/tunnel.h"
#include "lb_answer.h"
#include "outside.h"

/* Device of the tunnel to the backend's node, in ctx->node; 0: it is reached without one. */
static __always_inline u32 nodeport_tunnel(struct axo_ctx *ctx, const struct axo_addr *backend)
{
	u32 device = axo_runtime_get(AXO_RT_TUNNEL_IFINDEX);
	struct axo_addr asked = ctx->daddr;

	ctx->daddr = *backend;
	axo_destination_lookup(ctx);
	ctx->daddr = asked;
	return axo_addr_is_zero(&ctx->node) ? 0 : device;
}

/* Through the tunnel to ctx->node: whoever it is comes from outside, never with this node's rights. */
static __always_inline int nodeport_encap(struct __sk_buff *skb, struct axo_ctx *ctx, u32 device)
{
	int rc = axo_tunnel_set_key(skb, &ctx->node, AXO_ID_WORLD);

	if (rc)
		return rc;
	axo_trace(skb, ctx, AXO_TRACE_TO_OVERLAY, device);
	return bpf_redirect(device, 0);
}

/*
 * The way to a backend. Not on the stack: what was found out on it is nothing that the verifier then
 * follows through the search for a port.
 */
struct nodeport_way {
	struct axo_addr from; /* network order: as whom the packet travels */
	struct bpf_redir_neigh hop;
	__u32 ifindex;
	__u32 tunnel; /* through it */
};

BPF_TABLE("percpu_array", u32, struct nodeport_way, axoscratch_np_way, 1);

/* Where to without a tunnel. AXO_NEXT, or a drop of a packet that is still as it came. */
static __always_inline int nodeport_route(struct __sk_buff *skb, struct axo_ctx *ctx,
					  const struct axo_lb_work *w, struct nodeport_way *way,
					  u32 extra)
{
	struct bpf_fib_lookup fib = {};
	int rc;

	nodeport_fib(skb, ctx, w, &fib, &way->from);
	rc = axo_fib_resolve(skb, &fib, &way->hop);
	if (rc == BPF_FIB_LKUP_RET_SUCCESS) {
		way->ifindex = fib.ifindex;
		return AXO_NEXT;
	}
	if (rc != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return -AXO_DROP_NO_FIB;
	/* the kernel has put the route's MTU there */
	ctx->path_mtu = fib.tot_len > extra ? fib.tot_len - extra : 0;
	return -AXO_DROP_FRAG_NEEDED;
}

/* Does it fit, and where to? AXO_NEXT, or a drop of a packet that is still as it came. */
static __always_inline int nodeport_find(struct __sk_buff *skb, struct axo_ctx *ctx,
					 const struct axo_lb_work *w, struct nodeport_way *way)
{
	u32 extra = nodeport_extra(ctx, w), mtu;

	if (ctx->ttl <= 1)
		return -AXO_DROP_TTL_EXCEEDED;
	if (axo_addr_is_martian(&way->from)) /* the node has no address of this family */
		return -AXO_DROP_NAT_NO_MAPPING;
	if (!way->tunnel)
		return nodeport_route(skb, ctx, w, way, extra);
	mtu = axo_runtime_get(AXO_RT_MTU);
	if (axo_fits(skb, ctx, mtu > extra ? mtu - extra : 0))
		return AXO_NEXT;
	ctx->path_mtu = mtu - extra;
	return -AXO_DROP_FRAG_NEEDED;
}

/* On to a backend that is no pod of this node. */
static __always_inline int nodeport_send_away(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_lb_work *w = axo_lb_work_get();
	struct nodeport_way *way;
	u32 zero = 0;
	int rc;

	way = axoscratch_np_way.lookup(&zero);
	if (!w || !way)
		return -AXO_DROP_SNAT_NO_MAP_FOUND;
	way->tunnel = nodeport_tunnel(ctx, &w->to);
	nodeport_source(ctx, w, &way->from, way->tunnel);
	rc = nodeport_find(skb, ctx, w, way);
	if (rc != AXO_NEXT)
		return rc;
	rc = nodeport_translate(skb, ctx, w, &way->from, way->tunnel);
	if (rc != AXO_NEXT)
		return rc;
	if (!way->tunnel)
		return axo_fib_send(skb, ctx, way->ifindex, &way->hop);
	return nodeport_encap(skb, ctx, way->tunnel);
}

/*
 * It quotes what the backend has sent to whom it saw: with SNAT this node. To the backend's node, as any
 * of the client's packets.
 */
static __always_inline int nodeport_send_error(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_lb_answer_work *a = axo_lb_answer_get();
	struct axo_lb_work *w = axo_lb_work_get();
	struct axo_nat_work *n = axo_nat_work_get();
	u32 device;
	int rc;

	if (!a || !w || !n)
		return -AXO_DROP_SNAT_NO_MAP_FOUND;
	axo_nat_tuple(&n->flow, &a->quote.t.daddr, a->quote.t.dport, &w->to, w->port, a->quote.t.proto,
		      AXO_NAT_OUT);
	if (axo_nat_peek(ctx->family, &n->flow, &n->seen)) {
		rc = axo_nat_quote_rewrite(skb, ctx, &a->quote, AXO_NAT_DST, &n->seen.addr,
					   n->seen.port);
		if (rc)
			return rc;
	}
	device = nodeport_tunnel(ctx, &w->to);
	if (!device)
		return axo_fib_forward(skb, ctx);
	return nodeport_encap(skb, ctx, device);
}

#endif
