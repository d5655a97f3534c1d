/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Load balancing: maps and layouts, the same for sockets, pods' packets and outsiders' packets.
 *
 *	frontend (address, port, protocol) --> set of backends --> slot --> backend --> address, port
 *	          id ^                                                        (removed: flows choose anew)
 *	             '---- name that answers bear
 *
 * All frontends of a service's port share its sets, so a change of its backends costs the size of one
 * set, however many frontends there are.
 */
#ifndef AXO_LB_MAPS_H
#define AXO_LB_MAPS_H

#include "axo/abi.h"
#include "axo/maps.h"

#define AXO_LB_OUTSIDE 0 /* scope: who comes by a device of the node */
#define AXO_LB_INSIDE  1 /* scope: pods and the node itself */

struct axo_lb_key {
	struct axo_addr addr; /* network order; 0.0.0.0, ::, this node's addresses, to its sockets */
	__be16 port;	      /* network order; 0 with proto 0: every other port of the address */
	__u8 proto;	      /* IPPROTO_* */
	__u8 pad;
};

#define AXO_LB_CLUSTER_ONLY 0x0001 /* flags: not for who comes from outside the cluster */
#define AXO_LB_RANGES	    0x0002 /* outsiders must be in axo_lb_ranges ... */
#define AXO_LB_RANGES_DENY  0x0004 /* ... or must not */
#define AXO_LB_DSR	    0x0008 /* outsiders' packets keep their source on the way to the backend */
#define AXO_LB_NOTHING	    0x0010 /* no service at this port of a service's address */
#define AXO_LB_LOCAL_OUT    0x0020 /* externalTrafficPolicy: Local */
#define AXO_LB_LOCAL_IN	    0x0040 /* internalTrafficPolicy: Local */
#define AXO_LB_REDIRECT	    0x0080 /* a local redirect policy has taken it over */
#define AXO_LB_OUTSIDERS    0x0100 /* an external address: not for pods and the node (CVE-2020-8554) */

struct axo_lb_frontend {
	__u32 id;	  /* of this address and port: in conntrack, and key of axo_lb_names */
	__u32 service;	  /* number of the service's port: affinity, source ranges */
	__u32 sets[2];	  /* by scope; 0: no backend */
	__u32 affinity_s; /* seconds; 0: none */
	__u16 flags;	  /* AXO_LB_* */
	__u8 algorithm;	  /* number of what chooses a backend for outsiders */
	__u8 kind;	  /* ClusterIP, NodePort ...: for views */
};

struct axo_lb_slot_key {
	__u32 set;
	__u32 slot; /* 1 .. count; in slot 0 stands the count */
};

struct axo_lb_slot {
	__u32 backend;
};

struct axo_lb_backend_key {
	__u32 id;
};

#define AXO_LB_BACKEND_TERMINATING 0x01 /* flags: keeps its flows, gets no new ones */

struct axo_lb_backend {
	struct axo_addr addr; /* network order */
	__be16 port;	      /* network order */
	__u8 proto;	      /* IPPROTO_* */
	__u8 flags;	      /* AXO_LB_BACKEND_* */
};

struct axo_lb_name_key {
	__u32 id;
};

/* What a frontend is called: address and port that its answers come from. */
struct axo_lb_name {
	struct axo_addr addr; /* network order */
	__be16 port;	      /* network order */
	__u16 pad;
};

struct axo_lb_affinity_key {
	struct axo_addr client; /* network order; of a socket: its network namespace's cookie */
	__u32 service;
};

struct axo_lb_affinity {
	__u32 backend;
	__u32 used; /* seconds of the monotonic clock */
};

struct axo_lb_member_key {
	__u32 set;
	__u32 backend;
};

struct axo_lb_member {
	__u32 yes;
};

struct axo_lb_range_key {
	__u32 prefixlen; /* host order: 32 + bits of addr */
	__u32 service;
	struct axo_addr addr; /* network order */
};

struct axo_lb_range {
	__u32 yes;
};

BPF_F_TABLE("hash", struct axo_lb_key, struct axo_lb_frontend, axo_lb_frontends, 65536,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct axo_lb_slot_key, struct axo_lb_slot, axo_lb_slots, 524288,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct axo_lb_backend_key, struct axo_lb_backend, axo_lb_backends, 65536,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct axo_lb_name_key, struct axo_lb_name, axo_lb_names, 65536,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct axo_lb_member_key, struct axo_lb_member, axo_lb_members, 262144,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct axo_lb_range_key, struct axo_lb_range, axo_lb_ranges, 65536,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct axo_lb_affinity_key, struct axo_lb_affinity, axo_lb_affinity, 65536);

/* What chooses a backend is told, and says. One per CPU. */
struct axo_lb_choice {
	__u32 set;
	__u32 count;   /* backends in the set, at least 1 */
	__u32 service; /* number of the service's port */
	__u32 hash;    /* of the flow: the same on all nodes */
	__u32 slot;    /* answer: 1 .. count; or 0, and backend is set */
	__u32 backend; /* answer: id */
	__u8 algorithm;
	__u8 scope; /* AXO_LB_OUTSIDE, AXO_LB_INSIDE */
	__u8 pad[2];
};

BPF_TABLE("percpu_array", u32, struct axo_lb_choice, axoscratch_lb_choice, 1);

static __always_inline struct axo_lb_choice *axo_lb_choice_get(void)
{
	u32 zero = 0;

	return axoscratch_lb_choice.lookup(&zero);
}

static __always_inline struct axo_lb_frontend *axo_lb_find(const struct axo_addr *addr,
							   __be16 port, __u8 proto)
{
	struct axo_lb_key key = {};

	key.addr = *addr;
	key.port = port;
	key.proto = proto;
	return axo_lb_frontends.lookup(&key);
}

static __always_inline struct axo_lb_backend *axo_lb_backend_get(__u32 id)
{
	struct axo_lb_backend_key key = {.id = id};

	return axo_lb_backends.lookup(&key);
}

static __always_inline __u32 axo_lb_slot_get(__u32 set, __u32 slot)
{
	struct axo_lb_slot_key key = {.set = set, .slot = slot};
	struct axo_lb_slot *found = axo_lb_slots.lookup(&key);

	return found ? found->backend : 0;
}

#endif
