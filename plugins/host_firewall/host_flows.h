/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The node's own flows: which side opened each, and the policy under which it was let through.
 *
 * Conntrack's entries are about pods; there the node and any machine out there are one and the same
 * end, "no pod". Here an entry says which of its addresses is this node's, so a question is never
 * taken for its answer. The map is LRU: full means the coldest flows are asked for again.
 */
#ifndef AXO_HOST_FLOWS_H
#define AXO_HOST_FLOWS_H

#include "axo/conntrack.h"

struct axo_host_flow_key {
	struct axo_addr local;	/* network order: this node's */
	struct axo_addr remote; /* network order */
	__be16 local_port;	/* network order; ICMP: see axo_ct_icmp_ports() */
	__be16 remote_port;	/* network order */
	__u8 proto;		/* IPPROTO_* */
	__u8 pad[3];
};

struct axo_host_flow {
	__u32 expires;	  /* tick, as conntrack's */
	__u32 generation; /* of the policy that let it through last */
	__u8 opened;	  /* AXO_DIR_*: of the first packet */
	__u8 flags;	  /* AXO_CT_FLAG_*: CLOSE_0 by the remote end, CLOSE_1 by this node */
	__u16 pad;
};

BPF_TABLE("lru_hash", struct axo_host_flow_key, struct axo_host_flow, axo_host_flows, 65536);

struct axo_host_scratch {
	struct axo_host_flow_key key;
	struct axo_host_flow fresh;
};

BPF_TABLE("percpu_array", u32, struct axo_host_scratch, axoscratch_host, 1);

static __always_inline struct axo_host_scratch *axo_host_scratch_get(void)
{
	u32 zero = 0;

	return axoscratch_host.lookup(&zero);
}

static __always_inline void axo_host_key(struct axo_host_scratch *s, u8 proto,
					 const struct axo_addr *local, __be16 local_port,
					 const struct axo_addr *remote, __be16 remote_port)
{
	s->key.local = *local;
	s->key.remote = *remote;
	s->key.local_port = local_port;
	s->key.remote_port = remote_port;
	s->key.proto = proto;
}

/* Key of a packet that goes in or out of this node. */
static __always_inline void axo_host_key_of(struct axo_host_scratch *s, const struct axo_ctx *ctx,
					    u8 dir)
{
	__be16 sport = ctx->sport, dport = ctx->dport;

	if (axo_is_icmp(ctx->family, ctx->proto))
		axo_ct_icmp_ports(ctx->proto, ctx->icmp_type, ctx->sport, &sport, &dport);
	if (dir == AXO_DIR_INGRESS)
		axo_host_key(s, ctx->proto, &ctx->daddr, dport, &ctx->saddr, sport);
	else
		axo_host_key(s, ctx->proto, &ctx->saddr, sport, &ctx->daddr, dport);
}

/* The flow of the key in s, if its time is not over. */
static __always_inline struct axo_host_flow *axo_host_find(struct axo_host_scratch *s, u32 now)
{
	struct axo_host_flow *flow = axo_host_flows.lookup(&s->key);

	AXO_OPAQUE(flow);
	if (!flow || (s32)(flow->expires - now) < 0)
		return NULL;
	return flow;
}

static __always_inline u8 axo_host_flags(const struct axo_ctx *ctx, u8 flags, u8 dir)
{
	if (ctx->proto != AXO_PROTO_TCP || (ctx->pkt & AXO_PKT_LATER))
		return flags;
	if (!(ctx->tcp_flags & AXO_TCP_SYN))
		flags |= AXO_CT_FLAG_NON_SYN;
	if (ctx->tcp_flags & AXO_TCP_RST)
		flags |= AXO_CT_FLAG_CLOSED;
	else if (ctx->tcp_flags & AXO_TCP_FIN)
		flags |= dir == AXO_DIR_EGRESS ? AXO_CT_FLAG_CLOSE_1 : AXO_CT_FLAG_CLOSE_0;
	return flags;
}

/* A packet of a known flow has passed: it lives on, or is about to end. */
static __always_inline void axo_host_touch(const struct axo_ctx *ctx, struct axo_host_flow *flow,
					   u8 dir, u32 now)
{
	u8 flags = axo_host_flags(ctx, flow->flags, dir);
	u32 expires = now + axo_ct_lifetime(ctx->proto, flags);

	if (flags != flow->flags)
		flow->flags = flags;
	if (expires != flow->expires)
		flow->expires = expires;
}

/*
 * What an ICMP error quotes, if it goes to the sender of that: the key of the flow in s, addresses in
 * the scratch of conntrack. 0: nothing to go by.
 */
static __always_inline int axo_host_quoted(struct __sk_buff *skb, struct axo_ctx *ctx,
					   struct axo_host_scratch *s, u8 dir)
{
	struct axo_ct_scratch *ct = axo_ct_scratch_get();
	u8 proto = 0, side = 0;
	__be16 sport, dport;

	if (!ct || (ctx->pkt & AXO_PKT_LATER))
		return 0;
	if (ctx->family == 4 && ctx->icmp_type == AXO_ICMP4_REDIRECT)
		return 0;
	ct->key4.proto = 0;
	ct->key6.proto = 0;
	if (axo_ct_inner_key(skb, ctx, ct, &proto, &side) != AXO_NEXT)
		return 0;
	if (!axo_addr_equal(&ct->inner_src, &ctx->daddr))
		return 0;
	side &= 1;
	sport = ctx->family == 4 ? ct->key4.port[side] : ct->key6.port[side];
	dport = ctx->family == 4 ? ct->key4.port[!side] : ct->key6.port[!side];
	if (dir == AXO_DIR_INGRESS)
		axo_host_key(s, proto, &ct->inner_src, sport, &ct->inner_dst, dport);
	else
		axo_host_key(s, proto, &ct->inner_dst, dport, &ct->inner_src, sport);
	return 1;
}

#endif
