/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a stage function sees and what it may answer. A stage is
 *
 *	static __always_inline int <plugin>_<stage>(struct __sk_buff *skb, struct axo_ctx *ctx)
 *
 * Included by every source of the packet path; bpf/README.md tells the story.
 */
#ifndef AXO_ABI_H
#define AXO_ABI_H

#include "axo/drop_reasons.h"
#include "axo/frame.h"

/* Answers of a stage. Negative: -AXO_DROP_<reason>. */
#define AXO_NEXT 0x7fff /* go on with the next stage; 0..255 is an action of tc (of XDP) and ends */

#ifndef TC_ACT_OK
#define TC_ACT_OK	0 /* to the kernel's stack */
#define TC_ACT_SHOT	2
#define TC_ACT_REDIRECT 7
#endif

/* Runs the stages of one point while they answer AXO_NEXT. The composer writes the callee. */
#ifndef AXO_STAGES
#define AXO_STAGES(point) axo_stages_##point(skb, ctx)
#endif

/* Keeps LLVM from merging tests on two map pointers into arithmetic the verifier refuses. */
#define AXO_OPAQUE(var) asm volatile("" : "+r"(var))

#define AXO_BARRIER()	asm volatile("" ::: "memory")
#define AXO_LIKELY(x)	__builtin_expect(!!(x), 1)
#define AXO_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* An address in 16 bytes, network byte order; IPv4 a.b.c.d is ::ffff:a.b.c.d. */
struct axo_addr {
	__be32 w[4];
};

#define AXO_V4MAPPED bpf_htonl(0x0000ffff) /* w[2] of an IPv4 address; w[0] and w[1] are 0 */

/* Reserved identities, as on Cilium's wire. */
#define AXO_ID_UNKNOWN	   0
#define AXO_ID_HOST	   1
#define AXO_ID_WORLD	   2
#define AXO_ID_UNMANAGED   3
#define AXO_ID_HEALTH	   4
#define AXO_ID_INIT	   5
#define AXO_ID_REMOTE_NODE 6
#define AXO_ID_APISERVER   7 /* on another node; elsewhere it has a number of local scope */
#define AXO_ID_WORLD_V4	   9
#define AXO_ID_WORLD_V6	   10

/* From here on identities are a node's own business: prefixes outside the cluster, ... */
#define AXO_ID_LOCAL_SCOPE (1U << 24)
/* ... and other nodes by their labels. */
#define AXO_ID_NODE_SCOPE (2U << 24)

/* Direction, seen from the subject (the local endpoint). As in policy keys and metrics. */
#define AXO_DIR_INGRESS 0
#define AXO_DIR_EGRESS	1

/* ctx->pkt: what the parser found. */
#define AXO_PKT_FRAG	   0x01 /* any fragment of a datagram */
#define AXO_PKT_LATER	   0x02 /* not the first one: no L4 header; ports by fragment tracking */
#define AXO_PKT_ICMP_ERROR 0x04 /* ICMP error, an inner packet follows the 8-byte header */
#define AXO_PKT_MULTICAST  0x08 /* destination is multicast or broadcast */
#define AXO_PKT_LINKLOCAL  0x10 /* IPv6: source or destination is link-local or unspecified */
#define AXO_PKT_KEEPS_ADDR 0x20 /* from a pod: no device that it leaves by will translate it */

/* ctx->ct_state: numbers of Cilium's trace reasons. */
#define AXO_CT_NEW	   0
#define AXO_CT_ESTABLISHED 1
#define AXO_CT_REPLY	   2
#define AXO_CT_RELATED	   3
#define AXO_CT_UNKNOWN	   5 /* not tracked (yet) */

#define AXO_VERDICT_DENIED  0
#define AXO_VERDICT_ALLOWED 1
#define AXO_VERDICT_AUDIT   2 /* no rule allows it, audit mode let it through */

#define AXO_NODE_ASKED	  1 /* the ipcache was asked */
#define AXO_NODE_RECALLED 2 /* and the flow remembers */

#define AXO_CT_NEXT_UNKNOWN	0
#define AXO_CT_NEXT_ESTABLISHED 1
#define AXO_CT_NEXT_REPLY	2

/*
 * The facts about one packet, filled as it walks through a program. One per CPU, in a scratch map:
 * stages keep the whole stack for themselves. It is zeroed at the program's start.
 *
 * Valid after the parse: saddr .. pkt. A stage that rewrites the packet's addresses or ports
 * updates them here too.
 */
struct axo_ctx {
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
	struct axo_addr
		node; /* node of the destination, from the ipcache; 0 if none or not asked */
	struct axo_addr own6; /* network order: address of the sender's endpoint, from its device */
	__be32 own4;	      /* network order: the same, IPv4; 0 if it has none */
	__be16 sport;	      /* network order; ICMP echo: identifier; 0 if none */
	__be16 dport;	      /* network order; ICMP echo: identifier; 0 if none */
	__be16 eth_proto;     /* network order: ETH_P_* */
	__u16 l4_off;	      /* bytes from the start of the frame to the L4 header */
	__u8 family;	      /* 4, 6; 0 before the parse or neither */
	__u8 proto;	      /* IPPROTO_*, behind extension headers */
	__u8 tcp_flags;	      /* TCP: byte 13 of the header */
	__u8 icmp_type;	      /* ICMP, ICMPv6 */
	__u8 icmp_code;	      /* ICMP, ICMPv6 */
	__u8 ttl;	      /* TTL or hop limit */
	__u8 pkt;	      /* AXO_PKT_* */
	__u8 dir;	      /* AXO_DIR_*: of the hook being walked */

	__u32 src_identity; /* who sends; 0 until known */
	__u32 dst_identity; /* who receives; 0 until known or needed */
	__u32 ifindex;	    /* device of the subject endpoint, 0 if it has none */
	__u32 cookie;	    /* of the policy entry that decided, 0 if none did */
	__u16 src_id;	    /* endpoint id of the sender if it is local, else 0 */
	__u16 dst_id;	    /* endpoint id of the receiver if it is local, else 0 */
	__be16 proxy_port;  /* network order; by policy: redirect to this port, 0 if none */
	__u8 ct_state;	    /* AXO_CT_* */
	__u8 match_type;    /* AXO_MATCH_* of the entry that decided */
	__u8 ct_dir;  /* 0: the sender is the first address of the conntrack key, 1: the second */
	__u8 ct_next; /* AXO_CT_NEXT_*: what conntrack already knows about the next hook */
	__u8 check;   /* policy must be asked about this packet (new, or policy has changed) */
	__u8 report;  /* conntrack asks for a trace event (aggregation has let it through) */
	__u8 counted; /* conntrack has counted the packet */
	__u8 node_known; /* AXO_NODE_*: node and dst_identity are resolved (route.h) */
	__u8 obs_point;	 /* AXO_TRACE_*: where the packet came in */
	__u8 own_flags;	 /* AXO_EP_* of the sender's endpoint, low byte */
	__u8 verdict;	 /* AXO_VERDICT_* of the last policy consulted */
	__u8 ct_absent;	 /* conntrack has looked and has no entry for the flow */
	__u8 ct_fresh;	 /* this packet has made the flow's entry */
	__u8 frag_flags; /* of a later fragment: AXO_FRAG_*, from its first one */
	__u32 frag_id;	  /* network order: of a fragment, identification of the datagram */
	__u32 frag_until; /* of a later fragment: tick at which frag_flags end */
	__u32 policy_gen; /* generation of the policy, read before any of it was; 0 not yet */
	__u32 node_gen;	  /* generation of the ipcache, read before node was */
	__u32 service;	/* id of the frontend that the packet came to; 0: to no service */
	__u32 answers;	/* id of the frontend in whose name it must arrive; 0: in its sender's */
	__u32 path_mtu; /* bytes of L3 packet that fit towards the destination; 0: unknown */
	__u32 note[8];	/* free for stages to hand facts to later stages of the same plugin */
};

/* Whether an identity is another node's. */
static __always_inline int axo_identity_is_remote_node(__u32 identity)
{
	return identity == AXO_ID_REMOTE_NODE || identity == AXO_ID_APISERVER ||
	       (identity >= AXO_ID_NODE_SCOPE && identity < AXO_ID_NODE_SCOPE + AXO_ID_LOCAL_SCOPE);
}

/* Whether an identity is a node's, this one's too. */
static __always_inline int axo_identity_is_node(__u32 identity)
{
	return identity == AXO_ID_HOST || axo_identity_is_remote_node(identity);
}

static __always_inline void axo_addr_set4(struct axo_addr *a, __be32 v4)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = AXO_V4MAPPED;
	a->w[3] = v4;
}

static __always_inline int axo_addr_equal(const struct axo_addr *a, const struct axo_addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

static __always_inline int axo_addr_is_zero(const struct axo_addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

static __always_inline int axo_addr_is4(const struct axo_addr *a)
{
	return a->w[2] == AXO_V4MAPPED && !(a->w[0] | a->w[1]);
}

/*
 * No machine's address, so nobody's sender: 0/8, 127/8, 224/4 and up; ::, ::1, ff00::/8.
 */
static __always_inline int axo_addr_is_martian(const struct axo_addr *a)
{
	__u32 first;

	if (axo_addr_is4(a)) {
		first = bpf_ntohl(a->w[3]) >> 24;
		return first == 0 || first == 127 || first >= 224;
	}
	if (!(a->w[0] | a->w[1] | a->w[2]))
		return !(a->w[3] & ~bpf_htonl(1));
	return (a->w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* fe80::/10 */
static __always_inline int axo_addr_is_linklocal6(const struct axo_addr *a)
{
	return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

#endif
