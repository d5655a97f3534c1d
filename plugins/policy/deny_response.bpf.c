/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * policy-deny-response=icmp: a pod learns at once that policy refuses what it sends, by an ICMP error
 * in the router's name: administratively prohibited (RFC 1812 5.2.7.1: 3/13; RFC 4443 3.1: 1/1).
 */
#include "axo/icmp_answer.h"

#define POLICY_ICMP4_PROHIBITED 13
#define POLICY_ICMP6_PROHIBITED 1

/* Stage egress_refused: the packet is counted and told of already; it may go back as an error. */
static __always_inline int policy_egress_refused(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	if (!axo_answer_unreachable(skb, ctx, POLICY_ICMP4_PROHIBITED, POLICY_ICMP6_PROHIBITED))
		return AXO_NEXT;
	return bpf_redirect_peer(skb->ifindex, 0);
}
