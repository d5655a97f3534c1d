/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What differs between a packet of tc (struct __sk_buff) and a frame of XDP (struct xdp_md), so that
 * the same parsing, look-up and rewriting serve both. In a unit of XDP the composer makes the one name
 * stand for the other and defines AXO_XDP.
 *
 * A frame of XDP has no checksum in the making and no segments: its sums are complete, what it carries
 * is on the wire as it stands. It has no mark and no receive state either: what needs these is tc's.
 */
#ifndef AXO_FRAME_H
#define AXO_FRAME_H

#define AXO_ETH_PROTO_OFF 12 /* bytes from the start of the frame */

#ifndef AXO_XDP

#define AXO_PASS 0 /* to the kernel's stack: TC_ACT_OK */
#define AXO_SHOT 2 /* TC_ACT_SHOT */

#define axo_frame_len(skb)     ((skb)->len)
#define axo_frame_ifindex(skb) ((skb)->ifindex)
#define axo_frame_proto(skb)   ((skb)->protocol)
#define axo_frame_gso(skb)     ((skb)->gso_size)
#define axo_frame_pull(skb, n) ((skb)->len >= (n) && !bpf_skb_pull_data(skb, n))

#define AXO_ROOM_NO_CSUM_RESET (1ULL << 5)

/* Room behind the IP header's fixed part, which ends `head` bytes behind the start. 0, or negative. */
static __always_inline int axo_frame_room(struct __sk_buff *skb, __u32 bytes, __u32 head)
{
	if (!bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_NET, AXO_ROOM_NO_CSUM_RESET))
		return 0;
	return bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_NET, 0); /* a kernel before 5.11 */
}

/* Room for an outer IP header of the same family, behind the Ethernet header. 0, or negative. */
static __always_inline int axo_frame_outer(struct __sk_buff *skb, __u32 bytes)
{
	return bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC,
				   bytes == 20 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 :
						 BPF_F_ADJ_ROOM_ENCAP_L3_IPV6);
}

#else

#define AXO_PASS 2 /* XDP_PASS */
#define AXO_SHOT 1 /* XDP_DROP */

/* Linux 5.18; the compiler's header may be older. */
static long (*axo_xdp_load)(void *xdp, __u32 off, void *to, __u32 len) = (void *)189;
static long (*axo_xdp_store)(void *xdp, __u32 off, void *from, __u32 len) = (void *)190;
static __u64 (*axo_xdp_len)(void *xdp) = (void *)188;

static __always_inline __be16 axo_xdp_proto(struct xdp_md *xdp)
{
	__be16 proto = 0;

	axo_xdp_load(xdp, AXO_ETH_PROTO_OFF, &proto, sizeof(proto));
	return proto;
}

#define axo_frame_len(xdp)     ((__u32)axo_xdp_len((void *)(xdp)))
#define axo_frame_ifindex(xdp) ((xdp)->ingress_ifindex)
#define axo_frame_proto(xdp)   axo_xdp_proto(xdp)
#define axo_frame_gso(xdp)     0
#define axo_frame_pull(xdp, n) 0 /* what is behind the first buffer is tc's */

/* RFC 1624, as bpf_l4_csum_replace(): size 0: `to` is a difference of bpf_csum_diff(). */
static __always_inline long axo_xdp_csum(struct xdp_md *xdp, __u32 off, __u32 from, __u32 to,
					 __u64 flags)
{
	__u16 old, sum16;
	__u32 sum;

	if (axo_xdp_load(xdp, off, &old, sizeof(old)))
		return -1;
	if ((flags & BPF_F_MARK_MANGLED_0) && !old)
		return 0;
	sum = (__u16)~old;
	if ((flags & 0xf) == 2)
		sum += (__u16)~(__u16)from + (__u32)(__u16)to;
	else if ((flags & 0xf) == 4)
		sum += (~from & 0xffff) + (~from >> 16) + (to & 0xffff) + (to >> 16);
	else
		sum += (to & 0xffff) + (to >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum16 = ~sum;
	if ((flags & BPF_F_MARK_MANGLED_0) && !sum16)
		sum16 = 0xffff;
	return axo_xdp_store(xdp, off, &sum16, sizeof(sum16));
}

/* The room is made before the frame, then its head moves there: 34 bytes of IPv4, 54 of IPv6. */
static __always_inline int axo_frame_room(struct xdp_md *xdp, __u32 bytes, __u32 head)
{
	__u8 moved[54];

	if (head > sizeof(moved) || bpf_xdp_adjust_head(xdp, -(int)bytes))
		return -1;
	if (axo_xdp_load(xdp, bytes, moved, head))
		return -1;
	return axo_xdp_store(xdp, 0, moved, head) ? -1 : 0;
}

static __always_inline int axo_frame_outer(struct xdp_md *xdp, __u32 bytes)
{
	return axo_frame_room(xdp, bytes, 14);
}

#define bpf_skb_load_bytes(xdp, off, to, len)		axo_xdp_load(xdp, off, (void *)(to), len)
#define bpf_skb_store_bytes(xdp, off, from, len, flags) axo_xdp_store(xdp, off, (void *)(from), len)
#define bpf_l3_csum_replace(xdp, off, from, to, flags)	axo_xdp_csum(xdp, off, from, to, flags)
#define bpf_l4_csum_replace(xdp, off, from, to, flags)	axo_xdp_csum(xdp, off, from, to, flags)

#endif

#endif
