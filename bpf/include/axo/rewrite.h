/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Changing one end (address and port) of a packet, and of the packet quoted inside an ICMP error, all
 * checksums included.
 */
#ifndef AXO_REWRITE_H
#define AXO_REWRITE_H

#include "axo/checksum.h"
#include "axo/headers.h"
#include "axo/nat.h"

#define AXO_NAT_SRC 0
#define AXO_NAT_DST 1

/* Bytes from the L4 header to the port of one end; ICMP echo: to the identifier. */
static __always_inline u32 axo_nat_port_at(__u8 proto, int end)
{
	if (proto == AXO_PROTO_TCP || proto == AXO_PROTO_UDP)
		return end == AXO_NAT_SRC ? 0 : 2;
	return 4;
}

/* Note the new end in ctx; an ICMP echo has one identifier for both. */
static __always_inline void axo_nat_note(struct axo_ctx *ctx, int end, const struct axo_addr *to,
					 __be16 port)
{
	int both = ctx->proto == AXO_PROTO_ICMP || ctx->proto == AXO_PROTO_ICMP6;

	if (end == AXO_NAT_SRC)
		ctx->saddr = *to;
	else
		ctx->daddr = *to;
	if (both || end == AXO_NAT_SRC)
		ctx->sport = port;
	if (both || end == AXO_NAT_DST)
		ctx->dport = port;
}

/* Change one end of the packet, and of ctx. An ICMP error has no port. 0 or a drop. */
static __always_inline int axo_nat_rewrite(struct __sk_buff *skb, struct axo_ctx *ctx, int end,
					   const struct axo_addr *to, __be16 port)
{
	struct axo_addr from = end == AXO_NAT_SRC ? ctx->saddr : ctx->daddr;
	__be16 old = end == AXO_NAT_SRC ? ctx->sport : ctx->dport;
	int has_l4 = !(ctx->pkt & AXO_PKT_LATER), rc;

	if (has_l4 && !(ctx->pkt & AXO_PKT_ICMP_ERROR)) {
		rc = axo_rewrite_port(skb, ctx->l4_off, ctx->proto,
				      axo_nat_port_at(ctx->proto, end), old, port);
		if (rc != AXO_NEXT)
			return rc;
	}
	if (ctx->family == 4)
		rc = axo_rewrite_addr4(skb, AXO_ETH_HLEN + (end == AXO_NAT_SRC ? 12 : 16),
				       ctx->l4_off, ctx->proto, has_l4, from.w[3], to->w[3]);
	else
		rc = axo_rewrite_addr6(skb, AXO_ETH_HLEN + (end == AXO_NAT_SRC ? 8 : 24),
				       ctx->l4_off, ctx->proto, has_l4, &from, to);
	if (rc != AXO_NEXT)
		return rc;
	axo_nat_note(ctx, end, to, port);
	return 0;
}

/* The packet quoted inside an ICMP error. */
struct axo_nat_quote {
	struct axo_nat6_key t; /* as it was sent; ICMP echo: identifier at both ends; dir unused */
	__u32 l3;	       /* bytes from the start of the frame */
	__u32 l4;
};

/* Read the quote. 0, or negative: truncated, a later fragment, or a protocol without ports. */
static __always_inline int axo_nat_quote_read(struct __sk_buff *skb, struct axo_ctx *ctx,
					      struct axo_nat_quote *q)
{
	__be16 ports[4] = {};

	q->l3 = (__u32)ctx->l4_off + 8;
	if (ctx->family == 4) {
		struct axo_ipv4 ip;

		if (bpf_skb_load_bytes(skb, q->l3, &ip, sizeof(ip)) < 0)
			return -1;
		if (ip.ver_ihl >> 4 != 4 || (ip.ver_ihl & 0x0f) < 5 || (ip.frag_off & AXO_IP4_OFFSET))
			return -1;
		axo_addr_set4(&q->t.saddr, ip.saddr);
		axo_addr_set4(&q->t.daddr, ip.daddr);
		q->t.proto = ip.proto;
		q->l4 = q->l3 + (ip.ver_ihl & 0x0f) * 4;
	} else {
		struct axo_ipv6 ip;
		struct axo_ipv6_ext ext;

		if (bpf_skb_load_bytes(skb, q->l3, &ip, sizeof(ip)) < 0)
			return -1;
		q->t.saddr = ip.saddr;
		q->t.daddr = ip.daddr;
		q->t.proto = ip.next;
		q->l4 = q->l3 + sizeof(ip);
		if (ip.next == AXO_PROTO_FRAG) {
			if (bpf_skb_load_bytes(skb, q->l4, &ext, sizeof(ext)) < 0 ||
			    (ext.frag_off & AXO_IP6_OFFSET))
				return -1;
			q->t.proto = ext.next;
			q->l4 += sizeof(ext);
		}
	}
	if (bpf_skb_load_bytes(skb, q->l4, ports, 8) < 0)
		return -1;
	q->t.pad[0] = 0;
	q->t.pad[1] = 0;
	q->t.sport = ports[0];
	q->t.dport = ports[1];
	if (q->t.proto == AXO_PROTO_TCP || q->t.proto == AXO_PROTO_UDP)
		return 0;
	if (q->t.proto != AXO_PROTO_ICMP && q->t.proto != AXO_PROTO_ICMP6)
		return -1;
	q->t.sport = ports[2];
	q->t.dport = ports[2];
	return 0;
}

/* One's-complement difference between two addresses, as bpf_l4_csum_replace() takes it. */
static __always_inline u32 axo_nat_addr_diff(__u8 family, struct axo_addr *from,
					     struct axo_addr *to)
{
	if (family == 4)
		return bpf_csum_diff(&from->w[3], 4, &to->w[3], 4, 0);
	return bpf_csum_diff(&from->w[0], 16, &to->w[0], 16, 0);
}

/*
 * Correct the quoted L4 checksum, if the quote reaches that far, and the ICMP checksum for that
 * change. diff: of the addresses.
 */
static __always_inline int axo_nat_quote_csum(struct __sk_buff *skb, u32 icmp_csum,
					      struct axo_nat_quote *q, u32 diff, __be16 old,
					      __be16 port)
{
	u64 flags = q->t.proto == AXO_PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	u32 at = q->l4 + axo_l4_csum_off(q->t.proto);
	__be16 before, after;

	if (bpf_skb_load_bytes(skb, at, &before, 2))
		return 0; /* RFC 792 promises 8 bytes only, TCP's checksum lies behind them */
	if (q->t.proto != AXO_PROTO_ICMP && bpf_l4_csum_replace(skb, at, 0, diff, flags))
		return -AXO_DROP_CSUM_L4;
	if (bpf_l4_csum_replace(skb, at, old, port, flags | 2) ||
	    bpf_skb_load_bytes(skb, at, &after, 2) ||
	    bpf_l4_csum_replace(skb, icmp_csum, before, after, 2))
		return -AXO_DROP_CSUM_L4;
	return 0;
}

/* Change an address of the quoted IP header. 0 or a drop. */
static __always_inline int axo_nat_quote_addr(struct __sk_buff *skb, __u8 family, u32 icmp_csum,
					      u32 l3, int end, struct axo_addr *from,
					      struct axo_addr *to, u32 diff)
{
	if (family == 4) {
		/* the quoted header checksum balances the address inside the ICMP checksum */
		if (bpf_l3_csum_replace(skb, l3 + 10, from->w[3], to->w[3], 4))
			return -AXO_DROP_CSUM_L3;
		return bpf_skb_store_bytes(skb, l3 + (end == AXO_NAT_SRC ? 12 : 16), &to->w[3], 4, 0) ?
			       -AXO_DROP_WRITE_ERROR :
			       0;
	}
	if (bpf_l4_csum_replace(skb, icmp_csum, 0, diff, 0))
		return -AXO_DROP_CSUM_L4;
	return bpf_skb_store_bytes(skb, l3 + (end == AXO_NAT_SRC ? 8 : 24), &to->w[0], 16, 0) ?
		       -AXO_DROP_WRITE_ERROR :
		       0;
}

/* Change one end of the quoted packet, all checksums included. 0 or a drop. */
static __always_inline int axo_nat_quote_rewrite(struct __sk_buff *skb, struct axo_ctx *ctx,
						 struct axo_nat_quote *q, int end,
						 struct axo_addr *to, __be16 port)
{
	struct axo_addr from = end == AXO_NAT_SRC ? q->t.saddr : q->t.daddr;
	__be16 old = end == AXO_NAT_SRC ? q->t.sport : q->t.dport;
	u32 icmp_csum = (u32)ctx->l4_off + AXO_ICMP_CSUM_OFF;
	u32 diff = axo_nat_addr_diff(ctx->family, &from, to);
	u32 at = q->l4 + axo_nat_port_at(q->t.proto, end);
	int rc;

	rc = axo_nat_quote_csum(skb, icmp_csum, q, diff, old, port);
	if (rc)
		return rc;
	if (old != port) {
		if (bpf_l4_csum_replace(skb, icmp_csum, old, port, 2))
			return -AXO_DROP_CSUM_L4;
		if (bpf_skb_store_bytes(skb, at, &port, 2, 0))
			return -AXO_DROP_WRITE_ERROR;
	}
	return axo_nat_quote_addr(skb, ctx->family, icmp_csum, q->l3, end, &from, to, diff);
}

#endif
