/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The tunnel key: what a flow-based device puts around a packet.
 *
 *	eth | IP underlay | UDP | VXLAN or Geneve: VNI = source identity | eth | IP pod -> pod | ...
 *
 * A VNI has 24 bits, which is what a cluster-wide identity needs. Identities of local scope mean nothing
 * elsewhere and never leave: they, and both world identities, travel as world (2). The host's own (1)
 * travels as remote-node (6), which is what it is to the receiver.
 */
#ifndef AXO_TUNNEL_H
#define AXO_TUNNEL_H

#include "axo/maps.h"

#define AXO_TUNNEL_TTL	64
#define AXO_ID_APISERVER 7
#define AXO_LOCAL_SCOPE (1U << 24) /* identities from here on are a node's own business */

static __always_inline __u32 axo_tunnel_vni(__u32 identity)
{
	if (identity == AXO_ID_HOST)
		return AXO_ID_REMOTE_NODE;
	if (identity == AXO_ID_WORLD_V4 || identity == AXO_ID_WORLD_V6 ||
	    identity >= AXO_LOCAL_SCOPE || identity == AXO_ID_UNKNOWN)
		return AXO_ID_WORLD;
	return identity;
}

/* Address the packet to a node. 0 or a drop. */
static __always_inline int axo_tunnel_set_key(struct __sk_buff *skb, const struct axo_addr *node,
					      __u32 identity)
{
	struct bpf_tunnel_key key = {};
	__u64 flags = 0;

	key.tunnel_id = axo_tunnel_vni(identity);
	key.tunnel_ttl = AXO_TUNNEL_TTL;
	if (axo_addr_is4(node)) {
		key.remote_ipv4 = bpf_ntohl(node->w[3]); /* host order, unlike IPv6 */
		flags = BPF_F_ZERO_CSUM_TX; /* the inner checksums suffice */
	} else {
		key.remote_ipv6[0] = node->w[0];
		key.remote_ipv6[1] = node->w[1];
		key.remote_ipv6[2] = node->w[2];
		key.remote_ipv6[3] = node->w[3];
		flags = BPF_F_TUNINFO_IPV6;
	}
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags) ? -AXO_DROP_WRITE_ERROR : 0;
}

/* Read the key of a packet that came in, or goes out. 0, or negative: it has none. */
static __always_inline int axo_tunnel_get_key(struct __sk_buff *skb, struct bpf_tunnel_key *key)
{
	if (!bpf_skb_get_tunnel_key(skb, key, sizeof(*key), 0))
		return 0;
	return bpf_skb_get_tunnel_key(skb, key, sizeof(*key), BPF_F_TUNINFO_IPV6);
}

#endif
