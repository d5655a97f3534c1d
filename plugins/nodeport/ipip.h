/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Direct server return by encapsulation: the client's packet as it is, in one to the backend, which has
 * the service's address itself and answers alone (RFC 2003, RFC 2473).
 *
 *	eth | IP node -> backend | IP client -> VIP | TCP, UDP ...
 */
#ifndef AXO_NODEPORT_IPIP_H
#define AXO_NODEPORT_IPIP_H

#include "axo/checksum.h"
#include "axo/headers.h"
#include "lb_flow.h"

/* bpf-lb-dsr-dispatch: ipip */
#ifndef NODEPORT_IPIP
#define NODEPORT_IPIP 0
#endif

/* bpf-lb-rss-ipv4-src-cidr, bpf-lb-rss-ipv6-src-cidr: host order; mask ~0: the node's own address */
#ifndef NODEPORT_RSS4_MASK
#define NODEPORT_RSS4_NET  0u
#define NODEPORT_RSS4_MASK 0xffffffffu
#endif
#ifndef NODEPORT_RSS6_MASK
#define NODEPORT_RSS6_NET0 0u
#define NODEPORT_RSS6_NET1 0u
#define NODEPORT_RSS6_NET2 0u
#define NODEPORT_RSS6_NET3 0u
#define NODEPORT_RSS6_MASK 0xffffffffu /* of the last 32 bits: no more are spread */
#endif

#define NODEPORT_IPIP_TTL 65 /* the hop that follows takes one */

/* Spreads flows over the receiver's queues, which look at outer headers alone. */
static __always_inline void nodeport_ipip_source(const struct axo_ctx *ctx,
						 const struct axo_lb_work *w, struct axo_addr *from)
{
	u32 hash = axo_lb_hash(&w->key, 0);

	if (ctx->family == 4) {
		if (NODEPORT_RSS4_MASK != 0xffffffffu)
			axo_addr_set4(from, bpf_htonl(NODEPORT_RSS4_NET |
						      (hash & ~NODEPORT_RSS4_MASK)));
		return;
	}
	if (NODEPORT_RSS6_MASK == 0xffffffffu)
		return;
	from->w[0] = bpf_htonl(NODEPORT_RSS6_NET0);
	from->w[1] = bpf_htonl(NODEPORT_RSS6_NET1);
	from->w[2] = bpf_htonl(NODEPORT_RSS6_NET2);
	from->w[3] = bpf_htonl(NODEPORT_RSS6_NET3 | (hash & ~NODEPORT_RSS6_MASK));
}

static __always_inline int nodeport_ipip4(struct __sk_buff *skb, const struct axo_addr *from,
					  const struct axo_addr *to)
{
	struct axo_ipv4 ip = {.ver_ihl = 0x45, .ttl = NODEPORT_IPIP_TTL, .proto = AXO_PROTO_IPIP};

	if (axo_frame_outer(skb, sizeof(ip)))
		return -AXO_DROP_WRITE_ERROR;
	ip.frag_off = bpf_htons(0x4000); /* DF */
	ip.tot_len = bpf_htons(axo_frame_len(skb) - AXO_ETH_HLEN);
	ip.saddr = from->w[3];
	ip.daddr = to->w[3];
	ip.csum = axo_csum_fold(bpf_csum_diff(NULL, 0, (void *)&ip, sizeof(ip), 0));
	return bpf_skb_store_bytes(skb, AXO_ETH_HLEN, &ip, sizeof(ip), 0) ? -AXO_DROP_WRITE_ERROR :
									   AXO_NEXT;
}

static __always_inline int nodeport_ipip6(struct __sk_buff *skb, const struct axo_addr *from,
					  const struct axo_addr *to)
{
	struct axo_ipv6 ip = {.hop_limit = NODEPORT_IPIP_TTL, .next = AXO_PROTO_IPV6};

	if (axo_frame_outer(skb, sizeof(ip)))
		return -AXO_DROP_WRITE_ERROR;
	ip.ver_class_flow = bpf_htonl(0x60000000);
	ip.payload_len = bpf_htons(axo_frame_len(skb) - AXO_ETH_HLEN - sizeof(ip));
	ip.saddr = *from;
	ip.daddr = *to;
	return bpf_skb_store_bytes(skb, AXO_ETH_HLEN, &ip, sizeof(ip), 0) ? -AXO_DROP_WRITE_ERROR :
									   AXO_NEXT;
}

/* Puts the packet, whose TTL has counted this hop, into one to the backend. AXO_NEXT or a drop. */
static __always_inline int nodeport_ipip(struct __sk_buff *skb, struct axo_ctx *ctx,
					 const struct axo_addr *from, const struct axo_addr *to)
{
	int rc = ctx->family == 4 ? nodeport_ipip4(skb, from, to) : nodeport_ipip6(skb, from, to);

	if (rc != AXO_NEXT)
		return rc;
	ctx->saddr = *from;
	ctx->daddr = *to;
	ctx->proto = ctx->family == 4 ? AXO_PROTO_IPIP : AXO_PROTO_IPV6;
	ctx->ttl = NODEPORT_IPIP_TTL;
	ctx->l4_off = AXO_ETH_HLEN + (ctx->family == 4 ? sizeof(struct axo_ipv4) :
							 sizeof(struct axo_ipv6));
	return AXO_NEXT;
}

#endif
