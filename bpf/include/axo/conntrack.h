/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections. One entry serves both directions and both ends: the key holds the two (address,
 * port) pairs in a fixed order, so a packet and its answer find the same entry with one lookup,
 * and so do the sender's egress hook and a local receiver's ingress hook.
 *
 *	key     addr[0]:port[0]  <->  addr[1]:port[1]      addr[0] is the smaller one
 *	        direction 0: addr[0] sends      direction 1: addr[1] sends
 *	accept  [direction][hook] = generation of the policy that let the first packet pass there
 *
 * At hook H a packet of direction D is
 *	a reply      if accept[!D][!H]: this endpoint has taken part in the other direction,
 *	established  if accept[D][H]; policy is asked again when its generation has changed,
 *	new          otherwise: policy decides, and accept[D][H] records it.
 * What one end allows never speaks for the other end: each hook has its own cell. When policy
 * refuses an established packet, its cell becomes AXO_CT_REVOKED: then what goes the other way is
 * no reply any more, nor can it make a reply of what was refused.
 *
 * An ICMP error belongs to the flow that it quotes, and is related if this endpoint's hooks
 * accepted that flow. Times are ticks of 2^30 ns (1.07 s) of CLOCK_MONOTONIC. An entry past its
 * time, and a closed one that meets a new SYN, count as absent. The maps are LRU: full means the
 * coldest flows are forgotten first.
 */
#ifndef AXO_CONNTRACK_H
#define AXO_CONNTRACK_H

#include "axo/conntrack_maps.h"
#include "axo/conntrack_related.h"

/* bpf-ct-timeout-regular-tcp, -tcp-syn, -tcp-fin, -any; monitor-aggregation-interval: seconds */
#ifndef AXO_CT_TIMEOUT_TCP
#define AXO_CT_TIMEOUT_TCP 8000
#endif
#ifndef AXO_CT_TIMEOUT_SYN
#define AXO_CT_TIMEOUT_SYN 60
#endif
#ifndef AXO_CT_TIMEOUT_FIN
#define AXO_CT_TIMEOUT_FIN 10
#endif
#ifndef AXO_CT_TIMEOUT_ANY
#define AXO_CT_TIMEOUT_ANY 60
#endif
#ifndef AXO_CT_REPORT_INTERVAL
#define AXO_CT_REPORT_INTERVAL 5
#endif
/* monitor-aggregation-flags: TCP flags whose first sight in a direction is reported */
#ifndef AXO_CT_REPORT_FLAGS
#define AXO_CT_REPORT_FLAGS (AXO_TCP_SYN | AXO_TCP_FIN | AXO_TCP_RST)
#endif

/* Odd, and so neither 0, "never accepted", nor AXO_CT_REVOKED. */
static __always_inline u32 axo_policy_generation(void)
{
	return ((u32)axo_runtime_get(AXO_RT_POLICY_GEN) << 1) | 1;
}

static __always_inline int axo_is_new_syn(const struct axo_ctx *ctx)
{
	return ctx->proto == AXO_PROTO_TCP &&
	       (ctx->tcp_flags & (AXO_TCP_SYN | AXO_TCP_ACK)) == AXO_TCP_SYN;
}

/* The entry speaks for this packet: in time, and not closed before a new SYN. */
static __always_inline int axo_ct_valid(const struct axo_ct_entry *e, const struct axo_ctx *ctx,
					u32 hook, u32 now)
{
	if (!axo_ct_alive(e, now))
		return 0;
	if (AXO_LIKELY(!axo_is_new_syn(ctx)))
		return 1;
	return !(e->flags & AXO_CT_FLAG_CLOSED) &&
	       e->accept[AXO_CT_CELL(!(ctx->ct_dir & 1), !hook)] != AXO_CT_REVOKED;
}

/*
 * Is the entry of these very endpoints, and not of some before or after them with their addresses?
 * 0 is an end of its own: whoever is no pod of this node, a proxy that answers for one too.
 */
static __always_inline int axo_ct_is_of(const struct axo_ct_entry *e, const struct axo_ctx *ctx)
{
	u32 dir = ctx->ct_dir & 1;

	if (e->endpoint[dir] != ctx->src_id)
		return 0;
	return e->endpoint[!dir] == ctx->dst_id || (e->proxy_port && !e->endpoint[!dir]);
}

static __always_inline u32 axo_ct_lifetime(u8 proto, u8 flags)
{
	if (proto != AXO_PROTO_TCP)
		return AXO_SECONDS(AXO_CT_TIMEOUT_ANY);
	if ((flags & AXO_CT_FLAG_CLOSED) == AXO_CT_FLAG_CLOSED)
		return AXO_SECONDS(AXO_CT_TIMEOUT_FIN);
	if (flags & AXO_CT_FLAG_NON_SYN)
		return AXO_SECONDS(AXO_CT_TIMEOUT_TCP);
	return AXO_SECONDS(AXO_CT_TIMEOUT_SYN);
}

static __always_inline u8 axo_ct_tcp_flags(const struct axo_ctx *ctx, u8 flags)
{
	if (ctx->proto != AXO_PROTO_TCP || (ctx->pkt & AXO_PKT_LATER))
		return flags;
	if (!(ctx->tcp_flags & AXO_TCP_SYN))
		flags |= AXO_CT_FLAG_NON_SYN;
	if (ctx->tcp_flags & AXO_TCP_RST)
		flags |= AXO_CT_FLAG_CLOSED;
	else if (ctx->tcp_flags & AXO_TCP_FIN)
		flags |= ctx->ct_dir ? AXO_CT_FLAG_CLOSE_1 : AXO_CT_FLAG_CLOSE_0;
	return flags;
}

/* The receiver's hook is still to come, and may refuse: the packet counts when that has accepted. */
static __always_inline int axo_ct_undecided(const struct axo_ctx *ctx, u32 hook)
{
	return hook == AXO_DIR_EGRESS && ctx->dst_id && ctx->ct_next == AXO_CT_NEXT_UNKNOWN;
}

/* Counts an accepted packet once, moves the state, renews the life, decides about a report. */
static __always_inline void axo_ct_touch(struct __sk_buff *skb, struct axo_ctx *ctx,
					 struct axo_ct_entry *e, u32 now)
{
	u32 dir = ctx->ct_dir & 1, expires;
	u8 flags = axo_ct_tcp_flags(ctx, e->flags);
	u8 unseen = ctx->tcp_flags & AXO_CT_REPORT_FLAGS & ~e->tcp_seen[dir];

	if (ctx->counted)
		return;
	ctx->counted = 1;
	e->packets[dir]++;
	e->bytes[dir] += skb->len;
	if (flags != e->flags)
		e->flags = flags;
	expires = now + axo_ct_lifetime(ctx->proto, flags);
	if (expires != e->expires)
		e->expires = expires;
	if (unseen || now - e->reported[dir] >= AXO_SECONDS(AXO_CT_REPORT_INTERVAL)) {
		e->tcp_seen[dir] |= ctx->tcp_flags;
		e->reported[dir] = now;
		ctx->report = 1;
	}
}

/*
 * What an established flow already knows, so that no packet has to look it up again. Where policy
 * is asked again at a receiver, the sender is asked for again too: it may have changed, or be
 * somebody else with its address.
 */
static __always_inline void axo_ct_recall(struct axo_ctx *ctx, const struct axo_ct_entry *e,
					  u32 hook)
{
	u32 dir = ctx->ct_dir & 1;

	if (!ctx->src_identity && !(hook == AXO_DIR_INGRESS && ctx->check))
		ctx->src_identity = e->identity[dir];
	if (!ctx->dst_identity)
		ctx->dst_identity = e->identity[!dir];
	ctx->proxy_port = e->proxy_port;
	if (AXO_UNLIKELY(e->service) && !axo_ct_is_to_service(e, dir))
		ctx->answers = e->service;
	if (e->node_gen && e->node_dir == dir &&
	    e->node_gen == (u32)axo_runtime_get(AXO_RT_IPCACHE_GEN)) {
		ctx->node = e->node;
		ctx->dst_identity = e->node_identity;
		ctx->node_known = AXO_NODE_RECALLED;
	}
}

/*
 * What the packet was sent to may have changed since the flow began: a service, its backend itself.
 * A frontend that is another node's is told by the flow's first packets alone.
 */
static __always_inline void axo_ct_serve(const struct axo_ctx *ctx, struct axo_ct_entry *e)
{
	u32 dir = ctx->ct_dir & 1;

	if (AXO_LIKELY(e->service == ctx->service) || (!ctx->service && ctx->pkt & AXO_PKT_LATER))
		return;
	if (!ctx->service &&
	    (e->service == AXO_SERVICE_ELSEWHERE || !axo_ct_is_to_service(e, dir)))
		return;
	if (dir)
		e->flags |= AXO_CT_FLAG_SERVICE_1;
	else
		e->flags &= ~AXO_CT_FLAG_SERVICE_1;
	e->service = ctx->service;
}

/* Sets ct_state, check and, for a packet that may meet a local receiver's hook too, ct_next. */
static __always_inline void axo_ct_judge(struct axo_ctx *ctx, const struct axo_ct_entry *e,
					 u32 hook)
{
	u32 dir = ctx->ct_dir & 1, own = e->accept[AXO_CT_CELL(dir, hook)], next;

	if (axo_ct_accepted(e->accept[AXO_CT_CELL(!dir, !hook)]) && own != AXO_CT_REVOKED) {
		ctx->ct_state = AXO_CT_REPLY;
		ctx->check = 0;
	} else if (axo_ct_accepted(own)) {
		ctx->ct_state = AXO_CT_ESTABLISHED;
		ctx->check = own != ctx->policy_gen;
	}
	if (hook == AXO_DIR_INGRESS || ctx->check)
		return;
	next = e->accept[AXO_CT_CELL(dir, AXO_DIR_INGRESS)];
	if (axo_ct_accepted(e->accept[AXO_CT_CELL(!dir, AXO_DIR_EGRESS)]) && next != AXO_CT_REVOKED)
		ctx->ct_next = AXO_CT_NEXT_REPLY;
	else if (next == ctx->policy_gen)
		ctx->ct_next = AXO_CT_NEXT_ESTABLISHED;
}

/* enable-extended-ip-protocols: protocols without ports, each pair of addresses one flow */
#ifndef AXO_EXTENDED_PROTOCOLS
#define AXO_EXTENDED_PROTOCOLS 0
#endif

static __always_inline int axo_ct_tracks_extended(u8 proto)
{
	return proto == AXO_PROTO_IGMP || proto == AXO_PROTO_IPIP || proto == AXO_PROTO_IPV6 ||
	       proto == AXO_PROTO_GRE || proto == AXO_PROTO_ESP || proto == AXO_PROTO_AH ||
	       proto == AXO_PROTO_VRRP;
}

static __always_inline int axo_ct_tracks(const struct axo_ctx *ctx)
{
	if (AXO_EXTENDED_PROTOCOLS && axo_ct_tracks_extended(ctx->proto))
		return 1;
	return ctx->proto == AXO_PROTO_TCP || ctx->proto == AXO_PROTO_UDP ||
	       axo_is_icmp(ctx->family, ctx->proto) || ctx->proto == AXO_PROTO_SCTP;
}

/*
 * Finds the packet's flow at a hook (AXO_DIR_* of the subject): sets ct_state and check, recalls
 * identities. AXO_NEXT or a drop. If check is set, ask policy and call axo_ct_accept().
 */
static __always_inline int axo_ct(struct __sk_buff *skb, struct axo_ctx *ctx, u32 hook)
{
	struct axo_ct_scratch *s = axo_ct_scratch_get();
	struct axo_ct_entry *e;
	u32 now;

	ctx->ct_state = AXO_CT_NEW;
	ctx->check = 1;
	ctx->ct_next = AXO_CT_NEXT_UNKNOWN;
	ctx->ct_absent = 0;
	/* before policy is asked: what changes meanwhile must not pass for the new generation's */
	if (!ctx->policy_gen)
		ctx->policy_gen = axo_policy_generation();
	AXO_BARRIER();
	if (ctx->ct_fresh) /* made by the hook before this one, which says nothing about this one */
		return AXO_NEXT;
	if (!s)
		return -AXO_DROP_CT_NO_MAP_FOUND;
	if (!axo_ct_tracks(ctx))
		return -AXO_DROP_CT_UNKNOWN_PROTO;
	if (AXO_UNLIKELY(ctx->pkt & AXO_PKT_ICMP_ERROR))
		return axo_ct_related(skb, ctx, s, hook);
	ctx->ct_dir = axo_ct_key_of(s, ctx);
	ctx->ct_absent = 1;
	e = axo_ct_find(s, ctx->family, ctx->proto);
	if (!e)
		return AXO_NEXT;
	now = axo_ct_now();
	if (!axo_ct_valid(e, ctx, hook, now) || !axo_ct_is_of(e, ctx))
		return AXO_NEXT;
	ctx->ct_absent = 0;
	axo_ct_judge(ctx, e, hook);
	axo_ct_serve(ctx, e);
	axo_ct_recall(ctx, e, hook);
	if (!ctx->check && !axo_ct_undecided(ctx, hook))
		axo_ct_touch(skb, ctx, e, now);
	return AXO_NEXT;
}

static __always_inline int axo_ct_create(struct __sk_buff *skb, struct axo_ctx *ctx,
					 struct axo_ct_scratch *s, u32 hook, u32 now)
{
	struct axo_ct_entry *e = &s->fresh;
	u32 dir = ctx->ct_dir & 1;

	__builtin_memset(e, 0, sizeof(*e));
	e->flags = dir ? AXO_CT_FLAG_FIRST_1 | AXO_CT_FLAG_SERVICE_1 : 0;
	e->service = ctx->service;
	e->accept[AXO_CT_CELL(dir, hook)] = ctx->policy_gen;
	e->identity[dir] = ctx->src_identity;
	e->identity[!dir] = ctx->dst_identity;
	e->endpoint[dir] = ctx->src_id;
	e->endpoint[!dir] = ctx->dst_id;
	e->proxy_port = ctx->proxy_port;
	/* a flow's first packet is always reported: as if the last report was long ago */
	e->reported[dir] = now - AXO_SECONDS(AXO_CT_REPORT_INTERVAL);
	ctx->counted = 0;
	axo_ct_touch(skb, ctx, e, now);
	if (axo_ct_store(s, ctx->family, ctx->proto))
		return -AXO_DROP_CT_CREATE_FAILED;
	ctx->ct_fresh = 1;
	return AXO_NEXT;
}

/*
 * Writes the packet's cell at a hook into its entry, which s has the key of. 0: the entry is not
 * there any more. An LRU map may give it to another flow under our hands, without grace; the
 * second look tells, and then what was written says nothing.
 */
static __always_inline int axo_ct_set_cell(struct axo_ctx *ctx, struct axo_ct_scratch *s,
					   struct axo_ct_entry *e, u32 hook, u32 value)
{
	u32 cell = AXO_CT_CELL(ctx->ct_dir & 1, hook);

	e->accept[cell] = value;
	AXO_BARRIER();
	if (axo_ct_find(s, ctx->family, ctx->proto) == e)
		return 1;
	e->accept[cell] = 0;
	return 0;
}

/* Policy has said yes at this hook: notes it in the flow's entry. AXO_NEXT or a drop. */
static __always_inline int axo_ct_accept(struct __sk_buff *skb, struct axo_ctx *ctx, u32 hook)
{
	struct axo_ct_scratch *s = axo_ct_scratch_get();
	u32 now = axo_ct_now();
	struct axo_ct_entry *e;

	if (!s)
		return -AXO_DROP_CT_NO_MAP_FOUND;
	if (ctx->pkt & AXO_PKT_ICMP_ERROR)
		return AXO_NEXT;
	ctx->ct_dir = axo_ct_key_of(s, ctx);
	if (ctx->ct_absent)
		return axo_ct_create(skb, ctx, s, hook, now);
	e = axo_ct_find(s, ctx->family, ctx->proto);
	/* evicted meanwhile? */
	if (!e || !axo_ct_set_cell(ctx, s, e, hook, ctx->policy_gen))
		return axo_ct_create(skb, ctx, s, hook, now);
	if (hook == AXO_DIR_EGRESS)
		e->proxy_port = ctx->proxy_port;
	e->identity[ctx->ct_dir & 1] = ctx->src_identity;
	e->identity[!(ctx->ct_dir & 1)] = ctx->dst_identity;
	if (!axo_ct_undecided(ctx, hook))
		axo_ct_touch(skb, ctx, e, now);
	return AXO_NEXT;
}

/* A stage has refused the packet (verdict) at this hook: an established flow ends by policy. */
static __always_inline int axo_ct_refuse(struct axo_ctx *ctx, u32 hook, int verdict)
{
	struct axo_ct_scratch *s = axo_ct_scratch_get();
	struct axo_ct_entry *e;

	if (ctx->ct_state != AXO_CT_ESTABLISHED || !s)
		return verdict;
	if (verdict != -AXO_DROP_POLICY && verdict != -AXO_DROP_POLICY_DENY)
		return verdict;
	ctx->ct_dir = axo_ct_key_of(s, ctx);
	e = axo_ct_find(s, ctx->family, ctx->proto);
	if (e)
		axo_ct_set_cell(ctx, s, e, hook, AXO_CT_REVOKED);
	return verdict;
}

#endif
