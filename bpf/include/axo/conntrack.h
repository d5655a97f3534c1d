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
 * What one end allows never speaks for the other end: each hook has its own cell.
 *
 * An ICMP error belongs to the flow that it quotes, and is related if this endpoint's hooks
 * accepted that flow. Times are ticks of 2^30 ns (1.07 s) of CLOCK_MONOTONIC. An entry past its
 * time, and a closed one that meets a new SYN, count as absent. The maps are LRU: full means the
 * coldest flows are forgotten first.
 */
#ifndef AXO_CONNTRACK_H
#define AXO_CONNTRACK_H

#include "axo/parse.h"

#define AXO_TICK_SHIFT	30
#define AXO_SECONDS(s)	((u32)(((s) * 1000000000ULL) >> AXO_TICK_SHIFT) + 1)

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

struct axo_ct4_key {
	__be32 addr[2]; /* network order; addr[0] is the smaller side */
	__be16 port[2]; /* network order */
	__u8 proto;
	__u8 pad[3];
};

struct axo_ct6_key {
	struct axo_addr addr[2]; /* network order; addr[0] is the smaller side */
	__be16 port[2];		 /* network order */
	__u8 proto;
	__u8 pad[3];
};

#define AXO_CT_FLAG_FIRST_1  0x01 /* the first packet was of direction 1 */
#define AXO_CT_FLAG_NON_SYN  0x02 /* TCP: a packet without SYN was seen */
#define AXO_CT_FLAG_CLOSE_0  0x04 /* TCP: FIN of direction 0, or RST */
#define AXO_CT_FLAG_CLOSE_1  0x08 /* TCP: FIN of direction 1, or RST */
#define AXO_CT_FLAG_CLOSED   (AXO_CT_FLAG_CLOSE_0 | AXO_CT_FLAG_CLOSE_1)

/* Cell of axo_ct_entry.accept: direction 0 or 1; hook AXO_DIR_*. */
#define AXO_CT_CELL(dir, hook) (2 * ((dir) & 1) + ((hook) & 1))

struct axo_ct_entry {
	__u64 packets[2];	/* by direction */
	__u64 bytes[2];		/* by direction, of frames */
	__u32 accept[4];	/* [AXO_CT_CELL(direction, hook)]: policy generation, 0 never */
	__u32 identity[2];	/* sender of direction 0, 1; 0 unknown */
	__u32 reported[2];	/* tick of the last report, by direction */
	__u32 expires;		/* tick */
	__u32 node_gen;		/* generation of the ipcache in which node was found, 0 none */
	struct axo_addr node;	/* network order: node of the receiver of direction node_dir */
	__u32 node_identity;	/* identity of that receiver */
	__u8 node_dir;		/* direction that node belongs to */
	__u8 flags;		/* AXO_CT_FLAG_* */
	__u8 tcp_seen[2];	/* TCP flags seen, by direction */
	__be16 proxy_port;	/* network order: by policy; 0 none */
	__u16 pad;
	__u32 pad2;
};

BPF_TABLE("lru_hash", struct axo_ct4_key, struct axo_ct_entry, axo_ct4, 524288);
BPF_TABLE("lru_hash", struct axo_ct6_key, struct axo_ct_entry, axo_ct6, 524288);
BPF_TABLE("lru_hash", struct axo_ct4_key, struct axo_ct_entry, axo_ct_any4, 262144);
BPF_TABLE("lru_hash", struct axo_ct6_key, struct axo_ct_entry, axo_ct_any6, 262144);

/* Keys and a fresh entry: too big for a stack that stages share. */
struct axo_ct_scratch {
	struct axo_ct4_key key4;
	struct axo_ct6_key key6;
	struct axo_addr inner_src; /* network order: addresses of a quoted packet */
	struct axo_addr inner_dst; /* network order */
	struct axo_ct_entry fresh;
};

BPF_TABLE("percpu_array", u32, struct axo_ct_scratch, axoscratch_ct, 1);

static __always_inline struct axo_ct_scratch *axo_ct_scratch_get(void)
{
	u32 zero = 0;

	return axoscratch_ct.lookup(&zero);
}

static __always_inline u32 axo_ct_now(void)
{
	return bpf_ktime_get_coarse_ns() >> AXO_TICK_SHIFT;
}

/* Never 0, which means "never accepted". */
static __always_inline u32 axo_policy_generation(void)
{
	return ((u32)axo_runtime_get(AXO_RT_POLICY_GEN) << 1) | 1;
}

static __always_inline int axo_addr_before(const struct axo_addr *a, const struct axo_addr *b,
					   __be16 a_port, __be16 b_port)
{
	if (a->w[3] != b->w[3])
		return a->w[3] < b->w[3];
	if (a->w[2] != b->w[2])
		return a->w[2] < b->w[2];
	if (a->w[1] != b->w[1])
		return a->w[1] < b->w[1];
	if (a->w[0] != b->w[0])
		return a->w[0] < b->w[0];
	return a_port <= b_port;
}

/* Fills the key of the family. Returns the direction of a packet from src to dst. */
static __always_inline u8 axo_ct_key(struct axo_ct_scratch *s, u8 family, u8 proto,
				     const struct axo_addr *src, const struct axo_addr *dst,
				     __be16 sport, __be16 dport)
{
	u8 dir = !axo_addr_before(src, dst, sport, dport);

	if (family == 4) {
		s->key4.addr[0] = dir ? dst->w[3] : src->w[3];
		s->key4.addr[1] = dir ? src->w[3] : dst->w[3];
		s->key4.port[0] = dir ? dport : sport;
		s->key4.port[1] = dir ? sport : dport;
		s->key4.proto = proto;
		return dir;
	}
	if (dir) {
		s->key6.addr[0] = *dst;
		s->key6.addr[1] = *src;
	} else {
		s->key6.addr[0] = *src;
		s->key6.addr[1] = *dst;
	}
	s->key6.port[0] = dir ? dport : sport;
	s->key6.port[1] = dir ? sport : dport;
	s->key6.proto = proto;
	return dir;
}

/*
 * ICMP has no ports. An echo request is (id, 0) and its reply (0, id), so a reply meets its
 * request, and a request in the other direction is a flow of its own. All other queries are
 * (type, 0xffff): nothing answers them without policy.
 */
static __always_inline void axo_ct_icmp_ports(u8 proto, u8 type, __be16 id, __be16 *sport,
					      __be16 *dport)
{
	if (!axo_icmp_is_echo(proto, type)) {
		*sport = type;
		*dport = 0xffff;
	} else if (type == AXO_ICMP4_ECHO || type == AXO_ICMP6_ECHO) {
		*sport = id;
		*dport = 0;
	} else {
		*sport = 0;
		*dport = id;
	}
}

static __always_inline int axo_is_icmp(u8 family, u8 proto)
{
	return proto == (family == 4 ? AXO_PROTO_ICMP : AXO_PROTO_ICMP6);
}

static __always_inline u8 axo_ct_key_of(struct axo_ct_scratch *s, const struct axo_ctx *ctx)
{
	__be16 sport = ctx->sport, dport = ctx->dport;

	if (axo_is_icmp(ctx->family, ctx->proto))
		axo_ct_icmp_ports(ctx->proto, ctx->icmp_type, ctx->sport, &sport, &dport);
	return axo_ct_key(s, ctx->family, ctx->proto, &ctx->saddr, &ctx->daddr, sport, dport);
}

static __always_inline struct axo_ct_entry *axo_ct_find(struct axo_ct_scratch *s, u8 family,
							u8 proto)
{
	if (family == 4) {
		if (proto == AXO_PROTO_TCP)
			return axo_ct4.lookup(&s->key4);
		return axo_ct_any4.lookup(&s->key4);
	}
	if (proto == AXO_PROTO_TCP)
		return axo_ct6.lookup(&s->key6);
	return axo_ct_any6.lookup(&s->key6);
}

static __always_inline int axo_ct_store(struct axo_ct_scratch *s, u8 family, u8 proto)
{
	if (family == 4) {
		if (proto == AXO_PROTO_TCP)
			return axo_ct4.update(&s->key4, &s->fresh);
		return axo_ct_any4.update(&s->key4, &s->fresh);
	}
	if (proto == AXO_PROTO_TCP)
		return axo_ct6.update(&s->key6, &s->fresh);
	return axo_ct_any6.update(&s->key6, &s->fresh);
}

static __always_inline int axo_ct_alive(const struct axo_ct_entry *e, u32 now)
{
	return (s32)(e->expires - now) >= 0;
}

static __always_inline int axo_is_new_syn(const struct axo_ctx *ctx)
{
	return ctx->proto == AXO_PROTO_TCP &&
	       (ctx->tcp_flags & (AXO_TCP_SYN | AXO_TCP_ACK)) == AXO_TCP_SYN;
}

/* The entry speaks for this packet: in time, and not closed before a new SYN. */
static __always_inline int axo_ct_valid(const struct axo_ct_entry *e, const struct axo_ctx *ctx,
					u32 now)
{
	if (!axo_ct_alive(e, now))
		return 0;
	return !((e->flags & AXO_CT_FLAG_CLOSED) && axo_is_new_syn(ctx));
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

/* What an established flow already knows, so that no packet has to look it up again. */
static __always_inline void axo_ct_recall(struct axo_ctx *ctx, const struct axo_ct_entry *e)
{
	u32 dir = ctx->ct_dir & 1;

	if (!ctx->src_identity)
		ctx->src_identity = e->identity[dir];
	if (!ctx->dst_identity)
		ctx->dst_identity = e->identity[!dir];
	ctx->proxy_port = e->proxy_port;
	if (e->node_gen && e->node_dir == dir &&
	    e->node_gen == (u32)axo_runtime_get(AXO_RT_IPCACHE_GEN)) {
		ctx->node = e->node;
		ctx->dst_identity = e->node_identity;
		ctx->node_known = AXO_NODE_RECALLED;
	}
}

/* Sets ct_state, check and, for a packet that may meet a local receiver's hook too, ct_next. */
static __always_inline void axo_ct_judge(struct axo_ctx *ctx, const struct axo_ct_entry *e,
					 u32 hook)
{
	u32 dir = ctx->ct_dir & 1, generation = axo_policy_generation();

	if (e->accept[AXO_CT_CELL(!dir, !hook)]) {
		ctx->ct_state = AXO_CT_REPLY;
		ctx->check = 0;
	} else if (e->accept[AXO_CT_CELL(dir, hook)]) {
		ctx->ct_state = AXO_CT_ESTABLISHED;
		ctx->check = e->accept[AXO_CT_CELL(dir, hook)] != generation;
	}
	if (hook == AXO_DIR_INGRESS || ctx->check)
		return;
	if (e->accept[AXO_CT_CELL(!dir, AXO_DIR_EGRESS)])
		ctx->ct_next = AXO_CT_NEXT_REPLY;
	else if (e->accept[AXO_CT_CELL(dir, AXO_DIR_INGRESS)] == generation)
		ctx->ct_next = AXO_CT_NEXT_ESTABLISHED;
}

/* Key of the packet that an ICMP error quotes. AXO_NEXT or a drop. */
static __always_inline int axo_ct_inner_key(struct __sk_buff *skb, struct axo_ctx *ctx,
					    struct axo_ct_scratch *s, u8 *proto, u8 *dir)
{
	u32 off = ctx->l4_off + sizeof(struct axo_icmp);
	__be16 sport = 0, dport = 0;
	struct axo_icmp l4 = {};
	struct axo_ipv4 ip4;
	struct axo_ipv6 *ip6 = (void *)&s->fresh;

	if (ctx->family == 4) {
		if (bpf_skb_load_bytes(skb, off, &ip4, sizeof(ip4)))
			return -AXO_DROP_CT_INVALID_HDR;
		axo_addr_set4(&s->inner_src, ip4.saddr);
		axo_addr_set4(&s->inner_dst, ip4.daddr);
		*proto = ip4.proto;
		off += (ip4.ver_ihl & 0x0f) * 4;
		if (ip4.frag_off & AXO_IP4_OFFSET)
			return AXO_NEXT;
	} else {
		if (bpf_skb_load_bytes(skb, off, ip6, sizeof(*ip6)))
			return -AXO_DROP_CT_INVALID_HDR;
		s->inner_src = ip6->saddr;
		s->inner_dst = ip6->daddr;
		*proto = ip6->next;
		off += sizeof(*ip6);
	}
	if (bpf_skb_load_bytes(skb, off, &l4, sizeof(l4)))
		return -AXO_DROP_CT_INVALID_HDR;
	if (axo_is_icmp(ctx->family, *proto)) {
		axo_ct_icmp_ports(*proto, l4.type, l4.id, &sport, &dport);
	} else {
		/* the ports stand where ICMP has type, code and checksum */
		sport = *(__be16 *)&l4;
		dport = l4.csum;
	}
	*dir = axo_ct_key(s, ctx->family, *proto, &s->inner_src, &s->inner_dst, sport, dport);
	return AXO_NEXT;
}

static __always_inline int axo_ct_related(struct __sk_buff *skb, struct axo_ctx *ctx,
					  struct axo_ct_scratch *s, u32 hook)
{
	struct axo_ct_entry *e;
	u8 proto = 0, dir = 0;
	int ret;

	s->key4.proto = 0;
	s->key6.proto = 0;
	ret = axo_ct_inner_key(skb, ctx, s, &proto, &dir);
	if (ret != AXO_NEXT)
		return ret;
	e = axo_ct_find(s, ctx->family, proto);
	if (!e || !axo_ct_alive(e, axo_ct_now()))
		return AXO_NEXT;
	if (e->accept[AXO_CT_CELL(dir & 1, !hook)] || e->accept[AXO_CT_CELL(!(dir & 1), hook)]) {
		ctx->ct_state = AXO_CT_RELATED;
		ctx->check = 0;
	}
	return AXO_NEXT;
}

static __always_inline int axo_ct_tracks(const struct axo_ctx *ctx)
{
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
	if (!axo_ct_valid(e, ctx, now))
		return AXO_NEXT;
	ctx->ct_absent = 0;
	axo_ct_judge(ctx, e, hook);
	axo_ct_recall(ctx, e);
	if (!ctx->check)
		axo_ct_touch(skb, ctx, e, now);
	return AXO_NEXT;
}

static __always_inline int axo_ct_create(struct __sk_buff *skb, struct axo_ctx *ctx,
					 struct axo_ct_scratch *s, u32 hook, u32 now)
{
	struct axo_ct_entry *e = &s->fresh;
	u32 dir = ctx->ct_dir & 1;

	__builtin_memset(e, 0, sizeof(*e));
	e->flags = dir ? AXO_CT_FLAG_FIRST_1 : 0;
	e->accept[AXO_CT_CELL(dir, hook)] = axo_policy_generation();
	e->identity[dir] = ctx->src_identity;
	e->identity[!dir] = ctx->dst_identity;
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
	if (!e) /* evicted meanwhile */
		return axo_ct_create(skb, ctx, s, hook, now);
	e->accept[AXO_CT_CELL(ctx->ct_dir & 1, hook)] = axo_policy_generation();
	axo_ct_touch(skb, ctx, e, now);
	return AXO_NEXT;
}

#endif
