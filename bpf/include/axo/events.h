/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the packet path tells user space: drops, policy verdicts, traces. One fixed record through
 * one ring buffer, no copy of the packet.
 *
 * Waking the reader costs far more than writing a record (tens of microseconds on a virtual CPU), so
 * a record wakes it only after a pause of AXO_EVENT_WAKE_NS without one from this CPU. A reader that
 * finds something looks again after 10 ms (core/events/reader.py) and sleeps only when that look
 * finds nothing: it is awake when a record follows another by less. The first event after a pause
 * is seen at once, a storm is read in batches and wakes nobody.
 */
#ifndef AXO_EVENTS_H
#define AXO_EVENTS_H

#include "axo/maps.h"
#include "axo/metrics.h"

/* bpf-events-drop-enabled, bpf-events-policy-verdict-enabled, bpf-events-trace-enabled */
#ifndef AXO_EVENTS_DROP
#define AXO_EVENTS_DROP 1
#endif
#ifndef AXO_EVENTS_VERDICT
#define AXO_EVENTS_VERDICT 1
#endif
#ifndef AXO_EVENTS_TRACE
#define AXO_EVENTS_TRACE 1
#endif

/* monitor-aggregation: 0 none (every packet), else per connection as conntrack reports it */
#ifndef AXO_AGGREGATION
#define AXO_AGGREGATION 3
#endif

#define AXO_EVENT_WAKE_NS      8000000ULL /* must be less than the reader's interval */
#define AXO_EVENT_RATE_DEFAULT 10000	  /* per second and CPU */

/* Types, as Cilium's monitor numbers them; 200..255 are plugins'. */
#define AXO_EVENT_TYPES              \
	AXO_EVENT(1, DROP, "drop")   \
	AXO_EVENT(4, TRACE, "trace") \
	AXO_EVENT(5, VERDICT, "policy-verdict")

enum axo_event_type {
#define AXO_EVENT(num, name, text) AXO_EVENT_##name = (num),
	AXO_EVENT_TYPES
#undef AXO_EVENT
};

/* Where a traced packet is, as Cilium numbers it. */
#define AXO_TRACE_POINTS                             \
	AXO_TRACE(0, TO_ENDPOINT, "to-endpoint")     \
	AXO_TRACE(1, TO_PROXY, "to-proxy")           \
	AXO_TRACE(2, TO_HOST, "to-host")             \
	AXO_TRACE(3, TO_STACK, "to-stack")           \
	AXO_TRACE(4, TO_OVERLAY, "to-overlay")       \
	AXO_TRACE(5, FROM_ENDPOINT, "from-endpoint") \
	AXO_TRACE(6, FROM_PROXY, "from-proxy")       \
	AXO_TRACE(7, FROM_HOST, "from-host")         \
	AXO_TRACE(8, FROM_STACK, "from-stack")       \
	AXO_TRACE(9, FROM_OVERLAY, "from-overlay")   \
	AXO_TRACE(10, FROM_NETWORK, "from-network")  \
	AXO_TRACE(11, TO_NETWORK, "to-network")      \
	AXO_TRACE(12, FROM_CRYPTO, "from-crypto")    \
	AXO_TRACE(13, TO_CRYPTO, "to-crypto")

enum axo_trace_point {
#define AXO_TRACE(num, name, text) AXO_TRACE_##name = (num),
	AXO_TRACE_POINTS
#undef AXO_TRACE
};

/* What kind of policy entry decided, as Cilium numbers it. */
#define AXO_MATCHES                        \
	AXO_MATCH(0, NONE, "none")         \
	AXO_MATCH(1, L3_ONLY, "L3-Only")   \
	AXO_MATCH(2, L3_L4, "L3-L4")       \
	AXO_MATCH(3, L4_ONLY, "L4-Only")   \
	AXO_MATCH(4, ALL, "all")           \
	AXO_MATCH(5, L3_PROTO, "L3-Proto") \
	AXO_MATCH(6, PROTO_ONLY, "Proto-Only")

enum axo_match_type {
#define AXO_MATCH(num, name, text) AXO_MATCH_##name = (num),
	AXO_MATCHES
#undef AXO_MATCH
};

struct axo_event {
	__u8 type;	 /* enum axo_event_type, or 200 and up */
	__u8 reason;	 /* drop, verdict: AXO_DROP_*, 0 allowed; trace: enum axo_trace_point */
	__u8 dir;	 /* AXO_DIR_* */
	__u8 family;	 /* 4, 6; 0 = not IP */
	__u16 ep_id;	 /* subject endpoint, 0 if none */
	__be16 sport;	 /* network order */
	__be16 dport;	 /* network order */
	__u8 proto;	 /* IPPROTO_* */
	__u8 tcp_flags;	 /* TCP flags; ICMP, ICMPv6: type */
	__u8 icmp_code;	 /* ICMP, ICMPv6 */
	__u8 verdict;	 /* verdict: AXO_VERDICT_* */
	__u8 match_type; /* verdict: enum axo_match_type */
	__u8 ct_state;	 /* AXO_CT_* */
	__u32 src_identity;
	__u32 dst_identity;
	__u32 ifindex;	/* drop, verdict: where the packet was; trace: where it goes, 0 unknown */
	__u32 len;	/* bytes of the frame */
	__u32 cookie;	/* policy entry that decided, 0 if none did */
	__u16 src_id;	/* endpoint id of a local sender */
	__u16 dst_id;	/* endpoint id of a local receiver */
	__u64 ktime_ns; /* CLOCK_MONOTONIC */
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
};

BPF_RINGBUF_OUTPUT(axo_events, 256); /* pages: 1 MiB, 11,900 records */

#define AXO_LOSS_FULL	 0 /* slot of axo_event_loss: the ring was full */
#define AXO_LOSS_LIMITED 1 /* slot of axo_event_loss: over the rate */

BPF_TABLE("percpu_array", u32, u64, axo_event_loss, 2);

struct axo_event_budget {
	__u64 told;   /* ns: when this CPU last told something: the reader is awake */
	__u64 filled; /* ns: when tokens were last added */
	__u64 tokens; /* in ns: one event costs 1e9 / rate */
};

BPF_TABLE("percpu_array", u32, struct axo_event_budget, axoscratch_budget, 1);

static __always_inline void axo_event_lost(u32 slot)
{
	u64 *count = axo_event_loss.lookup(&slot);

	if (count)
		(*count)++;
}

/* Takes a token. A second's worth can be saved up. */
static __always_inline int axo_event_allowed(struct axo_event_budget *budget, u64 now)
{
	u64 rate = axo_runtime_get(AXO_RT_EVENT_RATE);
	u64 cost = 1000000000ULL / (rate ? rate : AXO_EVENT_RATE_DEFAULT);

	budget->tokens += now - budget->filled;
	if (budget->tokens > 1000000000ULL)
		budget->tokens = 1000000000ULL;
	budget->filled = now;
	if (budget->tokens < cost) {
		axo_event_lost(AXO_LOSS_LIMITED);
		return 0;
	}
	budget->tokens -= cost;
	return 1;
}

static __always_inline void axo_event_fill(struct axo_event *event, struct __sk_buff *skb,
					   const struct axo_ctx *ctx, u8 type, u8 reason)
{
	event->type = type;
	event->reason = reason;
	event->dir = ctx->dir;
	event->family = ctx->family;
	event->ep_id = ctx->dir == AXO_DIR_EGRESS ? ctx->src_id : ctx->dst_id;
	event->sport = ctx->sport;
	event->dport = ctx->dport;
	event->proto = ctx->proto;
	event->tcp_flags = ctx->proto == 6 ? ctx->tcp_flags : ctx->icmp_type;
	event->icmp_code = ctx->icmp_code;
	event->verdict = ctx->verdict;
	event->match_type = ctx->match_type;
	event->ct_state = ctx->ct_state;
	event->src_identity = ctx->src_identity;
	event->dst_identity = ctx->dst_identity;
	event->ifindex = axo_frame_ifindex(skb);
	event->len = axo_frame_len(skb);
	event->cookie = ctx->cookie;
	event->src_id = ctx->src_id;
	event->dst_id = ctx->dst_id;
	event->saddr = ctx->saddr;
	event->daddr = ctx->daddr;
}

#define AXO_EVENTS_REFUSALS 2 /* nobody listens, but drops and refusing verdicts are kept */

/* Does anybody want to know? type is a constant: a trace pays for one look. */
static __always_inline int axo_event_wanted(u8 type, u8 reason)
{
	u64 off = axo_runtime_get(AXO_RT_EVENTS_OFF);

	if (!off)
		return 1;
	return off == AXO_EVENTS_REFUSALS &&
	       (type == AXO_EVENT_DROP || (type == AXO_EVENT_VERDICT && reason));
}

/* Sends one record about the packet. Plugins with types of their own may call it. */
static __always_inline void axo_event_send(struct __sk_buff *skb, const struct axo_ctx *ctx,
					   u8 type, u8 reason, u32 ifindex)
{
	struct axo_event_budget *budget;
	struct axo_event *event;
	u64 now, flags = BPF_RB_NO_WAKEUP;
	u32 zero = 0;

	if (!axo_event_wanted(type, reason))
		return;
	now = bpf_ktime_get_ns();
	budget = axoscratch_budget.lookup(&zero);
	if (!budget || !axo_event_allowed(budget, now))
		return;
	event = axo_events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		axo_event_lost(AXO_LOSS_FULL);
		return;
	}
	axo_event_fill(event, skb, ctx, type, reason);
	event->ktime_ns = now;
	if (ifindex)
		event->ifindex = ifindex;
	if (now - budget->told > AXO_EVENT_WAKE_NS)
		flags = BPF_RB_FORCE_WAKEUP;
	budget->told = now;
	axo_events.ringbuf_submit(event, flags);
}

/* A packet goes on: counts it and, when conntrack asked for a report, tells. */
static __always_inline void axo_trace(struct __sk_buff *skb, struct axo_ctx *ctx, u8 point,
				      u32 ifindex)
{
	axo_metric_add(0, ctx->dir, axo_frame_len(skb));
	if (AXO_EVENTS_TRACE && (!AXO_AGGREGATION || ctx->report))
		axo_event_send(skb, ctx, AXO_EVENT_TRACE, point, ifindex);
}

/* reason: 0 allowed, else AXO_DROP_POLICY or AXO_DROP_POLICY_DENY. */
static __always_inline void axo_verdict_event(struct __sk_buff *skb, struct axo_ctx *ctx, u8 reason)
{
	if (AXO_EVENTS_VERDICT)
		axo_event_send(skb, ctx, AXO_EVENT_VERDICT, reason, 0);
}

/* Begins a program: the context of its packet, or NULL, and then there is nothing to do but drop. */
static __always_inline struct axo_ctx *axo_begin(struct __sk_buff *skb, u8 dir, u8 obs_point)
{
	struct axo_ctx *ctx = axo_ctx_get();

	if (!ctx)
		return NULL;
	ctx->eth_proto = axo_frame_proto(skb);
	ctx->ifindex = axo_frame_ifindex(skb);
	ctx->dir = dir;
	ctx->obs_point = obs_point;
	return ctx;
}

/*
 * Ends a program: verdict is what the last stage or step answered. Negative ones are counted,
 * told and shot; a stage chain that fell through its end (AXO_NEXT) passes to the stack.
 */
static __always_inline int axo_finish(struct __sk_buff *skb, struct axo_ctx *ctx, int verdict)
{
	if (verdict >= 0)
		return verdict == AXO_NEXT ? AXO_PASS : verdict;
	axo_metric_add(-verdict, ctx->dir, axo_frame_len(skb));
	if (AXO_EVENTS_DROP)
		axo_event_send(skb, ctx, AXO_EVENT_DROP, -verdict, 0);
	return AXO_SHOT;
}

#endif
