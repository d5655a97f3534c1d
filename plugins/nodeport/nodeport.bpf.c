/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services for who comes by the node's devices: node ports, load balancers' and external addresses.
 *
 *	from_netdev_translate   client -> VIP: to a backend; answers of backends on other nodes: to clients
 *	from_overlay_translate  those answers, out of the tunnel
 *	receive_options         this node has the backend, and another one has sent the client's packet on
 *
 *	backend on this node    client -> backend: the client's address stays
 *	SNAT                    client -> VIP  =>  node:port -> backend, and the answer comes back here
 *	DSR                     client -> VIP  =>  client -> backend with the VIP in an option
 */
#include "axo/conntrack.h"
#include "axo/deliver.h"
#include "axo/fib.h"
#include "axo/icmp_answer.h"
#include "axo/nat_alloc.h"
#include "axo/rewrite.h"
#include "axo/route.h"
#include "axo/tunnel.h"
#include "lb_answer.h"
#include "lb_error.h"
#include "lb_flow.h"
#include "dsr.h"
#include "outside.h"
#include "away.h"

#ifndef AXO_LB_REJECT
#define AXO_LB_REJECT 1
#endif

/*
 * A backend in this node's own network: its answers leave by to_netdev, where source NAT finds this pair
 * of entries and gives them the service's name.
 */
static __always_inline int nodeport_to_host(struct axo_ctx *ctx, const struct axo_addr *vip,
					    __be16 port)
{
	struct axo_nat_work *n = axo_nat_work_get();

	if (!n || !axo_nat_has_range(ctx->proto))
		return AXO_NEXT;
	axo_nat_tuple(&n->flow, &ctx->daddr, ctx->dport, &ctx->saddr, ctx->sport, ctx->proto,
		      AXO_NAT_OUT);
	axo_nat_answer(&n->answer, &n->flow, vip, port);
	n->fresh.addr = n->flow.saddr;
	n->fresh.port = n->flow.sport;
	n->fresh.flags = AXO_NAT_HOST;
	n->fresh.pad = 0;
	n->fresh.service = 0;
	n->fresh.created = axo_nat_now();
	n->fresh.expires = 0;
	axo_nat_touch(&n->fresh, ctx);
	if (axo_nat_store(ctx->family, &n->answer, &n->fresh))
		return -AXO_DROP_NAT_NO_MAPPING;
	n->fresh.addr = *vip;
	n->fresh.port = port;
	if (axo_nat_store(ctx->family, &n->flow, &n->fresh))
		return -AXO_DROP_NAT_NO_MAPPING;
	return AXO_NEXT;
}

/*
 * Programs of their own, each small enough for the verifier; the packet's context stays where it is.
 *
 *	SERVE	a frontend was hit: finds the backend, and delivers if it is on this node
 *	AWAY	the backend is on another node
 *	BACK	its answer
 *	ERROR	an ICMP error about such an answer, for the backend
 */
#define NODEPORT_SERVE 0
#define NODEPORT_AWAY  1
#define NODEPORT_BACK  2
#define NODEPORT_ERROR 3

BPF_TABLE("prog", u32, u32, axoscratch_nodeport, 4);

static __always_inline struct axo_ctx *nodeport_ctx(void)
{
	u32 zero = 0;

	return axoscratch_ctx.lookup(&zero);
}

static __always_inline int nodeport_tell(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	/* port unreachable, unless other nodes may have a backend */
	if (!AXO_LB_REJECT || ctx->note[0] == NODEPORT_SILENT ||
	    !axo_answer_unreachable(skb, ctx, 3, 4))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* A client whose packet does not fit is told what would; what it sent is still as it was. */
static __always_inline int nodeport_tell_mtu(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (!ctx->path_mtu || !axo_answer_too_big(skb, ctx, ctx->path_mtu))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* Ends one of these programs. */
static __always_inline int nodeport_finish(struct __sk_buff *skb, struct axo_ctx *ctx, int verdict)
{
	int ret = axo_finish(skb, ctx, verdict);

	if (AXO_UNLIKELY(verdict == -AXO_DROP_NO_SERVICE))
		return nodeport_tell(skb, ctx);
	if (AXO_UNLIKELY(verdict == -AXO_DROP_FRAG_NEEDED))
		return nodeport_tell_mtu(skb, ctx);
	return ret;
}

#ifndef AXO_PROGRAM_OVERLAY /* out of the tunnel come answers alone */

int nodeport_away(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = nodeport_ctx();

	if (!ctx)
		return TC_ACT_SHOT;
	return nodeport_finish(skb, ctx, nodeport_send_away(skb, ctx));
}

/* Into the backend's pod, or to this node's own stack. */
static __always_inline int nodeport_deliver(struct __sk_buff *skb, struct axo_ctx *ctx,
					    struct axo_endpoint *ep)
{
	struct axo_lb_work *w = axo_lb_work_get();
	int rc;

	if (!(ep->flags & AXO_EP_HOST))
		return axo_deliver_endpoint(skb, ctx, ep);
	if (!w)
		return -AXO_DROP_SNAT_NO_MAP_FOUND;
	rc = nodeport_to_host(ctx, &w->vip, w->vport);
	if (rc != AXO_NEXT)
		return rc;
	ctx->dst_identity = AXO_ID_HOST;
	return AXO_STAGES(host_ingress);
}

int nodeport_error(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = nodeport_ctx();

	if (!ctx)
		return TC_ACT_SHOT;
	return nodeport_finish(skb, ctx, nodeport_send_error(skb, ctx));
}

int nodeport_serve(struct __sk_buff *skb)
{
	struct axo_lb_work *w = axo_lb_work_get();
	struct axo_ctx *ctx = nodeport_ctx();
	struct axo_endpoint *ep;
	int rc;

	if (!ctx)
		return TC_ACT_SHOT;
	rc = w ? nodeport_choose(skb, ctx, w) : -AXO_DROP_NO_SERVICE;
	if (rc == AXO_NEXT) {
		ep = axo_endpoint_by_addr(&w->to);
		AXO_OPAQUE(ep);
		if (ep) {
			rc = axo_lb_to_backend(skb, ctx, w);
			if (rc == AXO_NEXT)
				rc = nodeport_deliver(skb, ctx, ep);
		} else {
			axoscratch_nodeport.call(skb, NODEPORT_AWAY);
			rc = -AXO_DROP_MISSED_TAIL_CALL;
		}
	}
	return nodeport_finish(skb, ctx, rc);
}

#endif

/* An answer whose client is known again: in the service's name, on to it. */
int nodeport_back(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = nodeport_ctx();
	int rc;

	if (!ctx)
		return TC_ACT_SHOT;
	rc = axo_lb_answer(skb, ctx);
	if (rc == AXO_NEXT)
		rc = axo_fib_forward(skb, ctx);
	return nodeport_finish(skb, ctx, rc);
}

/* About an answer: to the backend if it is here, else in a program of its own. */
static __always_inline int nodeport_translate_error(struct __sk_buff *skb, struct axo_ctx *ctx,
						    struct axo_lb_work *w)
{
	int rc = axo_lb_error(skb, ctx, w);

	if (rc != AXO_NEXT || !w->local || axo_endpoint_by_addr(&w->to))
		return rc;
	axoscratch_nodeport.call(skb, NODEPORT_ERROR);
	return -AXO_DROP_MISSED_TAIL_CALL;
}

/* Stage from_netdev_translate, behind that of source NAT. */
static __always_inline int nodeport_from_netdev_translate(struct __sk_buff *skb,
							  struct axo_ctx *ctx)
{
	struct axo_lb_work *w = axo_lb_work_get();

	if (!w || (ctx->pkt & AXO_PKT_MULTICAST))
		return AXO_NEXT;
	if (ctx->answers) {
		axoscratch_nodeport.call(skb, NODEPORT_BACK);
		return -AXO_DROP_MISSED_TAIL_CALL;
	}
	if (AXO_UNLIKELY(ctx->pkt & AXO_PKT_ICMP_ERROR))
		return nodeport_translate_error(skb, ctx, w);
	if (!axo_lb_has_ports(ctx))
		return AXO_NEXT;
	if (axo_lb_find(&ctx->daddr, ctx->dport, ctx->proto)) {
		axoscratch_nodeport.call(skb, NODEPORT_SERVE);
		return -AXO_DROP_MISSED_TAIL_CALL;
	}
	if (ctx->dst_identity == AXO_ID_HOST || !axo_lb_find(&ctx->daddr, 0, 0))
		return AXO_NEXT;
	ctx->note[0] = 0;
	return -AXO_DROP_NO_SERVICE;
}

/* Stage from_netdev_unserved: what SERVE does itself. */
static __always_inline int nodeport_from_netdev_unserved(struct __sk_buff *skb,
							 struct axo_ctx *ctx)
{
	return nodeport_tell(skb, ctx);
}

/* Stage from_overlay_translate: answers to this node's router address. */
static __always_inline int nodeport_from_overlay_translate(struct __sk_buff *skb,
							   struct axo_ctx *ctx)
{
	struct axo_nat_work *n = axo_nat_work_get();
	struct axo_nat_entry *e;
	struct axo_addr own;
	int rc;

	if (!n || !axo_nat_has_range(ctx->proto) || !axo_nat_in_range(ctx->dport))
		return AXO_NEXT;
	nodeport_own(ctx, &own, 1);
	if (AXO_LIKELY(!axo_addr_equal(&ctx->daddr, &own)))
		return AXO_NEXT;
	e = nodeport_answered(ctx, n);
	if (!e)
		return AXO_NEXT;
	rc = nodeport_readdress(skb, ctx, n, e);
	if (rc)
		return rc;
	axoscratch_nodeport.call(skb, NODEPORT_BACK);
	return -AXO_DROP_MISSED_TAIL_CALL;
}

/* Stage receive_options. */
static __always_inline int nodeport_receive_options(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	return nodeport_dsr_take(skb, ctx);
}
