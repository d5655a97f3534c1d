/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps of the core and their layouts. axo_* maps are pinned and shared by all programs and
 * with the agent; axoscratch_* are private to one generation of programs. Python binds to these
 * structs by field name: a field renamed here is an error there, at load. No hidden padding.
 */
#ifndef AXO_MAPS_H
#define AXO_MAPS_H

#include "axo/abi.h"

#define AXO_EP_HOST	  0x0001 /* flags: an address of this node, not a pod's */
#define AXO_EP_ANY_SOURCE 0x0002 /* flags: may send from addresses that are not its own */

struct axo_endpoint_key {
	struct axo_addr ip; /* network order */
};

/* Who has an address on this node. Key: the address. */
struct axo_endpoint {
	__u32 ifindex; /* host side of the veth pair */
	__u16 id;
	__u16 flags; /* AXO_EP_* */
	__u32 identity;
	__u8 mac[6]; /* pod side */
	__u8 pad[2];
	__u8 host_mac[6]; /* host side, the pod's gateway */
	__u8 pad2[2];
};

struct axo_ep_if_key {
	__u32 ifindex; /* host side of the veth pair */
};

/* Who sits behind a device: the only way in which a sender gets its identity. */
struct axo_ep_if {
	__u16 id;
	__u16 flags; /* AXO_EP_* */
	__u32 identity;
	struct axo_addr ipv4; /* network order; all zero if it has none */
	struct axo_addr ipv6; /* network order; all zero if it has none */
};

/* Longest prefix: who and where an address is. IPv4 /n has prefixlen 96 + n. */
struct axo_ipcache_key {
	__u32 prefixlen;    /* host order, bits of ip */
	struct axo_addr ip; /* network order */
};

#define AXO_IPCACHE_DIRECT 0x0001 /* flags: an underlay address of node_ip, reached as it is */

struct axo_ipcache {
	__u32 identity;
	struct axo_addr node_ip; /* network order: node that it belongs to; zero if none */
	__u32 flags;		 /* AXO_IPCACHE_* */
};

struct axo_metric_key {
	__u8 reason; /* AXO_DROP_*, 0 = forwarded */
	__u8 dir;    /* AXO_DIR_* */
	__u16 pad;
	__u32 pad2;
};

struct axo_metric {
	__u64 packets;
	__u64 bytes;
};

/*
 * Slots of axo_runtime, u64 each: what the agent knows and may change while programs run.
 * Addresses are laid in memory as on the wire (IPv4 in the first 4 bytes; IPv6 in two slots).
 * Python reads this list: one entry a line.
 */
#define AXO_RUNTIME_SLOTS                                                                     \
	AXO_RUNTIME(0, POLICY_GEN, "generation of the policy maps: raised after each change") \
	AXO_RUNTIME(1, HOST_IFINDEX, "ifindex of axo_host")                                   \
	AXO_RUNTIME(2, ROUTER_V4, "router address, IPv4")                                     \
	AXO_RUNTIME(3, ROUTER_V6_HI, "router address, IPv6, first half")                      \
	AXO_RUNTIME(4, ROUTER_V6_LO, "router address, IPv6, second half")                     \
	AXO_RUNTIME(5, ROUTER_MAC, "MAC of axo_host, 6 bytes")                                \
	AXO_RUNTIME(6, NATIVE_IFINDEX, "ifindex of the direct-routing device")                \
	AXO_RUNTIME(7, TUNNEL_IFINDEX, "ifindex of axo_vxlan or axo_geneve, 0 if none")       \
	AXO_RUNTIME(8, MTU, "MTU towards other nodes for pods' packets, 0 = unknown")         \
	AXO_RUNTIME(9, WORLD_V4, "identity of unknown IPv4 addresses, 0 = world (2)")         \
	AXO_RUNTIME(10, WORLD_V6, "identity of unknown IPv6 addresses, 0 = world (2)")        \
	AXO_RUNTIME(11, IPCACHE_GEN, "raised after each ipcache change; 0 = never cache")     \
	AXO_RUNTIME(12, NODE_V4, "node address, IPv4")                                        \
	AXO_RUNTIME(13, NODE_V6_HI, "node address, IPv6, first half")                         \
	AXO_RUNTIME(14, NODE_V6_LO, "node address, IPv6, second half")                        \
	AXO_RUNTIME(15, EVENT_RATE, "drop and verdict events per second and CPU, 0 = 10000")  \
	AXO_RUNTIME(16, EVENTS_OFF, "0 = events are told, 1 = none, 2 = refusals")

enum axo_runtime_slot {
#define AXO_RUNTIME(num, name, text) AXO_RT_##name = (num),
	AXO_RUNTIME_SLOTS
#undef AXO_RUNTIME
};

BPF_TABLE("hash", struct axo_endpoint_key, struct axo_endpoint, axo_endpoints, 65536);
BPF_TABLE("hash", struct axo_ep_if_key, struct axo_ep_if, axo_ep_by_if, 65536);
BPF_F_TABLE("lpm_trie", struct axo_ipcache_key, struct axo_ipcache, axo_ipcache, 512000,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("percpu_hash", struct axo_metric_key, struct axo_metric, axo_metrics, 1024);
BPF_TABLE("array", u32, u64, axo_runtime, 64);

BPF_TABLE("percpu_array", u32, struct axo_ctx, axoscratch_ctx, 1);

/* The packet's context of this CPU, zeroed; never NULL in practice. */
static __always_inline struct axo_ctx *axo_ctx_get(void)
{
	u32 zero = 0;
	struct axo_ctx *ctx = axoscratch_ctx.lookup(&zero);

	if (ctx)
		__builtin_memset(ctx, 0, sizeof(*ctx));
	return ctx;
}

static __always_inline u64 axo_runtime_get(u32 slot)
{
	u64 *value = axo_runtime.lookup(&slot);

	return value ? *value : 0;
}

static __always_inline struct axo_endpoint *axo_endpoint_by_addr(const struct axo_addr *ip)
{
	return axo_endpoints.lookup((struct axo_endpoint_key *)ip);
}

static __always_inline struct axo_ep_if *axo_endpoint_by_if(u32 ifindex)
{
	struct axo_ep_if_key key = {.ifindex = ifindex};

	return axo_ep_by_if.lookup(&key);
}

static __always_inline struct axo_ipcache *axo_ipcache_lookup(const struct axo_addr *ip)
{
	struct axo_ipcache_key key;

	key.prefixlen = 128;
	key.ip = *ip;
	return axo_ipcache.lookup(&key);
}

/* Identity of an address that the ipcache does not know. */
static __always_inline u32 axo_identity_world(u8 family)
{
	u64 id = family == 4 ? axo_runtime_get(AXO_RT_WORLD_V4) : axo_runtime_get(AXO_RT_WORLD_V6);

	return id ? (u32)id : AXO_ID_WORLD;
}

static __always_inline u32 axo_identity_by_addr(const struct axo_addr *ip, u8 family)
{
	struct axo_ipcache *entry = axo_ipcache_lookup(ip);

	return entry ? entry->identity : axo_identity_world(family);
}

#endif
