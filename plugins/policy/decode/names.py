"""``toFQDNs`` and DNS rules: names and patterns (reference §2.2)."""

from __future__ import annotations

from axoneme.core.dns_names import MAX_NAME, canonical, is_name, is_pattern
from axoneme.core.model.policy import FqdnPeer
from axoneme.plugins.policy.decode.fields import Node, shown


def fqdn_peer(node: Node) -> FqdnPeer:
    """``matchName`` or ``matchPattern``, one of the two."""
    node.mapping("matchName", "matchPattern")
    name, pattern = node.get("matchName"), node.get("matchPattern")
    if name.present == pattern.present:
        raise node.error("needs exactly one of matchName and matchPattern")
    given = name if name.present else pattern
    text = canonical(given.text(most=MAX_NAME))
    if name.present:
        if not is_name(text):
            raise name.error(
                f"{shown(name.value)} is no DNS name",
                hint="labels of letters, digits, dashes and underscores; a pattern goes into "
                "matchPattern",
            )
        return FqdnPeer(name=text)
    if not is_pattern(text):
        raise pattern.error(f"{shown(pattern.value)} is no pattern of DNS names")
    return FqdnPeer(pattern=text)
