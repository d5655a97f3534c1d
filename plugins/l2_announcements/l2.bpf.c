/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers for services' addresses on a native device: ARP and neighbour solicitation, for those that this
 * node announces there, with the device's own MAC address. Nothing else is answered.
 */
#include "axo/maps.h"
#include "axo/neighbour.h"

#define L2_NA_FLAGS bpf_htonl(0x60000000) /* solicited, override */

struct l2_key {
	struct axo_addr addr; /* network order */
	__u32 ifindex;
};

struct l2_value {
	__u8 mac[6]; /* of the device */
	__u8 pad[2];
};

BPF_F_TABLE("hash", struct l2_key, struct l2_value, axo_l2, 4096, BPF_F_NO_PREALLOC);

/* Answers sent, 0: ARP, 1: neighbour advertisements. */
BPF_TABLE("percpu_array", u32, u64, axo_l2_answers, 2);

static __always_inline struct l2_value *l2_find(struct __sk_buff *skb, const struct axo_addr *addr)
{
	struct l2_key key = {};

	key.addr = *addr;
	key.ifindex = skb->ifindex;
	return axo_l2.lookup(&key);
}

static __always_inline int l2_send(struct __sk_buff *skb, int made, u32 slot)
{
	u64 *count = axo_l2_answers.lookup(&slot);

	if (made != AXO_NEXT)
		return made;
	if (count)
		(*count)++;
	return bpf_redirect(skb->ifindex, 0);
}

static __always_inline int l2_arp(struct __sk_buff *skb)
{
	struct axo_nb_arp frame;
	__be32 target, sender;
	struct axo_addr addr;
	struct l2_value *own;

	if (!axo_nb_arp_read(skb, &frame, &target, &sender))
		return AXO_NEXT;
	axo_addr_set4(&addr, target);
	own = l2_find(skb, &addr);
	if (!own)
		return AXO_NEXT;
	return l2_send(skb, axo_nb_arp_answer(skb, &frame, own->mac, target, sender), 0);
}

static __always_inline int l2_nd(struct __sk_buff *skb)
{
	struct axo_addr asker, target;
	struct l2_value *own;

	if (!axo_nb_nd_read(skb, &asker, &target))
		return AXO_NEXT;
	own = l2_find(skb, &target);
	if (!own)
		return AXO_NEXT;
	return l2_send(skb, axo_nb_advertise(skb, own->mac, L2_NA_FLAGS, &asker, &target), 1);
}

/* Stage from_netdev_frame. */
static __always_inline int l2_from_netdev_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_UNLIKELY(ctx->eth_proto == AXO_ETH_ARP))
		return l2_arp(skb);
	if (ctx->eth_proto == AXO_ETH_IP6)
		return l2_nd(skb);
	return AXO_NEXT;
}
