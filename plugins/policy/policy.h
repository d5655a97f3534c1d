/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The policy maps: one trie per subject identity, shared by all endpoints that have it.
 *
 *	key  | peer 32 | direction 8 | protocol 8 | port 16 |
 *	     '---- always matched ---'--- longest prefix ---'
 *
 * A port range is a handful of prefixes. Protocol 0 stands in entries for any protocol only (with
 * prefix length 0 of the L4 part), so it needs no entry of its own.
 *
 * The trie of subject 0 names the peers that policy knows (direction 0, no L4 part): those whose
 * entries all other tries have.
 */
#ifndef AXO_POLICY_H
#define AXO_POLICY_H

#include "axo/maps.h"

#define AXO_POLICY_STATIC_BITS 40 /* peer and direction */
#define AXO_POLICY_KEY_BITS    64

/* Values of deny. */
#define AXO_POLICY_DENY_NO	0
#define AXO_POLICY_DENY_YES	1
#define AXO_POLICY_DENY_UNKNOWN 2 /* peers that the trie of subject 0 does not name */

#define AXO_POLICY_SAYS_DENY 255 /* low byte of a precedence: a rule refuses */

struct axo_policy_key {
	__u32 prefixlen; /* host order: 40 + bits of proto and port */
	__u32 peer;	 /* identity, 0 = anybody */
	__u8 dir;	 /* AXO_DIR_* of the subject */
	__u8 proto;	 /* IPPROTO_* */
	__be16 port;	 /* network order: destination port; ICMP, ICMPv6: type */
};

struct axo_policy_value {
	__u32 precedence;  /* higher wins: rank of the rule, 8 bits of what it says */
	__u32 cookie;	   /* the rule, for explanations */
	__be16 proxy_port; /* network order: redirect there, 0 = no */
	__u8 deny;	   /* AXO_POLICY_DENY_* */
	__u8 prefix_len;   /* bits of the L4 part that this entry states: 0, 8, 9..24 */
};

/* Endpoints whose refusals are told and let through; 0: all, and the node itself. */
#define AXO_POLICY_AUDIT_HOST 0xffffffff

struct axo_policy_audit_key {
	__u32 endpoint;
};

struct axo_policy_audit {
	__u32 on;
};

BPF_F_TABLE("hash", struct axo_policy_audit_key, struct axo_policy_audit, axo_policy_audit, 65536,
	    BPF_F_NO_PREALLOC);

BPF_F_TABLE("lpm_trie", struct axo_policy_key, struct axo_policy_value, axoscratch_policy, 16384,
	    BPF_F_NO_PREALLOC);
BPF_HASH_OF_MAPS(axo_policy, u32, "axoscratch_policy", 65536);

#endif
