/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Direct server return: the packet keeps its client's address on the way to the backend and carries the
 * service's, so that the backend's node can answer in its name. Numbers are Cilium's.
 *
 *	IPv4: an option behind the fixed header	| 0x9a | 8 | port 2 | address 4 |
 *	IPv6: destination options (RFC 8200 4.6)	| next | 2 | 0x1b | 20 | address 16 | port 2 | 0 2 |
 *
 * TCP carries it with its SYN, all else always. In a tunnel it is in the inner packet.
 */
#ifndef AXO_NODEPORT_DSR_H
#define AXO_NODEPORT_DSR_H

#include "axo/checksum.h"
#include "axo/parse.h"
#include "lb_answer.h"
#include "lb_maps.h"

#define NODEPORT_OPT4 0x9a /* copied into fragments, class 0, number 26 */
#define NODEPORT_OPT6 0x1b /* who does not know it skips it */

struct nodeport_opt4 {
	__u8 type;
	__u8 len;
	__be16 port; /* network order */
	__be32 addr; /* network order */
};

struct nodeport_opt6 {
	__u8 next;
	__u8 hdr_len; /* 8-byte units behind the first */
	__u8 type;
	__u8 len;
	struct axo_addr addr; /* network order */
	__be16 port;	      /* network order */
	__u16 pad;
};

static __always_inline int nodeport_dsr4(struct __sk_buff *skb, struct axo_ctx *ctx,
					 const struct axo_addr *vip, __be16 port)
{
	struct nodeport_opt4 opt = {.type = NODEPORT_OPT4, .len = sizeof(opt)};
	__be16 head, fresh, len, longer;
	u32 diff;

	/* room is made behind the fixed header: other options would come to stand behind ours */
	if (ctx->l4_off != AXO_ETH_HLEN + sizeof(struct axo_ipv4))
		return -AXO_DROP_CT_INVALID_HDR;
	opt.port = port;
	opt.addr = vip->w[3];
	if (axo_frame_room(skb, sizeof(opt), AXO_ETH_HLEN + sizeof(struct axo_ipv4)) ||
	    bpf_skb_load_bytes(skb, AXO_ETH_HLEN, &head, 2) ||
	    bpf_skb_load_bytes(skb, AXO_ETH_HLEN + 2, &len, 2))
		return -AXO_DROP_WRITE_ERROR;
	fresh = head + bpf_htons(0x0200); /* IHL: two words more */
	longer = bpf_htons(bpf_ntohs(len) + sizeof(opt));
	diff = bpf_csum_diff(NULL, 0, (void *)&opt, sizeof(opt), 0);
	if (bpf_l3_csum_replace(skb, AXO_IP4_CSUM_OFF, head, fresh, 2) ||
	    bpf_l3_csum_replace(skb, AXO_IP4_CSUM_OFF, len, longer, 2) ||
	    bpf_l3_csum_replace(skb, AXO_IP4_CSUM_OFF, 0, diff, 0))
		return -AXO_DROP_CSUM_L3;
	if (bpf_skb_store_bytes(skb, AXO_ETH_HLEN, &fresh, 2, 0) ||
	    bpf_skb_store_bytes(skb, AXO_ETH_HLEN + 2, &longer, 2, 0) ||
	    bpf_skb_store_bytes(skb, AXO_ETH_HLEN + sizeof(struct axo_ipv4), &opt, sizeof(opt), 0))
		return -AXO_DROP_WRITE_ERROR;
	ctx->l4_off += sizeof(opt);
	return AXO_NEXT;
}

static __always_inline int nodeport_dsr6(struct __sk_buff *skb, struct axo_ctx *ctx,
					 const struct axo_addr *vip, __be16 port)
{
	struct nodeport_opt6 opt = {.hdr_len = 2, .type = NODEPORT_OPT6, .len = 20};
	__u8 ours = AXO_PROTO_DSTOPTS;
	__be16 len;

	if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN + 4, &len, 2) ||
	    bpf_skb_load_bytes(skb, AXO_ETH_HLEN + 6, &opt.next, 1))
		return -AXO_DROP_INVALID;
	opt.addr = *vip;
	opt.port = port;
	len = bpf_htons(bpf_ntohs(len) + sizeof(opt));
	if (axo_frame_room(skb, sizeof(opt), AXO_ETH_HLEN + sizeof(struct axo_ipv6)) ||
	    bpf_skb_store_bytes(skb, AXO_ETH_HLEN + 4, &len, 2, 0) ||
	    bpf_skb_store_bytes(skb, AXO_ETH_HLEN + 6, &ours, 1, 0) ||
	    bpf_skb_store_bytes(skb, AXO_ETH_HLEN + sizeof(struct axo_ipv6), &opt, sizeof(opt), 0))
		return -AXO_DROP_WRITE_ERROR;
	ctx->l4_off += sizeof(opt);
	return AXO_NEXT;
}

static __always_inline int nodeport_dsr_says(const struct axo_ctx *ctx)
{
	if (ctx->pkt & AXO_PKT_LATER) /* follows the first one */
		return 0;
	return ctx->proto != AXO_PROTO_TCP || ctx->tcp_flags & AXO_TCP_SYN;
}

/* Bytes that it takes in this packet. */
static __always_inline u32 nodeport_dsr_room(const struct axo_ctx *ctx)
{
	if (!nodeport_dsr_says(ctx))
		return 0;
	return ctx->family == 4 ? sizeof(struct nodeport_opt4) : sizeof(struct nodeport_opt6);
}

/* Puts the service's address into a packet that has been sent on to its backend. AXO_NEXT or a drop. */
static __always_inline int nodeport_dsr_add(struct __sk_buff *skb, struct axo_ctx *ctx,
					    const struct axo_addr *vip, __be16 port)
{
	if (!nodeport_dsr_says(ctx))
		return AXO_NEXT;
	return ctx->family == 4 ? nodeport_dsr4(skb, ctx, vip, port) :
				  nodeport_dsr6(skb, ctx, vip, port);
}

/* Reads what another node has put in. 1: vip and port are set. */
static __always_inline int nodeport_dsr_read(struct __sk_buff *skb, const struct axo_ctx *ctx,
					     struct axo_lb_name *vip)
{
	struct nodeport_opt4 opt4;
	struct nodeport_opt6 opt6;
	__u8 next;

	if (ctx->family == 4) {
		if (ctx->l4_off < AXO_ETH_HLEN + sizeof(struct axo_ipv4) + sizeof(opt4) ||
		    bpf_skb_load_bytes(skb, AXO_ETH_HLEN + sizeof(struct axo_ipv4), &opt4,
				       sizeof(opt4)))
			return 0;
		if (opt4.type != NODEPORT_OPT4 || opt4.len != sizeof(opt4))
			return 0;
		axo_addr_set4(&vip->addr, opt4.addr);
		vip->port = opt4.port;
		vip->pad = 0;
		return 1;
	}
	if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN + 6, &next, 1) || next != AXO_PROTO_DSTOPTS ||
	    bpf_skb_load_bytes(skb, AXO_ETH_HLEN + sizeof(struct axo_ipv6), &opt6, sizeof(opt6)))
		return 0;
	if (opt6.hdr_len != 2 || opt6.type != NODEPORT_OPT6 || opt6.len != 20)
		return 0;
	vip->addr = opt6.addr;
	vip->port = opt6.port;
	vip->pad = 0;
	return 1;
}

/* A service that every node knows, or a node port of another node. */
static __always_inline int nodeport_dsr_known(const struct axo_lb_name *vip, __u8 family,
					      __u8 proto)
{
	struct axo_addr any = {};
	struct axo_ipcache *who;

	if (axo_lb_find(&vip->addr, vip->port, proto))
		return 1;
	if (family == 4)
		axo_addr_set4(&any, 0);
	if (!axo_lb_find(&any, vip->port, proto))
		return 0;
	who = axo_ipcache_lookup(&vip->addr);
	return who && axo_identity_is_node(who->identity);
}

/* The packet has options: remembers in whose name the backend, a pod of this node, must answer. */
static __always_inline int nodeport_dsr_take(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_lb_answer_work *a = axo_lb_answer_get();

	if (!a || (ctx->pkt & (AXO_PKT_LATER | AXO_PKT_ICMP_ERROR)))
		return AXO_NEXT;
	if (ctx->proto != AXO_PROTO_TCP && ctx->proto != AXO_PROTO_UDP &&
	    ctx->proto != AXO_PROTO_SCTP)
		return AXO_NEXT;
	if (!nodeport_dsr_read(skb, ctx, &a->name) ||
	    !nodeport_dsr_known(&a->name, ctx->family, ctx->proto))
		return AXO_NEXT;
	axo_lb_dsr_of(&a->dsr, &ctx->daddr, ctx->dport, &ctx->saddr, ctx->sport, ctx->proto);
	axo_lb_dsr.update(&a->dsr, &a->name);
	ctx->service = AXO_SERVICE_ELSEWHERE;
	return AXO_NEXT;
}

#endif
