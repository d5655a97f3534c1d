/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The host's end of each pod's veth pair. One program pair serves all endpoints of the node:
 * what differs between them is in maps, found by the device's ifindex.
 *
 *	from_container  tc ingress: what the pod sends
 *	to_container    tc egress: what the node's stack sends to the pod
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/parse.h"
#include "axo/control.h"
#include "axo/conntrack.h"
#include "axo/route.h"
#include "axo/events.h"
#include "axo/deliver.h"
#include "axo/forward.h"

/* Fills in who sits behind the device. */
static __always_inline int axo_container_sender(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ep_if *self = axo_endpoint_by_if(skb->ifindex);

	if (!self)
		return -AXO_DROP_UNKNOWN_SENDER;
	ctx->src_identity = self->identity;
	ctx->src_id = self->id;
	ctx->own4 = self->ipv4.w[3];
	ctx->own6 = self->ipv6;
	ctx->own_flags = self->flags;
	return AXO_NEXT;
}

/* Frame to facts: stages on the raw frame, parse, checks of the sender, link control. */
static __always_inline int axo_container_admit(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret = axo_container_sender(skb, ctx);

	if (ret != AXO_NEXT)
		return ret;
	/* the tag would travel on, into a network that policy knows nothing of */
	if (AXO_UNLIKELY(skb->vlan_present))
		return -AXO_DROP_VLAN_FILTERED;
	ret = AXO_STAGES(from_container_frame);
	AXO_BARRIER(); /* nothing learnt there lives on in registers: a third of the verifier's walk */
	if (ret != AXO_NEXT)
		return ret;
	if (ctx->eth_proto == AXO_ETH_ARP)
		return TC_ACT_OK;
	ret = axo_parse(skb, ctx);
	if (ret != AXO_NEXT)
		return ret;
	ret = AXO_STAGES(from_container_sender);
	if (ret != AXO_NEXT)
		return ret;
	return axo_control_from(ctx);
}

/* An IPv6 link-local address on a pod's link is this node's, whichever it is. */
static __always_inline int axo_is_nodes_link(const struct axo_ctx *ctx)
{
	return (ctx->pkt & AXO_PKT_LINKLOCAL) && axo_addr_is_linklocal6(&ctx->daddr);
}

/* Broadcast and multicast that stays on the link, which has no other machine than this node. */
static __always_inline int axo_is_nodes_group(const struct axo_ctx *ctx)
{
	__be32 word = ctx->daddr.w[3];

	if (!(ctx->pkt & AXO_PKT_MULTICAST))
		return 0;
	if (ctx->family == 4) /* 224.0.0.0/24 */
		return word == 0xffffffff ||
		       (word & bpf_htonl(0xffffff00)) == bpf_htonl(0xe0000000);
	/* RFC 4291 2.7: the scope is the last nibble of the first word, up to 2 is the link */
	return (ctx->daddr.w[0] & bpf_htonl(0x000f0000)) <= bpf_htonl(0x00020000);
}

/* Who a packet is for that is no endpoint's. */
static __always_inline void axo_container_destination(struct axo_ctx *ctx)
{
	if (AXO_UNLIKELY(axo_is_nodes_link(ctx) || axo_is_nodes_group(ctx)))
		ctx->dst_identity = AXO_ID_HOST;
	else
		axo_destination_lookup(ctx);
}

/* Conntrack and policy of the sender. */
static __always_inline int axo_container_egress(struct __sk_buff *skb, struct axo_ctx *ctx,
						int local)
{
	int ret = axo_ct(skb, ctx, AXO_DIR_EGRESS);

	if (ret != AXO_NEXT || !ctx->check)
		return ret;
	if (!local)
		axo_container_destination(ctx);
	ret = AXO_STAGES(egress_policy);
	if (ret != AXO_NEXT)
		return axo_ct_refuse(ctx, AXO_DIR_EGRESS, ret);
	/* who answers is the proxy, whoever has the address */
	if (ctx->proxy_port)
		ctx->dst_id = 0;
	return axo_ct_accept(skb, ctx, AXO_DIR_EGRESS);
}

/* Policy wants a proxy to see the packet: that, or nothing. */
static __always_inline int axo_container_proxy(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret = AXO_STAGES(egress_proxy);

	if (ret != AXO_NEXT)
		return ret;
	return -AXO_DROP_PROXY_LOOKUP_FAILED;
}

/* 127.0.0.0/8 and ::1 have no business on a wire. */
static __always_inline int axo_is_loopback(const struct axo_addr *a)
{
	if (axo_addr_is4(a))
		return (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !(a->w[0] | a->w[1] | a->w[2]) && a->w[3] == bpf_htonl(1);
}

/* Destination is not on this node: tunnel or native routing, by default the stack. */
static __always_inline int axo_container_away(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret;

	if (axo_is_loopback(&ctx->daddr))
		return -AXO_DROP_UNROUTABLE;
	if (AXO_UNLIKELY(ctx->answers)) {
		ret = AXO_STAGES(egress_answer);
		if (ret != AXO_NEXT)
			return ret;
	}
	ret = AXO_STAGES(egress_forward);
	if (ret != AXO_NEXT)
		return ret;
	axo_trace(skb, ctx, AXO_TRACE_TO_STACK, 0);
	return TC_ACT_OK;
}

/* Destination is this node itself. */
static __always_inline int axo_container_host(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret = AXO_STAGES(host_ingress);

	if (ret != AXO_NEXT)
		return ret;
	axo_trace(skb, ctx, AXO_TRACE_TO_HOST, 0);
	return TC_ACT_OK;
}

/*
 * Finds whom the packet is for. A pod's own address is never a service's: between pods of this node
 * nothing is translated, and nothing is asked for it. AXO_NEXT: *to is set, or NULL.
 */
static __always_inline int axo_container_receiver(struct __sk_buff *skb, struct axo_ctx *ctx,
						  struct axo_endpoint **to)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->daddr);
	struct axo_addr sent_to = ctx->daddr;
	int ret;

	AXO_OPAQUE(ep);
	*to = ep;
	if (ep && !(ep->flags & AXO_EP_HOST))
		return AXO_NEXT;
	ret = AXO_STAGES(egress_translate);
	if (ret == AXO_NEXT && !axo_addr_equal(&sent_to, &ctx->daddr)) {
		ep = axo_endpoint_by_addr(&ctx->daddr);
		AXO_OPAQUE(ep);
		*to = ep;
	}
	return ret;
}

static __always_inline int axo_from_container(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_endpoint *ep;
	int ret = axo_container_admit(skb, ctx);

	if (ret != AXO_NEXT)
		return ret;
	ret = axo_container_receiver(skb, ctx, &ep);
	if (ret != AXO_NEXT)
		return ret;
	if (ep) {
		ctx->dst_identity = ep->identity;
		ctx->dst_id = ep->id;
	}
	ret = axo_container_egress(skb, ctx, !!ep);
	if (ret != AXO_NEXT)
		return ret;
	if (AXO_UNLIKELY(ctx->proxy_port) && ctx->ct_state <= AXO_CT_ESTABLISHED)
		return axo_container_proxy(skb, ctx);
	if (ep && !(ep->flags & AXO_EP_HOST))
		return axo_deliver_endpoint(skb, ctx, ep);
	if (!ep && !axo_is_nodes_link(ctx))
		return axo_container_away(skb, ctx);
	return axo_container_host(skb, ctx);
}

int from_container(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = axo_begin(skb, AXO_DIR_EGRESS, AXO_TRACE_FROM_ENDPOINT);
	int verdict, ret;

	if (!ctx)
		return TC_ACT_SHOT;
	verdict = axo_from_container(skb, ctx);
	ret = axo_finish(skb, ctx, verdict);
	/* the sender's own policy, not its receiver's */
	if ((verdict == -AXO_DROP_POLICY || verdict == -AXO_DROP_POLICY_DENY) &&
	    ctx->dir == AXO_DIR_EGRESS) {
		verdict = AXO_STAGES(egress_refused);
		return verdict == AXO_NEXT ? ret : verdict;
	}
	if (AXO_UNLIKELY(verdict == -AXO_DROP_NO_SERVICE)) {
		verdict = AXO_STAGES(egress_unserved);
		return verdict == AXO_NEXT ? ret : verdict;
	}
	return ret;
}

/* The pod of this node whose address a proxy has borrowed, if it is one's. */
static __always_inline void axo_sender_proxied(struct axo_ctx *ctx)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->saddr);

	if (!ep)
		return;
	ctx->src_identity = ep->identity;
	ctx->src_id = ep->id;
}

static __always_inline int axo_to_container(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ep_if *self = axo_endpoint_by_if(skb->ifindex);
	int ret, local = !skb->ingress_ifindex;

	if (!self)
		return -AXO_DROP_UNKNOWN_TARGET;
	ctx->dst_identity = self->identity;
	ctx->dst_id = self->id;
	if (ctx->eth_proto == AXO_ETH_ARP)
		return TC_ACT_OK;
	/* what no device brought in was made on this node */
	if (local)
		ctx->src_identity = AXO_ID_HOST;
	else
		axo_sender_device(skb, ctx);
	ret = axo_parse(skb, ctx);
	if (ret != AXO_NEXT)
		return ret;
	ret = axo_control_to(ctx, local);
	if (ret != AXO_NEXT)
		return ret;
	if (local && axo_mark_is(skb, AXO_MARK_PROXY_AS))
		axo_sender_proxied(ctx);
	if (local) {
		ret = AXO_STAGES(host_egress);
		if (ret != AXO_NEXT)
			return ret;
	}
	ret = axo_ingress(skb, ctx);
	if (ret != AXO_NEXT)
		return ret;
	axo_trace(skb, ctx, AXO_TRACE_TO_ENDPOINT, ctx->ifindex);
	return TC_ACT_OK;
}

int to_container(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = axo_begin(skb, AXO_DIR_INGRESS, AXO_TRACE_FROM_STACK);

	if (!ctx)
		return TC_ACT_SHOT;
	return axo_finish(skb, ctx, axo_to_container(skb, ctx));
}
