"""What stands above L4 in ``toPorts``: rules of DNS and HTTP, TLS, SNI, listeners.

The whole schema is checked, so that a mistake is called one. DNS rules come out as
:class:`L7Rules`; the rest is right but has nobody to enforce it yet, and is refused as such.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from axoneme.core.dns_names import rule_text
from axoneme.core.model.policy import Direction, L7Rules, PortRange
from axoneme.plugins.policy.decode.fields import Node, shown
from axoneme.plugins.policy.decode.names import fqdn_peer
from axoneme.plugins.policy.l4 import TCP, UDP

FIELDS: Final = ("rules", "terminatingTLS", "originatingTLS", "serverNames", "listener")
REMOVED: Final = ("kafka", "l7proto", "l7")
MAX_L7_RULES: Final = 1000

_ENVOY_KINDS: Final = ("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig")
_SERVER_NAME = re.compile(r"(\*\*?\.)?([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|\*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def decode_l7(item: Node, ports: Sequence[PortRange], direction: Direction) -> L7Rules | None:
    """The L7 rules of one ``toPorts`` item; ``None`` if there are none.

    Raises an unenforceable error for what is right and cannot be enforced.
    """
    later: list[Node] = []
    rules = item.get("rules")
    found = _rules(rules, ports, direction, later) if rules.present and rules.value else None
    if rules.present and not rules.value:
        rules.mapping()
    for name in ("terminatingTLS", "originatingTLS"):
        if item.get(name).present:
            _tls(item.get(name))
            later.append(item.get(name))
    names = item.get("serverNames")
    if names.present:
        _server_names(names)
        if found is not None and not item.get("terminatingTLS").present:
            raise names.error("with rules needs terminatingTLS")
        later.append(names)
    if item.get("listener").present:
        _listener(item.get("listener"), direction)
        if rules.present and rules.value:
            raise item.get("listener").error("does not go with rules")
        later.append(item.get("listener"))
    if later:
        what = later[0].path.rpartition(".")[2]
        raise later[0].unenforceable(f"{what} (a rule above L4)")
    return found


def _rules(
    node: Node, ports: Sequence[PortRange], direction: Direction, later: list[Node]
) -> L7Rules | None:
    fields = node.mapping("http", "dns", *REMOVED)
    for name in REMOVED:
        if name in fields:
            raise node.get(name).error("is not supported any more", hint="removed in Cilium 1.20")
    if len(fields) != 1:
        raise node.error("needs exactly one of http and dns")
    if "dns" in fields:
        _check_dns_ports(node.get("dns"), ports, direction)
        peers = [fqdn_peer(n) for n in node.get("dns").items(most=MAX_L7_RULES)]
        return L7Rules("dns", tuple(sorted({rule_text(p) for p in peers})))
    for port in ports:
        if port.protocol not in (0, TCP) or (not port.first and not port.name):
            raise node.get("http").error("needs a TCP port other than 0")
    for item in node.get("http").items(most=MAX_L7_RULES):
        _http(item)
    later.append(node)
    return None


def _check_dns_ports(node: Node, ports: Sequence[PortRange], direction: Direction) -> None:
    if direction != Direction.EGRESS:
        raise node.error("belongs into egress: a proxy looks at what a pod asks")
    for port in ports:
        if port.name or not port.first or port.last > port.first:
            raise node.error("needs a single port by number", hint='port "53"')
        if port.protocol not in (0, TCP, UDP):
            raise node.error("needs protocol UDP, TCP or ANY")


def _http(node: Node) -> None:
    node.mapping("method", "path", "host", "headers", "headerMatches")
    for name in ("method", "path", "host"):
        field = node.get(name)
        if field.present:
            _expression(field)
    for header in node.get("headers").items():
        header.text(most=4096)
    for match in node.get("headerMatches").items():
        match.mapping("name", "value", "secret", "mismatch")
        if not match.get("name").present:
            raise match.get("name").error("is required")
        if not _HEADER_NAME.fullmatch(match.get("name").text(most=256)):
            raise match.get("name").error(f"{shown(match.get('name').value)} is no header's name")
        if match.get("mismatch").present:
            match.get("mismatch").choice("LOG", "ADD", "DELETE", "REPLACE")
        if match.get("value").present:
            match.get("value").text(most=4096)
        if match.get("secret").present:
            _secret(match.get("secret"))


def _expression(field: Node) -> None:
    """An extended regular expression; Python's engine only tells whether it can be one."""
    text = field.text(most=1024)
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise field.error(f"{shown(text)} is no regular expression") from None


def _secret(node: Node) -> None:
    node.mapping("namespace", "name")
    if not node.get("name").present:
        raise node.get("name").error("is required")
    node.get("name").text(most=253)
    if node.get("namespace").present:
        node.get("namespace").text(most=63)


def _tls(node: Node) -> None:
    node.mapping("secret", "trustedCA", "certificate", "privateKey")
    if not node.get("secret").present:
        raise node.get("secret").error("is required")
    _secret(node.get("secret"))
    for name in ("trustedCA", "certificate", "privateKey"):
        if node.get(name).present:
            node.get(name).text(most=253)


def _server_names(node: Node) -> None:
    names = list(node.items(most=MAX_L7_RULES))
    if not names:
        raise node.error("needs at least one name")
    for name in names:
        if not _SERVER_NAME.fullmatch(name.text(most=255).lower()):
            raise name.error(f"{shown(name.value)} is no server name")


def _listener(node: Node, direction: Direction) -> None:
    node.mapping("envoyConfig", "name", "priority")
    if direction != Direction.EGRESS:
        raise node.error("belongs into egress")
    for name in ("envoyConfig", "name"):
        if not node.get(name).present:
            raise node.get(name).error("is required")
    node.get("name").text(most=253)
    config = node.get("envoyConfig")
    config.mapping("kind", "name")
    if config.get("kind").present:
        config.get("kind").choice(*_ENVOY_KINDS)
    if not config.get("name").present:
        raise config.get("name").error("is required")
    config.get("name").text(most=253)
    if node.get("priority").present:
        node.get("priority").number(1, 100)
