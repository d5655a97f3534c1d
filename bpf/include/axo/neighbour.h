/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Neighbour requests that a program answers in place: ARP (RFC 826), neighbour solicitation (RFC 4861).
 */
#ifndef AXO_NEIGHBOUR_H
#define AXO_NEIGHBOUR_H

#include "axo/abi.h"
#include "axo/checksum.h"
#include "axo/headers.h"
#include "axo/parse.h"

#define AXO_NB_ARP_REQUEST bpf_htons(1)
#define AXO_NB_ARP_REPLY   bpf_htons(2)
#define AXO_NB_NA_FLAGS    bpf_htonl(0xe0000000) /* router, solicited, override */
#define AXO_NB_OPT_TLLA    2

struct axo_nb_arp {
	struct axo_eth eth;
	struct axo_arp arp;
} __attribute__((packed));

/*
 * RFC 4861 4.3, 4.4: solicitation and advertisement, with one link-layer address option
 *	| type | code | checksum | flags 32 | target 128 | option 8 bytes |
 */
struct axo_nb_nd {
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
struct axo_nb_nd_sum {
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
	__be32 len;	       /* network order */
	__be32 next;	       /* network order */
	struct axo_nb_nd nd;
};

#define AXO_NB_ND_OFF (AXO_ETH_HLEN + sizeof(struct axo_ipv6))
#define AXO_NB_ND_LEN (AXO_NB_ND_OFF + sizeof(struct axo_nb_nd))

/* Reads a request for an IPv4 address. 1: frame, target and sender are set. */
static __always_inline int axo_nb_arp_read(struct __sk_buff *skb, struct axo_nb_arp *frame,
					   __be32 *target, __be32 *sender)
{
	if (bpf_skb_load_bytes(skb, 0, frame, sizeof(*frame)))
		return 0;
	if (frame->arp.hw_type != bpf_htons(1) || frame->arp.proto_type != AXO_ETH_IP4 ||
	    frame->arp.hw_len != 6 || frame->arp.proto_len != 4 ||
	    frame->arp.op != AXO_NB_ARP_REQUEST)
		return 0;
	__builtin_memcpy(target, frame->arp.target_ip, 4);
	__builtin_memcpy(sender, frame->arp.sender_ip, 4);
	return *target != *sender;
}

/* Makes the request into its answer: target is at mac. AXO_NEXT or a drop. */
static __always_inline int axo_nb_arp_answer(struct __sk_buff *skb, struct axo_nb_arp *frame,
					     const __u8 *mac, __be32 target, __be32 sender)
{
	__builtin_memcpy(frame->eth.dst, frame->eth.src, 6);
	__builtin_memcpy(frame->eth.src, mac, 6);
	frame->arp.op = AXO_NB_ARP_REPLY;
	__builtin_memcpy(frame->arp.target_mac, frame->arp.sender_mac, 6);
	__builtin_memcpy(frame->arp.target_ip, &sender, 4);
	__builtin_memcpy(frame->arp.sender_mac, mac, 6);
	__builtin_memcpy(frame->arp.sender_ip, &target, 4);
	return bpf_skb_store_bytes(skb, 0, frame, sizeof(*frame), 0) ? -AXO_DROP_WRITE_ERROR :
								       AXO_NEXT;
}

/* Writes the advertisement over the solicitation. asker: who asked. */
static __always_inline int axo_nb_advertise(struct __sk_buff *skb, const __u8 *mac,
					    __be32 flags,
					       const struct axo_addr *asker,
					       const struct axo_addr *target)
{
	struct axo_nb_nd_sum m = {};
	struct axo_eth eth;
	struct axo_ipv6 ip = {};

	m.saddr = *target;
	m.daddr = *asker;
	m.len = bpf_htonl(sizeof(m.nd));
	m.next = bpf_htonl(AXO_PROTO_ICMP6);
	m.nd.type = AXO_ICMP6_NA;
	m.nd.flags = flags;
	m.nd.target = *target;
	m.nd.opt_type = AXO_NB_OPT_TLLA;
	m.nd.opt_len = 1;
	__builtin_memcpy(m.nd.opt_mac, mac, 6);
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
	__builtin_memcpy(eth.src, mac, 6);
	if (bpf_skb_change_tail(skb, AXO_NB_ND_LEN, 0) ||
	    bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0) ||
	    bpf_skb_store_bytes(skb, AXO_ETH_HLEN, &ip, sizeof(ip), 0) ||
	    bpf_skb_store_bytes(skb, AXO_NB_ND_OFF, &m.nd, sizeof(m.nd), 0))
		return -AXO_DROP_WRITE_ERROR;
	return AXO_NEXT;
}

/* Reads a solicitation for an IPv6 address that somebody with an address sends. 1: both are set. */
static __always_inline int axo_nb_nd_read(struct __sk_buff *skb, struct axo_addr *asker,
					  struct axo_addr *target)
{
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
		return 0;
	if (bpf_skb_load_bytes(skb, AXO_NB_ND_OFF, &nd, sizeof(nd)) || nd.type != AXO_ICMP6_NS ||
	    nd.code)
		return 0;
	if (bpf_skb_load_bytes(skb, AXO_ETH_HLEN + 8, asker, sizeof(*asker)) ||
	    bpf_skb_load_bytes(skb, AXO_NB_ND_OFF + 8, target, sizeof(*target)))
		return 0;
	/* from ::, somebody makes sure that nobody has its address; a group has no neighbour */
	return !axo_addr_is_zero(asker) &&
	       (target->w[0] & bpf_htonl(0xff000000)) != bpf_htonl(0xff000000);
}

#endif
