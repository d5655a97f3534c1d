/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The tunnel key: what a flow-based device puts around a packet.
 *
 *	eth | IP underlay | UDP | VXLAN or Geneve: VNI = source identity | eth | IP pod -> pod | ...
 *
 * A VNI has 24 bits, which is what a cluster-wide identity needs. Identities of local scope mean nothing
 * elsewhere and never leave: those of prefixes, and both worlds', travel as world (2). The host's own (1)
 * and other nodes' travel as remote-node (6), and the receiver knows which node that is.
 */
#ifndef AXO_TUNNEL_H
#define AXO_TUNNEL_H

#include "axo/maps.h"

#ifndef AXO_TUNNEL_PORT
#define AXO_TUNNEL_PORT 8472 /* tunnel-port */
#endif

#define AXO_TUNNEL_TTL	64

static __always_inline __u32 axo_tunnel_vni(__u32 identity)
{
	if (axo_identity_is_node(identity))
		return AXO_ID_REMOTE_NODE;
	if (identity == AXO_ID_WORLD_V4 || identity == AXO_ID_WORLD_V6 ||
	    identity >= AXO_ID_LOCAL_SCOPE || identity == AXO_ID_UNKNOWN)
		return AXO_ID_WORLD;
	return identity;
}

/*
 * struct bpf_tunnel_key as since Linux 6.0; the compiler's header may be older. Before, the key ends
 * where the address of this side begins, and a longer one is refused.
 */
struct axo_tunnel_key {
	__u32 id;
	__u32 remote[4]; /* IPv4: [0], host order; IPv6: network order */
	__u8 tos;
	__u8 ttl;
	__u16 ext;
	__u32 label;
	__u32 local[4]; /* as remote */
};

#define AXO_TUNNEL_KEY_OLD __builtin_offsetof(struct axo_tunnel_key, local)

static __always_inline __be32 axo_tunnel_own4(void)
{
	__u64 slot = axo_runtime_get(AXO_RT_NODE_V4);

	return *(__be32 *)&slot;
}

static __always_inline void axo_tunnel_own6(__u32 *words)
{
	__u64 hi = axo_runtime_get(AXO_RT_NODE_V6_HI), lo = axo_runtime_get(AXO_RT_NODE_V6_LO);

	__builtin_memcpy(words, &hi, 8);
	__builtin_memcpy(words + 2, &lo, 8);
}

/*
 * Address the packet to a node, from the address by which that node knows this one: it accepts no
 * other. 0 or a drop.
 */
static __always_inline int axo_tunnel_set_key(struct __sk_buff *skb, const struct axo_addr *node,
					      __u32 identity)
{
	struct axo_tunnel_key key = {};
	__u64 flags = 0;

	key.id = axo_tunnel_vni(identity);
	key.ttl = AXO_TUNNEL_TTL;
	if (axo_addr_is4(node)) {
		key.remote[0] = bpf_ntohl(node->w[3]);
		key.local[0] = bpf_ntohl(axo_tunnel_own4());
		flags = BPF_F_ZERO_CSUM_TX; /* the inner checksums suffice */
	} else {
		__builtin_memcpy(key.remote, node, 16);
		axo_tunnel_own6(key.local);
		flags = BPF_F_TUNINFO_IPV6;
	}
	if (AXO_LIKELY(!bpf_skb_set_tunnel_key(skb, (void *)&key, sizeof(key), flags)))
		return 0;
	/* an old kernel chooses the address of this side by itself */
	return bpf_skb_set_tunnel_key(skb, (void *)&key, AXO_TUNNEL_KEY_OLD, flags) ?
		       -AXO_DROP_WRITE_ERROR :
		       0;
}

/* Read the key of a packet that came in. Its family, or 0: it has none. */
static __always_inline int axo_tunnel_get_key(struct __sk_buff *skb, struct axo_tunnel_key *key)
{
	void *k = key;

	if (!bpf_skb_get_tunnel_key(skb, k, sizeof(*key), 0))
		return 4;
	if (!bpf_skb_get_tunnel_key(skb, k, sizeof(*key), BPF_F_TUNINFO_IPV6))
		return 6;
	if (!bpf_skb_get_tunnel_key(skb, k, AXO_TUNNEL_KEY_OLD, 0))
		return 4;
	return bpf_skb_get_tunnel_key(skb, k, AXO_TUNNEL_KEY_OLD, BPF_F_TUNINFO_IPV6) ? 0 : 6;
}

/*
 * Was the packet sent to the address that other nodes know? Nobody sends to another one but who
 * wants to pass by the checks that others make of packets to nodes. What is not known (an old
 * kernel, a node that has just begun) is not checked.
 */
static __always_inline int axo_tunnel_is_for_us(const struct axo_tunnel_key *key, int family)
{
	__u32 own[4] = {};

	if (family == 4) {
		own[0] = bpf_ntohl(axo_tunnel_own4());
		return !own[0] || !key->local[0] || own[0] == key->local[0];
	}
	axo_tunnel_own6(own);
	if (!(own[0] | own[3]) || !(key->local[0] | key->local[3]))
		return 1;
	return own[0] == key->local[0] && own[1] == key->local[1] && own[2] == key->local[2] &&
	       own[3] == key->local[3];
}

#endif
