/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* RFC 826; the fixed part, addresses follow. */
#ifndef _AXO_LINUX_IF_ARP_H
#define _AXO_LINUX_IF_ARP_H
#include <linux/types.h>
#define ARPHRD_ETHER 1
#define ARPOP_REQUEST 1
#define ARPOP_REPLY 2
struct arphdr {
	__be16 ar_hrd;
	__be16 ar_pro;
	unsigned char ar_hln;
	unsigned char ar_pln;
	__be16 ar_op;
};
#endif
