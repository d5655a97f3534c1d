/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The tunnel device.
 *
 *	from_overlay  tc ingress: what other nodes have encapsulated, now bare again
 *	to_overlay    tc egress: what is to be encapsulated; the host's own and what the stack routed
 *	              here still needs its tunnel key
 *
 * Nothing but IPv4 and IPv6 between known ends is in a tunnel: all else is dropped.
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/parse.h"
#include "axo/events.h"
#include "axo/forward.h"
#include "axo/deliver.h"

static __always_inline int axo_from_overlay(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret;

	if (AXO_UNLIKELY(skb->vlan_present))
		return -AXO_DROP_VLAN_FILTERED;
	ret = axo_parse(skb, ctx);
	if (ret != AXO_NEXT)
		return ret;
	ret = AXO_STAGES(from_overlay_identity);
	if (ret != AXO_NEXT)
		return ret;
	if (!ctx->src_identity)
		return -AXO_DROP_INVALID_IDENTITY;
	/* an address of this node or of its pods does not come from another node */
	if (axo_endpoint_by_addr(&ctx->saddr) || axo_addr_is_martian(&ctx->saddr))
		return -AXO_DROP_INVALID_SIP;
	if (ctx->pkt & (AXO_PKT_MULTICAST | AXO_PKT_LINKLOCAL))
		return -AXO_DROP_UNKNOWN_TARGET;
	ret = AXO_STAGES(from_overlay_translate);
	if (ret != AXO_NEXT)
		return ret;
	if (AXO_UNLIKELY(axo_has_options(ctx))) {
		ret = AXO_STAGES(receive_options);
		if (ret != AXO_NEXT)
			return ret;
	}
	ret = axo_deliver_local(skb, ctx);
	if (ret == AXO_NEXT && ctx->dst_identity != AXO_ID_HOST)
		return -AXO_DROP_UNROUTABLE;
	if (ret == AXO_NEXT)
		ret = AXO_STAGES(host_ingress);
	if (ret != AXO_NEXT && ret != TC_ACT_OK)
		return ret;
	/* To the stack. The frame has the sender's idea of our MAC address. */
	bpf_skb_change_type(skb, AXO_PACKET_HOST);
	axo_trace(skb, ctx, AXO_TRACE_TO_HOST, 0);
	return TC_ACT_OK;
}

int from_overlay(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = axo_begin(skb, AXO_DIR_INGRESS, AXO_TRACE_FROM_OVERLAY);

	if (!ctx)
		return TC_ACT_SHOT;
	return axo_finish(skb, ctx, axo_from_overlay(skb, ctx));
}

/* Whether somebody has said where to already. */
static __always_inline int axo_overlay_addressed(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key;

	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		return 1;
	return !bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6);
}

static __always_inline int axo_to_overlay(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret = axo_parse(skb, ctx);

	/* the kernel greets each device's neighbours; here are none */
	if (ctx->pkt & (AXO_PKT_MULTICAST | AXO_PKT_LINKLOCAL))
		return TC_ACT_SHOT;
	if (ret != AXO_NEXT)
		return ret;
	ret = AXO_STAGES(to_overlay_encap);
	if (ret != AXO_NEXT)
		return ret;
	ret = AXO_STAGES(host_egress);
	if (ret != AXO_NEXT)
		return ret;
	axo_trace(skb, ctx, AXO_TRACE_TO_OVERLAY, skb->ifindex);
	return TC_ACT_OK;
}

int to_overlay(struct __sk_buff *skb)
{
	struct axo_ctx *ctx;

	axo_mark_set(skb, AXO_MARK_OVERLAY);
	if (axo_overlay_addressed(skb))
		return TC_ACT_OK;
	ctx = axo_begin(skb, AXO_DIR_EGRESS, AXO_TRACE_FROM_STACK);
	if (!ctx)
		return TC_ACT_SHOT;
	return axo_finish(skb, ctx, axo_to_overlay(skb, ctx));
}
