"""A real agent's view in small: tables with two pods, and the compiler's layout of the record."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from axoneme.core.datapath.build import Source, compile_source
from axoneme.core.datapath.compose import merge_text
from axoneme.core.datapath.layouts import Layout
from axoneme.core.datapath.registry import default_include_dirs
from axoneme.core.endpoints.tables import endpoint_table
from axoneme.core.events.record import STRUCT, RecordDecoder
from axoneme.core.events.registry import EventRegistry
from axoneme.core.ipcache.remote import ClusterEndpoint, cluster_endpoint_table
from axoneme.core.model.endpoint import Endpoint
from axoneme.core.model.identity import Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.node import Node
from axoneme.core.state import TableRegistry

PROGRAM = """
#include "axo/events.h"
int probe(struct __sk_buff *skb)
{
	struct axo_ctx *ctx = axo_ctx_get();

	if (!ctx)
		return TC_ACT_SHOT;
	ctx->dir = AXO_DIR_INGRESS;
	return axo_finish(skb, ctx, -AXO_DROP_POLICY);
}
"""


def probe_text() -> str:
    """A program that reports a drop for each packet."""
    return merge_text(PROGRAM, default_include_dirs())


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """``struct axo_event`` as the compiler lays it out."""
    cache: Path = tmp_path_factory.mktemp("cache")
    source = Source("probe", probe_text(), structs=(STRUCT,))
    return compile_source(source, cache).layout(STRUCT)


@pytest.fixture
def decoder(layout: Layout) -> RecordDecoder:
    """A decoder with a few words."""
    return RecordDecoder(
        layout,
        drops={133: "Policy denied"},
        points={0: "to-endpoint"},
        matches={0: "none", 2: "L3-L4"},
    )


@pytest.fixture
def registry(decoder: RecordDecoder) -> EventRegistry:
    """A registry that can decode."""
    found = EventRegistry()
    found.bind(decoder)
    return found


Maker = Callable[..., bytes]


@pytest.fixture
def record(layout: Layout) -> Maker:
    """Makes raw records: ``record(type=1, reason=133, sport=80 …)`` by the layout's offsets."""

    def make(**values: int | bytes) -> bytes:
        raw = bytearray(layout.size)
        for name, value in values.items():
            field = layout.field(name)
            if isinstance(value, bytes):
                packed = value
            elif name in ("sport", "dport"):
                packed = struct.pack("!H", value)
            else:
                packed = int(value).to_bytes(field.size, "little")
            raw[field.offset : field.offset + field.size] = packed
        return bytes(raw)

    return make


def mapped(text: str) -> bytes:
    """16 bytes of an IPv4 address."""
    return bytes(10) + b"\xff\xff" + IPv4Address(text).packed


@pytest.fixture
def tables() -> TableRegistry:
    """One local pod, one remote, two identities, one other node."""
    found = TableRegistry()
    endpoint_table(found).upsert(
        Endpoint(
            id=2615,
            attachment_id="c1:eth0",
            namespace="shop",
            pod="web-1",
            ipv4=IPv4Address("10.244.1.7"),
            ipv6=IPv6Address("fd00:10:244:1::7"),
            ifname="axo0123456789",
            ifindex=0,
            container_ifname="eth0",
            netns="/run/netns/x",
            mac="",
            host_mac="",
            mtu=1500,
            identity=26612,
        )
    )
    cluster_endpoint_table(found).upsert(
        ClusterEndpoint("shop", "client-1", 12034, IPv4Address("10.244.2.5"))
    )
    identities = found.create("identities", Identity, key=lambda r: r.id)
    for number, app in ((26612, "web"), (12034, "client")):
        labels = LabelSet.parse(
            [
                f"k8s:app={app}",
                "k8s:io.kubernetes.pod.namespace=shop",
                "k8s:io.cilium.k8s.policy.cluster=default",
            ]
        )
        identities.upsert(Identity(number, labels))
    nodes = found.create("nodes", Node, key=lambda r: r.name)
    nodes.upsert(Node("node2", ipv4=IPv4Address("172.18.0.3")))
    return found
