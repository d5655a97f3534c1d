/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services for pods' packets: those whose sockets were not translated when they connected.
 *
 *	egress_translate   pod -> VIP:port          becomes   pod -> backend:port, before policy
 *	ingress_deliver    backend:port -> pod      becomes   VIP:port -> pod, behind policy
 *	egress_answer      the same, to a client outside
 *
 * A pod that is its own backend gets its packets back from the loopback address, which no policy sees.
 */
#include "axo/deliver.h"
#include "axo/fib.h"
#include "axo/icmp_answer.h"
#include "lb_answer.h"
#include "lb_error.h"
#include "lb_flow.h"

/* ipv4-service-loopback-address, host order; ipv6-service-loopback-address in four words */
#ifndef AXO_LB_LOOPBACK4
#define AXO_LB_LOOPBACK4  0xa9fe2a01
#define AXO_LB_LOOPBACK60 0xfe800000
#define AXO_LB_LOOPBACK61 0
#define AXO_LB_LOOPBACK62 0
#define AXO_LB_LOOPBACK63 1
#endif

/* service-no-backend-response: reject */
#ifndef AXO_LB_REJECT
#define AXO_LB_REJECT 1
#endif

static __always_inline void services_loopback(struct axo_addr *a, __u8 family)
{
	if (family == 4) {
		axo_addr_set4(a, bpf_htonl(AXO_LB_LOOPBACK4));
		return;
	}
	a->w[0] = bpf_htonl(AXO_LB_LOOPBACK60);
	a->w[1] = bpf_htonl(AXO_LB_LOOPBACK61);
	a->w[2] = bpf_htonl(AXO_LB_LOOPBACK62);
	a->w[3] = bpf_htonl(AXO_LB_LOOPBACK63);
}

static __always_inline int services_is_loopback(const struct axo_ctx *ctx)
{
	if (ctx->family == 4)
		return ctx->daddr.w[3] == bpf_htonl(AXO_LB_LOOPBACK4);
	return ctx->daddr.w[0] == bpf_htonl(AXO_LB_LOOPBACK60) &&
	       ctx->daddr.w[1] == bpf_htonl(AXO_LB_LOOPBACK61) &&
	       ctx->daddr.w[2] == bpf_htonl(AXO_LB_LOOPBACK62) &&
	       ctx->daddr.w[3] == bpf_htonl(AXO_LB_LOOPBACK63);
}

static __always_inline int services_is_own(const struct axo_ctx *ctx, const struct axo_addr *a)
{
	if (ctx->family == 4)
		return a->w[3] == ctx->own4;
	return axo_addr_equal(a, &ctx->own6);
}

/* Back into the pod that has sent it. */
static __always_inline int services_return(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->daddr);

	if (!ep)
		return -AXO_DROP_UNKNOWN_TARGET;
	ctx->dst_identity = ep->identity;
	ctx->dst_id = ep->id;
	return axo_redirect_local(skb, ctx, ep);
}

/*
 * The pod's own: from the loopback address, or its socket would meet itself. The way back is an entry of
 * its own: pod:backend port -> loopback:client port.
 */
static __always_inline int services_hairpin(struct __sk_buff *skb, struct axo_ctx *ctx,
					    struct axo_lb_work *w, __u32 frontend)
{
	struct axo_addr loopback;
	int rc;

	services_loopback(&loopback, ctx->family);
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_SRC, &loopback, ctx->sport);
	if (rc)
		return rc;
	w->key.saddr = ctx->daddr;
	w->key.daddr = loopback;
	w->key.sport = ctx->dport;
	w->key.dport = ctx->sport;
	w->fresh.backend = w->backend;
	w->fresh.frontend = frontend;
	w->fresh.flags = 0;
	w->fresh.pad[0] = 0;
	w->fresh.pad[1] = 0;
	w->fresh.pad[2] = 0;
	w->fresh.expires = 0;
	axo_lb_touch(&w->fresh, ctx, axo_ct_now());
	axo_lb_flows.update(&w->key, &w->fresh);
	return services_return(skb, ctx);
}

/* A pod answers itself: to the loopback address. */
static __always_inline int services_hairpin_back(struct __sk_buff *skb, struct axo_ctx *ctx,
						 struct axo_lb_work *w)
{
	struct axo_addr own = ctx->saddr;
	struct axo_lb_flow *f;
	int rc;

	axo_lb_flow_of(&w->key, ctx);
	f = axo_lb_flows.lookup(&w->key);
	if (!f)
		return -AXO_DROP_NAT_NO_MAPPING;
	axo_lb_touch(f, ctx, axo_ct_now());
	ctx->answers = f->frontend;
	rc = axo_lb_answer(skb, ctx);
	if (rc != AXO_NEXT)
		return rc;
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_DST, &own, ctx->dport);
	return rc ? rc : services_return(skb, ctx);
}

/* Stage egress_translate. */
static __always_inline int services_egress_translate(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_lb_work *w = axo_lb_work_get();
	struct axo_lb_frontend *fe;
	__u32 id;
	int rc;

	if (!w)
		return AXO_NEXT;
	if (AXO_UNLIKELY(ctx->pkt & AXO_PKT_ICMP_ERROR))
		return axo_lb_error(skb, ctx, w);
	if (!axo_lb_has_ports(ctx))
		return AXO_NEXT;
	fe = axo_lb_find(&ctx->daddr, ctx->dport, ctx->proto);
	if (AXO_LIKELY(!fe))
		return services_is_loopback(ctx) ? services_hairpin_back(skb, ctx, w) : AXO_NEXT;
	/* whoever may make a service would get what pods send to the address's owner */
	if (AXO_UNLIKELY(fe->flags & AXO_LB_OUTSIDERS))
		return AXO_NEXT;
	id = fe->id;
	axo_lb_flow_of(&w->key, ctx);
	rc = axo_lb_backend_for(skb, ctx, w, fe, AXO_LB_INSIDE);
	if (rc != AXO_NEXT)
		return rc;
	rc = axo_lb_to_backend(skb, ctx, w);
	if (rc != AXO_NEXT)
		return rc;
	if (AXO_UNLIKELY(services_is_own(ctx, &ctx->daddr)))
		return services_hairpin(skb, ctx, w, id);
	ctx->service = id;
	return AXO_NEXT;
}

/* Stage ingress_deliver: to a pod of this node that has asked a service. */
static __always_inline int services_ingress_deliver(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_LIKELY(!ctx->answers))
		return AXO_NEXT;
	return axo_lb_answer(skb, ctx);
}

/* Stage egress_answer: to somebody outside who has asked a service of this node's. */
static __always_inline int services_egress_answer(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int rc = axo_lb_answer(skb, ctx);

	if (rc != AXO_NEXT)
		return rc;
	return axo_fib_forward(skb, ctx);
}

/* Stage egress_unserved: port unreachable (RFC 792: 3/3, RFC 4443: 1/4), so that nobody waits. */
static __always_inline int services_egress_unserved(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (!AXO_LB_REJECT || !axo_answer_unreachable(skb, ctx, 3, 4))
		return AXO_NEXT;
	return bpf_redirect_peer(skb->ifindex, 0);
}
