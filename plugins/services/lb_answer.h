/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers bear the service's name, not the backend's. ctx->answers says which: the id of a frontend, or
 * AXO_SERVICE_ELSEWHERE, and then the flow is remembered here with its name (DSR: the client came to
 * another node, and this one answers).
 */
#ifndef AXO_LB_ANSWER_H
#define AXO_LB_ANSWER_H

#include "axo/conntrack_maps.h"
#include "axo/rewrite.h"
#include "lb_maps.h"

struct axo_lb_dsr_key {
	struct axo_addr backend; /* network order */
	struct axo_addr client;	 /* network order */
	__be16 bport;		 /* network order */
	__be16 cport;		 /* network order */
	__u8 proto;
	__u8 pad[3];
};

BPF_TABLE("lru_hash", struct axo_lb_dsr_key, struct axo_lb_name, axo_lb_dsr, 65536);

struct axo_lb_answer_work {
	struct axo_lb_dsr_key dsr;
	struct axo_lb_name name;
	struct axo_nat_quote quote;
};

BPF_TABLE("percpu_array", u32, struct axo_lb_answer_work, axoscratch_lb_ans, 1);

static __always_inline struct axo_lb_answer_work *axo_lb_answer_get(void)
{
	u32 zero = 0;

	return axoscratch_lb_ans.lookup(&zero);
}

static __always_inline void axo_lb_dsr_of(struct axo_lb_dsr_key *k, const struct axo_addr *backend,
					  __be16 bport, const struct axo_addr *client,
					  __be16 cport, __u8 proto)
{
	k->backend = *backend;
	k->client = *client;
	k->bport = bport;
	k->cport = cport;
	k->proto = proto;
	k->pad[0] = 0;
	k->pad[1] = 0;
	k->pad[2] = 0;
}

/* The name of a flow between a backend and a client: into a->name. 0: unknown. */
static __always_inline int axo_lb_name_of(const struct axo_ctx *ctx, struct axo_lb_answer_work *a,
					  const struct axo_addr *backend, __be16 bport,
					  const struct axo_addr *client, __be16 cport, __u8 proto)
{
	struct axo_lb_name_key key = {.id = ctx->answers};
	struct axo_lb_name *name;

	if (key.id == AXO_SERVICE_ELSEWHERE) {
		axo_lb_dsr_of(&a->dsr, backend, bport, client, cport, proto);
		name = axo_lb_dsr.lookup(&a->dsr);
	} else {
		name = axo_lb_names.lookup(&key);
	}
	if (!name)
		return 0;
	a->name = *name;
	return 1;
}

/* An ICMP error about a packet to the service, which quotes it as the backend saw it. */
static __always_inline int axo_lb_answer_error(struct __sk_buff *skb, struct axo_ctx *ctx,
					       struct axo_lb_answer_work *a)
{
	struct axo_nat_quote *q = &a->quote;
	int rc;

	if ((ctx->pkt & AXO_PKT_LATER) || axo_nat_quote_read(skb, ctx, q))
		return AXO_NEXT;
	if (!axo_lb_name_of(ctx, a, &q->t.daddr, q->t.dport, &q->t.saddr, q->t.sport, q->t.proto))
		return AXO_NEXT;
	if (axo_addr_equal(&ctx->saddr, &q->t.daddr)) {
		rc = axo_nat_rewrite(skb, ctx, AXO_NAT_SRC, &a->name.addr, 0);
		if (rc)
			return rc;
	}
	rc = axo_nat_quote_rewrite(skb, ctx, q, AXO_NAT_DST, &a->name.addr, a->name.port);
	return rc ? rc : AXO_NEXT;
}

/* The answer leaves, or arrives, in the service's name. AXO_NEXT or a drop. */
static __always_inline int axo_lb_answer(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_lb_answer_work *a = axo_lb_answer_get();
	int rc;

	if (!a)
		return -AXO_DROP_SNAT_NO_MAP_FOUND;
	if (AXO_UNLIKELY(ctx->pkt & AXO_PKT_ICMP_ERROR))
		return axo_lb_answer_error(skb, ctx, a);
	if (!axo_lb_name_of(ctx, a, &ctx->saddr, ctx->sport, &ctx->daddr, ctx->dport, ctx->proto))
		return -AXO_DROP_NAT_NO_MAPPING;
	if (ctx->proto == AXO_PROTO_SCTP && ctx->sport != a->name.port)
		return -AXO_DROP_UNSUPP_SERVICE_PROTO;
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_SRC, &a->name.addr, a->name.port);
	return rc ? rc : AXO_NEXT;
}

#endif
