/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services for outsiders where frames come from the wire, before the kernel makes packets of them: those
 * whose backend is on another node and is reached without a tunnel, and its answers.
 *
 *	client -> VIP		=>  node -> backend (SNAT), client -> backend (DSR)	out by the same device
 *	backend -> node		=>  VIP -> client					likewise
 *
 * Everything else goes on to tc, untouched: what this node answers itself, refuses, has a backend for,
 * sends through the tunnel or by another device, whose next hop's address is not known yet, ICMP errors,
 * fragments. Both use the same maps, so a flow may go now this way, now that.
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/fib.h"
#include "lb_answer.h"
#include "outside.h"

/* The route is known, with its neighbour, and leads out of where the frame came in. */
static __always_inline int nodeport_xdp_returns(struct xdp_md *xdp, struct bpf_fib_lookup *fib)
{
	if (bpf_fib_lookup(xdp, fib, sizeof(*fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return 0;
	return fib->ifindex == axo_frame_ifindex(xdp);
}

/* Through the tunnel, or to a pod of this node? */
static __always_inline int nodeport_xdp_is_ours(const struct axo_addr *backend)
{
	struct axo_ipcache *who;

	if (axo_endpoint_by_addr(backend))
		return 1;
	if (!axo_runtime_get(AXO_RT_TUNNEL_IFINDEX))
		return 0;
	who = axo_ipcache_lookup(backend);
	return who && !(who->flags & AXO_IPCACHE_DIRECT) && !axo_addr_is_zero(&who->node_ip);
}

static __always_inline int nodeport_xdp_ask(struct xdp_md *xdp, struct axo_ctx *ctx)
{
	struct axo_lb_work *w = axo_lb_work_get();
	struct bpf_fib_lookup fib = {};
	struct axo_addr from;
	int rc;

	if (!w || nodeport_choose(xdp, ctx, w) != AXO_NEXT || nodeport_xdp_is_ours(&w->to))
		return AXO_NEXT;
	nodeport_source(ctx, w, &from, 0);
	nodeport_fib(xdp, ctx, w, &fib, &from);
	if (!nodeport_xdp_returns(xdp, &fib))
		return AXO_NEXT;
	rc = nodeport_translate(xdp, ctx, w, &from, 0);
	return rc == AXO_NEXT ? axo_fib_return(xdp, ctx, &fib) : rc;
}

static __always_inline int nodeport_xdp_answer(struct xdp_md *xdp, struct axo_ctx *ctx)
{
	struct axo_nat_work *n = axo_nat_work_get();
	struct bpf_fib_lookup fib = {};
	struct axo_nat_entry *e;
	int rc;

	if (!n || !axo_nat_has_range(ctx->proto) || !axo_nat_in_range(ctx->dport))
		return AXO_NEXT;
	e = nodeport_answered(ctx, n);
	if (!e)
		return AXO_NEXT;
	axo_fib_ask(xdp, ctx, &fib, &ctx->daddr, &e->addr); /* from this node */
	if (!nodeport_xdp_returns(xdp, &fib))
		return AXO_NEXT;
	rc = nodeport_readdress(xdp, ctx, n, e);
	if (!rc)
		rc = axo_lb_answer(xdp, ctx);
	return rc == AXO_NEXT ? axo_fib_return(xdp, ctx, &fib) : rc;
}

/* Stage xdp_ingress. */
static __always_inline int nodeport_xdp_ingress(struct xdp_md *xdp, struct axo_ctx *ctx)
{
	if (!axo_lb_has_ports(ctx) || axo_has_options(ctx) || ctx->ttl <= 1)
		return AXO_NEXT;
	if (axo_lb_find(&ctx->daddr, ctx->dport, ctx->proto))
		return nodeport_xdp_ask(xdp, ctx);
	return nodeport_xdp_answer(xdp, ctx);
}
