/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Programs of the tests: the real ones, with the tunnel key of the packet taken from, or noted in,
 * skb->cb, where a test run can reach it.
 *
 *	cb[0] VNI   cb[1] last 4 bytes of the remote address (host order)   cb[2] 4, 6, 0 = no key
 *	cb[3] the same of the address of this side
 * An IPv6 address of the underlay is fd00:18::/96 and those 4 bytes.
 */
#include "container.bpf.c"
#include "overlay.bpf.c"

/*
 * As in <linux/bpf.h> since 6.0. A key is set by one who sends and read by one who has received: set and
 * read at once, remote and local change places.
 */
struct test_key {
	__u32 id;
	__u32 remote[4];
	__u8 tos;
	__u8 ttl;
	__u16 ext;
	__u32 label;
	__u32 local[4];
};

static __always_inline int test_note(struct __sk_buff *skb, int verdict)
{
	struct test_key key = {};

	skb->cb[0] = 0;
	skb->cb[1] = 0;
	skb->cb[2] = 0;
	skb->cb[3] = 0;
	if (!bpf_skb_get_tunnel_key(skb, (void *)&key, sizeof(key), 0)) {
		skb->cb[0] = key.id;
		skb->cb[1] = key.local[0];
		skb->cb[3] = key.remote[0];
		skb->cb[2] = 4;
	} else if (!bpf_skb_get_tunnel_key(skb, (void *)&key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		skb->cb[0] = key.id;
		skb->cb[1] = bpf_ntohl(key.local[3]);
		skb->cb[3] = bpf_ntohl(key.remote[3]);
		skb->cb[2] = 6;
	}
	return verdict;
}

static __always_inline struct axo_ctx *test_ctx(struct __sk_buff *skb, u8 dir)
{
	struct axo_ctx *ctx = axo_ctx_get();

	if (ctx) {
		ctx->eth_proto = skb->protocol;
		ctx->ifindex = skb->ifindex;
		ctx->dir = dir;
	}
	return ctx;
}

/* What a pod sends. */
int test_send(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = test_ctx(skb, AXO_DIR_EGRESS);

	if (!ctx)
		return TC_ACT_SHOT;
	return test_note(skb, axo_finish(skb, ctx, axo_from_container(skb, ctx)));
}

/* What the stack routes to the tunnel device. */
int test_encap(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = test_ctx(skb, AXO_DIR_EGRESS);

	if (!ctx)
		return TC_ACT_SHOT;
	return test_note(skb, axo_finish(skb, ctx, axo_to_overlay(skb, ctx)));
}

/* What comes out of the tunnel, with the key in cb. */
int test_receive(struct __sk_buff *skb)
{
	struct test_key key = {};
	struct axo_ctx *ctx;

	key.id = skb->cb[0];
	key.ttl = 64;
	if (skb->cb[2] == 4) {
		key.local[0] = skb->cb[1];
		key.remote[0] = skb->cb[3];
		if (bpf_skb_set_tunnel_key(skb, (void *)&key, sizeof(key), 0))
			return 99;
	} else if (skb->cb[2] == 6) {
		key.local[0] = bpf_htonl(0xfd000018);
		key.local[3] = bpf_htonl(skb->cb[1]);
		key.remote[0] = bpf_htonl(0xfd000018);
		key.remote[3] = bpf_htonl(skb->cb[3]);
		if (bpf_skb_set_tunnel_key(skb, (void *)&key, sizeof(key), BPF_F_TUNINFO_IPV6))
			return 99;
	}
	ctx = test_ctx(skb, AXO_DIR_INGRESS);
	if (!ctx)
		return TC_ACT_SHOT;
	skb->cb[3] = axo_finish(skb, ctx, axo_from_overlay(skb, ctx));
	skb->cb[4] = ctx->src_identity;
	return skb->cb[3];
}
