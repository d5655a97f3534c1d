/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet that goes no further is made into its own answer: an ICMP error "unreachable", in the
 * router's name (RFC 792; RFC 4443 3.1).
 *
 *	eth | IP | TCP, UDP ...		->	eth | IP | ICMP 8 | IP | first bytes of TCP, UDP ...
 *
 * Never about ICMP errors, fragments behind the first, groups, or headers between IP and L4.
 */
#ifndef AXO_ICMP_ANSWER_H
#define AXO_ICMP_ANSWER_H

#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/parse.h"
#include "axo/checksum.h"
#include "axo/conntrack_maps.h"

#define AXO_ANSWER_RATE 500 /* answers per tick and CPU */

/* Bytes of L4 that are quoted: TCP's checksum is among them, which a device may have to complete. */
#define AXO_QUOTE_TCP 20
#define AXO_QUOTE	 8

struct axo_answer_rate {
	__u32 tick;
	__u32 count;
};

BPF_TABLE("percpu_array", u32, struct axo_answer_rate, axoscratch_answers, 1);

struct axo_answer_icmp {
	__u8 type;
	__u8 code;
	__be16 csum;
	__be32 rest; /* network order: an MTU, or 0 */
} __attribute__((packed));

struct axo_answer_packet4 {
	struct axo_ipv4 ip;
	struct axo_answer_icmp icmp;
	__u8 quote[sizeof(struct axo_ipv4) + AXO_QUOTE_TCP];
} __attribute__((packed));

struct axo_answer_packet6 {
	struct axo_ipv6 ip;
	struct axo_answer_icmp icmp;
	__u8 quote[sizeof(struct axo_ipv6) + AXO_QUOTE_TCP];
} __attribute__((packed));

/* Pseudo header of ICMPv6 (RFC 8200 8.1). */
struct axo_answer_pseudo6 {
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
	__be32 len;	       /* network order */
	__be32 next;	       /* network order */
};

/* The answer and its pseudo header: too big for a stack that others share. */
struct axo_answer_scratch {
	__u64 answer[14]; /* struct axo_answer_packet4 or 6 */
	__u64 pseudo[5];  /* struct axo_answer_pseudo6 */
};

BPF_TABLE("percpu_array", u32, struct axo_answer_scratch, axoscratch_answer, 1);

static __always_inline int axo_answer_allowed(void)
{
	u32 zero = 0, now = axo_ct_now();
	struct axo_answer_rate *rate = axoscratch_answers.lookup(&zero);

	if (!rate)
		return 0;
	if (rate->tick != now) {
		rate->tick = now;
		rate->count = 0;
	}
	return rate->count++ < AXO_ANSWER_RATE;
}

static __always_inline int axo_answerable(const struct axo_ctx *ctx)
{
	u32 header = ctx->family == 4 ? sizeof(struct axo_ipv4) : sizeof(struct axo_ipv6);

	if (ctx->pkt & (AXO_PKT_ICMP_ERROR | AXO_PKT_LATER | AXO_PKT_MULTICAST | AXO_PKT_LINKLOCAL))
		return 0;
	return ctx->l4_off == AXO_ETH_HLEN + header;
}

/* Frame of the answer's size with the quote behind its headers. 1: done. */
static __always_inline int axo_answer_frame(struct __sk_buff *skb, const struct axo_ctx *ctx,
					     u32 header, u32 quote)
{
	if (bpf_skb_change_tail(skb, ctx->l4_off + quote, 0))
		return 0;
	return !bpf_skb_adjust_room(skb, header + sizeof(struct axo_answer_icmp), BPF_ADJ_ROOM_MAC, 0);
}

static __always_inline int axo_answer_link(struct __sk_buff *skb)
{
	__u8 macs[12], swapped[12];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return 0;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	return !bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

static __always_inline int axo_answer4(struct __sk_buff *skb, const struct axo_ctx *ctx,
					struct axo_answer_scratch *s, u32 quote, u8 code, u32 mtu)
{
	struct axo_answer_packet4 *a = (void *)s->answer;
	u64 router = axo_runtime_get(AXO_RT_ROUTER_V4);
	u32 size = sizeof(a->icmp) + sizeof(struct axo_ipv4) + quote;

	__builtin_memset(a, 0, sizeof(*a));
	if (quote == AXO_QUOTE_TCP) {
		if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote, sizeof(a->quote)))
			return 0;
	} else if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote,
				      sizeof(struct axo_ipv4) + AXO_QUOTE)) {
		return 0;
	}
	a->ip.ver_ihl = 0x45;
	a->ip.tot_len = bpf_htons(sizeof(a->ip) + size);
	a->ip.ttl = 64;
	a->ip.proto = AXO_PROTO_ICMP;
	a->ip.saddr = router ? *(__be32 *)&router : ctx->daddr.w[3];
	a->ip.daddr = ctx->saddr.w[3];
	a->ip.csum = axo_csum_fold(bpf_csum_diff(NULL, 0, (void *)&a->ip, sizeof(a->ip), 0));
	a->icmp.type = AXO_ICMP4_UNREACHABLE;
	a->icmp.code = code;
	a->icmp.rest = bpf_htonl(mtu); /* RFC 1191: the low 16 bits */
	/* what is not quoted is zero, and counts nothing */
	a->icmp.csum = axo_csum_fold(bpf_csum_diff(
		NULL, 0, (void *)&a->icmp, sizeof(a->icmp) + sizeof(a->quote), 0));
	if (!axo_answer_frame(skb, ctx, sizeof(a->ip), quote))
		return 0;
	return !bpf_skb_store_bytes(skb, AXO_ETH_HLEN, a, sizeof(a->ip) + sizeof(a->icmp), 0);
}

static __always_inline int axo_answer6(struct __sk_buff *skb, const struct axo_ctx *ctx,
					struct axo_answer_scratch *s, u32 quote, u8 code, u32 mtu)
{
	struct axo_answer_packet6 *a = (void *)s->answer;
	struct axo_answer_pseudo6 *pseudo = (void *)s->pseudo;
	u64 hi = axo_runtime_get(AXO_RT_ROUTER_V6_HI), lo = axo_runtime_get(AXO_RT_ROUTER_V6_LO);
	u32 size = sizeof(a->icmp) + sizeof(struct axo_ipv6) + quote;
	s64 sum;

	__builtin_memset(a, 0, sizeof(*a));
	if (quote == AXO_QUOTE_TCP) {
		if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote, sizeof(a->quote)))
			return 0;
	} else if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote,
				      sizeof(struct axo_ipv6) + AXO_QUOTE)) {
		return 0;
	}
	a->ip.ver_class_flow = bpf_htonl(0x60000000);
	a->ip.payload_len = bpf_htons(size);
	a->ip.next = AXO_PROTO_ICMP6;
	a->ip.hop_limit = 64;
	a->ip.saddr = ctx->daddr;
	if (hi) {
		__builtin_memcpy(&a->ip.saddr, &hi, 8);
		__builtin_memcpy(&a->ip.saddr.w[2], &lo, 8);
	}
	a->ip.daddr = ctx->saddr;
	a->icmp.type = mtu ? AXO_ICMP6_TOO_BIG : AXO_ICMP6_UNREACHABLE;
	a->icmp.code = code;
	a->icmp.rest = bpf_htonl(mtu); /* RFC 4443 3.2 */
	pseudo->saddr = a->ip.saddr;
	pseudo->daddr = a->ip.daddr;
	pseudo->len = bpf_htonl(size);
	pseudo->next = bpf_htonl(AXO_PROTO_ICMP6);
	sum = bpf_csum_diff(NULL, 0, (void *)pseudo, sizeof(*pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)&a->icmp, sizeof(a->icmp) + sizeof(a->quote), sum);
	a->icmp.csum = axo_csum_fold(sum);
	if (!axo_answer_frame(skb, ctx, sizeof(a->ip), quote))
		return 0;
	return !bpf_skb_store_bytes(skb, AXO_ETH_HLEN, a, sizeof(a->ip) + sizeof(a->icmp), 0);
}

static __always_inline int axo_answer(struct __sk_buff *skb, const struct axo_ctx *ctx, u8 code4,
				      u8 code6, u32 mtu)
{
	u32 zero = 0, quote = ctx->proto == AXO_PROTO_TCP ? AXO_QUOTE_TCP : AXO_QUOTE;
	struct axo_answer_scratch *s = axoscratch_answer.lookup(&zero);
	int made;

	if (!s || !axo_answerable(ctx) || !axo_answer_allowed())
		return 0;
	made = ctx->family == 4 ? axo_answer4(skb, ctx, s, quote, code4, mtu) :
				  axo_answer6(skb, ctx, s, quote, code6, mtu);
	return made && axo_answer_link(skb);
}

/*
 * Makes the packet into an answer with these codes and turns its MAC addresses round. 1: done, send it
 * back where it came from; 0: it cannot be answered, or too many have been.
 */
static __always_inline int axo_answer_unreachable(struct __sk_buff *skb, const struct axo_ctx *ctx,
						  u8 code4, u8 code6)
{
	return axo_answer(skb, ctx, code4, code6, 0);
}

/* The same for a packet that does not fit: what would, in bytes of IP packet. */
static __always_inline int axo_answer_too_big(struct __sk_buff *skb, const struct axo_ctx *ctx,
					      u32 mtu)
{
	return axo_answer(skb, ctx, 4, 0, mtu);
}

#endif
