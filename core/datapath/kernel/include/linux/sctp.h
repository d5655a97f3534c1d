/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* SCTP common header (RFC 9260), network byte order. */
#ifndef _AXO_LINUX_SCTP_H
#define _AXO_LINUX_SCTP_H
#include <linux/types.h>
struct sctphdr {
	__be16 source;
	__be16 dest;
	__be32 vtag;
	__le32 checksum;
};
#endif
