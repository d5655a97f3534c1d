/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sending a packet on to another machine: does it fit, and one hop less to live.
 *
 * What does not fit, or would expire, goes to the stack: it has the same routes and says so to the
 * sender with the right ICMP error.
 */
#ifndef AXO_FORWARD_H
#define AXO_FORWARD_H

#include "axo/events.h"
#include "axo/headers.h"

/* bpf_redirect_neigh with all its four arguments; the compiler's own header forgets the second. */
static int (*axo_redirect_neigh)(u32 ifindex, void *params, int plen, u64 flags) = (void *)152;

#define AXO_PACKET_HOST 0 /* skb->pkt_type: for this machine, whatever the MAC address says */

/* Where skb->mark says what was done with a packet; values as Cilium's. */
#define AXO_MARK_MASK	 0x0f00
#define AXO_MARK_KEEPS	 0x0300 /* a pod's, on its way out, and needs no translation */
#define AXO_MARK_OVERLAY 0x0400 /* encapsulated */
#define AXO_MARK_PROXY	 0x0b00 /* from a proxy of this node */
#define AXO_MARK_PROXY_AS 0x0a00 /* from one that asks with a pod's address, in its name */

#ifndef AXO_XDP

static __always_inline int axo_mark_is(const struct __sk_buff *skb, u32 what)
{
	return (skb->mark & AXO_MARK_MASK) == what;
}

/*
 * Whether a program has dealt with the packet on this node already. The mark is the kernel's own: it
 * is not on the wire, and is cleared when a packet leaves a pod's namespace.
 */
static __always_inline int axo_mark_is_done(const struct __sk_buff *skb)
{
	return axo_mark_is(skb, AXO_MARK_KEEPS) || axo_mark_is(skb, AXO_MARK_OVERLAY);
}

static __always_inline void axo_mark_set(struct __sk_buff *skb, u32 what)
{
	skb->mark = (skb->mark & ~AXO_MARK_MASK) | what;
}

#endif

/*
 * Bytes of the L3 packet as it goes on the wire: of one segment where the packet is a train of them
 * (GSO). TCP's options are counted as if there were all of them when the header cannot be read.
 */
static __always_inline u32 axo_wire_len(struct __sk_buff *skb, const struct axo_ctx *ctx)
{
	u32 headers = (u32)ctx->l4_off - AXO_ETH_HLEN;
	u8 off = 0xf0;

	if (AXO_LIKELY(!axo_frame_gso(skb)))
		return axo_frame_len(skb) - AXO_ETH_HLEN;
	if (ctx->proto != AXO_PROTO_TCP)
		return headers + 8 + axo_frame_gso(skb);
	bpf_skb_load_bytes(skb, (u32)ctx->l4_off + 12, &off, 1);
	return headers + (off >> 4) * 4 + axo_frame_gso(skb);
}

/* mtu: bytes of L3 packet; 0 = unknown, everything fits. */
static __always_inline int axo_fits(struct __sk_buff *skb, const struct axo_ctx *ctx, u32 mtu)
{
	/* most packets are small: no need to look at segments */
	if (!mtu || axo_frame_len(skb) - AXO_ETH_HLEN <= mtu)
		return 1;
	return axo_wire_len(skb, ctx) <= mtu;
}

#endif
