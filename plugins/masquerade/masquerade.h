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
	__u32 keeps; /* 1: pods keep their address here (egress-masquerade-interfaces) */
};

BPF_TABLE("hash", struct axo_masq_key, struct axo_masq_address, axo_masq_dev, 256);

struct axo_ipmasq_key {
	__u32 prefixlen;      /* host order, bits of addr */
	struct axo_addr addr; /* network order */
};

struct axo_ipmasq {
	__u32 keeps; /* 1: who sends there keeps its address */
};

struct axo_masq_pod_key {
	struct axo_addr addr; /* network order */
};

/* ip-masq-agent's networks, and pods that say that they want to keep their address. */
BPF_F_TABLE("lpm_trie", struct axo_ipmasq_key, struct axo_ipmasq, axo_ipmasq, 16384,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct axo_masq_pod_key, struct axo_ipmasq, axo_masq_skip, 65536,
	    BPF_F_NO_PREALLOC);

#endif
