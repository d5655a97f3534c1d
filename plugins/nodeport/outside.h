/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What tc and XDP do alike for who comes from outside: may he ask, which backend, under which address
 * does it see him, and whose answer is this.
 */
#ifndef AXO_NODEPORT_OUTSIDE_H
#define AXO_NODEPORT_OUTSIDE_H

#include "axo/conntrack_maps.h"
#include "axo/fib.h"
#include "axo/nat_alloc.h"
#include "axo/rewrite.h"
#include "dsr.h"
#include "ipip.h"
#include "lb_flow.h"

#define NODEPORT_SILENT 1 /* ctx->note[0]: nobody is told that there is no backend */

/* May this client ask? Source ranges of load balancers. */
static __always_inline int nodeport_may_ask(const struct axo_ctx *ctx,
					    const struct axo_lb_frontend *fe)
{
	struct axo_lb_range_key key = {.prefixlen = 32 + 128};
	int listed;

	if (AXO_LIKELY(!(fe->flags & AXO_LB_RANGES)))
		return 1;
	key.service = fe->service;
	key.addr = ctx->saddr;
	listed = axo_lb_ranges.lookup(&key) != NULL;
	return listed == !(fe->flags & AXO_LB_RANGES_DENY);
}

/* The address under which the answer finds back here: through the tunnel the router's. */
static __always_inline void nodeport_own(const struct axo_ctx *ctx, struct axo_addr *own, int tunnel)
{
	u64 slot, hi, lo;

	if (ctx->family == 4) {
		slot = axo_runtime_get(tunnel ? AXO_RT_ROUTER_V4 : AXO_RT_NODE_V4);
		axo_addr_set4(own, *(__be32 *)&slot);
		return;
	}
	hi = axo_runtime_get(tunnel ? AXO_RT_ROUTER_V6_HI : AXO_RT_NODE_V6_HI);
	lo = axo_runtime_get(tunnel ? AXO_RT_ROUTER_V6_LO : AXO_RT_NODE_V6_LO);
	__builtin_memcpy(own, &hi, 8);
	__builtin_memcpy(&own->w[2], &lo, 8);
}

/* The flow as it goes to its backend, for the tables of source NAT. */
static __always_inline void nodeport_flow(struct axo_nat_work *n, const struct axo_ctx *ctx)
{
	axo_nat_tuple(&n->flow, &ctx->saddr, ctx->sport, &ctx->daddr, ctx->dport, ctx->proto,
		      AXO_NAT_OUT);
}

/* Gives the packet this node's address, so that its answer comes here. AXO_NEXT or a drop. */
static __always_inline int nodeport_snat(struct __sk_buff *skb, struct axo_ctx *ctx, u32 frontend,
					 int tunnel)
{
	struct axo_nat_work *n = axo_nat_work_get();
	struct axo_nat_entry *e;
	int rc = 0, known = 0;

	if (!n)
		return -AXO_DROP_SNAT_NO_MAP_FOUND;
	if (!axo_nat_has_range(ctx->proto))
		return -AXO_DROP_NAT_UNSUPP_PROTO;
	nodeport_flow(n, ctx);
	e = axo_nat_lookup(ctx->family, &n->flow);
	if (AXO_LIKELY(e))
		known = axo_nat_known(ctx, n, e);
	if (!known || AXO_UNLIKELY(n->service != frontend)) {
		n->service = frontend;
		nodeport_own(ctx, &n->to, tunnel);
		if (axo_addr_is_martian(&n->to)) /* the node has no address of this family */
			return -AXO_DROP_NAT_NO_MAPPING;
		rc = axo_nat_allocate(skb, ctx, n, 1, AXO_NAT_SERVICE);
	}
	if (rc)
		return rc;
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_SRC, &n->to, n->port);
	return rc ? rc : AXO_NEXT;
}

/* Finds the backend of a packet to a frontend: AXO_NEXT: w->to, w->port; or a drop. */
static __always_inline int nodeport_choose(struct __sk_buff *skb, struct axo_ctx *ctx,
					   struct axo_lb_work *w)
{
	struct axo_lb_frontend *fe = axo_lb_find(&ctx->daddr, ctx->dport, ctx->proto);
	int rc;

	AXO_OPAQUE(fe);
	if (!fe)
		return -AXO_DROP_NO_SERVICE;
	if (fe->flags & AXO_LB_CLUSTER_ONLY)
		return -AXO_DROP_IS_CLUSTER_IP;
	/* this node's own address is forged out there: conntrack would take it for the node */
	if (axo_endpoint_by_addr(&ctx->saddr))
		return -AXO_DROP_INVALID_SIP;
	if (!nodeport_may_ask(ctx, fe))
		return -AXO_DROP_NOT_IN_SRC_RANGE;
	w->vip = ctx->daddr;
	w->vport = ctx->dport;
	w->flags = fe->flags;
	w->frontend = fe->id;
	axo_lb_flow_of(&w->key, ctx);
	ctx->note[0] = fe->flags & AXO_LB_LOCAL_OUT ? NODEPORT_SILENT : 0;
	rc = axo_lb_backend_for(skb, ctx, w, fe, AXO_LB_OUTSIDE);
	if (rc != AXO_NEXT)
		return rc;
	ctx->service = w->frontend;
	if (!axo_lb_may_rewrite(ctx, ctx->dport, w->port))
		return -AXO_DROP_UNSUPP_SERVICE_PROTO;
	return AXO_NEXT;
}

static __always_inline int nodeport_encapsulates(const struct axo_lb_work *w)
{
	return NODEPORT_IPIP && w->flags & AXO_LB_DSR;
}

/* Bytes by which the packet will be longer on its way to the backend. */
static __always_inline u32 nodeport_extra(const struct axo_ctx *ctx, const struct axo_lb_work *w)
{
	if (nodeport_encapsulates(w))
		return ctx->family == 4 ? sizeof(struct axo_ipv4) : sizeof(struct axo_ipv6);
	return w->flags & AXO_LB_DSR ? nodeport_dsr_room(ctx) : 0;
}

/* As whom the packet travels; its sender's address stays where the backend answers by itself. */
static __always_inline void nodeport_source(const struct axo_ctx *ctx, const struct axo_lb_work *w,
					    struct axo_addr *from, int tunnel)
{
	if (w->flags & AXO_LB_DSR && !NODEPORT_IPIP) {
		*from = ctx->saddr;
		return;
	}
	nodeport_own(ctx, from, tunnel);
	if (nodeport_encapsulates(w))
		nodeport_ipip_source(ctx, w, from);
}

/* Asks the kernel's routes for what the packet will be. */
static __always_inline void nodeport_fib(struct __sk_buff *skb, const struct axo_ctx *ctx,
					 const struct axo_lb_work *w, struct bpf_fib_lookup *fib,
					 const struct axo_addr *from)
{
	axo_fib_ask(skb, ctx, fib, from, &w->to);
	fib->tot_len += nodeport_extra(ctx, w);
}

/* Makes it what goes to a backend on another node. AXO_NEXT or a drop. */
static __always_inline int nodeport_translate(struct __sk_buff *skb, struct axo_ctx *ctx,
					      struct axo_lb_work *w, const struct axo_addr *from,
					      int tunnel)
{
	int rc;

	if (nodeport_encapsulates(w)) {
		if (w->port != ctx->dport) /* it would have to be changed inside */
			return -AXO_DROP_UNSUPP_SERVICE_PROTO;
		rc = axo_hop(skb, ctx);
		return rc ? rc : nodeport_ipip(skb, ctx, from, &w->to);
	}
	rc = axo_lb_to_backend(skb, ctx, w);
	if (rc != AXO_NEXT)
		return rc;
	if (w->flags & AXO_LB_DSR)
		return nodeport_dsr_add(skb, ctx, &w->vip, w->vport);
	return nodeport_snat(skb, ctx, w->frontend, tunnel);
}

/* The entry of what comes back from a backend to this node's address; NULL: it is something else. */
static __always_inline struct axo_nat_entry *nodeport_answered(const struct axo_ctx *ctx,
								struct axo_nat_work *n)
{
	struct axo_nat_entry *e;

	nodeport_flow(n, ctx);
	n->flow.dir = AXO_NAT_IN;
	n->answer = n->flow;
	e = axo_nat_lookup(ctx->family, &n->answer);
	if (!e)
		return NULL;
	return e->flags & AXO_NAT_SERVICE ? e : NULL;
}

/* It goes on to the client. 0 or a drop. */
static __always_inline int nodeport_readdress(struct __sk_buff *skb, struct axo_ctx *ctx,
					      struct axo_nat_work *n, struct axo_nat_entry *e)
{
	n->to = e->addr;
	n->port = e->port;
	ctx->answers = e->service;
	axo_nat_touch(e, ctx);
	axo_nat_origin(&n->flow, &n->answer, e);
	axo_nat_reset(ctx, &n->flow);
	return axo_nat_rewrite(skb, ctx, AXO_NAT_DST, &n->to, n->port);
}

#endif
