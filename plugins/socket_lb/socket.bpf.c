/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services where programs connect: the socket gets its backend's address, once, and no packet is changed.
 *
 *	connect, sendmsg	VIP -> backend
 *	recvmsg, getpeername	backend -> VIP: who asked the service hears the service
 *	bind			node ports are taken
 *
 * An address of a node, this one's or (by the ipcache) another's, and loopback count as this node's for
 * node ports: any node serves them. What is remembered of a socket goes by its cookie.
 */
#include "axo/abi.h"
#include "axo/maps.h"
#include "axo/headers.h"

#include "lb_select.h"

/* bpf-lb-sock-hostns-only */
#ifndef AXO_SOCKET_HOST_ONLY
#define AXO_SOCKET_HOST_ONLY 0
#endif
/* node-port-bind-protection */
#ifndef AXO_SOCKET_BIND_PROTECTION
#define AXO_SOCKET_BIND_PROTECTION 1
#endif

struct axo_socket_key {
	__u64 cookie;
	struct axo_addr addr; /* network order: the backend's */
	__be16 port;	      /* network order */
	__u16 pad;
	__u32 pad2;
};

BPF_TABLE("lru_hash", struct axo_socket_key, struct axo_lb_name, axo_lb_sockets, 65536);

#define AXO_SOCKET_EHOSTUNREACH 113

/* bpf_set_retval() since Linux 5.18; the compiler's header may be older. */
static long (*axo_socket_retval)(int) = (void *)187;
static u64 (*axo_socket_netns)(void *) = (void *)122;

/* Slot 0: cookie of the node's own network namespace. */
BPF_TABLE("array", u32, u64, axo_lb_hostns, 1);

static __always_inline int axo_socket_is_hosts(struct bpf_sock_addr *sa)
{
	u32 zero = 0;
	u64 *host = axo_lb_hostns.lookup(&zero);

	return host && *host == axo_socket_netns(sa);
}

/* Whose sockets are translated. */
static __always_inline int axo_socket_served(struct bpf_sock_addr *sa)
{
	return !AXO_SOCKET_HOST_ONLY || axo_socket_is_hosts(sa);
}

static __always_inline int axo_socket_is_node(const struct axo_addr *a, u8 family)
{
	struct axo_endpoint *ep;
	struct axo_ipcache *who;

	if (family == 4 && (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000))
		return 1;
	if (!(a->w[0] | a->w[1] | a->w[2]) && a->w[3] == bpf_htonl(1))
		return 1;
	ep = axo_endpoint_by_addr(a);
	AXO_OPAQUE(ep);
	if (ep)
		return !!(ep->flags & AXO_EP_HOST);
	who = axo_ipcache_lookup(a);
	return who && axo_identity_is_node(who->identity);
}

/* Loopback of a pod is the pod's own. */
static __always_inline int axo_socket_may_be_node(struct bpf_sock_addr *sa,
						  const struct axo_addr *a, u8 family)
{
	int loopback = family == 4 ?
			       (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) :
			       !(a->w[0] | a->w[1] | a->w[2]) && a->w[3] == bpf_htonl(1);

	return !loopback || axo_socket_is_hosts(sa);
}

static __always_inline struct axo_lb_frontend *
axo_socket_frontend(struct bpf_sock_addr *sa, const struct axo_addr *a, __be16 port, u8 family)
{
	struct axo_lb_frontend *fe = axo_lb_find(a, port, sa->protocol);
	struct axo_addr any = {};

	AXO_OPAQUE(fe);
	if (fe)
		return fe->flags & (AXO_LB_NOTHING | AXO_LB_OUTSIDERS) ? NULL : fe;
	if (family == 4)
		axo_addr_set4(&any, 0);
	fe = axo_lb_find(&any, port, sa->protocol);
	AXO_OPAQUE(fe);
	if (!fe)
		return NULL;
	return axo_socket_is_node(a, family) && axo_socket_may_be_node(sa, a, family) ? fe : NULL;
}

static __always_inline void axo_socket_remember(struct bpf_sock_addr *sa,
						const struct axo_addr *vip, __be16 port,
						const struct axo_lb_backend *b)
{
	struct axo_socket_key key = {};
	struct axo_lb_name name = {};

	key.cookie = bpf_get_socket_cookie(sa);
	key.addr = b->addr;
	key.port = b->port;
	name.addr = *vip;
	name.port = port;
	axo_lb_sockets.update(&key, &name);
}

/* What the socket asks for is a service: *to its backend. 1 translated, 0 no service, -1 refused. */
static __always_inline int axo_socket_forward(struct bpf_sock_addr *sa, struct axo_addr *vip,
					      __be16 port, u8 family, struct axo_addr *to,
					      __be16 *to_port)
{
	struct axo_ctx *ctx = axo_ctx_get();
	struct axo_lb_frontend *fe;
	struct axo_lb_backend *b;
	struct axo_addr client = {};
	u64 cookie;
	u32 id;

	if (!ctx || !axo_socket_served(sa))
		return 0;
	fe = axo_socket_frontend(sa, vip, port, family);
	if (!fe)
		return 0;
	cookie = axo_socket_netns(sa);
	__builtin_memcpy(&client, &cookie, sizeof(cookie));
	id = axo_lb_select(sa, ctx, fe, AXO_LB_INSIDE, &client, bpf_get_prandom_u32());
	b = axo_lb_backend_get(id);
	if (!b)
		return -1;
	*to = b->addr;
	*to_port = b->port;
	axo_socket_remember(sa, vip, port, b);
	return 1;
}

/* The name of who is at the other end, if the socket asked a service. */
static __always_inline int axo_socket_reverse(struct bpf_sock_addr *sa, struct axo_addr *from,
					      __be16 port, struct axo_lb_name *name)
{
	struct axo_socket_key key = {};
	struct axo_lb_name *found;

	key.cookie = bpf_get_socket_cookie(sa);
	key.addr = *from;
	key.port = port;
	found = axo_lb_sockets.lookup(&key);
	if (!found)
		return 0;
	*name = *found;
	return 1;
}

static __always_inline int axo_socket_is_ours(struct bpf_sock_addr *sa)
{
	return sa->protocol == AXO_PROTO_TCP || sa->protocol == AXO_PROTO_UDP;
}

static __always_inline int axo_socket_refuse(void)
{
	axo_socket_retval(-AXO_SOCKET_EHOSTUNREACH);
	return 0;
}

static __always_inline int axo_socket_forward4(struct bpf_sock_addr *sa)
{
	struct axo_addr vip = {}, to = {};
	__be16 port = sa->user_port, to_port = 0;
	int rc;

	if (!axo_socket_is_ours(sa))
		return 1;
	axo_addr_set4(&vip, sa->user_ip4);
	rc = axo_socket_forward(sa, &vip, port, 4, &to, &to_port);
	if (rc < 0)
		return axo_socket_refuse();
	if (rc) {
		sa->user_ip4 = to.w[3];
		sa->user_port = to_port;
	}
	return 1;
}

static __always_inline void axo_socket_read6(struct bpf_sock_addr *sa, struct axo_addr *a)
{
	a->w[0] = sa->user_ip6[0];
	a->w[1] = sa->user_ip6[1];
	a->w[2] = sa->user_ip6[2];
	a->w[3] = sa->user_ip6[3];
}

static __always_inline void axo_socket_write6(struct bpf_sock_addr *sa, const struct axo_addr *a)
{
	sa->user_ip6[0] = a->w[0];
	sa->user_ip6[1] = a->w[1];
	sa->user_ip6[2] = a->w[2];
	sa->user_ip6[3] = a->w[3];
}

/* An IPv6 socket may ask for an IPv4 address, which is written the same way here and there. */
static __always_inline int axo_socket_forward6(struct bpf_sock_addr *sa)
{
	struct axo_addr vip = {}, to = {};
	__be16 port = sa->user_port, to_port = 0;
	int rc;

	if (!axo_socket_is_ours(sa))
		return 1;
	axo_socket_read6(sa, &vip);
	rc = axo_socket_forward(sa, &vip, port, axo_addr_is4(&vip) ? 4 : 6, &to, &to_port);
	if (rc < 0)
		return axo_socket_refuse();
	if (rc) {
		axo_socket_write6(sa, &to);
		sa->user_port = to_port;
	}
	return 1;
}

static __always_inline int axo_socket_reverse4(struct bpf_sock_addr *sa)
{
	struct axo_lb_name name = {};
	struct axo_addr from = {};

	if (!axo_socket_is_ours(sa))
		return 1;
	axo_addr_set4(&from, sa->user_ip4);
	if (axo_socket_reverse(sa, &from, sa->user_port, &name)) {
		sa->user_ip4 = name.addr.w[3];
		sa->user_port = name.port;
	}
	return 1;
}

static __always_inline int axo_socket_reverse6(struct bpf_sock_addr *sa)
{
	struct axo_lb_name name = {};
	struct axo_addr from = {};

	if (!axo_socket_is_ours(sa))
		return 1;
	axo_socket_read6(sa, &from);
	if (axo_socket_reverse(sa, &from, sa->user_port, &name)) {
		axo_socket_write6(sa, &name.addr);
		sa->user_port = name.port;
	}
	return 1;
}

/* A node port is not for others: who bound it would hear nothing. Pods have ports of their own. */
static __always_inline int axo_socket_bind(struct bpf_sock_addr *sa, u8 family)
{
	struct axo_lb_frontend *fe;
	struct axo_addr any = {};

	if (!AXO_SOCKET_BIND_PROTECTION || !axo_socket_is_ours(sa) || !sa->user_port)
		return 1;
	if (family == 4)
		axo_addr_set4(&any, 0);
	fe = axo_lb_find(&any, sa->user_port, sa->protocol);
	if (!fe)
		return 1;
	return !axo_socket_is_hosts(sa);
}

int sock4_connect(struct bpf_sock_addr *sa)
{
	return axo_socket_forward4(sa);
}

int sock6_connect(struct bpf_sock_addr *sa)
{
	return axo_socket_forward6(sa);
}

int sock4_sendmsg(struct bpf_sock_addr *sa)
{
	return axo_socket_forward4(sa);
}

int sock6_sendmsg(struct bpf_sock_addr *sa)
{
	return axo_socket_forward6(sa);
}

int sock4_recvmsg(struct bpf_sock_addr *sa)
{
	return axo_socket_reverse4(sa);
}

int sock6_recvmsg(struct bpf_sock_addr *sa)
{
	return axo_socket_reverse6(sa);
}

int sock4_getpeername(struct bpf_sock_addr *sa)
{
	return axo_socket_reverse4(sa);
}

int sock6_getpeername(struct bpf_sock_addr *sa)
{
	return axo_socket_reverse6(sa);
}

int sock4_bind(struct bpf_sock_addr *sa)
{
	return axo_socket_bind(sa, 4);
}

int sock6_bind(struct bpf_sock_addr *sa)
{
	return axo_socket_bind(sa, 6);
}
