/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A test's stand-in for the tunnel's key, which a test run cannot give: whoever comes is the world. */
#include "axo/abi.h"

static __always_inline int outsider_from_overlay_identity(struct __sk_buff *skb,
							  struct axo_ctx *ctx)
{
	ctx->src_identity = AXO_ID_WORLD;
	return AXO_NEXT;
}
