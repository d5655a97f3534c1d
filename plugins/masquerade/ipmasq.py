"""The ip-masq-agent's configuration: networks towards which pods keep their address.

The file is YAML or JSON, as kubernetes-sigs/ip-masq-agent documents it: ``nonMasqueradeCIDRs``,
``masqLinkLocal``, ``masqLinkLocalIPv6``. Without a file, or without a list in it, its defaults
count. It is looked at every second, by what the path leads to: a ConfigMap's file changes by a
symbolic link.
"""

from __future__ import annotations

import logging
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import frozen

from axoneme.core.datapath.typed import prefix_bits
from axoneme.core.errors import InvalidObjectError

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
DEFAULTS: Final = tuple(
    IPv4Network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "240.0.0.0/4",
    )
)  # fmt: skip
LINK_LOCAL: Final[dict[int, Network]] = {
    4: IPv4Network("169.254.0.0/16"),
    6: IPv6Network("fe80::/10"),
}
MAX_BYTES: Final = 1 << 20
MAX_NETWORKS: Final = 16384


@frozen
class KeptNetwork:
    """Row of table ``ipmasq``. Key: ``network``."""

    network: Network


@frozen
class IpmasqKey:
    """``struct axo_ipmasq_key``."""

    prefixlen: int
    addr: Address


@frozen
class Keeps:
    """``struct axo_ipmasq``."""

    keeps: int = 1


def encode(row: KeptNetwork) -> tuple[Any, Any]:
    """An entry of ``axo_ipmasq``."""
    return IpmasqKey(prefix_bits(row.network), row.network.network_address), Keeps()


def parse(text: str, where: str) -> tuple[Network, ...]:
    """The networks of a file; what is wrong is named with its field."""
    body: Any
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidObjectError(where, "", f"is neither YAML nor JSON: {error}") from None
    if body is None:
        return (*DEFAULTS, *LINK_LOCAL.values())
    if not isinstance(body, dict):
        raise InvalidObjectError(where, "", "must be a mapping")
    listed: Any = body.get("nonMasqueradeCIDRs")
    if listed is not None and not isinstance(listed, list):
        raise InvalidObjectError(where, "nonMasqueradeCIDRs", "must be a list")
    if listed is not None and len(listed) > MAX_NETWORKS:
        raise InvalidObjectError(where, "nonMasqueradeCIDRs", f"more than {MAX_NETWORKS} networks")
    found: list[Network] = list(DEFAULTS) if listed is None else []
    for index, item in enumerate(listed or ()):
        try:
            found.append(ip_network(item))
        except (ValueError, TypeError):
            path = f"nonMasqueradeCIDRs[{index}]"
            raise InvalidObjectError(where, path, f"{item!r} is no network") from None
    for version, key in ((4, "masqLinkLocal"), (6, "masqLinkLocalIPv6")):
        wanted = body.get(key, False)
        if not isinstance(wanted, bool):
            raise InvalidObjectError(where, key, f"{wanted!r} is neither true nor false")
        if not wanted:
            found.append(LINK_LOCAL[version])
    return tuple(dict.fromkeys(found))


class ConfigFile:
    """The file as it was when it could last be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error = ""
        self.networks: tuple[Network, ...] = parse("", str(path))
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> bool:
        """Read it if it is another one; whether the networks have changed. Blocking."""
        try:
            stat = self.path.stat()
        except OSError:
            seen = None
        else:
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen == self._seen:
            return False
        self._seen = seen
        before = self.networks
        try:
            self.networks = parse(self._text() if seen else "", str(self.path))
            self.error = ""
        except (InvalidObjectError, OSError, UnicodeDecodeError) as error:
            self.error = str(error)
            log.warning("ip-masq-agent's file not taken over", extra={"error": self.error})
        return self.networks != before

    def _text(self) -> str:
        with self.path.open("rb") as file:
            return file.read(MAX_BYTES).decode()
