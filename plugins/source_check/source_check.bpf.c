/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A pod sends from its own addresses only. What is its own is known by the device that the packet
 * came in on; an address alone proves nothing. Exceptions are what a host must say before it has
 * an address or to its link alone: duplicate address detection, neighbour discovery, listener
 * reports, DHCP. None of them leaves the link, and policy still judges DHCP.
 */
#include "axo/abi.h"
#include "axo/parse.h"
#include "axo/control.h"

#define SOURCE_CHECK_DHCP4_CLIENT bpf_htons(68)
#define SOURCE_CHECK_DHCP4_SERVER bpf_htons(67)
#define SOURCE_CHECK_DHCP6_CLIENT bpf_htons(546)
#define SOURCE_CHECK_DHCP6_SERVER bpf_htons(547)

static __always_inline int source_check_4(const struct axo_ctx *ctx)
{
	__be32 source = ctx->saddr.w[3];

	if (AXO_LIKELY(source == ctx->own4 && source))
		return AXO_NEXT;
	if (!source && ctx->daddr.w[3] == 0xffffffff && ctx->proto == AXO_PROTO_UDP &&
	    ctx->sport == SOURCE_CHECK_DHCP4_CLIENT && ctx->dport == SOURCE_CHECK_DHCP4_SERVER)
		return AXO_NEXT;
	return -AXO_DROP_INVALID_SIP;
}

/* The one link-local address that the pod's MAC address makes (RFC 4291 appendix A). */
static __always_inline int source_check_own_link(const struct axo_ctx *ctx)
{
	struct axo_endpoint *self = axo_endpoint_by_addr(&ctx->own6);
	const __u8 *m;

	if (!self)
		return 0;
	m = self->mac;
	return !ctx->saddr.w[1] && ctx->saddr.w[0] == bpf_htonl(0xfe800000) &&
	       ctx->saddr.w[2] == bpf_htonl((__u32)(m[0] ^ 2) << 24 | (__u32)m[1] << 16 |
					    (__u32)m[2] << 8 | 0xff) &&
	       ctx->saddr.w[3] == bpf_htonl(0xfe000000 | (__u32)m[3] << 16 | (__u32)m[4] << 8 |
					    (__u32)m[5]);
}

static __always_inline int source_check_6(const struct axo_ctx *ctx)
{
	int linklocal = axo_addr_is_linklocal6(&ctx->saddr);

	if (AXO_LIKELY(axo_addr_equal(&ctx->saddr, &ctx->own6) && !axo_addr_is_zero(&ctx->saddr)))
		return AXO_NEXT;
	if (!linklocal && !axo_addr_is_zero(&ctx->saddr))
		return -AXO_DROP_INVALID_SIP;
	/* the node notes who solicits: one entry for each pod, not as many as it makes up */
	if (linklocal && ctx->proto == AXO_PROTO_ICMP6 && ctx->icmp_type == AXO_ICMP6_NS &&
	    !source_check_own_link(ctx))
		return -AXO_DROP_INVALID_SIP;
	if (ctx->proto == AXO_PROTO_ICMP6 && !(ctx->pkt & AXO_PKT_FRAG) &&
	    (axo_is_nd(ctx->icmp_type) || axo_is_mld(ctx->icmp_type)))
		return AXO_NEXT;
	if (linklocal && ctx->proto == AXO_PROTO_UDP && (ctx->pkt & AXO_PKT_MULTICAST) &&
	    ctx->sport == SOURCE_CHECK_DHCP6_CLIENT && ctx->dport == SOURCE_CHECK_DHCP6_SERVER)
		return AXO_NEXT;
	return -AXO_DROP_INVALID_SIP;
}

static __always_inline int source_check_sender(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_UNLIKELY(ctx->own_flags & AXO_EP_ANY_SOURCE))
		return AXO_NEXT;
	return ctx->family == 4 ? source_check_4(ctx) : source_check_6(ctx);
}
