"""Options of the tunnel plugin, under Cilium's names, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from axoneme.core.errors import ConfigError

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

DEFAULT_PORTS: Final = {"vxlan": 8472, "geneve": 6081}
"""UDP ports when ``tunnel-port`` is 0; VXLAN keeps Cilium's number, not IANA's 4789."""

OVERHEAD: Final = {"ipv4": 50, "ipv6": 70}
"""Bytes that the outer headers take from the underlay's MTU: inner Ethernet 14, VXLAN or Geneve
without options 8, UDP 8, IP 20 or 40."""


@frozen
class TunnelSettings:
    """The tunnel as configured; ``port`` and ``underlay`` are resolved, never 0 or auto."""

    protocol: str
    port: int
    underlay: str
    """Outer family: ``ipv4`` or ``ipv6``."""

    @classmethod
    def from_config(cls, config: Config) -> TunnelSettings:
        """Resolve the defaults that depend on other keys."""
        protocol = str(config["tunnel-protocol"])
        underlay = str(config["underlay-protocol"])
        if underlay == "auto":
            underlay = "ipv4" if config["enable-ipv4"] else "ipv6"
        return cls(protocol, int(config["tunnel-port"]) or DEFAULT_PORTS[protocol], underlay)

    @property
    def device(self) -> str:
        """Name of the tunnel device, ``axo_vxlan`` or ``axo_geneve``."""
        return f"axo_{self.protocol}"

    @property
    def overhead(self) -> int:
        """Bytes between the underlay's MTU and the pods'."""
        return OVERHEAD[self.underlay]


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    options.add(
        "tunnel-protocol",
        "string",
        "vxlan",
        "Encapsulation between nodes.",
        choices=("vxlan", "geneve"),
        helm="tunnelProtocol",
    )
    options.add(
        "tunnel-port",
        "int",
        0,
        "UDP port of the tunnel; 0 means 8472 for VXLAN and 6081 for Geneve.",
        min=0,
        max=65535,
        helm="tunnelPort",
    )
    options.add(
        "underlay-protocol",
        "string",
        "auto",
        "Family of the outer header; auto is IPv4 unless IPv4 is off.",
        choices=("auto", "ipv4", "ipv6"),
        helm="underlayProtocol",
    )


def check(config: Config) -> None:
    """Refuse an underlay of a family that is off."""
    underlay = TunnelSettings.from_config(config).underlay
    if not config[f"enable-{underlay}"]:
        raise ConfigError(
            f"key underlay-protocol is {underlay} but enable-{underlay} is false",
            hint=f"set enable-{underlay}=true or choose the other family",
        )
