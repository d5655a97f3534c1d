"""Which decoder reads which kind."""

from __future__ import annotations

from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.policy import Rule
from axoneme.plugins.policy.decode.cilium import decode_cilium_policy
from axoneme.plugins.policy.decode.cluster import KIND, decode_cluster_policy
from axoneme.plugins.policy.decode.kubernetes import decode_network_policy

DECODERS = {
    KIND: decode_cluster_policy,
    "NetworkPolicy": decode_network_policy,
    "CiliumNetworkPolicy": decode_cilium_policy,
    "CiliumClusterwideNetworkPolicy": decode_cilium_policy,
}


def decode_object(obj: ClusterObject) -> list[Rule] | None:
    """The rules of an object of a built-in kind; ``None`` for any other."""
    decoder = DECODERS.get(obj.key.kind)
    return decoder(obj) if decoder else None
