/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stages of the tunnel, the same for VXLAN and Geneve: the device knows the difference.
 *
 *	egress_forward          pod -> remote pod: key set, straight to the tunnel device
 *	to_overlay_encap        host, and what the stack forwards: key set at the tunnel device
 *	from_overlay_identity   VNI -> identity of the sender
 *	sender_identity         outside the tunnel nobody is a pod of another node
 */
#include "axo/maps.h"
#include "axo/headers.h"
#include "axo/forward.h"
#include "axo/route.h"
#include "tunnel.h"

/* Entry of an address behind a tunnel; NULL if it is not (a node itself is not). */
static __always_inline struct axo_ipcache *axo_tunnel_target(const struct axo_addr *daddr)
{
	struct axo_ipcache *to = axo_ipcache_lookup(daddr);

	if (!to)
		return NULL;
	if (axo_addr_is_zero(&to->node_ip) || axo_addr_equal(&to->node_ip, daddr))
		return NULL;
	return to;
}

/* Stage egress_forward. */
static __always_inline int tunnel_egress_forward(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	__u32 device = axo_runtime_get(AXO_RT_TUNNEL_IFINDEX);
	int rc;

	if (!device || (ctx->pkt & AXO_PKT_MULTICAST))
		return AXO_NEXT;
	axo_destination(ctx);
	if (axo_addr_is_zero(&ctx->node) || axo_addr_equal(&ctx->node, &ctx->daddr))
		return AXO_NEXT;
	/* The stack has the same route and answers with the ICMP error that is due. */
	if (!axo_fits(skb, ctx, axo_runtime_get(AXO_RT_MTU)) || ctx->ttl <= 1)
		return AXO_NEXT;
	rc = axo_tunnel_set_key(skb, &ctx->node, ctx->src_identity);
	if (rc)
		return rc;
	axo_trace(skb, ctx, AXO_TRACE_TO_OVERLAY, device);
	return bpf_redirect(device, 0);
}

/* Who sends what the stack routes to the tunnel device. */
static __always_inline __u32 axo_tunnel_sender(const struct axo_ctx *ctx)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->saddr);

	if (ep)
		return ep->flags & AXO_EP_HOST ? AXO_ID_HOST : ep->identity;
	return axo_identity_by_addr(&ctx->saddr, ctx->family);
}

/* Stage to_overlay_encap. */
static __always_inline int tunnel_to_overlay_encap(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ipcache *to = axo_tunnel_target(&ctx->daddr);

	if (!to)
		return -AXO_DROP_NO_TUNNEL_ENDPOINT;
	ctx->src_identity = axo_tunnel_sender(ctx);
	ctx->dst_identity = to->identity;
	return axo_tunnel_set_key(skb, &to->node_ip, ctx->src_identity) ?
		       -AXO_DROP_WRITE_ERROR :
		       AXO_NEXT;
}

/* Stage from_overlay_identity. */
static __always_inline int tunnel_from_overlay_identity(struct __sk_buff *skb,
							struct axo_ctx *ctx)
{
	struct bpf_tunnel_key key = {};
	struct axo_ipcache *from;

	if (axo_tunnel_get_key(skb, &key))
		return -AXO_DROP_NO_TUNNEL_KEY;
	if (key.tunnel_id == AXO_ID_UNKNOWN || key.tunnel_id == AXO_ID_HOST ||
	    key.tunnel_id >= AXO_LOCAL_SCOPE)
		return -AXO_DROP_INVALID_IDENTITY;
	ctx->src_identity = key.tunnel_id;
	switch (key.tunnel_id) {
	case AXO_ID_WORLD:
	case AXO_ID_WORLD_V4:
	case AXO_ID_WORLD_V6:
		ctx->src_identity = axo_identity_world(ctx->family);
		break;
	case AXO_ID_REMOTE_NODE:
		/* a node can be more than that to us: kube-apiserver */
		from = axo_ipcache_lookup(&ctx->saddr);
		if (from && from->identity == AXO_ID_APISERVER)
			ctx->src_identity = AXO_ID_APISERVER;
		break;
	}
	return AXO_NEXT;
}

/*
 * Stage sender_identity. A packet that claims an address behind the tunnel but did not come through it
 * is somebody else's: it gets no pod's or node's identity.
 */
static __always_inline int tunnel_sender_identity(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (skb->ingress_ifindex != (__u32)axo_runtime_get(AXO_RT_TUNNEL_IFINDEX) &&
	    axo_tunnel_target(&ctx->saddr))
		ctx->src_identity = axo_identity_world(ctx->family);
	return AXO_NEXT;
}
