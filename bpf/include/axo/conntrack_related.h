/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors: the message quotes the start of the packet that caused it, and so names its flow.
 *
 *	| outer IP | ICMP 8 | inner IP | first 8 bytes of inner L4 |
 *
 * It is related only between the ends of that flow: it goes to the sender of the quoted packet,
 * and a pod speaks only about packets that it has received itself. Routers speak about all. An
 * ICMPv4 redirect is never related: it says nothing that a pod needs, and changes its routes.
 */
#ifndef AXO_CONNTRACK_RELATED_H
#define AXO_CONNTRACK_RELATED_H

#include "axo/conntrack_maps.h"

/* Key of the packet that an ICMP error quotes. AXO_NEXT or a drop. */
static __always_inline int axo_ct_inner_key(struct __sk_buff *skb, struct axo_ctx *ctx,
					    struct axo_ct_scratch *s, u8 *proto, u8 *dir)
{
	u32 off = ctx->l4_off + sizeof(struct axo_icmp);
	__be16 sport = 0, dport = 0;
	struct axo_icmp l4 = {};
	struct axo_ipv4 ip4;
	struct axo_ipv6 *ip6 = (void *)&s->fresh;

	if (ctx->family == 4) {
		if (bpf_skb_load_bytes(skb, off, &ip4, sizeof(ip4)))
			return -AXO_DROP_CT_INVALID_HDR;
		axo_addr_set4(&s->inner_src, ip4.saddr);
		axo_addr_set4(&s->inner_dst, ip4.daddr);
		*proto = ip4.proto;
		off += (ip4.ver_ihl & 0x0f) * 4;
		if (ip4.frag_off & AXO_IP4_OFFSET)
			return AXO_NEXT;
	} else {
		if (bpf_skb_load_bytes(skb, off, ip6, sizeof(*ip6)))
			return -AXO_DROP_CT_INVALID_HDR;
		s->inner_src = ip6->saddr;
		s->inner_dst = ip6->daddr;
		*proto = ip6->next;
		off += sizeof(*ip6);
	}
	if (bpf_skb_load_bytes(skb, off, &l4, sizeof(l4)))
		return -AXO_DROP_CT_INVALID_HDR;
	if (axo_is_icmp(ctx->family, *proto)) {
		axo_ct_icmp_ports(*proto, l4.type, l4.id, &sport, &dport);
	} else {
		/* the ports stand where ICMP has type, code and checksum */
		sport = *(__be16 *)&l4;
		dport = l4.csum;
	}
	*dir = axo_ct_key(s, ctx->family, *proto, &s->inner_src, &s->inner_dst, sport, dport);
	return AXO_NEXT;
}

/* Is the entry of the endpoints between which the error goes? dir: of the quoted packet. */
static __always_inline int axo_ct_related_ends(const struct axo_ct_entry *e,
					       const struct axo_ctx *ctx,
					       const struct axo_ct_scratch *s, u8 dir, u32 hook)
{
	if (!axo_addr_equal(&s->inner_src, &ctx->daddr) || e->endpoint[dir & 1] != ctx->dst_id)
		return 0;
	if (hook == AXO_DIR_INGRESS)
		return 1;
	return axo_addr_equal(&s->inner_dst, &ctx->saddr) && e->endpoint[!(dir & 1)] == ctx->src_id;
}

/* Later fragments quote nothing: they follow the first one, for as long as reassembly may take. */
static __always_inline void axo_ct_related_fragments(struct axo_ctx *ctx, u32 hook)
{
	struct axo_frag_ports *known;
	struct axo_frag4_key key4;
	struct axo_frag6_key key6;

	if (ctx->family == 4) {
		axo_frag4_key_of(&key4, ctx);
		known = axo_frag4.lookup(&key4);
	} else {
		axo_frag6_key_of(&key6, ctx);
		known = axo_frag6.lookup(&key6);
	}
	if (!known)
		return;
	known->until = axo_ct_now() + AXO_SECONDS(30);
	known->flags |= AXO_FRAG_RELATED(hook);
}

static __always_inline int axo_ct_related(struct __sk_buff *skb, struct axo_ctx *ctx,
					  struct axo_ct_scratch *s, u32 hook)
{
	struct axo_ct_entry *e;
	u8 proto = 0, dir = 0;
	int ret;

	if (ctx->family == 4 && ctx->icmp_type == AXO_ICMP4_REDIRECT)
		return AXO_NEXT;
	if (ctx->pkt & AXO_PKT_LATER) {
		if (!(ctx->frag_flags & AXO_FRAG_RELATED(hook)) || ctx->frag_until < axo_ct_now())
			return AXO_NEXT;
		ctx->ct_state = AXO_CT_RELATED;
		ctx->check = 0;
		return AXO_NEXT;
	}
	s->key4.proto = 0;
	s->key6.proto = 0;
	ret = axo_ct_inner_key(skb, ctx, s, &proto, &dir);
	if (ret != AXO_NEXT)
		return ret;
	e = axo_ct_find(s, ctx->family, proto);
	if (!e || !axo_ct_alive(e, axo_ct_now()) || !axo_ct_related_ends(e, ctx, s, dir, hook))
		return AXO_NEXT;
	if (!axo_ct_accepted(e->accept[AXO_CT_CELL(dir & 1, !hook)]) &&
	    !axo_ct_accepted(e->accept[AXO_CT_CELL(!(dir & 1), hook)]))
		return AXO_NEXT;
	ctx->ct_state = AXO_CT_RELATED;
	ctx->check = 0;
	/* what is quoted was sent to the service, and its sender knows no other name */
	if (e->service && axo_ct_is_to_service(e, dir & 1))
		ctx->answers = e->service;
	if (ctx->pkt & AXO_PKT_FRAG)
		axo_ct_related_fragments(ctx, hook);
	return AXO_NEXT;
}

#endif
