/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * policy-cidr-match-mode: CIDR rules that also mean nodes or pods.
 *
 * An identity of a node or a pod says nothing of addresses. So what CIDR rules say of an address has
 * an identity of its own beside it, which stands for the longest prefix around it that a rule names
 * and for nothing else; its entries are weighed like those of the peer and of anybody.
 */
#ifndef AXO_POLICY_CIDR_MATCH_H
#define AXO_POLICY_CIDR_MATCH_H

#include "axo/maps.h"

#define AXO_POLICY_CIDR_NODES 1
#define AXO_POLICY_CIDR_PODS  2

#define AXO_ID_FIRST_CLUSTER 256

/* Longest prefix that a rule names. IPv4 /n has prefixlen 96 + n. */
struct axo_policy_cidr_key {
	__u32 prefixlen;    /* host order, bits of ip */
	struct axo_addr ip; /* network order */
};

struct axo_policy_cidr {
	__u32 identity; /* what CIDR rules say of the prefix, and no other rule */
};

BPF_F_TABLE("lpm_trie", struct axo_policy_cidr_key, struct axo_policy_cidr, axo_policy_cidr, 65536,
	    BPF_F_NO_PREALLOC);

/* The modes that are about an identity. */
static __always_inline u32 policy_cidr_class(u32 peer)
{
	if (axo_identity_is_node(peer))
		return AXO_POLICY_CIDR_NODES;
	if (peer >= AXO_ID_FIRST_CLUSTER && peer < AXO_ID_LOCAL_SCOPE)
		return AXO_POLICY_CIDR_PODS;
	return 0;
}

/* The identity of what CIDR rules say of an address of a peer; 0: nothing. */
static __always_inline u32 policy_cidr_peer(const struct axo_addr *address, u32 peer)
{
	struct axo_policy_cidr_key key;
	struct axo_policy_cidr *found;

	if (!(policy_cidr_class(peer) & AXO_POLICY_CIDR_MATCH))
		return 0;
	key.prefixlen = 128;
	key.ip = *address;
	found = axo_policy_cidr.lookup(&key);
	return found ? found->identity : 0;
}

#endif
