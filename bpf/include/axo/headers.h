/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Protocol headers as they lie on the wire. Our own, so that the packet path includes nothing
 * but the compiler's bpf.h: it compiles in half the time and on any kernel.
 */
#ifndef AXO_HEADERS_H
#define AXO_HEADERS_H

#define AXO_ETH_IP4  bpf_htons(0x0800)
#define AXO_ETH_ARP  bpf_htons(0x0806)
#define AXO_ETH_IP6  bpf_htons(0x86dd)
#define AXO_ETH_HLEN 14

#define AXO_PROTO_HOPOPT  0
#define AXO_PROTO_ICMP	  1
#define AXO_PROTO_IGMP	  2
#define AXO_PROTO_IPIP	  4
#define AXO_PROTO_TCP	  6
#define AXO_PROTO_UDP	  17
#define AXO_PROTO_IPV6	  41
#define AXO_PROTO_ROUTING 43
#define AXO_PROTO_FRAG	  44
#define AXO_PROTO_GRE	  47
#define AXO_PROTO_ESP	  50
#define AXO_PROTO_AH	  51
#define AXO_PROTO_ICMP6	  58
#define AXO_PROTO_NONE	  59
#define AXO_PROTO_DSTOPTS 60
#define AXO_PROTO_VRRP	  112
#define AXO_PROTO_SCTP	  132

/*
 *  0      6      12     14
 *  +------+------+------+
 *  | dst  | src  | type |
 *  +------+------+------+
 */
struct axo_eth {
	__u8 dst[6];
	__u8 src[6];
	__be16 proto; /* network order */
} __attribute__((packed));

/* RFC 826, for Ethernet and IPv4 */
struct axo_arp {
	__be16 hw_type;	   /* network order: 1 */
	__be16 proto_type; /* network order: 0x0800 */
	__u8 hw_len;	   /* 6 */
	__u8 proto_len;	   /* 4 */
	__be16 op;	   /* network order: 1 request, 2 reply */
	__u8 sender_mac[6];
	__u8 sender_ip[4]; /* network order */
	__u8 target_mac[6];
	__u8 target_ip[4]; /* network order */
} __attribute__((packed));

/*
 * RFC 791
 *  0       4       8              16                            31
 *  +-------+-------+---------------+-----------------------------+
 *  |version|  IHL  |      TOS      |        total length         |
 *  +-------+-------+---------------+-----+-----------------------+
 *  |        identification         |flags|    fragment offset    |
 *  +---------------+---------------+-----+-----------------------+
 *  |      TTL      |   protocol    |       header checksum       |
 *  +---------------+---------------+-----------------------------+
 *  |                       source address                        |
 *  |                    destination address                      |
 *  +-------------------------------------------------------------+
 */
struct axo_ipv4 {
	__u8 ver_ihl; /* version in the high nibble, words of header in the low */
	__u8 tos;
	__be16 tot_len;	 /* network order, bytes with header; 0 in a BIG TCP packet */
	__be16 id;	 /* network order */
	__be16 frag_off; /* network order: AXO_IP4_MF, offset in 8 bytes */
	__u8 ttl;
	__u8 proto;
	__be16 csum;  /* network order */
	__be32 saddr; /* network order */
	__be32 daddr; /* network order */
};

#define AXO_IP4_DF     bpf_htons(0x4000)
#define AXO_IP4_MF     bpf_htons(0x2000)
#define AXO_IP4_OFFSET bpf_htons(0x1fff)

/* RFC 8200 */
struct axo_ipv6 {
	__be32 ver_class_flow; /* network order: 4 bits version, 8 class, 20 flow label */
	__be16 payload_len;    /* network order, bytes behind this header; 0 in a BIG TCP packet */
	__u8 next;
	__u8 hop_limit;
	struct axo_addr saddr; /* network order */
	struct axo_addr daddr; /* network order */
};

/* First 8 bytes of any IPv6 extension header; each is at least that long. */
struct axo_ipv6_ext {
	__u8 next;
	__u8 len; /* units of 8 bytes beyond the first 8; AH: of 4 bytes beyond the first 8 */
	__be16 frag_off; /* fragment header, network order: offset in 8 bytes << 3 | M */
	__be32 frag_id;	 /* fragment header, network order */
};

#define AXO_IP6_MF     bpf_htons(0x0001)
#define AXO_IP6_OFFSET bpf_htons(0xfff8)

/* First 14 bytes of a TCP header (RFC 9293); the ports are UDP's and SCTP's too. */
struct axo_tcp {
	__be16 sport; /* network order */
	__be16 dport; /* network order */
	__be32 seq;   /* network order */
	__be32 ack;   /* network order */
	__u8 off;     /* words of header in the high nibble */
	__u8 flags;   /* AXO_TCP_* */
} __attribute__((packed));

#define AXO_TCP_FIN 0x01
#define AXO_TCP_SYN 0x02
#define AXO_TCP_RST 0x04
#define AXO_TCP_PSH 0x08
#define AXO_TCP_ACK 0x10

/* RFC 792, RFC 4443 */
struct axo_icmp {
	__u8 type;
	__u8 code;
	__be16 csum; /* network order */
	__be16 id;   /* network order: echo; unused in errors */
	__be16 seq;  /* network order: echo; IPv4 too big: the MTU */
};

#define AXO_ICMP4_ECHO_REPLY  0
#define AXO_ICMP4_UNREACHABLE 3
#define AXO_ICMP4_FRAG_NEEDED 4 /* code of 3 */
#define AXO_ICMP4_QUENCH      4
#define AXO_ICMP4_REDIRECT    5
#define AXO_ICMP4_ECHO	      8
#define AXO_ICMP4_TIME_EXCEED 11
#define AXO_ICMP4_PARAM	      12

#define AXO_ICMP6_UNREACHABLE 1
#define AXO_ICMP6_TOO_BIG     2
#define AXO_ICMP6_TIME_EXCEED 3
#define AXO_ICMP6_PARAM	      4
#define AXO_ICMP6_ECHO	      128
#define AXO_ICMP6_ECHO_REPLY  129
#define AXO_ICMP6_MLD_QUERY   130
#define AXO_ICMP6_MLD_REPORT  131
#define AXO_ICMP6_MLD_DONE    132
#define AXO_ICMP6_RS	      133
#define AXO_ICMP6_RA	      134
#define AXO_ICMP6_NS	      135
#define AXO_ICMP6_NA	      136
#define AXO_ICMP6_REDIRECT    137
#define AXO_ICMP6_MLD2_REPORT 143

#endif
