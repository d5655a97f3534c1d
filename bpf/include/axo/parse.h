/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From frame to facts: fills struct axo_ctx from an Ethernet frame with IPv4 or IPv6.
 *
 *	eth 14 | IPv4 20..60                     | TCP/UDP/SCTP ports, ICMP type
 *	eth 14 | IPv6 40 | extension headers ... | TCP/UDP/SCTP ports, ICMPv6 type
 *	                                         ^ ctx->l4_off
 * Whatever cannot be judged is dropped with a reason, never guessed.
 */
#ifndef AXO_PARSE_H
#define AXO_PARSE_H

#include "axo/maps.h"
#include "axo/headers.h"
#include "axo/fragment.h"

#define AXO_IP6_EXT_MAX 6 /* extension headers walked; more is an attack or a mistake */

/* The first len bytes lie in linear, readable memory; 0 if the packet is shorter than that. */
static __always_inline int axo_linear(struct __sk_buff *skb, u32 len)
{
	if (AXO_LIKELY((void *)(long)skb->data + len <= (void *)(long)skb->data_end))
		return 1;
	if (!axo_frame_pull(skb, len))
		return 0;
	return (void *)(long)skb->data + len <= (void *)(long)skb->data_end;
}

/* Error messages quote the packet that caused them. */
static __always_inline int axo_icmp_is_error(u8 proto, u8 type)
{
	if (proto == AXO_PROTO_ICMP6)
		return type >= AXO_ICMP6_UNREACHABLE && type <= AXO_ICMP6_PARAM;
	return type == AXO_ICMP4_UNREACHABLE || type == AXO_ICMP4_TIME_EXCEED ||
	       type == AXO_ICMP4_PARAM || type == AXO_ICMP4_QUENCH || type == AXO_ICMP4_REDIRECT;
}

static __always_inline int axo_icmp_is_echo(u8 proto, u8 type)
{
	if (proto == AXO_PROTO_ICMP6)
		return type == AXO_ICMP6_ECHO || type == AXO_ICMP6_ECHO_REPLY;
	return type == AXO_ICMP4_ECHO || type == AXO_ICMP4_ECHO_REPLY;
}

static __always_inline int axo_parse_icmp(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_icmp icmp;

	if (bpf_skb_load_bytes(skb, ctx->l4_off, &icmp, sizeof(icmp)))
		return -AXO_DROP_CT_INVALID_HDR;
	ctx->icmp_type = icmp.type;
	ctx->icmp_code = icmp.code;
	if (axo_icmp_is_echo(ctx->proto, icmp.type)) {
		ctx->sport = icmp.id;
		ctx->dport = icmp.id;
	} else if (axo_icmp_is_error(ctx->proto, icmp.type)) {
		ctx->pkt |= AXO_PKT_ICMP_ERROR;
	}
	return AXO_NEXT;
}

/* Ports, flags and types; protocols without any leave them 0. */
static __always_inline int axo_parse_l4(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_tcp tcp;

	if (ctx->proto == AXO_PROTO_TCP) {
		if (bpf_skb_load_bytes(skb, ctx->l4_off, &tcp, sizeof(tcp)))
			return -AXO_DROP_CT_INVALID_HDR;
		ctx->sport = tcp.sport;
		ctx->dport = tcp.dport;
		ctx->tcp_flags = tcp.flags;
		return AXO_NEXT;
	}
	if (ctx->proto == AXO_PROTO_UDP || ctx->proto == AXO_PROTO_SCTP) {
		/* sport and dport lie side by side here and there */
		if (bpf_skb_load_bytes(skb, ctx->l4_off, &tcp, 4))
			return -AXO_DROP_CT_INVALID_HDR;
		ctx->sport = tcp.sport;
		ctx->dport = tcp.dport;
		return AXO_NEXT;
	}
	/* ICMPv6 in IPv4 and the reverse are no protocol of that family */
	if (ctx->proto == (ctx->family == 4 ? AXO_PROTO_ICMP : AXO_PROTO_ICMP6))
		return axo_parse_icmp(skb, ctx);
	return AXO_NEXT;
}

static __always_inline int axo_parse4(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ipv4 *ip;
	__be16 frag, id;
	u32 ihl;
	int ret;

	if (!axo_linear(skb, AXO_ETH_HLEN + sizeof(*ip)))
		return -AXO_DROP_INVALID;
	ip = (void *)(long)skb->data + AXO_ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -AXO_DROP_INVALID;
	ihl = (ip->ver_ihl & 0x0f) * 4;
	if ((ip->ver_ihl >> 4) != 4 || ihl < sizeof(*ip))
		return -AXO_DROP_INVALID;
	axo_addr_set4(&ctx->saddr, ip->saddr);
	axo_addr_set4(&ctx->daddr, ip->daddr);
	ctx->family = 4;
	ctx->proto = ip->proto;
	ctx->ttl = ip->ttl;
	ctx->l4_off = AXO_ETH_HLEN + ihl;
	if ((ip->daddr & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || ip->daddr == 0xffffffff)
		ctx->pkt |= AXO_PKT_MULTICAST;
	frag = ip->frag_off & (AXO_IP4_MF | AXO_IP4_OFFSET);
	if (AXO_LIKELY(!frag))
		return axo_parse_l4(skb, ctx);
	id = ip->id;
	ctx->pkt |= AXO_PKT_FRAG;
	if (frag & AXO_IP4_OFFSET) {
		ctx->pkt |= AXO_PKT_LATER;
		return axo_fragment4(ctx, id);
	}
	ret = axo_parse_l4(skb, ctx);
	return ret == AXO_NEXT ? axo_fragment4(ctx, id) : ret;
}

/* Walks to the L4 header: sets proto, l4_off and, for fragments, pkt and *frag_id. */
static __always_inline int axo_parse6_ext(struct __sk_buff *skb, struct axo_ctx *ctx, u8 next,
					  __be32 *frag_id)
{
	u32 off = AXO_ETH_HLEN + sizeof(struct axo_ipv6);
	struct axo_ipv6_ext ext;
	int i;

	for (i = 0; i <= AXO_IP6_EXT_MAX; i++) {
		if (next != AXO_PROTO_HOPOPT && next != AXO_PROTO_ROUTING &&
		    next != AXO_PROTO_FRAG && next != AXO_PROTO_AH && next != AXO_PROTO_DSTOPTS) {
			ctx->proto = next;
			ctx->l4_off = off;
			return AXO_NEXT;
		}
		if (bpf_skb_load_bytes(skb, off, &ext, sizeof(ext)))
			return -AXO_DROP_INVALID;
		if (next == AXO_PROTO_FRAG) {
			if (ctx->pkt & AXO_PKT_FRAG)
				return -AXO_DROP_INVALID_EXTHDR;
			off += sizeof(ext);
			if (ext.frag_off & (AXO_IP6_MF | AXO_IP6_OFFSET)) {
				ctx->pkt |= AXO_PKT_FRAG;
				*frag_id = ext.frag_id;
			}
			if (ext.frag_off & AXO_IP6_OFFSET) {
				ctx->pkt |= AXO_PKT_LATER;
				ctx->proto = ext.next;
				ctx->l4_off = off;
				return AXO_NEXT;
			}
		} else if (next == AXO_PROTO_AH) {
			off += ((u32)ext.len + 2) * 4;
		} else {
			off += ((u32)ext.len + 1) * 8;
		}
		next = ext.next;
	}
	return -AXO_DROP_INVALID_EXTHDR;
}

static __always_inline void axo_parse6_flags(struct axo_ctx *ctx)
{
	if ((ctx->daddr.w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
		ctx->pkt |= AXO_PKT_MULTICAST;
	if (axo_addr_is_linklocal6(&ctx->saddr) || axo_addr_is_linklocal6(&ctx->daddr) ||
	    axo_addr_is_zero(&ctx->saddr))
		ctx->pkt |= AXO_PKT_LINKLOCAL;
}

static __always_inline int axo_parse6(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ipv6 *ip;
	__be32 frag_id = 0;
	u8 next;
	int ret;

	if (!axo_linear(skb, AXO_ETH_HLEN + sizeof(*ip)))
		return -AXO_DROP_INVALID;
	ip = (void *)(long)skb->data + AXO_ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -AXO_DROP_INVALID;
	if ((ip->ver_class_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return -AXO_DROP_INVALID;
	ctx->saddr = ip->saddr;
	ctx->daddr = ip->daddr;
	ctx->family = 6;
	ctx->ttl = ip->hop_limit;
	next = ip->next;
	/* A v4-mapped address on the wire would pass for IPv4 in every map (RFC 4942 2.2) */
	if (axo_addr_is4(&ctx->saddr) || axo_addr_is4(&ctx->daddr))
		return -AXO_DROP_INVALID;
	axo_parse6_flags(ctx);
	if (AXO_LIKELY(next == AXO_PROTO_TCP || next == AXO_PROTO_UDP || next == AXO_PROTO_ICMP6)) {
		ctx->proto = next;
		ctx->l4_off = AXO_ETH_HLEN + sizeof(*ip);
		return axo_parse_l4(skb, ctx);
	}
	ret = axo_parse6_ext(skb, ctx, next, &frag_id);
	if (ret != AXO_NEXT)
		return ret;
	if (!(ctx->pkt & AXO_PKT_LATER))
		ret = axo_parse_l4(skb, ctx);
	if (ret == AXO_NEXT && (ctx->pkt & AXO_PKT_FRAG))
		ret = axo_fragment6(ctx, frag_id);
	return ret;
}

/* Is there anything between the fixed IP header and L4? */
static __always_inline int axo_has_options(const struct axo_ctx *ctx)
{
	u32 fixed = ctx->family == 4 ? sizeof(struct axo_ipv4) : sizeof(struct axo_ipv6);

	return ctx->l4_off != AXO_ETH_HLEN + fixed;
}

/*
 * AXO_NEXT: ctx is filled. Negative: drop. Needs ctx->eth_proto; what is neither IPv4 nor IPv6
 * is an unknown L3 protocol: programs that let ARP or others pass decide before they call.
 */
static __always_inline int axo_parse(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (ctx->eth_proto == AXO_ETH_IP4)
		return axo_parse4(skb, ctx);
	if (ctx->eth_proto == AXO_ETH_IP6)
		return axo_parse6(skb, ctx);
	return -AXO_DROP_UNKNOWN_L3;
}

/* Parses again after a stage has rewritten headers in a way that it did not follow in ctx. */
static __always_inline int axo_reparse(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	ctx->pkt = 0;
	ctx->sport = 0;
	ctx->dport = 0;
	return axo_parse(skb, ctx);
}

#endif
