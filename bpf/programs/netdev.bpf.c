/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The node's own devices: where pods' packets leave for, and arrive from, other machines.
 *
 *	from_netdev  tc ingress: answers get their pod's address back, pods get what is theirs
 *	to_netdev    tc egress: masquerading
 *
 * The node's own traffic passes here too. It is the host firewall's business alone: without one, what
 * is neither from nor to a pod of this node goes on untouched, whatever it is and however broken.
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/parse.h"
#include "axo/events.h"
#include "axo/forward.h"
#include "axo/deliver.h"

#define AXO_NETDEV_POD	1
#define AXO_NETDEV_NODE 2

/* Whose address it is: a pod's of this node, this node's, or (0) anybody else's. */
static __always_inline int axo_netdev_whose(const struct axo_addr *ip)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(ip);

	if (!ep)
		return 0;
	return ep->flags & AXO_EP_HOST ? AXO_NETDEV_NODE : AXO_NETDEV_POD;
}

static __always_inline int axo_netdev_is_pod(const struct axo_addr *ip)
{
	return axo_netdev_whose(ip) == AXO_NETDEV_POD;
}

/* A packet that cannot be judged is dropped if it is a pod's, and else left alone. */
static __always_inline int axo_netdev_unparsed(const struct axo_ctx *ctx,
					       const struct axo_addr *ours, int reason)
{
	if (!ctx->family)
		return TC_ACT_OK;
	return axo_netdev_is_pod(ours) ? reason : TC_ACT_OK;
}

/* The same for what comes in: it may be for the node itself. */
static __always_inline int axo_netdev_unparsed_in(struct __sk_buff *skb, struct axo_ctx *ctx,
						  int reason)
{
	int whose;

	if (!ctx->family)
		return TC_ACT_OK;
	whose = axo_netdev_whose(&ctx->daddr);
	if (whose == AXO_NETDEV_POD)
		return reason;
	return whose == AXO_NETDEV_NODE ? AXO_STAGES(host_unparsed) : TC_ACT_OK;
}

/*
 * Finds whom the packet is for. What is for one of this node's pods under its own address is as its
 * sender sent it; what is for the node may be an answer to a pod. AXO_NEXT: *to is set, or NULL.
 */
static __always_inline int axo_netdev_receiver(struct __sk_buff *skb, struct axo_ctx *ctx,
					       struct axo_endpoint **to)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->daddr);
	struct axo_addr sent_to = ctx->daddr;
	int ret;

	AXO_OPAQUE(ep);
	*to = ep;
	if (ep && !(ep->flags & AXO_EP_HOST))
		return AXO_NEXT;
	if (ep)
		ctx->dst_identity = AXO_ID_HOST;
	ret = AXO_STAGES(from_netdev_translate);
	if (ret == AXO_NEXT && !axo_addr_equal(&sent_to, &ctx->daddr)) {
		ep = axo_endpoint_by_addr(&ctx->daddr);
		AXO_OPAQUE(ep);
		*to = ep;
	}
	return ret;
}

static __always_inline int axo_from_netdev(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_endpoint *to;
	int ret, source;

	/* a VLAN is another network: its own device, if there is one, sees the packet bare */
	if (AXO_UNLIKELY(skb->vlan_present))
		return TC_ACT_OK;
	ret = AXO_STAGES(from_netdev_frame);
	if (ret != AXO_NEXT)
		return ret;
	if (ctx->eth_proto != AXO_ETH_IP4 && ctx->eth_proto != AXO_ETH_IP6)
		return TC_ACT_OK;
	ret = axo_parse(skb, ctx);
	if (ret != AXO_NEXT)
		return axo_netdev_unparsed_in(skb, ctx, ret);
	/* a pod of this node speaks through its own device, never from out there */
	source = axo_netdev_whose(&ctx->saddr);
	if (source == AXO_NETDEV_POD)
		return -AXO_DROP_INVALID_SIP;
	/* nor does anybody speak from an address that no router forwards */
	if (AXO_UNLIKELY(axo_addr_is_martian(&ctx->saddr) || (ctx->pkt & AXO_PKT_LINKLOCAL))) {
		if (axo_netdev_is_pod(&ctx->daddr))
			return -AXO_DROP_INVALID_SIP;
		if (!(ctx->pkt & AXO_PKT_LINKLOCAL))
			return TC_ACT_OK;
	} else {
		ret = axo_netdev_receiver(skb, ctx, &to);
		if (ret != AXO_NEXT || !to)
			return ret;
		if (!(to->flags & AXO_EP_HOST)) {
			/* nor this node to its pods: conntrack would take it for a known peer */
			if (AXO_UNLIKELY(source))
				return -AXO_DROP_INVALID_SIP;
			if (AXO_UNLIKELY(axo_has_options(ctx)) && !ctx->service) {
				ret = AXO_STAGES(receive_options);
				if (ret != AXO_NEXT)
					return ret;
			}
			return axo_deliver_endpoint(skb, ctx, to);
		}
	}
	ctx->dst_identity = AXO_ID_HOST;
	return AXO_STAGES(host_ingress);
}

int from_netdev(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = axo_begin(skb, AXO_DIR_INGRESS, AXO_TRACE_FROM_NETWORK);
	int verdict, ret;

	if (!ctx)
		return TC_ACT_SHOT;
	verdict = axo_from_netdev(skb, ctx);
	ret = axo_finish(skb, ctx, verdict);
	if (AXO_UNLIKELY(verdict == -AXO_DROP_NO_SERVICE)) {
		verdict = AXO_STAGES(from_netdev_unserved);
		return verdict == AXO_NEXT ? ret : verdict;
	}
	return ret;
}

static __always_inline int axo_to_netdev(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret;

	if (ctx->eth_proto != AXO_ETH_IP4 && ctx->eth_proto != AXO_ETH_IP6)
		return TC_ACT_OK;
	if (AXO_UNLIKELY(skb->vlan_present)) /* the VLAN's device has seen it */
		return TC_ACT_OK;
	ret = axo_parse(skb, ctx);
	if (ret != AXO_NEXT)
		return axo_netdev_unparsed(ctx, &ctx->saddr, ret);
	ret = AXO_STAGES(host_egress);
	if (ret != AXO_NEXT)
		return ret;
	return AXO_STAGES(to_netdev_translate);
}

int to_netdev(struct __sk_buff *skb)
{
	struct axo_ctx *ctx;

	if (axo_mark_is_done(skb))
		return TC_ACT_OK;
	ctx = axo_begin(skb, AXO_DIR_EGRESS, AXO_TRACE_TO_NETWORK);
	if (!ctx)
		return TC_ACT_SHOT;
	return axo_finish(skb, ctx, axo_to_netdev(skb, ctx));
}
