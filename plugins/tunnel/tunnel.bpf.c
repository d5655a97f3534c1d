/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stages of the tunnel, the same for VXLAN and Geneve: the device knows the difference.
 *
 *	egress_forward          pod -> remote pod: key set, straight to the tunnel device
 *	to_overlay_encap        host, and what the stack forwards: key set at the tunnel device
 *	from_netdev_frame       what other nodes have encapsulated goes straight up to the device
 *	from_overlay_identity   VNI -> identity of the sender, if that node may speak for it
 *	sender_identity         outside the tunnel nobody is a pod of another node
 *	egress_translate, to_netdev_translate
 *	                        no pod speaks the tunnel's protocol to a node
 *
 * A VNI is worth as much as who wrote it. So a packet out of the tunnel must come from a node, and
 * its sender's address must be one of that node's; and pods, whose packets may leave with their
 * node's address, must not get through to the tunnel's port of any node.
 */
#include "axo/maps.h"
#include "axo/headers.h"
#include "axo/forward.h"
#include "axo/route.h"
#include "axo/tunnel.h"

/* Entry of an address behind a tunnel; NULL if it is not (a node itself is not). */
static __always_inline struct axo_ipcache *axo_tunnel_target(const struct axo_addr *daddr)
{
	struct axo_ipcache *to = axo_ipcache_lookup(daddr);

	if (!to)
		return NULL;
	if (axo_addr_is_zero(&to->node_ip) || (to->flags & AXO_IPCACHE_DIRECT))
		return NULL;
	return to;
}

/* Stage egress_forward. */
static __always_inline int tunnel_egress_forward(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	__u32 device = axo_runtime_get(AXO_RT_TUNNEL_IFINDEX);
	int rc;

	if (!device || (ctx->pkt & AXO_PKT_MULTICAST))
		return AXO_NEXT;
	axo_destination(ctx);
	if (axo_addr_is_zero(&ctx->node))
		return AXO_NEXT;
	/* The stack has the same route and answers with the ICMP error that is due. */
	if (!axo_fits(skb, ctx, axo_runtime_get(AXO_RT_MTU)) || ctx->ttl <= 1)
		return AXO_NEXT;
	rc = axo_tunnel_set_key(skb, &ctx->node, ctx->src_identity);
	if (rc)
		return rc;
	axo_trace(skb, ctx, AXO_TRACE_TO_OVERLAY, device);
	return bpf_redirect(device, 0);
}

/* Who sends what the stack routes to the tunnel device. */
static __always_inline __u32 axo_tunnel_sender(const struct axo_ctx *ctx)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(&ctx->saddr);

	if (ep)
		return ep->flags & AXO_EP_HOST ? AXO_ID_HOST : ep->identity;
	return axo_identity_by_addr(&ctx->saddr, ctx->family);
}

/* Stage to_overlay_encap. */
static __always_inline int tunnel_to_overlay_encap(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct axo_ipcache *to = axo_tunnel_target(&ctx->daddr);

	if (!to)
		return -AXO_DROP_NO_TUNNEL_ENDPOINT;
	ctx->src_identity = axo_tunnel_sender(ctx);
	ctx->dst_identity = to->identity;
	return axo_tunnel_set_key(skb, &to->node_ip, ctx->src_identity) ?
		       -AXO_DROP_WRITE_ERROR :
		       AXO_NEXT;
}

static __always_inline int axo_tunnel_is_own(const struct axo_ipv4 *ip)
{
	return ip->daddr && ip->daddr == axo_tunnel_own4();
}

/*
 * Stage from_netdev_frame: whole IPv4 packets to this node's tunnel port. They are the node's own, no
 * pod's and no answer to one; what is in them is judged when it comes out of the device.
 */
static __always_inline int tunnel_from_netdev_frame(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct axo_ipv4 *ip = data + AXO_ETH_HLEN;
	__be16 *ports = (void *)(ip + 1);

	if (ctx->eth_proto != AXO_ETH_IP4 || (void *)(ports + 2) > end)
		return AXO_NEXT;
	if (ip->ver_ihl != 0x45 || ip->proto != AXO_PROTO_UDP ||
	    (ip->frag_off & (AXO_IP4_MF | AXO_IP4_OFFSET)))
		return AXO_NEXT;
	if (ports[1] != bpf_htons(AXO_TUNNEL_PORT) || !axo_tunnel_is_own(ip))
		return AXO_NEXT;
	return TC_ACT_OK;
}

/* What the sender's address is to the node that the packet came from. */
#define AXO_TUNNEL_FORGED    0 /* another node's */
#define AXO_TUNNEL_NOBODY    1 /* that is no node */
#define AXO_TUNNEL_OWN	     2 /* that node's, or its pods' */
#define AXO_TUNNEL_OUTSIDER  3 /* from outside the cluster, through that node */
/* any other value: that node's own, and it is known as this identity */

/* An answer of the ipcache that still holds: so that not every packet has to ask. */
struct axo_tunnel_seen {
	struct axo_addr sender; /* network order */
	struct axo_addr node;	/* network order */
	__u32 generation;	/* of the ipcache; 0: nothing here */
	__u32 what;		/* AXO_TUNNEL_*, or an identity above those */
};

#define AXO_TUNNEL_SEEN 256

BPF_TABLE("percpu_array", u32, struct axo_tunnel_seen, axoscratch_tunnel, AXO_TUNNEL_SEEN);

static __always_inline __u32 axo_tunnel_ask(const struct axo_addr *sender,
					    const struct axo_addr *node)
{
	struct axo_ipcache *e = axo_ipcache_lookup(sender);

	if (e && !axo_addr_is_zero(&e->node_ip)) {
		if (!axo_addr_equal(&e->node_ip, node))
			return AXO_TUNNEL_FORGED;
		return axo_identity_is_remote_node(e->identity) ? e->identity : AXO_TUNNEL_OWN;
	}
	e = axo_ipcache_lookup(node);
	if (!e || !(e->flags & AXO_IPCACHE_DIRECT) || !axo_addr_equal(&e->node_ip, node))
		return AXO_TUNNEL_NOBODY;
	return AXO_TUNNEL_OUTSIDER;
}

static __always_inline __u32 axo_tunnel_vouch(const struct axo_addr *sender,
					      const struct axo_addr *node)
{
	__u32 generation = axo_runtime_get(AXO_RT_IPCACHE_GEN), what;
	__u32 word = bpf_ntohl(sender->w[3]);
	__u32 slot = (word ^ (word >> 8)) & (AXO_TUNNEL_SEEN - 1);
	struct axo_tunnel_seen *seen = axoscratch_tunnel.lookup(&slot);

	if (!seen || !generation)
		return axo_tunnel_ask(sender, node);
	if (AXO_LIKELY(seen->generation == generation && axo_addr_equal(&seen->sender, sender) &&
		       axo_addr_equal(&seen->node, node)))
		return seen->what;
	AXO_BARRIER(); /* the generation was read before: a change meanwhile asks again */
	what = axo_tunnel_ask(sender, node);
	seen->sender = *sender;
	seen->node = *node;
	seen->generation = generation;
	seen->what = what;
	return what;
}

/* The identity that a VNI stands for, sent by a node that may speak for the address; 0: none. */
static __always_inline __u32 axo_tunnel_identity(__u32 vni, __u32 what, __u8 family)
{
	switch (vni) {
	case AXO_ID_WORLD:
	case AXO_ID_WORLD_V4:
	case AXO_ID_WORLD_V6:
		return axo_identity_world(family);
	case AXO_ID_REMOTE_NODE:
	case AXO_ID_APISERVER:
		/* a node can be more than that to us, and has addresses that nobody knows */
		if (what > AXO_TUNNEL_OUTSIDER)
			return what;
		return what == AXO_TUNNEL_OUTSIDER ? axo_identity_world(family) : vni;
	}
	return what == AXO_TUNNEL_OUTSIDER ? 0 : vni;
}

/* Stage from_overlay_identity. */
static __always_inline int tunnel_from_overlay_identity(struct __sk_buff *skb,
							struct axo_ctx *ctx)
{
	struct axo_tunnel_key key = {};
	struct axo_addr node;
	int family = axo_tunnel_get_key(skb, &key);
	__u32 what;

	if (!family)
		return -AXO_DROP_NO_TUNNEL_KEY;
	if (key.id == AXO_ID_UNKNOWN || key.id == AXO_ID_HOST || key.id >= AXO_ID_LOCAL_SCOPE)
		return -AXO_DROP_INVALID_IDENTITY;
	if (!axo_tunnel_is_for_us(&key, family))
		return -AXO_DROP_ENCAP_PROHIBITED;
	if (family == 4)
		axo_addr_set4(&node, bpf_htonl(key.remote[0]));
	else
		__builtin_memcpy(&node, key.remote, 16);
	what = axo_tunnel_vouch(&ctx->saddr, &node);
	if (what == AXO_TUNNEL_FORGED)
		return -AXO_DROP_INVALID_SIP;
	if (what == AXO_TUNNEL_NOBODY)
		return -AXO_DROP_NO_NODE_ID;
	ctx->src_identity = axo_tunnel_identity(key.id, what, ctx->family);
	return ctx->src_identity ? AXO_NEXT : -AXO_DROP_INVALID_SIP;
}

static __always_inline int axo_tunnel_is_node(const struct axo_addr *ip)
{
	struct axo_endpoint *ep = axo_endpoint_by_addr(ip);
	struct axo_ipcache *e;

	AXO_OPAQUE(ep);
	if (ep)
		return !!(ep->flags & AXO_EP_HOST);
	e = axo_ipcache_lookup(ip);
	if (!e)
		return 0;
	return (e->flags & AXO_IPCACHE_DIRECT) || axo_identity_is_node(e->identity);
}

/* To the tunnel's port? A later fragment has the ports of its first one. */
static __always_inline int axo_tunnel_is_encap(const struct axo_ctx *ctx)
{
	return ctx->dport == bpf_htons(AXO_TUNNEL_PORT) && ctx->proto == AXO_PROTO_UDP;
}

/* Stage egress_translate: behind services, which may have put a node where the destination is. */
static __always_inline int tunnel_egress_translate(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_LIKELY(!axo_tunnel_is_encap(ctx)) || !axo_tunnel_is_node(&ctx->daddr))
		return AXO_NEXT;
	return -AXO_DROP_ENCAP_PROHIBITED;
}

/*
 * Stage to_netdev_translate: the same for what the node's own netfilter has translated. By now the
 * source may be the node's; but a packet still knows the device that it came in on.
 */
static __always_inline int tunnel_to_netdev_translate(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_LIKELY(!axo_tunnel_is_encap(ctx)) || !axo_endpoint_by_if(skb->ingress_ifindex) ||
	    !axo_tunnel_is_node(&ctx->daddr))
		return AXO_NEXT;
	return -AXO_DROP_ENCAP_PROHIBITED;
}

/*
 * Stage sender_identity. A packet that claims an address behind the tunnel but did not come through it
 * is somebody else's: it gets no pod's or node's identity.
 */
static __always_inline int tunnel_sender_identity(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (skb->ingress_ifindex != (__u32)axo_runtime_get(AXO_RT_TUNNEL_IFINDEX) &&
	    axo_tunnel_target(&ctx->saddr))
		ctx->src_identity = axo_identity_world(ctx->family);
	return AXO_NEXT;
}
