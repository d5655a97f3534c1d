/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Life of a mapping: choosing a port that nobody uses, keeping it, closing it.
 *
 * A port is free when no mapping of that remote has it and no socket of the node does. The pod's own
 * port is tried first: then its own TIME_WAIT guards the reuse, and a mapping that the LRU has evicted
 * comes back as it was.
 */
#ifndef AXO_NAT_ALLOC_H
#define AXO_NAT_ALLOC_H

#include "axo/headers.h"
#include "axo/nat.h"

/* Option masquerade-port-range. */
#ifndef AXO_NAT_PORT_MIN
#define AXO_NAT_PORT_MIN 32768
#define AXO_NAT_PORT_MAX 65535
#endif

/* Seconds; bpf-ct-timeout-regular-*, as conntrack's own. */
#ifndef AXO_NAT_TCP_S
#define AXO_NAT_TCP_S	  8000
#define AXO_NAT_TCP_SYN_S 60
#define AXO_NAT_TCP_FIN_S 10
#define AXO_NAT_ANY_S	  60
#endif

#define AXO_NAT_TRIES 16 /* random ports; at 65 % use, one flow in a thousand finds none */

static __always_inline __u32 axo_nat_now(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000ULL;
}

static __always_inline int axo_nat_has_range(__u8 proto)
{
	return proto == AXO_PROTO_TCP || proto == AXO_PROTO_UDP;
}

static __always_inline int axo_nat_in_range(__be16 port)
{
	return bpf_ntohs(port) >= AXO_NAT_PORT_MIN && bpf_ntohs(port) <= AXO_NAT_PORT_MAX;
}

/* A packet went by: when does this side of the flow end? 1 when that has moved: once a second. */
static __always_inline int axo_nat_touch(struct axo_nat_entry *e, const struct axo_ctx *ctx)
{
	__u32 seconds = AXO_NAT_ANY_S, until;

	if (ctx->proto == AXO_PROTO_TCP && !(ctx->pkt & AXO_PKT_LATER)) {
		if (ctx->tcp_flags & AXO_TCP_SYN)
			e->flags &= ~AXO_NAT_CLOSING;
		else if (ctx->tcp_flags & (AXO_TCP_FIN | AXO_TCP_RST))
			e->flags |= AXO_NAT_CLOSING;
		if (e->flags & AXO_NAT_CLOSING)
			seconds = AXO_NAT_TCP_FIN_S;
		else
			seconds = ctx->tcp_flags & AXO_TCP_SYN ? AXO_NAT_TCP_SYN_S : AXO_NAT_TCP_S;
	}
	until = axo_nat_now() + seconds;
	if (e->expires == until) /* spares the cache line: one write a second */
		return 0;
	e->expires = until;
	return 1;
}

/* The other side's tuple of a mapping: what an answer to t looks like when e holds. */
static __always_inline void axo_nat_answer(struct axo_nat6_key *r, const struct axo_nat6_key *t,
					   const struct axo_addr *addr, __be16 port)
{
	axo_nat_tuple(r, &t->daddr, t->dport, addr, port, t->proto, AXO_NAT_IN);
}

/* The tuple that the owner of the incoming entry e sends with. */
static __always_inline void axo_nat_origin(struct axo_nat6_key *t, const struct axo_nat6_key *r,
					   const struct axo_nat_entry *e)
{
	axo_nat_tuple(t, &e->addr, e->port, &r->saddr, r->sport, r->proto, AXO_NAT_OUT);
}

/* Whether a socket of the node owns, or listens on, the local end of w->answer. */
static __always_inline int axo_nat_socket_has(struct __sk_buff *skb, __u8 family,
					      struct axo_nat_work *w)
{
	struct axo_nat6_key *r = &w->answer;
	struct bpf_sock_tuple *t = &w->socket;
	struct bpf_sock *sk;
	__u32 size;

	if (family == 4) {
		t->ipv4.saddr = r->saddr.w[3];
		t->ipv4.daddr = r->daddr.w[3];
		t->ipv4.sport = r->sport;
		t->ipv4.dport = r->dport;
		size = sizeof(t->ipv4);
	} else {
		__builtin_memcpy(t->ipv6.saddr, &r->saddr, 16);
		__builtin_memcpy(t->ipv6.daddr, &r->daddr, 16);
		t->ipv6.sport = r->sport;
		t->ipv6.dport = r->dport;
		size = sizeof(t->ipv6);
	}
	if (r->proto == AXO_PROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, t, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, t, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

/* Whether the entry just seen (w->seen) is of the flow in w. */
static __always_inline int axo_nat_is_ours(const struct axo_nat_work *w)
{
	const struct axo_addr *a = &w->seen.addr, *b = &w->flow.saddr;

	/* one branch, not five: this stands in a loop */
	return !((a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) |
		 (a->w[3] ^ b->w[3]) | (w->seen.port ^ w->flow.sport));
}

/*
 * Try to take w->answer. 0: taken, or ours already. A mapping whose flow has ended in both
 * directions gives way.
 */
static __always_inline int axo_nat_claim(__u8 family, struct axo_nat_work *w)
{
	if (!axo_nat_insert(family, &w->answer, &w->fresh))
		return 0;
	if (!axo_nat_peek(family, &w->answer, &w->seen))
		return -1;
	if (axo_nat_is_ours(w))
		return axo_nat_store(family, &w->answer, &w->fresh);
	if (w->seen.expires >= w->fresh.created)
		return -1;
	axo_nat_origin(&w->other, &w->answer, &w->seen);
	if (axo_nat_peek(family, &w->other, &w->seen)) {
		if (w->seen.expires >= w->fresh.created)
			return -1;
		axo_nat_delete(family, &w->other);
	}
	return axo_nat_store(family, &w->answer, &w->fresh);
}

/*
 * Whether w->answer is still there for the mapping w->to, w->port of w->flow; made again if it has
 * been evicted. 0: another flow has taken it.
 */
static __always_inline int axo_nat_whole(const struct axo_ctx *ctx, struct axo_nat_work *w,
					 __u8 flags)
{
	if (axo_nat_peek(ctx->family, &w->answer, &w->seen))
		return axo_nat_is_ours(w);
	w->fresh.addr = w->flow.saddr;
	w->fresh.port = w->flow.sport;
	w->fresh.flags = flags;
	w->fresh.service = w->service;
	w->fresh.pad = 0;
	w->fresh.created = axo_nat_now();
	w->fresh.expires = 0;
	axo_nat_touch(&w->fresh, ctx);
	return !axo_nat_insert(ctx->family, &w->answer, &w->fresh);
}

/* A reset ends both directions at once; the side it went is done by axo_nat_touch(). */
static __always_inline void axo_nat_reset(const struct axo_ctx *ctx, struct axo_nat6_key *pair)
{
	struct axo_nat_entry *other;

	if (ctx->proto != AXO_PROTO_TCP || !(ctx->tcp_flags & AXO_TCP_RST))
		return;
	other = axo_nat_lookup(ctx->family, pair);
	if (other)
		axo_nat_touch(other, ctx);
}

/*
 * A packet of the mapping e: takes it into w. 0: the mapping is broken, and gone. Each table forgets
 * by itself when it is full, so once a second the other half is looked at: its port may be another
 * flow's by now, whose answers this one would get, or the reverse.
 */
static __always_inline int axo_nat_known(const struct axo_ctx *ctx, struct axo_nat_work *w,
					  struct axo_nat_entry *e)
{
	__u8 flags = e->flags & (AXO_NAT_HOST | AXO_NAT_SERVICE);

	w->service = e->service;
	axo_nat_answer(&w->answer, &w->flow, &e->addr, e->port);
	if (axo_nat_touch(e, ctx) && !axo_nat_whole(ctx, w, flags)) {
		axo_nat_delete(ctx->family, &w->flow);
		return 0;
	}
	w->to = w->answer.daddr;
	w->port = w->answer.dport;
	axo_nat_reset(ctx, &w->answer);
	return 1;
}

/* The n-th port to try for a flow, network order. */
static __always_inline __be16 axo_nat_candidate(const struct axo_nat_work *w, int keep, int ranged)
{
	__u32 random = bpf_get_prandom_u32();

	if (keep && (!ranged || axo_nat_in_range(w->flow.sport)))
		return w->flow.sport;
	if (!ranged)
		return random;
	return bpf_htons(AXO_NAT_PORT_MIN + random % (AXO_NAT_PORT_MAX - AXO_NAT_PORT_MIN + 1));
}

/*
 * Map w->flow to w->to. keep: whether its own port may be tried. The result is w->port. 0, or a
 * negative drop reason.
 */
static __always_inline int axo_nat_allocate(struct __sk_buff *skb, const struct axo_ctx *ctx,
					    struct axo_nat_work *w, int keep, __u8 flags)
{
	int ranged = axo_nat_has_range(w->flow.proto), i;

	w->fresh.addr = w->flow.saddr;
	w->fresh.port = w->flow.sport;
	w->fresh.flags = flags;
	w->fresh.service = w->service;
	w->fresh.pad = 0;
	w->fresh.created = axo_nat_now();
	w->fresh.expires = 0;
	axo_nat_touch(&w->fresh, ctx);
	w->port = axo_nat_candidate(w, keep, ranged);
	for (i = 0; i < AXO_NAT_TRIES; i++) {
		axo_nat_answer(&w->answer, &w->flow, &w->to, w->port);
		if (!(ranged && axo_nat_socket_has(skb, ctx->family, w)) &&
		    !axo_nat_claim(ctx->family, w))
			goto claimed;
		w->port = axo_nat_candidate(w, 0, ranged);
	}
	return -AXO_DROP_NAT_NO_MAPPING;
claimed:
	w->fresh.addr = w->to;
	w->fresh.port = w->port;
	if (!axo_nat_insert(ctx->family, &w->flow, &w->fresh))
		return 0;
	/* Another CPU has mapped this flow meanwhile: its mapping holds, ours goes. */
	if (!axo_nat_peek(ctx->family, &w->flow, &w->seen))
		return -AXO_DROP_NAT_NO_MAPPING;
	if (w->seen.port == w->port)
		return 0;
	axo_nat_delete(ctx->family, &w->answer);
	w->port = w->seen.port;
	return 0;
}

#endif
