/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Source NAT: maps and layouts. Whoever gives a flow an address of this node (masquerading for pods,
 * services for outsiders) takes its port from the same tables, so no two meet.
 *
 * A flow has two entries that are born and die together:
 *
 *	dir 0   pod:port      -> remote:port    =>  node address, chosen port
 *	dir 1   remote:port   -> node:chosen    =>  pod address, pod's port
 *
 * The second is inserted first, with "must not exist": that is what makes a port taken, atomically,
 * whatever else runs on other CPUs.
 *
 * ICMP echo: the identifier stands for the port; on the remote's side the port is 0.
 */
#ifndef AXO_NAT_H
#define AXO_NAT_H

#include "axo/maps.h"

#define AXO_NAT_OUT 0 /* dir: as the pod sends */
#define AXO_NAT_IN  1 /* dir: as the answer arrives */

struct axo_nat4_key {
	__be32 saddr; /* network order, as all addresses and ports here */
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto; /* IPPROTO_* */
	__u8 dir;   /* AXO_NAT_OUT, AXO_NAT_IN */
	__u8 pad[2];
};

/* Also what the code works with for both families. */
struct axo_nat6_key {
	struct axo_addr saddr;
	struct axo_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 dir;
	__u8 pad[2];
};

#define AXO_NAT_HOST	0x01 /* the flow is the node's own: it clashed with a pod's port */
#define AXO_NAT_CLOSING 0x02 /* TCP: FIN or RST seen in this direction */
#define AXO_NAT_SERVICE 0x04 /* an outsider's, to a service: answers go on to it, in the service's name */

struct axo_nat_entry {
	struct axo_addr addr; /* dir 0: new source; dir 1: original source, now the destination */
	__be16 port;	      /* likewise */
	__u8 flags;	      /* AXO_NAT_* */
	__u8 pad;
	__u32 created; /* seconds of the monotonic clock */
	__u32 expires; /* likewise; the agent removes a pair when both sides are past it */
	__u32 service; /* AXO_NAT_SERVICE: id of the frontend that the flow came to */
};

BPF_TABLE("lru_hash", struct axo_nat4_key, struct axo_nat_entry, axo_nat4, 262144);
BPF_TABLE("lru_hash", struct axo_nat6_key, struct axo_nat_entry, axo_nat6, 262144);

/*
 * What a packet's translation works with. Not on the stack: contents of a map are nothing that the
 * verifier follows from try to try of the search for a port.
 */
struct axo_nat_work {
	struct axo_nat6_key flow;   /* as its sender knows it */
	struct axo_nat6_key answer; /* the other direction, as it arrives */
	struct axo_nat6_key other;  /* flow of somebody who has that answer */
	struct axo_nat_entry fresh;
	struct axo_nat_entry seen;
	struct bpf_sock_tuple socket;
	struct axo_addr to; /* address to translate to */
	__be16 port;	    /* likewise */
	__u16 pad;
	__u32 service; /* id of the frontend, 0: no service's flow */
};

BPF_TABLE("percpu_array", u32, struct axo_nat_work, axoscratch_nat, 1);

static __always_inline struct axo_nat_work *axo_nat_work_get(void)
{
	u32 zero = 0;

	return axoscratch_nat.lookup(&zero);
}

/* Fills a key: who sends to whom, as seen in direction dir. */
static __always_inline void axo_nat_tuple(struct axo_nat6_key *t, const struct axo_addr *src,
					  __be16 sport, const struct axo_addr *dst, __be16 dport,
					  __u8 proto, __u8 dir)
{
	t->saddr = *src;
	t->daddr = *dst;
	t->sport = sport;
	t->dport = dport;
	t->proto = proto;
	t->dir = dir;
	t->pad[0] = 0;
	t->pad[1] = 0;
}

static __always_inline void axo_nat4_narrow(struct axo_nat4_key *k, const struct axo_nat6_key *t)
{
	k->saddr = t->saddr.w[3];
	k->daddr = t->daddr.w[3];
	k->sport = t->sport;
	k->dport = t->dport;
	k->proto = t->proto;
	k->dir = t->dir;
	k->pad[0] = 0;
	k->pad[1] = 0;
}

static __always_inline struct axo_nat_entry *axo_nat_lookup(__u8 family, struct axo_nat6_key *t)
{
	struct axo_nat4_key k;

	if (family != 4)
		return axo_nat6.lookup(t);
	axo_nat4_narrow(&k, t);
	return axo_nat4.lookup(&k);
}

/* Copy the entry of t. 1, or 0 when there is none. */
static __always_inline int axo_nat_peek(__u8 family, struct axo_nat6_key *t,
					struct axo_nat_entry *copy)
{
	struct axo_nat_entry *e;
	struct axo_nat4_key k;

	if (family == 4) {
		axo_nat4_narrow(&k, t);
		e = axo_nat4.lookup(&k);
		if (!e)
			return 0;
		*copy = *e;
		return 1;
	}
	e = axo_nat6.lookup(t);
	if (!e)
		return 0;
	*copy = *e;
	return 1;
}

/* 0, or negative when the tuple is taken. */
static __always_inline int axo_nat_insert(__u8 family, struct axo_nat6_key *t,
					  struct axo_nat_entry *e)
{
	struct axo_nat4_key k;

	if (family != 4)
		return axo_nat6.insert(t, e);
	axo_nat4_narrow(&k, t);
	return axo_nat4.insert(&k, e);
}

/* Set the entry whether there is one or not. */
static __always_inline int axo_nat_store(__u8 family, struct axo_nat6_key *t,
					 struct axo_nat_entry *e)
{
	struct axo_nat4_key k;

	if (family != 4)
		return axo_nat6.update(t, e);
	axo_nat4_narrow(&k, t);
	return axo_nat4.update(&k, e);
}

static __always_inline void axo_nat_delete(__u8 family, struct axo_nat6_key *t)
{
	struct axo_nat4_key k;

	if (family != 4) {
		axo_nat6.delete(t);
		return;
	}
	axo_nat4_narrow(&k, t);
	axo_nat4.delete(&k);
}

#endif
