/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Internet checksums (RFC 1071) and their repair (RFC 1624) after a rewrite. Positions are bytes
 * from the start of the frame; values are in network order, as they stand in the packet.
 */
#ifndef AXO_CHECKSUM_H
#define AXO_CHECKSUM_H

#include "axo/headers.h"

#define AXO_IP4_CSUM_OFF  (AXO_ETH_HLEN + 10)
#define AXO_TCP_CSUM_OFF  16 /* from l4_off */
#define AXO_UDP_CSUM_OFF  6  /* from l4_off */
#define AXO_ICMP_CSUM_OFF 2  /* from l4_off */

static __always_inline u16 axo_csum_fold(u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Where the L4 checksum stands behind l4_off; -1 if the protocol has none that we may touch. */
static __always_inline int axo_l4_csum_off(u8 proto)
{
	switch (proto) {
	case AXO_PROTO_TCP:
		return AXO_TCP_CSUM_OFF;
	case AXO_PROTO_UDP:
		return AXO_UDP_CSUM_OFF;
	case AXO_PROTO_ICMP6: /* covers a pseudo header, unlike ICMPv4 */
	case AXO_PROTO_ICMP:
		return AXO_ICMP_CSUM_OFF;
	}
	return -1; /* SCTP: CRC32c over the SCTP packet alone */
}

/*
 * Repairs the L4 checksum after a change of `diff` (from bpf_csum_diff). pseudo: the change is in
 * the pseudo header (an address), so it also counts where the device completes the sum.
 */
static __always_inline int axo_csum_l4(struct __sk_buff *skb, u32 l4_off, u8 proto, u32 diff,
				       int pseudo)
{
	u64 flags = pseudo ? BPF_F_PSEUDO_HDR : 0;
	int off = axo_l4_csum_off(proto);

	if (off < 0 || (proto == AXO_PROTO_ICMP && pseudo))
		return AXO_NEXT;
	if (proto == AXO_PROTO_UDP)
		flags |= BPF_F_MARK_MANGLED_0; /* 0 stays "no checksum" */
	if (bpf_l4_csum_replace(skb, l4_off + off, 0, diff, flags))
		return -AXO_DROP_CSUM_L4;
	return AXO_NEXT;
}

/* Writes an IPv4 address at `off` (12 or 16 behind the Ethernet header) and repairs both sums. */
static __always_inline int axo_rewrite_addr4(struct __sk_buff *skb, u32 off, u32 l4_off, u8 proto,
					     int has_l4, __be32 old, __be32 new)
{
	if (bpf_skb_store_bytes(skb, off, &new, sizeof(new), 0))
		return -AXO_DROP_WRITE_ERROR;
	if (bpf_l3_csum_replace(skb, AXO_IP4_CSUM_OFF, old, new, sizeof(new)))
		return -AXO_DROP_CSUM_L3;
	if (!has_l4)
		return AXO_NEXT;
	return axo_csum_l4(skb, l4_off, proto,
			   bpf_csum_diff((void *)&old, sizeof(old), (void *)&new, sizeof(new), 0),
			   1);
}

/*
 * Writes an IPv6 address at `off` (8 or 24 behind the Ethernet header) and repairs the L4 sum. No
 * header checksum balances the address in skb->csum as IPv4's does: the store accounts for it.
 */
static __always_inline int axo_rewrite_addr6(struct __sk_buff *skb, u32 off, u32 l4_off, u8 proto,
					     int has_l4, const struct axo_addr *old,
					     const struct axo_addr *new)
{
	u32 diff = bpf_csum_diff((void *)old, sizeof(*old), (void *)new, sizeof(*new), 0);

	if (bpf_skb_store_bytes(skb, off, (void *)new, sizeof(*new), BPF_F_RECOMPUTE_CSUM))
		return -AXO_DROP_WRITE_ERROR;
	if (!has_l4)
		return AXO_NEXT;
	return axo_csum_l4(skb, l4_off, proto, diff, 1);
}

/* Writes a port (or ICMP identifier) at l4_off + at and repairs the L4 sum. */
static __always_inline int axo_rewrite_port(struct __sk_buff *skb, u32 l4_off, u8 proto, u32 at,
					    __be16 old, __be16 new)
{
	int off = axo_l4_csum_off(proto);
	u64 flags = sizeof(new) | (proto == AXO_PROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);

	if (old == new)
		return AXO_NEXT;
	if (bpf_skb_store_bytes(skb, l4_off + at, &new, sizeof(new), 0))
		return -AXO_DROP_WRITE_ERROR;
	if (off >= 0 && bpf_l4_csum_replace(skb, l4_off + off, old, new, flags))
		return -AXO_DROP_CSUM_L4;
	return AXO_NEXT;
}

#endif
