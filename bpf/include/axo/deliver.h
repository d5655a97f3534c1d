/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The way into a local endpoint, the same from a neighbour pod, a device or the tunnel:
 *
 *	whose address? -> TTL -> conntrack (ingress) -> ingress_policy -> ingress_deliver
 *	  -> MAC addresses and TTL in one write -> redirect_peer into the pod's namespace
 *
 * redirect_peer passes by the egress program of the host's end of the veth pair, so the ingress
 * policy has run before it, here. It works from a tc ingress hook only.
 */
#ifndef AXO_DELIVER_H
#define AXO_DELIVER_H

#include "axo/conntrack.h"
#include "axo/route.h"
#include "axo/events.h"

/* Sender of what the stack hands on: the endpoint behind the device that it came in on, if any. */
static __always_inline void axo_sender_device(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ep_if *sender = axo_endpoint_by_if(skb->ingress_ifindex);

	if (!sender)
		return;
	ctx->src_identity = sender->identity;
	ctx->src_id = sender->id;
}

/*
 * Identity of a sender whose device, tunnel or socket did not tell it: by address. An address of
 * this node or of its endpoints is forged there. AXO_NEXT or a drop.
 */
static __always_inline int axo_sender_resolve(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (axo_endpoint_by_addr(&ctx->saddr))
		return -AXO_DROP_INVALID_SIP;
	ctx->src_identity = axo_identity_by_addr(&ctx->saddr, ctx->family);
	return AXO_STAGES(sender_identity);
}

/* Conntrack has seen this hook too while it looked at the sender's. */
static __always_inline int axo_ct_foreseen(struct axo_ctx *ctx)
{
	if (ctx->ct_next == AXO_CT_NEXT_UNKNOWN)
		return 0;
	ctx->ct_state = ctx->ct_next == AXO_CT_NEXT_REPLY ? AXO_CT_REPLY : AXO_CT_ESTABLISHED;
	ctx->check = 0;
	return 1;
}

/*
 * May the packet enter the endpoint whose dst_identity and dst_id are set? Conntrack, policy,
 * ingress_deliver. src_identity may be 0: it is resolved when policy needs it. AXO_NEXT: yes.
 */
static __always_inline int axo_ingress(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	int ret;

	ctx->dir = AXO_DIR_INGRESS;
	if (axo_ct_foreseen(ctx))
		return AXO_STAGES(ingress_deliver);
	ret = axo_ct(skb, ctx, AXO_DIR_INGRESS);
	if (ret != AXO_NEXT)
		return ret;
	if (ctx->check) {
		/* the answer to a question that a proxy has asked in the pod's name */
		if (ctx->ct_state == AXO_CT_NEW) {
			ret = AXO_STAGES(ingress_proxy);
			if (ret != AXO_NEXT)
				return ret;
		}
		if (!ctx->src_identity) {
			ret = axo_sender_resolve(skb, ctx);
			if (ret != AXO_NEXT)
				return ret;
		}
		ret = AXO_STAGES(ingress_policy);
		if (ret != AXO_NEXT)
			return axo_ct_refuse(ctx, AXO_DIR_INGRESS, ret);
		ret = axo_ct_accept(skb, ctx, AXO_DIR_INGRESS);
		if (ret != AXO_NEXT)
			return ret;
	}
	return AXO_STAGES(ingress_deliver);
}

/* Sum of a header in which one 16-bit word went from old to new (RFC 1624, eqn. 3). */
static __always_inline __be16 axo_csum_adjust(__be16 csum, __be16 old, __be16 new)
{
	u32 sum = (u16)~csum + (u32)(u16)~old + new;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/*
 * New MAC addresses and one hop less, in one write: the first bytes of the frame
 *
 *	IPv4  | dst 6 | src 6 | 0x0800 | 8 bytes | TTL | proto | checksum |
 *	IPv6  | dst 6 | src 6 | 0x86dd | 7 bytes | hop limit |
 */
static __always_inline int axo_rewrite_l2(struct __sk_buff *skb, struct axo_ctx *ctx, const u8 *dst,
					  const u8 *src)
{
	struct {
		struct axo_eth eth;
		__be16 words[6]; /* network order: first 12 bytes of the IP header */
	} __attribute__((packed)) head;
	void *data;

	if (!axo_linear(skb, sizeof(head)))
		return -AXO_DROP_INVALID;
	data = (void *)(long)skb->data;
	if (data + sizeof(head) > (void *)(long)skb->data_end)
		return -AXO_DROP_INVALID;
	__builtin_memcpy(&head, data, sizeof(head));
	__builtin_memcpy(head.eth.dst, dst, 6);
	__builtin_memcpy(head.eth.src, src, 6);
	ctx->ttl--;
	if (ctx->family == 4) {
		__be16 old = head.words[4], new = old - bpf_htons(0x0100);

		head.words[4] = new;
		head.words[5] = axo_csum_adjust(head.words[5], old, new);
	} else {
		head.words[3] -= bpf_htons(0x0001);
	}
	if (bpf_skb_store_bytes(skb, 0, &head, sizeof(head), 0))
		return -AXO_DROP_WRITE_ERROR;
	return AXO_NEXT;
}

/* Has this packet a hop left? If not, it goes to the stack, which sends the ICMP error. */
static __always_inline int axo_ttl_left(const struct axo_ctx *ctx)
{
	return ctx->ttl > 1;
}

/* The last step: into the namespace of a local endpoint that has accepted the packet. */
static __always_inline int axo_redirect_local(struct __sk_buff *skb, struct axo_ctx *ctx,
					      const struct axo_endpoint *ep)
{
	int ret = axo_rewrite_l2(skb, ctx, ep->mac, ep->host_mac);

	if (ret != AXO_NEXT)
		return ret;
	axo_trace(skb, ctx, AXO_TRACE_TO_ENDPOINT, ep->ifindex);
	return bpf_redirect_peer(ep->ifindex, 0);
}

static __always_inline int axo_deliver_endpoint(struct __sk_buff *skb, struct axo_ctx *ctx,
						const struct axo_endpoint *ep)
{
	int ret;

	ctx->dst_identity = ep->identity;
	ctx->dst_id = ep->id;
	if (!axo_ttl_left(ctx))
		return TC_ACT_OK;
	ret = axo_ingress(skb, ctx);
	if (ret != AXO_NEXT)
		return ret;
	return axo_redirect_local(skb, ctx, ep);
}

/*
 * For programs on devices: delivers if the destination is a pod of this node. AXO_NEXT: it is not
 * (another node, or an address of this one, in which case dst_identity is AXO_ID_HOST). Set
 * src_identity before if the device tells it (tunnel), else leave it 0.
 */
static __always_inline int axo_deliver_local(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->daddr);

	if (!ep)
		return AXO_NEXT;
	if (ep->flags & AXO_EP_HOST) {
		ctx->dst_identity = AXO_ID_HOST;
		return AXO_NEXT;
	}
	return axo_deliver_endpoint(skb, ctx, ep);
}

#endif
