/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* skb->pkt_type. */
#ifndef _AXO_LINUX_IF_PACKET_H
#define _AXO_LINUX_IF_PACKET_H
#define PACKET_HOST 0
#define PACKET_BROADCAST 1
#define PACKET_MULTICAST 2
#define PACKET_OTHERHOST 3
#define PACKET_OUTGOING 4
#define PACKET_LOOPBACK 5
#endif
