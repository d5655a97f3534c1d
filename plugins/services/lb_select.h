/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which backend does a new flow get? First the one that the client had (session affinity), else what
 * the service's algorithm says. An algorithm is a stage at the point lb_select:
 *
 *	static __always_inline int mine_lb_select(void *any, struct axo_ctx *ctx)
 *	{
 *		struct axo_lb_choice *c = axo_lb_choice_get();
 *
 *		if (!c || c->algorithm != AXO_LB_SELECT_MINE)
 *			return AXO_NEXT;
 *		c->slot = 1 + ...;	(or c->backend)
 *		return 0;
 *	}
 *
 * An answer that leads to no backend is replaced by a random one. Included by programs of packets and of
 * sockets: the composer defines AXO_CONTEXT, their first argument.
 */
#ifndef AXO_LB_SELECT_H
#define AXO_LB_SELECT_H

#include "lb_maps.h"

static __always_inline __u32 axo_lb_seconds(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000000ULL;
}

static __always_inline int axo_lb_is_member(__u32 set, __u32 backend)
{
	struct axo_lb_member_key key = {.set = set, .backend = backend};

	return axo_lb_members.lookup(&key) != NULL;
}

/* The backend that a client had last, if it still may; else 0. */
static __always_inline __u32 axo_lb_affine(const struct axo_lb_frontend *fe, __u32 set,
					   const struct axo_addr *client)
{
	struct axo_lb_affinity_key key = {};
	struct axo_lb_affinity *had;
	__u32 now = axo_lb_seconds();

	key.client = *client;
	key.service = fe->service;
	had = axo_lb_affinity.lookup(&key);
	if (!had || now - had->used > fe->affinity_s)
		return 0;
	if (!axo_lb_is_member(set, had->backend))
		return 0;
	if (had->used != now)
		had->used = now;
	return had->backend;
}

static __always_inline void axo_lb_remember(const struct axo_lb_frontend *fe, __u32 backend,
					    const struct axo_addr *client)
{
	struct axo_lb_affinity_key key = {};
	struct axo_lb_affinity now = {.backend = backend, .used = axo_lb_seconds()};

	key.client = *client;
	key.service = fe->service;
	axo_lb_affinity.update(&key, &now);
}

/*
 * Chooses for a new flow. client: who asks, hash: of the flow. The backend's id, 0: the set is empty.
 */
static __always_inline __u32 axo_lb_select(AXO_CONTEXT, struct axo_ctx *ctx,
					   const struct axo_lb_frontend *fe, __u8 scope,
					   const struct axo_addr *client, __u32 hash)
{
	struct axo_lb_choice *c = axo_lb_choice_get();
	__u32 set = fe->sets[scope & 1], backend;

	if (!c || !set)
		return 0;
	c->count = axo_lb_slot_get(set, 0);
	if (!c->count)
		return 0;
	if (fe->affinity_s) {
		backend = axo_lb_affine(fe, set, client);
		if (backend)
			return backend;
	}
	c->set = set;
	c->service = fe->service;
	c->hash = hash;
	c->slot = 0;
	c->backend = 0;
	c->algorithm = fe->algorithm;
	c->scope = scope;
	AXO_STAGES(lb_select);
	backend = c->slot ? axo_lb_slot_get(set, c->slot) : c->backend;
	if (AXO_UNLIKELY(!backend))
		backend = axo_lb_slot_get(set, 1 + bpf_get_prandom_u32() % c->count);
	if (fe->affinity_s && backend)
		axo_lb_remember(fe, backend, client);
	return backend;
}

#endif
