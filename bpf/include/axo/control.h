/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Link control: neighbour discovery, multicast listener reports, IGMP. It lives on one veth pair,
 * between a pod and this node, is never forwarded and needs no policy. What a pod must not say
 * (router advertisements, redirects) is dropped.
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

/* From a pod. TC_ACT_OK: for this node's stack; negative: drop; AXO_NEXT: not link control. */
static __always_inline int axo_control_from(const struct axo_ctx *ctx)
{
	if (AXO_UNLIKELY(ctx->proto == AXO_PROTO_IGMP && ctx->family == 4))
		return ctx->pkt & AXO_PKT_MULTICAST ? TC_ACT_OK : -AXO_DROP_CT_UNKNOWN_PROTO;
	if (AXO_LIKELY(ctx->proto != AXO_PROTO_ICMP6 || ctx->family != 6))
		return AXO_NEXT;
	if (axo_is_mld(ctx->icmp_type))
		return ctx->ttl == 1 ? TC_ACT_OK : -AXO_DROP_FORBIDDEN_ICMP6;
	if (!axo_is_nd(ctx->icmp_type))
		return AXO_NEXT;
	/* RFC 4861: a hop limit of 255 proves that no router is in between */
	if (ctx->ttl != 255 || ctx->icmp_code || ctx->icmp_type == AXO_ICMP6_RA ||
	    ctx->icmp_type == AXO_ICMP6_REDIRECT)
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
