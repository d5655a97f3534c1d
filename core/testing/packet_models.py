"""The maps of the packet path as models, for tests: bound to the C structs by field name."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from attrs import field, frozen

from axoneme.core.datapath.typed import network

Address = IPv4Address | IPv6Address


@frozen
class MetricKey:
    """Key of ``axo_metrics``."""

    reason: int
    dir: int


@frozen
class MetricValue:
    """Sums of ``axo_metrics``."""

    packets: int
    bytes: int


@frozen
class PolicyKey:
    """Key of an inner map of ``axo_policy``."""

    prefixlen: int
    peer: int
    dir: int
    proto: int
    port: int = network()


@frozen(kw_only=True)
class PolicyValue:
    """Value of an inner map of ``axo_policy``."""

    precedence: int
    cookie: int
    proxy_port: int = network()
    deny: int = field()
    prefix_len: int = field()


@frozen(kw_only=True)
class FlowEntry:
    """``struct axo_ct_entry``; pairs are by direction, ``accept`` by direction and hook."""

    packets: tuple[int, ...]
    bytes: tuple[int, ...]
    accept: tuple[int, ...]
    identity: tuple[int, ...]
    reported: tuple[int, ...]
    expires: int
    node_gen: int
    node: Address | None
    node_identity: int
    node_dir: int
    flags: int
    tcp_seen: tuple[int, ...]
    proxy_port: int = network()
    endpoint: tuple[int, ...] = field()
    service: int = field()


@frozen(kw_only=True)
class EventRecord:
    """``struct axo_event``."""

    type: int
    reason: int
    dir: int
    family: int
    ep_id: int
    sport: int = network()
    dport: int = network()
    proto: int = field()
    tcp_flags: int = field()
    icmp_code: int = field()
    verdict: int = field()
    match_type: int = field()
    ct_state: int = field()
    src_identity: int = field()
    dst_identity: int = field()
    ifindex: int = field()
    len: int = field()
    cookie: int = field()
    src_id: int = field()
    dst_id: int = field()
    ktime_ns: int = field()
    saddr: Address | None = field()
    daddr: Address | None = field()
