/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * policy-deny-response=icmp: a pod learns at once that policy refuses what it sends, by an ICMP error
 * in the router's name (RFC 792, RFC 1812 5.2.7.1: 3/13; RFC 4443 3.1: 1/1). The refused packet is
 * made into its own answer:
 *
 *	eth | IP | TCP, UDP ...		->	eth | IP | ICMP 8 | IP | first bytes of TCP, UDP ...
 *
 * Never about ICMP errors, fragments behind the first, groups, or headers between IP and L4.
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/parse.h"
#include "axo/checksum.h"
#include "axo/conntrack_maps.h"

#define POLICY_DENY_RATE 500 /* answers per tick and CPU */

#define POLICY_ICMP4_PROHIBITED 13
#define POLICY_ICMP6_PROHIBITED 1

/* Bytes of L4 that are quoted: TCP's checksum is among them, which a device may have to complete. */
#define POLICY_QUOTE_TCP 20
#define POLICY_QUOTE	 8

struct policy_deny_rate {
	__u32 tick;
	__u32 count;
};

BPF_TABLE("percpu_array", u32, struct policy_deny_rate, axoscratch_deny, 1);

struct policy_icmp {
	__u8 type;
	__u8 code;
	__be16 csum;
	__be32 unused;
} __attribute__((packed));

struct policy_answer4 {
	struct axo_ipv4 ip;
	struct policy_icmp icmp;
	__u8 quote[sizeof(struct axo_ipv4) + POLICY_QUOTE_TCP];
} __attribute__((packed));

struct policy_answer6 {
	struct axo_ipv6 ip;
	struct policy_icmp icmp;
	__u8 quote[sizeof(struct axo_ipv6) + POLICY_QUOTE_TCP];
} __attribute__((packed));

/* Pseudo header of ICMPv6 (RFC 8200 8.1). */
struct policy_pseudo6 {
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
	__be32 len;	       /* network order */
	__be32 next;	       /* network order */
};

/* The answer and its pseudo header: too big for a stack that others share. */
struct policy_deny_scratch {
	__u64 answer[14]; /* struct policy_answer4 or 6 */
	__u64 pseudo[5];  /* struct policy_pseudo6 */
};

BPF_TABLE("percpu_array", u32, struct policy_deny_scratch, axoscratch_denied, 1);

static __always_inline int policy_deny_allowed(void)
{
	u32 zero = 0, now = axo_ct_now();
	struct policy_deny_rate *rate = axoscratch_deny.lookup(&zero);

	if (!rate)
		return 0;
	if (rate->tick != now) {
		rate->tick = now;
		rate->count = 0;
	}
	return rate->count++ < POLICY_DENY_RATE;
}

static __always_inline int policy_deny_answers(const struct axo_ctx *ctx)
{
	u32 header = ctx->family == 4 ? sizeof(struct axo_ipv4) : sizeof(struct axo_ipv6);

	if (ctx->pkt & (AXO_PKT_ICMP_ERROR | AXO_PKT_LATER | AXO_PKT_MULTICAST | AXO_PKT_LINKLOCAL))
		return 0;
	return ctx->l4_off == AXO_ETH_HLEN + header;
}

/* Frame of the answer's size with the quote behind its headers. 1: done. */
static __always_inline int policy_deny_frame(struct __sk_buff *skb, const struct axo_ctx *ctx,
					     u32 header, u32 quote)
{
	if (bpf_skb_change_tail(skb, ctx->l4_off + quote, 0))
		return 0;
	return !bpf_skb_adjust_room(skb, header + sizeof(struct policy_icmp), BPF_ADJ_ROOM_MAC, 0);
}

static __always_inline int policy_deny_link(struct __sk_buff *skb)
{
	__u8 macs[12], swapped[12];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return 0;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	return !bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

static __always_inline int policy_deny4(struct __sk_buff *skb, const struct axo_ctx *ctx,
					struct policy_deny_scratch *s, u32 quote)
{
	struct policy_answer4 *a = (void *)s->answer;
	u64 router = axo_runtime_get(AXO_RT_ROUTER_V4);
	u32 size = sizeof(a->icmp) + sizeof(struct axo_ipv4) + quote;

	__builtin_memset(a, 0, sizeof(*a));
	if (quote == POLICY_QUOTE_TCP) {
		if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote, sizeof(a->quote)))
			return 0;
	} else if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote,
				      sizeof(struct axo_ipv4) + POLICY_QUOTE)) {
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
	a->icmp.code = POLICY_ICMP4_PROHIBITED;
	/* what is not quoted is zero, and counts nothing */
	a->icmp.csum = axo_csum_fold(bpf_csum_diff(
		NULL, 0, (void *)&a->icmp, sizeof(a->icmp) + sizeof(a->quote), 0));
	if (!policy_deny_frame(skb, ctx, sizeof(a->ip), quote))
		return 0;
	return !bpf_skb_store_bytes(skb, AXO_ETH_HLEN, a, sizeof(a->ip) + sizeof(a->icmp), 0);
}

static __always_inline int policy_deny6(struct __sk_buff *skb, const struct axo_ctx *ctx,
					struct policy_deny_scratch *s, u32 quote)
{
	struct policy_answer6 *a = (void *)s->answer;
	struct policy_pseudo6 *pseudo = (void *)s->pseudo;
	u64 hi = axo_runtime_get(AXO_RT_ROUTER_V6_HI), lo = axo_runtime_get(AXO_RT_ROUTER_V6_LO);
	u32 size = sizeof(a->icmp) + sizeof(struct axo_ipv6) + quote;
	s64 sum;

	__builtin_memset(a, 0, sizeof(*a));
	if (quote == POLICY_QUOTE_TCP) {
		if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote, sizeof(a->quote)))
			return 0;
	} else if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN, a->quote,
				      sizeof(struct axo_ipv6) + POLICY_QUOTE)) {
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
	a->icmp.type = AXO_ICMP6_UNREACHABLE;
	a->icmp.code = POLICY_ICMP6_PROHIBITED;
	pseudo->saddr = a->ip.saddr;
	pseudo->daddr = a->ip.daddr;
	pseudo->len = bpf_htonl(size);
	pseudo->next = bpf_htonl(AXO_PROTO_ICMP6);
	sum = bpf_csum_diff(NULL, 0, (void *)pseudo, sizeof(*pseudo), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)&a->icmp, sizeof(a->icmp) + sizeof(a->quote), sum);
	a->icmp.csum = axo_csum_fold(sum);
	if (!policy_deny_frame(skb, ctx, sizeof(a->ip), quote))
		return 0;
	return !bpf_skb_store_bytes(skb, AXO_ETH_HLEN, a, sizeof(a->ip) + sizeof(a->icmp), 0);
}

/* Stage egress_refused: the packet is counted and told of already; it may go back as an error. */
static __always_inline int policy_egress_refused(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	u32 zero = 0, quote = ctx->proto == AXO_PROTO_TCP ? POLICY_QUOTE_TCP : POLICY_QUOTE;
	struct policy_deny_scratch *s = axoscratch_denied.lookup(&zero);
	int made;

	if (!s || !policy_deny_answers(ctx) || !policy_deny_allowed())
		return AXO_NEXT;
	made = ctx->family == 4 ? policy_deny4(skb, ctx, s, quote) : policy_deny6(skb, ctx, s, quote);
	if (!made || !policy_deny_link(skb))
		return AXO_NEXT;
	return bpf_redirect_peer(skb->ifindex, 0);
}
