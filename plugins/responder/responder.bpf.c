/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers a pod's neighbour requests (ARP, IPv6 neighbour solicitation) in place: whatever
 * address it asks for on its link, the host's end of the veth pair is the way there. Only what
 * asks for the pod's own address (duplicate address detection) gets no answer.
 */
#include "axo/maps.h"
#include "axo/neighbour.h"

#define RESPONDER_NA_FLAGS bpf_htonl(0xe0000000) /* router, solicited, override */

/* Back to where it came from. */
static __always_inline int responder_send(struct __sk_buff *skb, int made)
{
	if (made != AXO_NEXT)
		return made;
	if (bpf_skb_change_type(skb, 0 /* PACKET_HOST: the request was a broadcast */))
		return -AXO_DROP_WRITE_ERROR;
	return bpf_redirect_peer(skb->ifindex, 0);
}

static __always_inline int responder_arp_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_endpoint *self;
	struct axo_nb_arp frame;
	struct axo_addr own;
	__be32 target, sender;

	if (skb->len < sizeof(frame))
		return -AXO_DROP_INVALID;
	if (!axo_nb_arp_read(skb, &frame, &target, &sender) || !ctx->own4 || target == ctx->own4)
		return AXO_NEXT;
	axo_addr_set4(&own, ctx->own4);
	self = axo_endpoint_by_addr(&own);
	if (!self)
		return AXO_NEXT;
	return responder_send(skb, axo_nb_arp_answer(skb, &frame, self->host_mac, target, sender));
}

static __always_inline int responder_nd_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_addr asker, target;
	struct axo_endpoint *self;

	if (!axo_nb_nd_read(skb, &asker, &target) || axo_addr_is_zero(&ctx->own6) ||
	    axo_addr_equal(&target, &ctx->own6))
		return AXO_NEXT;
	self = axo_endpoint_by_addr(&ctx->own6);
	if (!self)
		return AXO_NEXT;
	return responder_send(skb, axo_nb_advertise(skb, self->host_mac, RESPONDER_NA_FLAGS, &asker,
						    &target));
}

static __always_inline int responder_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_UNLIKELY(ctx->eth_proto == AXO_ETH_ARP))
		return responder_arp_frame(skb, ctx);
	if (ctx->eth_proto == AXO_ETH_IP6)
		return responder_nd_frame(skb, ctx);
	return AXO_NEXT;
}
