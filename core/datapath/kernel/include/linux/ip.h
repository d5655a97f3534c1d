/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IPv4 header (RFC 791); multi-byte fields in network byte order. */
#ifndef _AXO_LINUX_IP_H
#define _AXO_LINUX_IP_H
#include <linux/types.h>
#include <linux/in.h>
#define IP_CE 0x8000
#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1FFF
#define IPVERSION 4
#define IPDEFTTL 64
struct iphdr {
	__u8 ihl : 4, version : 4;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
	__be32 saddr;
	__be32 daddr;
};
#endif
