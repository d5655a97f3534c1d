"""Security identities: reserved numbers, scopes, rows.

Numbers and scopes are Cilium's: the top byte is the scope (0 cluster-wide, 1 local CIDR or
name, 2 remote node), 256 to 65535 are allocated through the store.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from attrs import frozen

from axoneme.core.model.labels import RESERVED, Label, LabelSet


class Reserved(IntEnum):
    """Reserved identities."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10

    @property
    def label(self) -> str:
        """The label's key as users write it: ``remote-node`` and so on."""
        return self.name.lower().replace("_", "-")


MIN_CLUSTER: Final = 256
MAX_CLUSTER: Final = 65535
LOCAL_SCOPE: Final = 1 << 24
REMOTE_NODE_SCOPE: Final = 2 << 24


def reserved_labels(identity: Reserved) -> LabelSet:
    """Labels of a reserved identity; both world families also carry ``reserved:world``, and the
    API server ``reserved:remote-node``: the number is for one that runs on another node."""
    labels = [Label(RESERVED, identity.label)]
    if identity in (Reserved.WORLD_IPV4, Reserved.WORLD_IPV6):
        labels.append(Label(RESERVED, Reserved.WORLD.label))
    if identity == Reserved.KUBE_APISERVER:
        labels.append(Label(RESERVED, Reserved.REMOTE_NODE.label))
    return LabelSet.of(labels)


@frozen
class Identity:
    """Row of table ``identities``: a number and the labels it stands for."""

    id: int
    labels: LabelSet
    source: str = "store"  # reserved | store | cidr | node

    @property
    def is_local(self) -> bool:
        """Whether the number means something on this node only and never leaves it."""
        return self.id >= LOCAL_SCOPE
