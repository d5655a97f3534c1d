/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* UDP header (RFC 768), network byte order. */
#ifndef _AXO_LINUX_UDP_H
#define _AXO_LINUX_UDP_H
#include <linux/types.h>
struct udphdr {
	__be16 source;
	__be16 dest;
	__be16 len;
	__sum16 check;
};
#endif
