/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IANA protocol numbers and IPv4 address helpers. */
#ifndef _AXO_LINUX_IN_H
#define _AXO_LINUX_IN_H
#include <linux/types.h>
#define IPPROTO_IP 0
#define IPPROTO_ICMP 1
#define IPPROTO_IGMP 2
#define IPPROTO_IPIP 4
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_DCCP 33
#define IPPROTO_IPV6 41
#define IPPROTO_GRE 47
#define IPPROTO_ESP 50
#define IPPROTO_AH 51
#define IPPROTO_SCTP 132
#define IPPROTO_UDPLITE 136
#define IPPROTO_RAW 255
struct in_addr {
	__be32 s_addr;
};
#endif
