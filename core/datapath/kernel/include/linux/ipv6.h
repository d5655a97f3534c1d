/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IPv6 header (RFC 8200) and extension headers. */
#ifndef _AXO_LINUX_IPV6_H
#define _AXO_LINUX_IPV6_H
#include <linux/types.h>
#include <linux/in6.h>
struct ipv6hdr {
	__u8 priority : 4, version : 4;
	__u8 flow_lbl[3];
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	struct in6_addr saddr;
	struct in6_addr daddr;
};
/* Hop-by-hop, routing and destination options begin like this; length in 8 bytes, minus one. */
struct ipv6_opt_hdr {
	__u8 nexthdr;
	__u8 hdrlen;
} __attribute__((packed));
struct frag_hdr {
	__u8 nexthdr;
	__u8 reserved;
	__be16 frag_off;
	__be32 identification;
};
#define IP6_MF 0x0001
#define IP6_OFFSET 0xFFF8
#define NEXTHDR_HOP 0
#define NEXTHDR_TCP 6
#define NEXTHDR_UDP 17
#define NEXTHDR_IPV6 41
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_ESP 50
#define NEXTHDR_AUTH 51
#define NEXTHDR_ICMP 58
#define NEXTHDR_NONE 59
#define NEXTHDR_DEST 60
#define NEXTHDR_SCTP 132
#define NEXTHDR_MOBILITY 135
#endif
