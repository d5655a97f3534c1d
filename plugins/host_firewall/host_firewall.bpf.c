/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stages of the host firewall: policy of subject host (1) for what the node itself sends and gets.
 *
 *	host_ingress	from_netdev, from_overlay, from_container: a packet for this node
 *	host_egress	to_netdev, to_overlay, to_container: a packet that this node may have made
 *	host_unparsed	from_netdev: for this node, and nobody can tell what it is
 *
 * What may never be refused, lest the node be locked out of its own cluster, is in host_is_exempt()
 * and host_is_guarded().
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/parse.h"
#include "axo/control.h"
#include "axo/forward.h"
#include "axo/deliver.h"
#include "host_flows.h"

/* UDP between nodes, where there is a tunnel */
#ifdef AXO_TUNNEL_PORT
#define AXO_HOST_TUNNEL_PORT AXO_TUNNEL_PORT
#else
#define AXO_HOST_TUNNEL_PORT 0
#endif

#define AXO_PORT_DHCP4_SERVER 67
#define AXO_PORT_DHCP4_CLIENT 68
#define AXO_PORT_DHCP6_CLIENT 546
#define AXO_PORT_DHCP6_SERVER 547

/* Where the API servers listen (TCP): this node's components always get through to them. */
struct axo_host_guard_key {
	struct axo_addr ip; /* network order */
	__be16 port;	    /* network order */
	__u16 pad;
};

struct axo_host_guard {
	__u32 why; /* 1: an API server */
};

BPF_TABLE("hash", struct axo_host_guard_key, struct axo_host_guard, axo_host_guard, 4096);

static __always_inline int host_is_dhcp(const struct axo_ctx *ctx)
{
	__be16 client, server;

	if (ctx->proto != AXO_PROTO_UDP)
		return 0;
	client = bpf_htons(ctx->family == 4 ? AXO_PORT_DHCP4_CLIENT : AXO_PORT_DHCP6_CLIENT);
	server = bpf_htons(ctx->family == 4 ? AXO_PORT_DHCP4_SERVER : AXO_PORT_DHCP6_SERVER);
	return (ctx->sport == client && ctx->dport == server) ||
	       (ctx->sport == server && ctx->dport == client);
}

/* What keeps the link up: neighbours, routers, groups, and the lease of an address. */
static __always_inline int host_is_exempt(const struct axo_ctx *ctx)
{
	if (ctx->pkt & AXO_PKT_MULTICAST)
		return 1;
	if (ctx->family == 6 && ctx->proto == AXO_PROTO_ICMP6 &&
	    (axo_is_nd(ctx->icmp_type) || axo_is_mld(ctx->icmp_type)))
		return 1;
	return host_is_dhcp(ctx);
}

static __always_inline int host_is_tunnel(const struct axo_ctx *ctx)
{
	return AXO_HOST_TUNNEL_PORT && ctx->proto == AXO_PROTO_UDP &&
	       ctx->dport == bpf_htons(AXO_HOST_TUNNEL_PORT);
}

/* What connects the node with its cluster: API servers, other nodes' tunnels, its own proxies. */
static __always_inline int host_is_guarded(struct __sk_buff *skb, const struct axo_ctx *ctx, u8 dir)
{
	struct axo_host_guard_key key = {};

	if (host_is_tunnel(ctx))
		return axo_identity_is_remote_node(dir == AXO_DIR_INGRESS ? ctx->src_identity :
									    ctx->dst_identity);
	if (dir == AXO_DIR_INGRESS)
		return 0;
	if (axo_mark_is(skb, AXO_MARK_PROXY))
		return 1;
	if (ctx->proto != AXO_PROTO_TCP)
		return 0;
	key.ip = ctx->daddr;
	key.port = ctx->dport;
	return axo_host_guard.lookup(&key) != NULL;
}

/* Policy of the node. AXO_NEXT or a drop. */
static __always_inline int host_ask(struct __sk_buff *skb, struct axo_ctx *ctx, u8 dir)
{
	int ret;

	if (dir == AXO_DIR_INGRESS)
		ret = AXO_STAGES(ingress_policy);
	else
		ret = AXO_STAGES(egress_policy);
	/* a node that nobody can reach cannot be repaired */
	return ret == -AXO_DROP_EP_NOT_READY ? AXO_NEXT : ret;
}

/* Who is at the other end. AXO_NEXT or a drop. */
static __always_inline int host_resolve(struct __sk_buff *skb, struct axo_ctx *ctx, u8 dir)
{
	if (dir == AXO_DIR_INGRESS)
		return ctx->src_identity ? AXO_NEXT : axo_sender_resolve(skb, ctx);
	if (!ctx->dst_identity)
		ctx->dst_identity = axo_identity_by_addr(&ctx->daddr, ctx->family);
	return AXO_NEXT;
}

/* Does an ICMP error that the node sends speak of a packet that it forwards for others? */
static __always_inline int host_speaks_as_router(const struct axo_ctx *ctx)
{
	struct axo_ct_scratch *ct = axo_ct_scratch_get();
	struct axo_endpoint *ep;

	if (!ct)
		return 0;
	ep = axo_endpoint_by_addr(&ct->inner_dst);
	return !ep || !(ep->flags & AXO_EP_HOST);
}

static __always_inline int host_error(struct __sk_buff *skb, struct axo_ctx *ctx,
				      struct axo_host_scratch *s, u8 dir, u32 now)
{
	int ret;

	if (axo_host_quoted(skb, ctx, s, dir) &&
	    (axo_host_find(s, now) || (dir == AXO_DIR_EGRESS && host_speaks_as_router(ctx)))) {
		ctx->ct_state = AXO_CT_RELATED;
		return AXO_NEXT;
	}
	ret = host_resolve(skb, ctx, dir);
	return ret == AXO_NEXT ? host_ask(skb, ctx, dir) : ret;
}

/* Did another machine or a pod make it, and netfilter gave it the node's address? */
static __always_inline int host_is_translated(const struct __sk_buff *skb, u8 dir)
{
	return dir == AXO_DIR_EGRESS && skb->ingress_ifindex;
}

/*
 * A packet that no flow speaks for, or whose flow must be asked about again (known). What is only
 * noted, so that its answer is known, is not the node's business.
 */
static __always_inline int host_decide(struct __sk_buff *skb, struct axo_ctx *ctx,
				       struct axo_host_scratch *s, u8 dir, int known, u32 now)
{
	int ret = host_resolve(skb, ctx, dir);

	if (ret != AXO_NEXT)
		return ret;
	ctx->ct_state = known ? AXO_CT_ESTABLISHED : AXO_CT_NEW;
	if (!host_is_translated(skb, dir) && !host_is_guarded(skb, ctx, dir)) {
		ret = host_ask(skb, ctx, dir);
		if (ret != AXO_NEXT) {
			if (known)
				axo_host_flows.delete(&s->key);
			return ret;
		}
	}
	s->fresh.flags = axo_host_flags(ctx, known ? s->fresh.flags : 0, dir);
	s->fresh.generation = ctx->policy_gen;
	s->fresh.opened = dir;
	s->fresh.expires = now + axo_ct_lifetime(ctx->proto, s->fresh.flags);
	if (axo_host_flows.update(&s->key, &s->fresh))
		return -AXO_DROP_CT_CREATE_FAILED;
	return AXO_NEXT;
}

/* May the packet go in or out of this node? AXO_NEXT or a drop. */
static __always_inline int host_judge(struct __sk_buff *skb, struct axo_ctx *ctx, u8 dir)
{
	struct axo_host_scratch *s = axo_host_scratch_get();
	struct axo_host_flow *flow;
	u32 now = axo_ct_now();

	if (!s)
		return -AXO_DROP_CT_NO_MAP_FOUND;
	if (host_is_exempt(ctx))
		return AXO_NEXT;
	/* before policy is asked: what changes meanwhile must not pass for the new generation's */
	if (!ctx->policy_gen)
		ctx->policy_gen = axo_policy_generation();
	AXO_BARRIER();
	ctx->ct_state = AXO_CT_NEW;
	if (ctx->pkt & AXO_PKT_ICMP_ERROR)
		return host_error(skb, ctx, s, dir, now);
	axo_host_key_of(s, ctx, dir);
	flow = axo_host_find(s, now);
	if (!flow || (axo_is_new_syn(ctx) && (flow->flags & AXO_CT_FLAG_CLOSED)))
		return host_decide(skb, ctx, s, dir, 0, now);
	if (flow->opened != dir) {
		ctx->ct_state = AXO_CT_REPLY;
	} else if (flow->generation == ctx->policy_gen) {
		ctx->ct_state = AXO_CT_ESTABLISHED;
	} else {
		s->fresh.flags = flow->flags;
		return host_decide(skb, ctx, s, dir, 1, now);
	}
	axo_host_touch(ctx, flow, dir, now);
	return AXO_NEXT;
}

/* Stage host_ingress. */
static __always_inline int host_firewall_ingress(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	ctx->dir = AXO_DIR_INGRESS;
	ctx->dst_identity = AXO_ID_HOST;
	ctx->dst_id = 0;
	return host_judge(skb, ctx, AXO_DIR_INGRESS);
}

/* Stage host_egress. */
static __always_inline int host_firewall_egress(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	u8 dir = ctx->dir;
	int ret;

	if (!axo_addr_is_linklocal6(&ctx->saddr)) {
		struct axo_endpoint *self = axo_endpoint_by_addr(&ctx->saddr);

		if (!self || !(self->flags & AXO_EP_HOST))
			return AXO_NEXT;
	}
	ctx->dir = AXO_DIR_EGRESS;
	ctx->src_identity = AXO_ID_HOST;
	ret = host_judge(skb, ctx, AXO_DIR_EGRESS);
	if (ret == AXO_NEXT)
		ctx->dir = dir;
	return ret;
}

/* Stage host_unparsed: what rules for any protocol and port say. */
static __always_inline int host_firewall_unparsed(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret;

	if (ctx->pkt & AXO_PKT_MULTICAST)
		return AXO_NEXT;
	ctx->dir = AXO_DIR_INGRESS;
	ctx->dst_identity = AXO_ID_HOST;
	ctx->proto = 0;
	ctx->dport = 0;
	ctx->pkt = 0;
	ret = host_resolve(skb, ctx, AXO_DIR_INGRESS);
	return ret == AXO_NEXT ? host_ask(skb, ctx, AXO_DIR_INGRESS) : ret;
}
