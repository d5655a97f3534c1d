/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * May this packet leave (policy_egress), may it enter (policy_ingress)? Asked for a flow's first
 * packet and again when policy has changed; conntrack answers for the rest.
 */
#include "axo/abi.h"
#include "axo/parse.h"
#include "axo/events.h"
#include "policy.h"
#include "policy_stats.h"

/* policy-cidr-match-mode: AXO_POLICY_CIDR_* */
#ifdef AXO_POLICY_CIDR_MATCH
#include "cidr_match.h"
#endif

/* allow-icmp-frag-needed: path MTU discovery works whatever the rules say */
#ifndef AXO_POLICY_ALLOW_FRAG_NEEDED
#define AXO_POLICY_ALLOW_FRAG_NEEDED 1
#endif

static __always_inline __be16 policy_port(const struct axo_ctx *ctx)
{
	if (ctx->proto == (ctx->family == 4 ? AXO_PROTO_ICMP : AXO_PROTO_ICMP6))
		return bpf_htons(ctx->icmp_type);
	return ctx->dport;
}

static __always_inline u8 policy_match_type(const struct axo_policy_value *value, int specific)
{
	if (!value->prefix_len)
		return specific ? AXO_MATCH_L3_ONLY : AXO_MATCH_ALL;
	if (value->prefix_len <= 8)
		return specific ? AXO_MATCH_L3_PROTO : AXO_MATCH_PROTO_ONLY;
	return specific ? AXO_MATCH_L3_L4 : AXO_MATCH_L4_ONLY;
}

/* Which of two found entries decides: the other one, not the peer's own? */
static __always_inline int policy_prefers_any(const struct axo_policy_value *own,
					      const struct axo_policy_value *any)
{
	if (own->precedence != any->precedence)
		return any->precedence > own->precedence;
	return any->prefix_len > own->prefix_len;
}

/* The verdict of an entry of a peer (0: anybody): AXO_NEXT or a drop; notes what decided. */
static __always_inline int policy_apply(struct axo_ctx *ctx, struct axo_policy_hit *hit,
					const struct axo_policy_value *value, u32 peer)
{
	hit->found = 1;
	hit->peer = peer;
	hit->prefix_len = value->prefix_len;
	ctx->cookie = value->cookie;
	ctx->match_type = policy_match_type(value, !!peer);
	if (value->deny == AXO_POLICY_DENY_YES) {
		/* else no rule refuses, but none allows, or there is no proxy to look */
		if ((value->precedence & 0xff) == AXO_POLICY_SAYS_DENY)
			return -AXO_DROP_POLICY_DENY;
		return -AXO_DROP_POLICY;
	}
	ctx->proxy_port = value->proxy_port;
	return AXO_NEXT;
}

/* Have all tries the entries of a peer? */
static __always_inline int policy_is_known(u32 peer)
{
	struct axo_policy_key key = {};
	u32 nobody = 0;
	void *known;

	known = axo_policy.lookup(&nobody);
	if (!known)
		return 0;
	key.prefixlen = AXO_POLICY_STATIC_BITS;
	key.peer = peer;
	return bpf_map_lookup_elem(known, &key) != NULL;
}

/*
 * May a peer without entries of its own have what others of its kind or anybody have? The subject
 * denies some peers, and one that policy has not met may be one of them. A peer that became known
 * since we looked has its entries now: the mark comes after them.
 */
static __always_inline int policy_may_have(void *entries, struct axo_policy_key *key, u32 peer)
{
	if (!policy_is_known(peer))
		return 0;
	key->peer = peer;
	return !bpf_map_lookup_elem(entries, key);
}

#ifdef AXO_POLICY_CIDR_MATCH
/* What CIDR rules say of the peer's address, if that outranks what is known so far. */
static __always_inline struct axo_policy_value *
policy_cidr_entry(void *entries, struct axo_policy_key *key, const struct axo_ctx *ctx, u32 peer,
		  const struct axo_policy_value *own, const struct axo_policy_value *any)
{
	u32 cidr = policy_cidr_peer(key->dir == AXO_DIR_EGRESS ? &ctx->daddr : &ctx->saddr, peer);
	struct axo_policy_value *found;

	if (!cidr)
		return NULL;
	key->peer = cidr;
	found = bpf_map_lookup_elem(entries, key);
	AXO_OPAQUE(found);
	if (!found)
		return NULL;
	if (own && !policy_prefers_any(own, found))
		return NULL;
	if (any && !policy_prefers_any(any, found))
		return NULL;
	return found;
}
#endif

/* AXO_NEXT or a drop. subject and peer: identities. */
static __always_inline int policy_lookup(struct axo_ctx *ctx, struct axo_policy_hit *hit,
					 u32 subject, u32 peer, u8 dir)
{
#ifdef AXO_POLICY_CIDR_MATCH
	struct axo_policy_value *cidr;
	u32 prefix;
#endif
	struct axo_policy_key key = {};
	struct axo_policy_value *own, *any;
	void *entries;

	ctx->cookie = 0;
	ctx->match_type = AXO_MATCH_NONE;
	entries = axo_policy.lookup(&subject);
	if (!entries)
		return -AXO_DROP_EP_NOT_READY;
	key.prefixlen = AXO_POLICY_KEY_BITS;
	key.dir = dir;
	key.proto = ctx->proto;
	key.port = policy_port(ctx);
	/* anybody's first: plan.py counts on it where a trie is changed in place */
	any = bpf_map_lookup_elem(entries, &key);
	AXO_OPAQUE(any);
	if (!peer)
		goto anybody;
	key.peer = peer;
	own = bpf_map_lookup_elem(entries, &key);
	AXO_OPAQUE(own);
#ifdef AXO_POLICY_CIDR_MATCH
	cidr = policy_cidr_entry(entries, &key, ctx, peer, own, any);
	prefix = key.peer;
	if (cidr) {
		if (cidr->deny == AXO_POLICY_DENY_UNKNOWN && !own &&
		    !policy_may_have(entries, &key, peer))
			return -AXO_DROP_POLICY;
		return policy_apply(ctx, hit, cidr, prefix);
	}
#endif
	if (!own)
		goto anybody;
	if (!any)
		return policy_apply(ctx, hit, own, peer);
	if (policy_prefers_any(own, any))
		return policy_apply(ctx, hit, any, 0);
	return policy_apply(ctx, hit, own, peer);
anybody:
	if (!any)
		return -AXO_DROP_POLICY;
	if (any->deny == AXO_POLICY_DENY_UNKNOWN && !policy_may_have(entries, &key, peer))
		return -AXO_DROP_POLICY;
	return policy_apply(ctx, hit, any, 0);
}

static __always_inline int policy_is_frag_needed(const struct axo_ctx *ctx)
{
	if (!(ctx->pkt & AXO_PKT_ICMP_ERROR))
		return 0;
	if (ctx->family == 6)
		return ctx->icmp_type == AXO_ICMP6_TOO_BIG;
	return ctx->icmp_type == AXO_ICMP4_UNREACHABLE && ctx->icmp_code == AXO_ICMP4_FRAG_NEEDED;
}

/* Audit mode: what no rule allows is told, and let through. */
static __always_inline int policy_is_audited(const struct axo_ctx *ctx, u32 subject, u8 dir)
{
	struct axo_policy_audit_key key = {};

	if (axo_policy_audit.lookup(&key))
		return 1;
	if (subject == AXO_ID_HOST)
		key.endpoint = AXO_POLICY_AUDIT_HOST;
	else
		key.endpoint = dir == AXO_DIR_EGRESS ? ctx->src_id : ctx->dst_id;
	return key.endpoint && axo_policy_audit.lookup(&key);
}

static __always_inline int policy_decide(struct __sk_buff *skb, struct axo_ctx *ctx, u32 subject,
					 u32 peer, u8 dir)
{
	struct axo_policy_hit hit = {};
	int ret;

	if (AXO_POLICY_ALLOW_FRAG_NEEDED && policy_is_frag_needed(ctx))
		return AXO_NEXT;
	ret = policy_lookup(ctx, &hit, subject, peer, dir);
#ifdef AXO_POLICY_ACCOUNTING
	policy_account(skb, ctx, &hit, subject, dir, policy_port(ctx));
#endif
	if (ret == AXO_NEXT && ctx->ct_state != AXO_CT_NEW)
		return ret;
	ctx->verdict = ret == AXO_NEXT ? AXO_VERDICT_ALLOWED : AXO_VERDICT_DENIED;
	if ((ret == -AXO_DROP_POLICY || ret == -AXO_DROP_POLICY_DENY) &&
	    policy_is_audited(ctx, subject, dir))
		ctx->verdict = AXO_VERDICT_AUDIT;
	axo_verdict_event(skb, ctx, ret == AXO_NEXT ? 0 : -ret);
	if (ctx->verdict == AXO_VERDICT_AUDIT)
		ret = AXO_NEXT;
	AXO_OPAQUE(ret);
	return ret;
}

static __always_inline int policy_egress(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	return policy_decide(skb, ctx, ctx->src_identity, ctx->dst_identity, AXO_DIR_EGRESS);
}

static __always_inline int policy_ingress(struct __sk_buff *skb, struct axo_ctx *ctx)
{
	return policy_decide(skb, ctx, ctx->dst_identity, ctx->src_identity, AXO_DIR_INGRESS);
}
