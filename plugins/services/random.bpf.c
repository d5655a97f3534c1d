/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The algorithm "random": any backend, all alike. */
#include "lb_select.h"

/* Stage lb_select. */
static __always_inline int random_lb_select(void *any, struct axo_ctx *ctx)
{
	struct axo_lb_choice *c = axo_lb_choice_get();

	if (!c)
		return AXO_NEXT;
	if (c->algorithm != AXO_LB_SELECT_RANDOM)
		return AXO_NEXT;
	c->slot = 1 + bpf_get_prandom_u32() % c->count;
	return 0;
}
