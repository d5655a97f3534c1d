/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The addresses that stand for pods. */
#ifndef AXO_MASQUERADE_H
#define AXO_MASQUERADE_H

#include "axo/maps.h"

struct axo_masq_key {
	__u32 ifindex;
};

/* Source addresses that traffic leaving a device takes; all zero: none of that family. */
struct axo_masq_address {
	struct axo_addr ipv4;
	struct axo_addr ipv6;
};

BPF_TABLE("hash", struct axo_masq_key, struct axo_masq_address, axo_masq_dev, 256);

#endif
