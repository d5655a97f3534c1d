/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * To the proxy: what policy wants it to see goes to its socket instead of on its way. The packet
 * keeps its addresses (the kernel's TPROXY): the proxy learns from them whom the pod has asked.
 *
 *	TCP  a connection that the proxy has accepted, else the socket that it listens on
 *	UDP  the socket that it listens on
 *
 * The answers to what the proxy asks in the pod's name (dnsproxy-enable-transparent-mode) go to its
 * socket as well: one that is bound to the pod's very address and connected to the server's.
 *
 * The mark leads the routing decision to a table that has everything as local. Without a socket the
 * packet is dropped by the caller.
 */
#include "axo/abi.h"
#include "axo/parse.h"
#include "axo/events.h"
#include "axo/forward.h"

#define FQDN_MARK_TO_PROXY 0x200 /* of AXO_MARK_MASK, as Cilium's */

struct fqdn_tuple4 {
	__be32 saddr, daddr; /* network order */
	__be16 sport, dport; /* network order */
};

struct fqdn_tuple6 {
	struct axo_addr saddr, daddr; /* network order */
	__be16 sport, dport;	      /* network order */
};

static __always_inline int fqdn_assign(struct __sk_buff *skb, struct axo_ctx *ctx,
				       struct bpf_sock *sk)
{
	int ret = bpf_sk_assign(skb, sk, 0);

	bpf_sk_release(sk);
	if (ret)
		return -AXO_DROP_PROXY_SET_FAILED;
	axo_mark_set(skb, FQDN_MARK_TO_PROXY);
	axo_trace(skb, ctx, AXO_TRACE_TO_PROXY, 0);
	return TC_ACT_OK;
}

/* The connection that a segment belongs to, if it is one of the proxy's. */
static __always_inline struct bpf_sock *fqdn_connection(struct __sk_buff *skb,
							const struct axo_ctx *ctx, void *tuple,
							u32 size)
{
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);

	if (!sk)
		return NULL;
	if (sk->state != BPF_TCP_LISTEN)
		return sk;
	bpf_sk_release(sk);
	return NULL;
}

static __always_inline int fqdn_lookup4(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct fqdn_tuple4 to = {.saddr = ctx->saddr.w[3],
				 .daddr = ctx->daddr.w[3],
				 .sport = ctx->sport,
				 .dport = ctx->dport};
	struct bpf_sock *sk;

	if (ctx->proto == AXO_PROTO_TCP) {
		sk = fqdn_connection(skb, ctx, &to, sizeof(to));
		if (sk)
			return fqdn_assign(skb, ctx, sk);
	}
	to.daddr = bpf_htonl(0x7f000001);
	to.dport = ctx->proxy_port;
	to.saddr = 0;
	to.sport = 0;
	if (ctx->proto == AXO_PROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return -AXO_DROP_PROXY_LOOKUP_FAILED;
	return fqdn_assign(skb, ctx, sk);
}

static __always_inline int fqdn_lookup6(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct fqdn_tuple6 to = {.saddr = ctx->saddr,
				 .daddr = ctx->daddr,
				 .sport = ctx->sport,
				 .dport = ctx->dport};
	struct bpf_sock *sk;

	if (ctx->proto == AXO_PROTO_TCP) {
		sk = fqdn_connection(skb, ctx, &to, sizeof(to));
		if (sk)
			return fqdn_assign(skb, ctx, sk);
	}
	__builtin_memset(&to, 0, sizeof(to));
	to.daddr.w[3] = bpf_htonl(1);
	to.dport = ctx->proxy_port;
	if (ctx->proto == AXO_PROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return -AXO_DROP_PROXY_LOOKUP_FAILED;
	return fqdn_assign(skb, ctx, sk);
}

static __always_inline int fqdn_egress_proxy(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (ctx->proto != AXO_PROTO_TCP && ctx->proto != AXO_PROTO_UDP)
		return -AXO_DROP_PROXY_UNKNOWN_PROTO;
	/* reassembly forgets the socket */
	if (ctx->pkt & AXO_PKT_FRAG)
		return -AXO_DROP_FRAG_NOSUPPORT;
	return ctx->family == 4 ? fqdn_lookup4(skb, ctx) : fqdn_lookup6(skb, ctx);
}

#define FQDN_PORT 53 /* of servers that are asked in the pod's name */

static __always_inline int fqdn_answer4(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct fqdn_tuple4 to = {.saddr = ctx->saddr.w[3],
				 .daddr = ctx->daddr.w[3],
				 .sport = ctx->sport,
				 .dport = ctx->dport};
	struct bpf_sock *sk;

	if (ctx->proto == AXO_PROTO_TCP)
		sk = bpf_sk_lookup_tcp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return AXO_NEXT;
	/* not one that listens to everything */
	if (sk->src_ip4 == to.daddr && sk->dst_ip4 == to.saddr)
		return fqdn_assign(skb, ctx, sk);
	bpf_sk_release(sk);
	return AXO_NEXT;
}

static __always_inline int fqdn_answer6(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	struct fqdn_tuple6 to = {.saddr = ctx->saddr,
				 .daddr = ctx->daddr,
				 .sport = ctx->sport,
				 .dport = ctx->dport};
	struct bpf_sock *sk;

	if (ctx->proto == AXO_PROTO_TCP)
		sk = bpf_sk_lookup_tcp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, (void *)&to, sizeof(to), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return AXO_NEXT;
	if (sk->src_ip6[3] == to.daddr.w[3] && sk->src_ip6[2] == to.daddr.w[2] &&
	    sk->src_ip6[1] == to.daddr.w[1] && sk->src_ip6[0] == to.daddr.w[0] &&
	    sk->dst_ip6[3] == to.saddr.w[3] && sk->dst_ip6[2] == to.saddr.w[2])
		return fqdn_assign(skb, ctx, sk);
	bpf_sk_release(sk);
	return AXO_NEXT;
}

/* Stage ingress_proxy: of a packet to a pod that no flow speaks for. */
static __always_inline int fqdn_ingress_proxy(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (AXO_LIKELY(ctx->sport != bpf_htons(FQDN_PORT)))
		return AXO_NEXT;
	if (ctx->proto != AXO_PROTO_TCP && ctx->proto != AXO_PROTO_UDP)
		return AXO_NEXT;
	/* a socket is given to what comes in by a device */
	if ((ctx->pkt & AXO_PKT_FRAG) || ctx->obs_point == AXO_TRACE_FROM_STACK)
		return AXO_NEXT;
	return ctx->family == 4 ? fqdn_answer4(skb, ctx) : fqdn_answer6(skb, ctx);
}
