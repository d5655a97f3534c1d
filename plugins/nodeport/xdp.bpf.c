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
#include "dsr.h"

/* Where to, from the addresses that the frame will have. 1: out of where it came in. */
static __always_inline int nodeport_xdp_route(struct xdp_md *xdp, const struct axo_ctx *ctx,
					      struct bpf_fib_lookup *fib,
					      const struct axo_addr *from,
					      const struct axo_addr *to, u32 extra)
{
	axo_fib_ask(xdp, ctx, fib);
	fib->tot_len += extra;
	if (ctx->family == 4) {
		fib->ipv4_src = from->w[3];
		fib->ipv4_dst = to->w[3];
	} else {
		__builtin_memcpy(fib->ipv6_src, from, 16);
		__builtin_memcpy(fib->ipv6_dst, to, 16);
	}
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
	u32 extra = 0;
	int rc;

	if (!w || nodeport_choose(xdp, ctx, w) != AXO_NEXT || nodeport_xdp_is_ours(&w->to))
		return AXO_NEXT;
	from = ctx->saddr;
	if (w->flags & AXO_LB_DSR)
		extra = nodeport_dsr_room(ctx);
	else
		nodeport_own(ctx, &from, 0);
	if (!nodeport_xdp_route(xdp, ctx, &fib, &from, &w->to, extra))
		return AXO_NEXT;
	rc = axo_lb_to_backend(xdp, ctx, w);
	if (rc != AXO_NEXT)
		return rc;
	if (w->flags & AXO_LB_DSR)
		rc = nodeport_dsr_add(xdp, ctx, &w->vip, w->vport);
	else
		rc = nodeport_snat(xdp, ctx, w->frontend, 0);
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
	if (!e || !nodeport_xdp_route(xdp, ctx, &fib, &ctx->daddr, &e->addr, 0))
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
