/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Ports of later fragments. The first fragment of a datagram carries the L4 header; its ports are
 * remembered under (source, destination, protocol, identification, endpoint that it came from)
 * until the map needs the room. The parser runs before the source check: the endpoint in the key
 * keeps one pod from giving ports to the fragments of another. A later fragment that comes
 * without, or before, its first one cannot be judged and is dropped.
 */
#ifndef AXO_FRAGMENT_H
#define AXO_FRAGMENT_H

#include "axo/maps.h"

/* enable-ipv4-fragment-tracking, enable-ipv6-fragment-tracking */
#ifndef AXO_FRAG4_TRACKING
#define AXO_FRAG4_TRACKING 1
#endif
#ifndef AXO_FRAG6_TRACKING
#define AXO_FRAG6_TRACKING 1
#endif

struct axo_frag4_key {
	__be32 saddr; /* network order */
	__be32 daddr; /* network order */
	__be16 id;    /* network order: identification of the datagram */
	__u8 proto;
	__u8 pad;
	__u16 src_id; /* endpoint whose device it came in on, 0 none */
	__u16 pad2;
};

struct axo_frag6_key {
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
	__be32 id;	       /* network order: identification of the datagram */
	__u8 proto;
	__u8 pad;
	__u16 src_id; /* endpoint whose device it came in on, 0 none */
};

/* The first fragment was an ICMP error, related at this hook (AXO_DIR_*), a moment ago. */
#define AXO_FRAG_RELATED(hook) (0x40 << ((hook)&1))

struct axo_frag_ports {
	__be16 sport; /* network order; ICMP: identifier */
	__be16 dport; /* network order; ICMP: identifier */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 flags;   /* AXO_PKT_ICMP_ERROR, AXO_FRAG_RELATED */
	__u8 pad;
	__u32 until; /* tick at which AXO_FRAG_RELATED ends */
};

BPF_TABLE("lru_hash", struct axo_frag4_key, struct axo_frag_ports, axo_frag4, 8192);
BPF_TABLE("lru_hash", struct axo_frag6_key, struct axo_frag_ports, axo_frag6, 8192);

static __always_inline void axo_frag_ports_save(const struct axo_ctx *ctx, struct axo_frag_ports *p)
{
	p->sport = ctx->sport;
	p->dport = ctx->dport;
	p->icmp_type = ctx->icmp_type;
	p->icmp_code = ctx->icmp_code;
	p->flags = ctx->pkt & AXO_PKT_ICMP_ERROR;
	p->pad = 0;
	p->until = 0;
}

static __always_inline void axo_frag_ports_load(struct axo_ctx *ctx, const struct axo_frag_ports *p)
{
	ctx->sport = p->sport;
	ctx->dport = p->dport;
	ctx->icmp_type = p->icmp_type;
	ctx->icmp_code = p->icmp_code;
	ctx->pkt |= p->flags & AXO_PKT_ICMP_ERROR;
	ctx->frag_flags = p->flags;
	ctx->frag_until = p->until;
}

static __always_inline void axo_frag4_key_of(struct axo_frag4_key *key, const struct axo_ctx *ctx)
{
	key->saddr = ctx->saddr.w[3];
	key->daddr = ctx->daddr.w[3];
	key->id = ctx->frag_id;
	key->proto = ctx->proto;
	key->pad = 0;
	key->src_id = ctx->src_id;
	key->pad2 = 0;
}

static __always_inline void axo_frag6_key_of(struct axo_frag6_key *key, const struct axo_ctx *ctx)
{
	key->saddr = ctx->saddr;
	key->daddr = ctx->daddr;
	key->id = ctx->frag_id;
	key->proto = ctx->proto;
	key->pad = 0;
	key->src_id = ctx->src_id;
}

/* After the L4 parse of a fragment. id: network order. AXO_NEXT or a drop. */
static __always_inline int axo_fragment4(struct axo_ctx *ctx, __be16 id)
{
	struct axo_frag_ports ports, *known;
	struct axo_frag4_key key;

	if (!AXO_FRAG4_TRACKING)
		return -AXO_DROP_FRAG_NOSUPPORT;
	ctx->frag_id = id;
	axo_frag4_key_of(&key, ctx);
	if (ctx->pkt & AXO_PKT_LATER) {
		known = axo_frag4.lookup(&key);
		if (!known)
			return -AXO_DROP_FRAG_NOT_FOUND;
		axo_frag_ports_load(ctx, known);
		return AXO_NEXT;
	}
	axo_frag_ports_save(ctx, &ports);
	axo_frag4.update(&key, &ports);
	return AXO_NEXT;
}

/* The same for IPv6. */
static __always_inline int axo_fragment6(struct axo_ctx *ctx, __be32 id)
{
	struct axo_frag_ports ports, *known;
	struct axo_frag6_key key;

	if (!AXO_FRAG6_TRACKING)
		return -AXO_DROP_FRAG_NOSUPPORT;
	ctx->frag_id = id;
	axo_frag6_key_of(&key, ctx);
	if (ctx->pkt & AXO_PKT_LATER) {
		known = axo_frag6.lookup(&key);
		if (!known)
			return -AXO_DROP_FRAG_NOT_FOUND;
		axo_frag_ports_load(ctx, known);
		return AXO_NEXT;
	}
	axo_frag_ports_save(ctx, &ports);
	axo_frag6.update(&key, &ports);
	return AXO_NEXT;
}

#endif
