/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The algorithm "maglev": a table per set, the same on all nodes, that changes little when the set does
 * (Eisenbud et al., NSDI 2016). Any node finds the same backend for a flow, so another can go on with it.
 */
#include "lb_select.h"

#ifndef AXO_LB_MAGLEV_SIZE
#define AXO_LB_MAGLEV_SIZE 16381 /* bpf-lb-maglev-table-size, a prime */
#endif

/* Backends' ids. A table is made whole and then put in the place of the old one. */
struct axo_lb_table {
	__u32 backend[AXO_LB_MAGLEV_SIZE];
};

BPF_TABLE("array", u32, struct axo_lb_table, axoscratch_maglev, 1);
BPF_HASH_OF_MAPS(axo_lb_maglev, u32, "axoscratch_maglev", 65536);

/* Stage lb_select. */
static __always_inline int maglev_lb_select(void *any, struct axo_ctx *ctx)
{
	struct axo_lb_choice *c = axo_lb_choice_get();
	struct axo_lb_table *table;
	u32 zero = 0, set, at;
	void *inner;

	if (!c)
		return AXO_NEXT;
	if (c->algorithm != AXO_LB_SELECT_MAGLEV)
		return AXO_NEXT;
	set = c->set;
	inner = axo_lb_maglev.lookup(&set);
	if (!inner)
		return AXO_NEXT;
	table = bpf_map_lookup_elem(inner, &zero);
	if (!table)
		return AXO_NEXT;
	at = c->hash % AXO_LB_MAGLEV_SIZE;
	AXO_OPAQUE(at); /* the verifier does not see what the remainder is bounded by */
	if (at >= AXO_LB_MAGLEV_SIZE)
		return AXO_NEXT;
	c->backend = table->backend[at];
	return 0;
}
