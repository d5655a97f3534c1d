/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors that a client, or a router on the way to it, sends about a service's answers: they are for
 * the backend, and quote what it has sent.
 *
 *	client -> VIP | VIP:port -> client   becomes   client -> backend | backend:port -> client
 */
#ifndef AXO_LB_ERROR_H
#define AXO_LB_ERROR_H

#include "lb_answer.h"
#include "lb_flow.h"

/* AXO_NEXT: translated, or about no flow of a service; negative: drop. w->local: translated. */
static __always_inline int axo_lb_error(struct __sk_buff *skb, struct axo_ctx *ctx,
					struct axo_lb_work *w)
{
	struct axo_lb_answer_work *a = axo_lb_answer_get();
	struct axo_lb_backend *b;
	struct axo_nat_quote *q;
	struct axo_lb_flow *f;
	int rc;

	w->local = 0;
	if (!a || (ctx->pkt & AXO_PKT_LATER))
		return AXO_NEXT;
	q = &a->quote;
	if (axo_nat_quote_read(skb, ctx, q) || !axo_addr_equal(&q->t.saddr, &ctx->daddr))
		return AXO_NEXT;
	w->key.saddr = q->t.daddr;
	w->key.daddr = q->t.saddr;
	w->key.sport = q->t.dport;
	w->key.dport = q->t.sport;
	w->key.proto = q->t.proto;
	w->key.kind = AXO_LB_FLOW_ASKED;
	w->key.pad[0] = 0;
	w->key.pad[1] = 0;
	f = axo_lb_flows.lookup(&w->key);
	if (!f)
		return AXO_NEXT;
	b = axo_lb_backend_get(f->backend);
	if (!b)
		return AXO_NEXT;
	w->to = b->addr;
	w->port = b->port;
	rc = axo_nat_quote_rewrite(skb, ctx, q, AXO_NAT_SRC, &w->to, w->port);
	if (!rc)
		rc = axo_nat_rewrite(skb, ctx, AXO_NAT_DST, &w->to, 0);
	w->local = !rc;
	return rc ? rc : AXO_NEXT;
}

#endif
