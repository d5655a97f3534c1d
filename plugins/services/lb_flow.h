/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Flows to services, as their clients send them: which backend each has. Answers need no entry here:
 * conntrack knows the frontend by the translated flow.
 */
#ifndef AXO_LB_FLOW_H
#define AXO_LB_FLOW_H

#include "axo/conntrack_maps.h"
#include "axo/headers.h"
#include "axo/rewrite.h"
#include "lb_select.h"

/* bpf-ct-timeout-service-tcp, -any, -tcp-grace: seconds */
#ifndef AXO_LB_TIMEOUT_TCP
#define AXO_LB_TIMEOUT_TCP 8000
#endif
#ifndef AXO_LB_TIMEOUT_ANY
#define AXO_LB_TIMEOUT_ANY 60
#endif
#ifndef AXO_LB_TIMEOUT_GRACE
#define AXO_LB_TIMEOUT_GRACE 60
#endif

#define AXO_LB_FLOW_ASKED 0 /* kind: as the client sends it */
#define AXO_LB_FLOW_TAKEN 1 /* kind: an outsider's as its backend gets it: whose it is */

struct axo_lb_flow_key {
	struct axo_addr saddr; /* network order: the client */
	struct axo_addr daddr; /* network order: the service, or whom a hairpin's answer is for */
	__be16 sport;	       /* network order */
	__be16 dport;	       /* network order */
	__u8 proto;
	__u8 kind; /* AXO_LB_FLOW_ASKED, AXO_LB_FLOW_TAKEN */
	__u8 pad[2];
};

#define AXO_LB_FLOW_CLOSING 0x01 /* TCP: the client has sent FIN or RST */

struct axo_lb_flow {
	__u32 backend;	/* id */
	__u32 frontend; /* id */
	__u32 expires;	/* tick */
	__u8 flags;	/* AXO_LB_FLOW_* */
	__u8 pad[3];
};

BPF_TABLE("lru_hash", struct axo_lb_flow_key, struct axo_lb_flow, axo_lb_flows, 131072);

/* Too big for a stack that stages share. */
struct axo_lb_work {
	struct axo_lb_flow_key key;
	struct axo_lb_flow_key taken; /* the same flow behind the translation */
	struct axo_lb_flow_key other; /* somebody's who has that */
	struct axo_lb_flow fresh;
	struct axo_addr to; /* network order: the backend's */
	__be16 port;	    /* network order */
	__u16 local;	    /* an ICMP error has been translated */
	__u32 backend;	    /* id */
	__u32 made;	    /* this packet has made the flow's entry */
	struct axo_addr vip; /* network order: what the client has asked, for later programs */
	__be16 vport;	     /* network order */
	__u16 flags;	     /* AXO_LB_* of the frontend */
	__u32 frontend;	     /* id */
};

BPF_TABLE("percpu_array", u32, struct axo_lb_work, axoscratch_lb, 1);

static __always_inline struct axo_lb_work *axo_lb_work_get(void)
{
	u32 zero = 0;

	return axoscratch_lb.lookup(&zero);
}

static __always_inline int axo_lb_has_ports(const struct axo_ctx *ctx)
{
	return ctx->proto == AXO_PROTO_TCP || ctx->proto == AXO_PROTO_UDP ||
	       ctx->proto == AXO_PROTO_SCTP;
}

static __always_inline void axo_lb_flow_of(struct axo_lb_flow_key *k, const struct axo_ctx *ctx)
{
	k->saddr = ctx->saddr;
	k->daddr = ctx->daddr;
	k->sport = ctx->sport;
	k->dport = ctx->dport;
	k->proto = ctx->proto;
	k->kind = AXO_LB_FLOW_ASKED;
	k->pad[0] = 0;
	k->pad[1] = 0;
}

/* Jenkins' final mix of two words: spreads, and is the same on every node. */
static __always_inline __u32 axo_lb_mix(__u32 a, __u32 b)
{
	a ^= b;
	a *= 0x85ebca6b;
	a ^= a >> 13;
	a *= 0xc2b2ae35;
	return a ^ (a >> 16);
}

#ifndef AXO_LB_SEED
#define AXO_LB_SEED 0 /* from bpf-lb-maglev-hash-seed */
#endif

/* Hash of a flow as its client sends it; with affinity of the client alone. */
static __always_inline __u32 axo_lb_hash(const struct axo_lb_flow_key *k, int client_only)
{
	__u32 h = AXO_LB_SEED;

	h = axo_lb_mix(h, k->saddr.w[0]);
	h = axo_lb_mix(h, k->saddr.w[1]);
	h = axo_lb_mix(h, k->saddr.w[3]);
	if (client_only)
		return h;
	h = axo_lb_mix(h, k->daddr.w[3] ^ k->daddr.w[2]);
	h = axo_lb_mix(h, ((__u32)k->sport << 16) | k->dport);
	return axo_lb_mix(h, k->proto);
}

/* A packet of the client went by. */
static __always_inline void axo_lb_touch(struct axo_lb_flow *f, const struct axo_ctx *ctx,
					 __u32 now)
{
	__u32 expires = now + AXO_SECONDS(AXO_LB_TIMEOUT_ANY);

	if (ctx->proto == AXO_PROTO_TCP) {
		if (!(ctx->pkt & AXO_PKT_LATER) && (ctx->tcp_flags & (AXO_TCP_FIN | AXO_TCP_RST)))
			f->flags |= AXO_LB_FLOW_CLOSING;
		expires = now + (f->flags & AXO_LB_FLOW_CLOSING ? AXO_SECONDS(AXO_LB_TIMEOUT_GRACE) :
								  AXO_SECONDS(AXO_LB_TIMEOUT_TCP));
	}
	if (f->expires != expires)
		f->expires = expires;
}

static __always_inline int axo_lb_is_syn(const struct axo_ctx *ctx)
{
	return ctx->proto == AXO_PROTO_TCP && !(ctx->pkt & AXO_PKT_LATER) &&
	       (ctx->tcp_flags & (AXO_TCP_SYN | AXO_TCP_ACK)) == AXO_TCP_SYN;
}

/*
 * The backend of a known flow: 1 with w->to, w->port; 0: choose. A flow whose backend is gone, and a new
 * connection of a closed one or to one that takes none, choose anew.
 */
static __always_inline int axo_lb_recall(const struct axo_ctx *ctx, struct axo_lb_work *w,
					 const struct axo_lb_frontend *fe)
{
	struct axo_lb_flow *f = axo_lb_flows.lookup(&w->key);
	struct axo_lb_backend *b;
	__u32 now = axo_ct_now();

	if (!f)
		return 0;
	if ((s32)(f->expires - now) < 0 || f->frontend != fe->id)
		return 0;
	b = axo_lb_backend_get(f->backend);
	if (!b)
		return 0;
	if (AXO_UNLIKELY(axo_lb_is_syn(ctx)) &&
	    ((f->flags & AXO_LB_FLOW_CLOSING) || (b->flags & AXO_LB_BACKEND_TERMINATING)))
		return 0;
	axo_lb_touch(f, ctx, now);
	w->backend = f->backend;
	w->to = b->addr;
	w->port = b->port;
	return 1;
}

/*
 * A client's system may use one source port towards two services. If both get one backend, it sees one
 * connection where there are two: the second would end the first. Pods' flows are in conntrack as their
 * backends see them, and so are outsiders' to backends of this node; of other outsiders' flows an entry
 * says to which frontend they went.
 */
static __always_inline int axo_lb_is_tracked(const struct axo_ctx *ctx, const struct axo_lb_work *w,
					     __u32 frontend, __u32 now)
{
	struct axo_ct_scratch *s = axo_ct_scratch_get();
	struct axo_ct_entry *e;

	if (!s)
		return 0;
	axo_ct_key(s, ctx->family, ctx->proto, &ctx->saddr, &w->to, ctx->sport, w->port);
	e = axo_ct_find(s, ctx->family, ctx->proto);
	if (AXO_LIKELY(!e))
		return 0;
	if (e->service == AXO_SERVICE_ELSEWHERE && ctx->proto != AXO_PROTO_TCP)
		return 0;
	return e->service != frontend && axo_ct_alive(e, now) && !(e->flags & AXO_CT_FLAG_CLOSED);
}

static __always_inline void axo_lb_take(struct axo_lb_work *w)
{
	w->taken = w->key;
	w->taken.daddr = w->to;
	w->taken.dport = w->port;
	w->taken.kind = AXO_LB_FLOW_TAKEN;
}

static __always_inline int axo_lb_is_claimed(struct axo_lb_work *w, __u32 frontend, __u32 now)
{
	struct axo_lb_name_key id = {};
	struct axo_lb_flow *f;
	struct axo_lb_name *name;

	axo_lb_take(w);
	f = axo_lb_flows.lookup(&w->taken);
	if (AXO_LIKELY(!f))
		return 0;
	id.id = f->frontend;
	if (id.id == frontend)
		return 0;
	name = axo_lb_names.lookup(&id);
	if (!name)
		return 0;
	w->other = w->key;
	w->other.daddr = name->addr;
	w->other.dport = name->port;
	f = axo_lb_flows.lookup(&w->other);
	if (!f)
		return 0;
	return f->backend == w->backend && f->frontend == id.id && (s32)(f->expires - now) >= 0 &&
	       !(f->flags & AXO_LB_FLOW_CLOSING);
}

/* w->to and w->port of the backend. 0: there is none. */
static __always_inline int axo_lb_aim(struct axo_lb_work *w, __u32 backend)
{
	struct axo_lb_backend *b = axo_lb_backend_get(backend);

	if (!b)
		return 0;
	w->backend = backend;
	w->to = b->addr;
	w->port = b->port;
	return 1;
}

/*
 * The backend that w aims at has no other flow of this source. A segment in the middle of a connection
 * is never somebody else's: its table has forgotten it, or it comes by this node since another failed.
 */
static __always_inline int axo_lb_is_free(const struct axo_ctx *ctx, struct axo_lb_work *w,
					  __u32 frontend, __u8 scope, __u32 now)
{
	if (ctx->proto == AXO_PROTO_TCP && !axo_lb_is_syn(ctx))
		return 1;
	if (axo_lb_is_tracked(ctx, w, frontend, now))
		return 0;
	return scope != AXO_LB_OUTSIDE || !axo_lb_is_claimed(w, frontend, now);
}

#define AXO_LB_TRIES 4 /* backends that a source port may have with other services already */

/*
 * Aims at another backend than the chosen one, if any is free. Else the new flow has it: TCP will find
 * out whether the old one still lives.
 */
static __always_inline int axo_lb_evade(const struct axo_ctx *ctx, struct axo_lb_work *w,
					const struct axo_lb_frontend *fe, __u8 scope, __u32 now)
{
	__u32 set = fe->sets[scope & 1], chosen = w->backend, count, first, i;

	count = axo_lb_slot_get(set, 0);
	if (!count)
		return 0;
	first = bpf_get_prandom_u32() % count;
	for (i = 0; i < AXO_LB_TRIES; i++) {
		if (axo_lb_aim(w, axo_lb_slot_get(set, 1 + (first + i) % count)) &&
		    axo_lb_is_free(ctx, w, fe->id, scope, now))
			return 1;
	}
	return axo_lb_aim(w, chosen);
}

/*
 * Finds the backend of the packet's flow to fe: w->to, w->port, w->backend. w->key is filled. AXO_NEXT,
 * or a drop. A full table never refuses: it forgets the coldest flow.
 */
static __always_inline int axo_lb_backend_for(struct __sk_buff *skb, struct axo_ctx *ctx,
					      struct axo_lb_work *w,
					      const struct axo_lb_frontend *fe, __u8 scope)
{
	__u32 now;

	w->made = 0;
	if (AXO_LIKELY(axo_lb_recall(ctx, w, fe)))
		return AXO_NEXT;
	now = axo_ct_now();
	if (!axo_lb_aim(w, axo_lb_select(skb, ctx, fe, scope, &w->key.saddr,
					 axo_lb_hash(&w->key, !!fe->affinity_s))))
		return -AXO_DROP_NO_SERVICE;
	if (AXO_UNLIKELY(!axo_lb_is_free(ctx, w, fe->id, scope, now)) &&
	    !axo_lb_evade(ctx, w, fe, scope, now))
		return -AXO_DROP_NO_SERVICE;
	w->fresh.backend = w->backend;
	w->fresh.frontend = fe->id;
	w->fresh.flags = 0;
	w->fresh.expires = 0;
	w->fresh.pad[0] = 0;
	w->fresh.pad[1] = 0;
	w->fresh.pad[2] = 0;
	axo_lb_touch(&w->fresh, ctx, now);
	axo_lb_flows.update(&w->key, &w->fresh);
	if (scope == AXO_LB_OUTSIDE) {
		axo_lb_take(w);
		axo_lb_flows.update(&w->taken, &w->fresh);
	}
	w->made = 1;
	return AXO_NEXT;
}

/* SCTP's sum covers its ports and nothing can repair it here: they must stay. */
static __always_inline int axo_lb_may_rewrite(const struct axo_ctx *ctx, __be16 old, __be16 new)
{
	return ctx->proto != AXO_PROTO_SCTP || old == new;
}

/* The packet goes to the backend, in ctx too. AXO_NEXT or a drop. */
static __always_inline int axo_lb_to_backend(struct __sk_buff *skb, struct axo_ctx *ctx,
					     struct axo_lb_work *w)
{
	int rc;

	if (!axo_lb_may_rewrite(ctx, ctx->dport, w->port))
		return -AXO_DROP_UNSUPP_SERVICE_PROTO;
	rc = axo_nat_rewrite(skb, ctx, AXO_NAT_DST, &w->to, w->port);
	return rc ? rc : AXO_NEXT;
}

#endif
