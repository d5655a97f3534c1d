/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers a pod's neighbour requests (ARP, IPv6 neighbour solicitation) in place: whatever
 * address it asks for on its link, the host's end of the veth pair is the way there. Only what
 * asks for the pod's own address (duplicate address detection) gets no answer.
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/headers.h"
#include "axo/parse.h"
#include "axo/checksum.h"

#define RESPONDER_ARP_REQUEST bpf_htons(1)
#define RESPONDER_ARP_REPLY   bpf_htons(2)
#define RESPONDER_NA_FLAGS    bpf_htonl(0xe0000000) /* router, solicited, override */
#define RESPONDER_OPT_TLLA    2

struct responder_arp {
	struct axo_eth eth;
	struct axo_arp arp;
} __attribute__((packed));

/*
 * RFC 4861 4.3, 4.4: solicitation and advertisement, with one link-layer address option
 *	| type | code | checksum | flags 32 | target 128 | option 8 bytes |
 */
struct responder_nd {
	__u8 type;
	__u8 code;
	__be16 csum;		/* network order */
	__be32 flags;		/* network order */
	struct axo_addr target; /* network order */
	__u8 opt_type;
	__u8 opt_len; /* units of 8 bytes */
	__u8 opt_mac[6];
};

/* Pseudo header and message in one piece, for the checksum (RFC 8200 8.1). */
struct responder_nd_sum {
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
	__be32 len;	       /* network order */
	__be32 next;	       /* network order */
	struct responder_nd nd;
};

#define RESPONDER_ND_OFF (AXO_ETH_HLEN + sizeof(struct axo_ipv6))
#define RESPONDER_ND_LEN (RESPONDER_ND_OFF + sizeof(struct responder_nd))

/* Back to where it came from. */
static __always_inline int responder_send(struct __sk_buff *skb)
{
	if (bpf_skb_change_type(skb, 0 /* PACKET_HOST: the request was a broadcast */))
		return -AXO_DROP_WRITE_ERROR;
	return bpf_redirect_peer(skb->ifindex, 0);
}

static __always_inline int responder_arp_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_endpoint *self;
	struct responder_arp frame;
	struct axo_addr own;
	__be32 target, sender;

	if (bpf_skb_load_bytes(skb, 0, &frame, sizeof(frame)))
		return -AXO_DROP_INVALID;
	if (frame.arp.hw_type != bpf_htons(1) || frame.arp.proto_type != AXO_ETH_IP4 ||
	    frame.arp.hw_len != 6 || frame.arp.proto_len != 4 ||
	    frame.arp.op != RESPONDER_ARP_REQUEST)
		return AXO_NEXT;
	__builtin_memcpy(&target, frame.arp.target_ip, 4);
	__builtin_memcpy(&sender, frame.arp.sender_ip, 4);
	if (!ctx->own4 || target == ctx->own4 || target == sender)
		return AXO_NEXT;
	axo_addr_set4(&own, ctx->own4);
	self = axo_endpoint_by_addr(&own);
	if (!self)
		return AXO_NEXT;
	__builtin_memcpy(frame.eth.dst, frame.eth.src, 6);
	__builtin_memcpy(frame.eth.src, self->host_mac, 6);
	frame.arp.op = RESPONDER_ARP_REPLY;
	__builtin_memcpy(frame.arp.target_mac, frame.arp.sender_mac, 6);
	__builtin_memcpy(frame.arp.target_ip, &sender, 4);
	__builtin_memcpy(frame.arp.sender_mac, self->host_mac, 6);
	__builtin_memcpy(frame.arp.sender_ip, &target, 4);
	if (bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), 0))
		return -AXO_DROP_WRITE_ERROR;
	return responder_send(skb);
}

/* Writes the advertisement over the solicitation. asker: who asked. */
static __always_inline int responder_advertise(struct __sk_buff *skb,
					       const struct axo_endpoint *self,
					       const struct axo_addr *asker,
					       const struct axo_addr *target)
{
	struct responder_nd_sum m = {};
	struct axo_eth eth;
	struct axo_ipv6 ip = {};

	m.saddr = *target;
	m.daddr = *asker;
	m.len = bpf_htonl(sizeof(m.nd));
	m.next = bpf_htonl(AXO_PROTO_ICMP6);
	m.nd.type = AXO_ICMP6_NA;
	m.nd.flags = RESPONDER_NA_FLAGS;
	m.nd.target = *target;
	m.nd.opt_type = RESPONDER_OPT_TLLA;
	m.nd.opt_len = 1;
	__builtin_memcpy(m.nd.opt_mac, self->host_mac, 6);
	m.nd.csum = axo_csum_fold(bpf_csum_diff(0, 0, (void *)&m, sizeof(m), 0));
	ip.ver_class_flow = bpf_htonl(0x60000000);
	ip.payload_len = bpf_htons(sizeof(m.nd));
	ip.next = AXO_PROTO_ICMP6;
	ip.hop_limit = 255;
	ip.saddr = *target;
	ip.daddr = *asker;
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return -AXO_DROP_INVALID;
	__builtin_memcpy(eth.dst, eth.src, 6);
	__builtin_memcpy(eth.src, self->host_mac, 6);
	if (bpf_skb_change_tail(skb, RESPONDER_ND_LEN, 0) ||
	    bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0) ||
	    bpf_skb_store_bytes(skb, AXO_ETH_HLEN, &ip, sizeof(ip), 0) ||
	    bpf_skb_store_bytes(skb, RESPONDER_ND_OFF, &m.nd, sizeof(m.nd), 0))
		return -AXO_DROP_WRITE_ERROR;
	return responder_send(skb);
}

static __always_inline int responder_nd_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_addr asker, target;
	struct axo_endpoint *self;
	struct {
		__u8 next;
		__u8 hop_limit;
	} ip;
	struct {
		__u8 type;
		__u8 code;
	} nd;

	if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN + 6, &ip, sizeof(ip)) ||
	    ip.next != AXO_PROTO_ICMP6 || ip.hop_limit != 255)
		return AXO_NEXT;
	if (bpf_skb_load_bytes(skb, RESPONDER_ND_OFF, &nd, sizeof(nd)) || nd.type != AXO_ICMP6_NS ||
	    nd.code)
		return AXO_NEXT;
	if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN + 8, &asker, sizeof(asker)) ||
	    bpf_skb_load_bytes(skb, RESPONDER_ND_OFF + 8, &target, sizeof(target)))
		return -AXO_DROP_INVALID;
	/* from ::, it is the pod making sure that nobody has its address: nobody has */
	if (axo_addr_is_zero(&asker) || axo_addr_is_zero(&ctx->own6) ||
	    axo_addr_equal(&target, &ctx->own6) ||
	    (target.w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
		return AXO_NEXT;
	self = axo_endpoint_by_addr(&ctx->own6);
	if (!self)
		return AXO_NEXT;
	return responder_advertise(skb, self, &asker, &target);
}

static __always_inline int responder_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_UNLIKELY(ctx->eth_proto == AXO_ETH_ARP))
		return responder_arp_frame(skb, ctx);
	if (ctx->eth_proto == AXO_ETH_IP6)
		return responder_nd_frame(skb, ctx);
	return AXO_NEXT;
}
