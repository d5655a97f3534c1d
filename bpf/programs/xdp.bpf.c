/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The node's own devices, where frames come from the wire: stages of the point xdp_ingress send on at
 * once what needs no packet of the kernel's.
 *
 * A stage answers AXO_NEXT, an action of XDP (XDP_TX, XDP_REDIRECT, XDP_PASS), or a drop. Frames that
 * cannot be judged here, fragments, groups and ICMP errors never reach one: they are from_netdev's.
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/parse.h"
#include "axo/events.h"

static __always_inline int axo_xdp(struct xdp_md *xdp, struct axo_ctx *ctx)
{
	if (ctx->eth_proto != AXO_ETH_IP4 && ctx->eth_proto != AXO_ETH_IP6)
		return AXO_NEXT;
	if (axo_parse(xdp, ctx) != AXO_NEXT || ctx->pkt)
		return AXO_NEXT;
	if (AXO_UNLIKELY(axo_addr_is_martian(&ctx->saddr)))
		return AXO_NEXT;
	return AXO_STAGES(xdp_ingress);
}

int from_netdev_xdp(struct xdp_md *xdp)
{
	struct axo_ctx *ctx = axo_begin(xdp, AXO_DIR_INGRESS, AXO_TRACE_FROM_NETWORK);

	return ctx ? axo_finish(xdp, ctx, axo_xdp(xdp, ctx)) : AXO_PASS;
}
