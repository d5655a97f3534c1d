/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The conntrack tables: keys, entries, finding and storing. conntrack.h gives them their meaning.
 *
 *	key     addr[0]:port[0]  <->  addr[1]:port[1]      addr[0] is the smaller one
 *	        direction 0: addr[0] sends      direction 1: addr[1] sends
 */
#ifndef AXO_CONNTRACK_MAPS_H
#define AXO_CONNTRACK_MAPS_H

#include "axo/parse.h"

/* Times are ticks of 2^30 ns (1.07 s) of CLOCK_MONOTONIC. */
#define AXO_TICK_SHIFT 30
#define AXO_SECONDS(s) ((u32)(((s)*1000000000ULL) >> AXO_TICK_SHIFT) + 1)

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

#define AXO_CT_FLAG_FIRST_1 0x01 /* the first packet was of direction 1 */
#define AXO_CT_FLAG_NON_SYN 0x02 /* TCP: a packet without SYN was seen */
#define AXO_CT_FLAG_CLOSE_0 0x04 /* TCP: FIN of direction 0, or RST */
#define AXO_CT_FLAG_CLOSE_1 0x08 /* TCP: FIN of direction 1, or RST */
#define AXO_CT_FLAG_SERVICE_1 0x10 /* the packets of direction 1 were sent to the service */
#define AXO_CT_FLAG_CLOSED  (AXO_CT_FLAG_CLOSE_0 | AXO_CT_FLAG_CLOSE_1)

/* Cell of axo_ct_entry.accept: direction 0 or 1; hook AXO_DIR_*. */
#define AXO_CT_CELL(dir, hook) (2 * ((dir)&1) + ((hook)&1))

/* In a cell: accepted once, and refused since. Generations are odd. */
#define AXO_CT_REVOKED 2

static __always_inline int axo_ct_accepted(u32 cell)
{
	return cell & 1;
}

struct axo_ct_entry {
	__u64 packets[2];     /* by direction */
	__u64 bytes[2];	      /* by direction, of frames */
	__u32 accept[4];      /* [AXO_CT_CELL(direction, hook)]: generation, 0 never, REVOKED */
	__u32 identity[2];    /* sender of direction 0, 1; 0 unknown */
	__u32 reported[2];    /* tick of the last report, by direction */
	__u32 expires;	      /* tick */
	__u32 node_gen;	      /* generation of the ipcache in which node was found, 0 none */
	struct axo_addr node; /* network order: node of the receiver of direction node_dir */
	__u32 node_identity;  /* identity of that receiver */
	__u8 node_dir;	      /* direction that node belongs to */
	__u8 flags;	      /* AXO_CT_FLAG_* */
	__u8 tcp_seen[2];     /* TCP flags seen, by direction */
	__be16 proxy_port;    /* network order: by policy; 0 none */
	__u16 endpoint[2]; /* id of the local endpoint that is sender of direction 0, 1; 0 none */
	__u16 pad;
	__u32 service; /* id of the frontend that one direction was sent to; 0 none */
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
 * request, and a request in the other direction is a flow of its own. Identifier 0 would make
 * both the same; it is (1, 2), which nothing else is. All other queries are (type, 0xffff):
 * nothing answers them without policy.
 */
static __always_inline void axo_ct_icmp_ports(u8 proto, u8 type, __be16 id, __be16 *sport,
					      __be16 *dport)
{
	__be16 asker = id ? id : bpf_htons(1), other = id ? 0 : bpf_htons(2);

	if (!axo_icmp_is_echo(proto, type)) {
		*sport = type;
		*dport = 0xffff;
	} else if (type == AXO_ICMP4_ECHO || type == AXO_ICMP6_ECHO) {
		*sport = asker;
		*dport = other;
	} else {
		*sport = other;
		*dport = asker;
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

/* AXO_SERVICE_ELSEWHERE: the frontend is another node's; what it is, is remembered by flow. */
#define AXO_SERVICE_ELSEWHERE 0xffffffff

static __always_inline int axo_ct_is_to_service(const struct axo_ct_entry *e, u32 dir)
{
	return !(e->flags & AXO_CT_FLAG_SERVICE_1) == !dir;
}

/* Tick of now. */
static __always_inline u32 axo_ct_now(void)
{
	return bpf_ktime_get_coarse_ns() >> AXO_TICK_SHIFT;
}

static __always_inline int axo_ct_alive(const struct axo_ct_entry *e, u32 now)
{
	return (s32)(e->expires - now) >= 0;
}

#endif
