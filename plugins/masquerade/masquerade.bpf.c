/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Masquerading: pods' packets leave a native device with the node's address, answers find back.
 *
 *	to_netdev_translate    pod:p -> remote:q   becomes   node:n -> remote:q
 *	from_netdev_translate  remote:q -> node:n  becomes   remote:q -> pod:p
 *
 * Established flows cost one map lookup. ICMP errors are translated in their quote too.
 */
#include "axo/maps.h"
#include "axo/headers.h"
#include "axo/conntrack.h"
#include "masquerade.h"
#include "axo/rewrite.h"
#include "axo/nat_alloc.h"

/*
 * Destinations that see pods' own addresses: native-routing CIDRs, as a disjunction of the terms
 * below (host order). They test ctx->daddr.
 */
#define AXO_MASQ_NET4(net, mask) ((ctx->daddr.w[3] & bpf_htonl(mask)) == bpf_htonl(net))
#define AXO_MASQ_NET6(n0, n1, n2, n3, m0, m1, m2, m3)                 \
	((ctx->daddr.w[0] & bpf_htonl(m0)) == bpf_htonl(n0) &&        \
	 (ctx->daddr.w[1] & bpf_htonl(m1)) == bpf_htonl(n1) &&        \
	 (ctx->daddr.w[2] & bpf_htonl(m2)) == bpf_htonl(n2) &&        \
	 (ctx->daddr.w[3] & bpf_htonl(m3)) == bpf_htonl(n3))
#ifndef AXO_MASQ_EXEMPT4
#define AXO_MASQ_EXEMPT4 0
#endif
#ifndef AXO_MASQ_EXEMPT6
#define AXO_MASQ_EXEMPT6 0
#endif

/* Whether other nodes see the node's address too: they must when pods are behind a tunnel. */
#ifndef AXO_MASQ_REMOTE_NODES
#define AXO_MASQ_REMOTE_NODES 1
#endif

/* enable-ipv4-masquerade, enable-ipv6-masquerade */
#ifndef AXO_MASQ_IPV4
#define AXO_MASQ_IPV4 1
#endif
#ifndef AXO_MASQ_IPV6
#define AXO_MASQ_IPV6 1
#endif

/* Whether outsiders' flows to services are in the tables too; their answers go on (nodeport). */
#ifndef AXO_NAT_SERVICES
#define AXO_NAT_SERVICES 0
#endif

static __always_inline int axo_masq_is_icmp(__u8 family, __u8 proto)
{
	return proto == (family == 4 ? AXO_PROTO_ICMP : AXO_PROTO_ICMP6);
}

/* The flow of a packet as its sender knows it; 0 if it has no ports to translate. */
static __always_inline int axo_masq_tuple_out(const struct axo_ctx *ctx, struct axo_nat6_key *t)
{
	axo_nat_tuple(t, &ctx->saddr, ctx->sport, &ctx->daddr, ctx->dport, ctx->proto,
		      AXO_NAT_OUT);
	if (axo_nat_has_range(ctx->proto))
		return 1;
	t->dport = 0;
	return axo_masq_is_icmp(ctx->family, ctx->proto) &&
	       ctx->icmp_type == (ctx->family == 4 ? AXO_ICMP4_ECHO : AXO_ICMP6_ECHO);
}

/* The same for a packet that comes in; 0 if no mapping can be meant. */
static __always_inline int axo_masq_tuple_in(const struct axo_ctx *ctx, struct axo_nat6_key *r)
{
	axo_nat_tuple(r, &ctx->saddr, ctx->sport, &ctx->daddr, ctx->dport, ctx->proto, AXO_NAT_IN);
	if (axo_nat_has_range(ctx->proto))
		return axo_nat_in_range(ctx->dport);
	r->sport = 0;
	return axo_masq_is_icmp(ctx->family, ctx->proto) &&
	       ctx->icmp_type == (ctx->family == 4 ? AXO_ICMP4_ECHO_REPLY : AXO_ICMP6_ECHO_REPLY);
}

/* The flow that a quoted packet belongs to, seen from its receiver. */
static __always_inline int axo_masq_tuple_quoted(__u8 family, const struct axo_nat_quote *q,
						 struct axo_nat6_key *t, __u8 dir)
{
	axo_nat_tuple(t, &q->t.daddr, q->t.dport, &q->t.saddr, q->t.sport, q->t.proto, dir);
	if (axo_nat_has_range(t->proto))
		return 1;
	if (dir == AXO_NAT_IN)
		t->sport = 0;
	else
		t->dport = 0;
	return axo_masq_is_icmp(family, t->proto);
}

/* An answer of a pod to somebody who reached it under its own address keeps that address. */
static __always_inline int axo_masq_is_answer(const struct axo_ctx *ctx)
{
	struct axo_ct_scratch *s = axo_ct_scratch_get();
	struct axo_ct_entry *e;
	u32 dir;

	if (!s)
		return 0;
	if (!axo_ct_tracks(ctx))
		return 0;
	dir = axo_ct_key_of(s, ctx) & 1;
	e = axo_ct_find(s, ctx->family, ctx->proto);
	if (!e)
		return 0;
	return axo_ct_alive(e, axo_ct_now()) &&
	       axo_ct_accepted(e->accept[AXO_CT_CELL(!dir, AXO_DIR_INGRESS)]);
}

/* enable-ip-masq-agent */
#ifndef AXO_MASQ_AGENT
#define AXO_MASQ_AGENT 0
#endif

/* The pod, or the destination's network, wants it to keep its address. Asked once for each flow. */
static __always_inline int axo_masq_skips(const struct axo_ctx *ctx)
{
	struct axo_ipmasq_key key = {.prefixlen = 128};

	if (axo_masq_skip.lookup((struct axo_masq_pod_key *)&ctx->saddr))
		return 1;
	if (!AXO_MASQ_AGENT)
		return 0;
	key.addr = ctx->daddr;
	return axo_ipmasq.lookup(&key) != NULL;
}

/* Whether a new flow of a pod to ctx->daddr takes the node's address. */
static __always_inline int axo_masq_wanted(const struct axo_ctx *ctx)
{
	struct axo_ipcache *to;

	if (axo_masq_skips(ctx))
		return 0;
	to = axo_ipcache_lookup(&ctx->daddr);
	if (to) {
		if (axo_identity_is_node(to->identity)) {
			if (!AXO_MASQ_REMOTE_NODES)
				return 0;
		} else if ((!axo_addr_is_zero(&to->node_ip) && !(to->flags & AXO_IPCACHE_DIRECT)) ||
			   (to->identity >= 256 && to->identity < (1U << 24))) {
			return 0; /* a pod of this cluster */
		}
	}
	return !axo_masq_is_answer(ctx);
}

/*
 * The node's own packet. Its port is its own business unless a pod's flow to the same remote has
 * taken it: then the node's flow gets another one. AXO_NEXT: nothing to do; 0: allocate.
 */
static __always_inline int axo_masq_host(const struct axo_ctx *ctx, struct axo_nat_work *w,
					 int known)
{
	if (!known)
		return AXO_NEXT;
	if (axo_nat_has_range(w->flow.proto) && !axo_nat_in_range(w->flow.sport))
		return AXO_NEXT;
	axo_nat_answer(&w->answer, &w->flow, &w->to, w->flow.sport);
	return axo_nat_lookup(ctx->family, &w->answer) ? 0 : AXO_NEXT;
}

/* A pod's packet of no known flow. AXO_NEXT: it keeps its address; 0: allocate; else a drop. */
static __always_inline int axo_masq_pod(const struct axo_ctx *ctx, int known)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->saddr);

	if (!ep)
		return AXO_NEXT;
	if (ep->flags & AXO_EP_HOST)
		return AXO_NEXT;
	if (!axo_masq_wanted(ctx))
		return AXO_NEXT;
	return known ? 0 : -AXO_DROP_NAT_UNSUPP_PROTO;
}

/* Whether the packet that an error of a pod quotes reached it under its own address. */
static __always_inline int axo_masq_quotes_own(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ct_scratch *s = axo_ct_scratch_get();
	__u8 proto = 0, dir = 0;
	struct axo_ct_entry *e;

	if (!s || (ctx->pkt & AXO_PKT_LATER))
		return 0;
	s->key4.proto = 0;
	s->key6.proto = 0;
	if (axo_ct_inner_key(skb, ctx, s, &proto, &dir) != AXO_NEXT)
		return 0;
	e = axo_ct_find(s, ctx->family, proto);
	if (!e)
		return 0;
	return axo_ct_alive(e, axo_ct_now()) && axo_addr_equal(&s->inner_dst, &ctx->saddr) &&
	       axo_ct_accepted(e->accept[AXO_CT_CELL(dir, AXO_DIR_INGRESS)]);
}

/* An ICMP error about no mapping leaves if its sender needs none; a pod's address stays here. */
static __always_inline int axo_masq_error_alone(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_masq_key key = {.ifindex = skb->ifindex};
	struct axo_masq_address *own;

	if (ctx->family == 4 ? (AXO_MASQ_EXEMPT4) : (AXO_MASQ_EXEMPT6))
		return AXO_NEXT;
	own = axo_masq_dev.lookup(&key);
	if (!own)
		return AXO_NEXT;
	if (own->keeps || axo_addr_is_zero(ctx->family == 4 ? &own->ipv4 : &own->ipv6))
		return AXO_NEXT;
	if (axo_masq_pod(ctx, 1) == AXO_NEXT || axo_masq_quotes_own(skb, ctx))
		return AXO_NEXT;
	return -AXO_DROP_NAT_NO_MAPPING;
}

/* An ICMP error that leaves: about an answer that a pod has got under the node's address. */
static __always_inline int axo_masq_error_out(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_nat_quote q = {};
	struct axo_nat_entry *e;
	struct axo_nat6_key t;
	struct axo_addr to;
	int rc;

	if ((ctx->pkt & AXO_PKT_LATER) || axo_nat_quote_read(skb, ctx, &q) ||
	    !axo_masq_tuple_quoted(ctx->family, &q, &t, AXO_NAT_OUT))
		return axo_masq_error_alone(skb, ctx);
	e = axo_nat_lookup(ctx->family, &t);
	if (!e)
		return axo_masq_error_alone(skb, ctx);
	to = e->addr;
	rc = axo_nat_quote_rewrite(skb, ctx, &q, AXO_NAT_DST, &to, e->port);
	if (rc)
		return rc;
	if (!axo_addr_equal(&ctx->saddr, &q.t.daddr))
		return axo_masq_error_alone(skb, ctx); /* said by a router, mostly the node */
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_SRC, &to, 0);
	return rc ? rc : AXO_NEXT;
}

/* An ICMP error that comes in: about a packet that left under the node's address. */
static __always_inline int axo_masq_error_in(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_nat_quote q = {};
	struct axo_nat_entry *e;
	struct axo_nat6_key r;
	struct axo_addr to;
	int rc;

	if ((ctx->pkt & AXO_PKT_LATER) || axo_nat_quote_read(skb, ctx, &q) ||
	    !axo_masq_tuple_quoted(ctx->family, &q, &r, AXO_NAT_IN))
		return AXO_NEXT;
	e = axo_nat_lookup(ctx->family, &r);
	if (!e || !axo_addr_equal(&ctx->daddr, &q.t.saddr))
		return AXO_NEXT;
	to = e->addr;
	ctx->answers = e->service;
	rc = axo_nat_quote_rewrite(skb, ctx, &q, AXO_NAT_SRC, &to, e->port);
	if (!rc)
		rc = axo_nat_rewrite(skb, ctx, AXO_NAT_DST, &to, 0);
	return rc ? rc : AXO_NEXT;
}

/* A packet that leaves for outside the exempt prefixes. w->to is the node's address. */
static __always_inline int axo_masq_out(struct __sk_buff *skb, struct axo_ctx *ctx,
					struct axo_nat_work *w, int exempt)
{
	int host = axo_addr_equal(&ctx->saddr, &w->to), rc;
	int known = axo_masq_tuple_out(ctx, &w->flow), mapped = 0;
	struct axo_nat_entry *e;

	if (known) {
		e = axo_nat_lookup(ctx->family, &w->flow);
		if (AXO_LIKELY(e))
			mapped = axo_nat_known(ctx, w, e);
	}
	if (AXO_UNLIKELY(!mapped)) {
		if (exempt)
			return AXO_NEXT;
		rc = host ? axo_masq_host(ctx, w, known) : axo_masq_pod(ctx, known);
		if (rc)
			return rc;
		rc = axo_nat_allocate(skb, ctx, w, !host, host ? AXO_NAT_HOST : 0);
		if (rc)
			return rc;
	}
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_SRC, &w->to, w->port);
	return rc ? rc : AXO_NEXT;
}

/* Whether the destination or the settings leave a packet as it is, whoever sends it. */
static __always_inline int axo_masq_exempt(const struct axo_ctx *ctx)
{
	if (ctx->family == 4)
		return !AXO_MASQ_IPV4 || (AXO_MASQ_EXEMPT4);
	return !AXO_MASQ_IPV6 || (AXO_MASQ_EXEMPT6);
}

/* Stage egress_forward: spares to_netdev the packets that it would only look at. */
static __always_inline int masquerade_egress_forward(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (!(ctx->pkt & (AXO_PKT_MULTICAST | AXO_PKT_ICMP_ERROR)) && axo_masq_exempt(ctx))
		ctx->pkt |= AXO_PKT_KEEPS_ADDR;
	return AXO_NEXT;
}

/* Stage to_netdev_translate. */
static __always_inline int masquerade_to_netdev_translate(struct __sk_buff *skb,
							  struct axo_ctx *ctx)
{
	struct axo_masq_key key = {.ifindex = skb->ifindex};
	struct axo_nat_work *w = axo_nat_work_get();
	struct axo_masq_address *own;
	int exempt = axo_masq_exempt(ctx);

	if (!w || (ctx->pkt & AXO_PKT_MULTICAST))
		return AXO_NEXT;
	if (!AXO_NAT_SERVICES && !(ctx->family == 4 ? AXO_MASQ_IPV4 : AXO_MASQ_IPV6))
		return AXO_NEXT;
	if (ctx->pkt & AXO_PKT_ICMP_ERROR)
		return axo_masq_error_out(skb, ctx);
	/* this node's own backends answer in their service's name, whomever */
	if (!AXO_NAT_SERVICES && exempt)
		return AXO_NEXT;
	own = axo_masq_dev.lookup(&key);
	if (!own)
		return AXO_NEXT;
	exempt |= !!own->keeps;
	w->service = 0;
	if (ctx->family == 4)
		w->to = own->ipv4;
	else
		w->to = own->ipv6;
	return axo_addr_is_zero(&w->to) ? AXO_NEXT : axo_masq_out(skb, ctx, w, exempt);
}

/* Stage from_netdev_translate. */
static __always_inline int masquerade_from_netdev_translate(struct __sk_buff *skb,
							    struct axo_ctx *ctx)
{
	struct axo_nat_work *w = axo_nat_work_get();
	struct axo_nat_entry *e;
	int rc;

	if (!w || (ctx->pkt & AXO_PKT_MULTICAST) ||
	    !(AXO_NAT_SERVICES || (ctx->family == 4 ? AXO_MASQ_IPV4 : AXO_MASQ_IPV6)))
		return AXO_NEXT;
	if (ctx->pkt & AXO_PKT_ICMP_ERROR)
		return axo_masq_error_in(skb, ctx);
	if (!axo_masq_tuple_in(ctx, &w->answer))
		return AXO_NEXT;
	e = axo_nat_lookup(ctx->family, &w->answer);
	if (!e)
		return AXO_NEXT;
	w->to = e->addr;
	w->port = e->port;
	ctx->answers = e->service;
	axo_nat_touch(e, ctx);
	axo_nat_origin(&w->flow, &w->answer, e);
	axo_nat_reset(ctx, &w->flow);
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_DST, &w->to, w->port);
	return rc ? rc : AXO_NEXT;
}
