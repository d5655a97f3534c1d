/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Why a packet was dropped. The numbers and sentences are Cilium's and are never renumbered: they
 * stand in events, metrics and people's dashboards. Python reads this list, so keep one entry a
 * line. A stage drops by returning -AXO_DROP_<name>.
 */
#ifndef AXO_DROP_REASONS_H
#define AXO_DROP_REASONS_H

#define AXO_DROP_REASONS                                                                           \
	AXO_DROP(132, INVALID_SIP, "Invalid source ip")                                            \
	AXO_DROP(133, POLICY, "Policy denied")                                                     \
	AXO_DROP(134, INVALID, "Invalid packet")                                                   \
	AXO_DROP(135, CT_INVALID_HDR, "CT: Truncated or invalid header")                           \
	AXO_DROP(136, FRAG_NEEDED, "Fragmentation needed")                                         \
	AXO_DROP(137, CT_UNKNOWN_PROTO, "CT: Unknown L4 protocol")                                 \
	AXO_DROP(139, UNKNOWN_L3, "Unsupported L3 protocol")                                       \
	AXO_DROP(140, MISSED_TAIL_CALL, "Missed tail call")                                        \
	AXO_DROP(141, WRITE_ERROR, "Error writing to packet")                                      \
	AXO_DROP(142, UNKNOWN_L4, "Unknown L4 protocol")                                           \
	AXO_DROP(143, UNKNOWN_ICMP4_CODE, "Unknown ICMPv4 code")                                   \
	AXO_DROP(144, UNKNOWN_ICMP4_TYPE, "Unknown ICMPv4 type")                                   \
	AXO_DROP(145, UNKNOWN_ICMP6_CODE, "Unknown ICMPv6 code")                                   \
	AXO_DROP(146, UNKNOWN_ICMP6_TYPE, "Unknown ICMPv6 type")                                   \
	AXO_DROP(147, NO_TUNNEL_KEY, "Error retrieving tunnel key")                                \
	AXO_DROP(150, UNKNOWN_TARGET, "Unknown L3 target address")                                 \
	AXO_DROP(151, UNROUTABLE, "Stale or unroutable IP")                                        \
	AXO_DROP(153, CSUM_L3, "Error while correcting L3 checksum")                               \
	AXO_DROP(154, CSUM_L4, "Error while correcting L4 checksum")                               \
	AXO_DROP(155, CT_CREATE_FAILED, "CT: Map insertion failed")                                \
	AXO_DROP(156, INVALID_EXTHDR, "Invalid IPv6 extension header")                             \
	AXO_DROP(157, FRAG_NOSUPPORT, "IP fragmentation not supported")                            \
	AXO_DROP(158, NO_SERVICE, "Service backend not found")                                     \
	AXO_DROP(159, UNSUPP_SERVICE_PROTO, "Unsupported service protocol")                        \
	AXO_DROP(160, NO_TUNNEL_ENDPOINT, "No tunnel/encapsulation endpoint (datapath BUG!)")      \
	AXO_DROP(161, NAT_46X64_DISABLED, "NAT 46/64 not enabled")                                 \
	AXO_DROP(162, EDT_HORIZON, "Reached EDT rate-limiting drop horizon")                       \
	AXO_DROP(163, UNKNOWN_CT, "Unknown connection tracking state")                             \
	AXO_DROP(164, HOST_UNREACHABLE, "Local host is unreachable")                               \
	AXO_DROP(165, NO_CONFIG, "No configuration available to perform policy decision")          \
	AXO_DROP(166, UNSUPPORTED_L2, "Unsupported L2 protocol")                                   \
	AXO_DROP(167, NAT_NO_MAPPING, "No mapping for NAT masquerade")                             \
	AXO_DROP(168, NAT_UNSUPP_PROTO, "Unsupported protocol for NAT masquerade")                 \
	AXO_DROP(169, NO_FIB, "FIB lookup failed")                                                 \
	AXO_DROP(170, ENCAP_PROHIBITED, "Encapsulation traffic is prohibited")                     \
	AXO_DROP(171, INVALID_IDENTITY, "Invalid identity")                                        \
	AXO_DROP(172, UNKNOWN_SENDER, "Unknown sender")                                            \
	AXO_DROP(173, NAT_NOT_NEEDED, "NAT not needed")                                            \
	AXO_DROP(174, IS_CLUSTER_IP, "Is a ClusterIP")                                             \
	AXO_DROP(175, FRAG_NOT_FOUND, "First logical datagram fragment not found")                 \
	AXO_DROP(176, FORBIDDEN_ICMP6, "Forbidden ICMPv6 message")                                 \
	AXO_DROP(177, NOT_IN_SRC_RANGE, "Denied by LB src range check")                            \
	AXO_DROP(178, PROXY_LOOKUP_FAILED, "Socket lookup failed")                                 \
	AXO_DROP(179, PROXY_SET_FAILED, "Socket assign failed")                                    \
	AXO_DROP(180, PROXY_UNKNOWN_PROTO, "Proxy redirection not supported for protocol")         \
	AXO_DROP(181, POLICY_DENY, "Policy denied by denylist")                                    \
	AXO_DROP(182, VLAN_FILTERED, "VLAN traffic disallowed by VLAN filter")                     \
	AXO_DROP(183, INVALID_VNI, "Incorrect VNI from VTEP")                                      \
	AXO_DROP(184, INVALID_TC_BUFFER, "Failed to update or lookup TC buffer")                   \
	AXO_DROP(185, NO_SID, "No SID was found for the IP address")                               \
	AXO_DROP(187, NAT46, "L3 translation from IPv4 to IPv6 failed (NAT46)")                    \
	AXO_DROP(188, NAT64, "L3 translation from IPv6 to IPv4 failed (NAT64)")                    \
	AXO_DROP(189, POLICY_AUTH_REQUIRED, "Authentication required")                             \
	AXO_DROP(190, CT_NO_MAP_FOUND, "No conntrack map found")                                   \
	AXO_DROP(191, SNAT_NO_MAP_FOUND, "No nat map found")                                       \
	AXO_DROP(192, INVALID_CLUSTER_ID, "Invalid ClusterID")                                     \
	AXO_DROP(193, DSR_ENCAP_UNSUPP_PROTO, "Unsupported packet protocol for DSR encapsulation") \
	AXO_DROP(194, NO_EGRESS_GATEWAY, "No egress gateway found")                                \
	AXO_DROP(195, UNENCRYPTED_TRAFFIC, "Traffic is unencrypted")                               \
	AXO_DROP(196, TTL_EXCEEDED, "TTL exceeded")                                                \
	AXO_DROP(197, NO_NODE_ID, "No node ID found")                                              \
	AXO_DROP(198, RATE_LIMITED, "Rate limited")                                                \
	AXO_DROP(199, IGMP_HANDLED, "IGMP handled")                                                \
	AXO_DROP(200, IGMP_SUBSCRIBED, "IGMP subscribed")                                          \
	AXO_DROP(201, MULTICAST_HANDLED, "Multicast handled")                                      \
	AXO_DROP(202, HOST_NOT_READY, "Host datapath not ready")                                   \
	AXO_DROP(203, EP_NOT_READY, "Endpoint policy program not available")                       \
	AXO_DROP(204, NO_EGRESS_IP, "No Egress IP configured")                                     \
	AXO_DROP(205, PUNT_PROXY, "Punt to proxy")

enum axo_drop_reason {
#define AXO_DROP(num, name, text) AXO_DROP_##name = (num),
	AXO_DROP_REASONS
#undef AXO_DROP
};

#endif
