/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Link control: neighbour discovery, multicast listener reports, IGMP. It lives on one veth pair,
 * between a pod and this node, and needs no policy because it ends here: what is addressed to
 * anybody else would be forwarded by the stack, so it is dropped. So is what a pod must not say
 * (router advertisements, redirects) and what only fills the node's neighbour table (router
 * solicitations, which nobody answers; messages that hide behind extension headers).
 */
#ifndef AXO_CONTROL_H
#define AXO_CONTROL_H

#include "axo/parse.h"

static __always_inline int axo_is_mld(u8 type)
{
	return (type >= AXO_ICMP6_MLD_QUERY && type <= AXO_ICMP6_MLD_DONE) ||
	       type == AXO_ICMP6_MLD2_REPORT;
}

static __always_inline int axo_is_nd(u8 type)
{
	return type >= AXO_ICMP6_RS && type <= AXO_ICMP6_REDIRECT;
}

/* Multicast, link-local or an address of this node: the stack does not forward it. */
static __always_inline int axo_control_ends_here(const struct axo_ctx *ctx)
{
	struct axo_endpoint *ep;

	if ((ctx->pkt & AXO_PKT_MULTICAST) || axo_addr_is_linklocal6(&ctx->daddr))
		return 1;
	ep = axo_endpoint_by_addr(&ctx->daddr);
	return ep && (ep->flags & AXO_EP_HOST);
}

/* From a pod. TC_ACT_OK: for this node's stack; negative: drop; AXO_NEXT: not link control. */
static __always_inline int axo_control_from(const struct axo_ctx *ctx)
{
	if (AXO_UNLIKELY(ctx->proto == AXO_PROTO_IGMP && ctx->family == 4))
		return ctx->pkt & AXO_PKT_MULTICAST ? TC_ACT_OK : -AXO_DROP_CT_UNKNOWN_PROTO;
	if (AXO_LIKELY(ctx->proto != AXO_PROTO_ICMP6 || ctx->family != 6))
		return AXO_NEXT;
	if (axo_is_mld(ctx->icmp_type)) {
		if (ctx->ttl != 1 || !axo_control_ends_here(ctx))
			return -AXO_DROP_FORBIDDEN_ICMP6;
		return TC_ACT_OK;
	}
	if (!axo_is_nd(ctx->icmp_type))
		return AXO_NEXT;
	/* RFC 4861: a hop limit of 255 proves that no router is in between */
	if (ctx->ttl != 255 || ctx->icmp_code ||
	    (ctx->icmp_type != AXO_ICMP6_NS && ctx->icmp_type != AXO_ICMP6_NA))
		return -AXO_DROP_FORBIDDEN_ICMP6;
	if (ctx->l4_off != AXO_ETH_HLEN + sizeof(struct axo_ipv6) || !axo_control_ends_here(ctx))
		return -AXO_DROP_FORBIDDEN_ICMP6;
	return TC_ACT_OK;
}

/* To a pod, from this node's own stack (local). Same answers; TC_ACT_OK: let it in. */
static __always_inline int axo_control_to(const struct axo_ctx *ctx, int local)
{
	if (AXO_LIKELY(ctx->proto != AXO_PROTO_ICMP6 || ctx->family != 6))
		return AXO_NEXT;
	if (!axo_is_nd(ctx->icmp_type) && !axo_is_mld(ctx->icmp_type))
		return AXO_NEXT;
	return local ? TC_ACT_OK : -AXO_DROP_FORBIDDEN_ICMP6;
}

#endif
