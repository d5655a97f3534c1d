"""Options of masquerading, under Cilium's names, and what they come to."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from axoneme.core.errors import ConfigError

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

DEFAULT_RANGE: Final = (32768, 65535)
Network = IPv4Network | IPv6Network


@frozen
class MasqueradeSettings:
    """Masquerading as configured."""

    ipv4: bool
    ipv6: bool
    exempt: tuple[Network, ...]
    """Destinations that see pods' own addresses, both families."""
    remote_nodes: bool
    """Whether other nodes see the node's address: in a tunnel they have no way back to a pod."""
    ports: tuple[int, int]
    """First and last source port on the node."""
    tcp_seconds: int
    tcp_syn_seconds: int
    tcp_fin_seconds: int
    any_seconds: int
    entries: int
    """Of each family's NAT table."""
    devices: tuple[str, ...] = ()
    """Patterns of the devices on which pods take the node's address; empty: on all."""

    @classmethod
    def from_config(cls, config: Config) -> MasqueradeSettings:
        """Read the keys; a missing native-routing CIDR is made up for by the cluster's pools."""
        tunnel = config["routing-mode"] == "tunnel"
        exempt = [c for f in (4, 6) for c in _exempt(config, f, tunnel=tunnel)]
        return cls(
            ipv4=bool(config["enable-ipv4-masquerade"] and config["enable-ipv4"]),
            ipv6=bool(config["enable-ipv6-masquerade"] and config["enable-ipv6"]),
            exempt=tuple(exempt),
            remote_nodes=tunnel or bool(config["enable-remote-node-masquerade"]),
            ports=parse_range(config["masquerade-port-range"]),
            tcp_seconds=int(config["bpf-ct-timeout-regular-tcp"]),
            tcp_syn_seconds=int(config["bpf-ct-timeout-regular-tcp-syn"]),
            tcp_fin_seconds=int(config["bpf-ct-timeout-regular-tcp-fin"]),
            any_seconds=int(config["bpf-ct-timeout-regular-any"]),
            entries=int(config["bpf-nat-global-max"]),
            devices=tuple(config["egress-masquerade-interfaces"]),
        )


def _exempt(config: Config, family: int, *, tunnel: bool) -> tuple[Network, ...]:
    native = config[f"ipv{family}-native-routing-cidr"]
    if native is not None:
        return (native,)
    if tunnel or config["ipam"] != "cluster-pool":
        return ()
    return tuple(config[f"cluster-pool-ipv{family}-cidr"] or ())


def parse_range(text: str) -> tuple[int, int]:
    """``first-last``; raises ``ValueError`` in words."""
    first, dash, last = text.partition("-")
    if not (dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise ValueError(f"{text!r} is not a range such as 32768-65535")
    low, high = int(first), int(last)
    if not 1024 <= low < high <= 65535:
        raise ValueError(f"{text!r} does not lie within 1024 to 65535, first below last")
    return low, high


def _range_problem(text: Any) -> str | None:
    try:
        parse_range(str(text))
    except ValueError:
        return "first-last within 1024 to 65535, such as 32768-65535"
    return None


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    for family in (4, 6):
        options.add(
            f"enable-ipv{family}-masquerade",
            "bool",
            True,
            f"Pods reach IPv{family} destinations outside the cluster with their node's address.",
            helm=f"enableIPv{family}Masquerade",
        )
        options.add(
            f"ipv{family}-native-routing-cidr",
            f"cidr{family}",
            None,
            f"IPv{family} network in which pods' own addresses are routed: no masquerading there.",
            helm=f"ipv{family}NativeRoutingCIDR",
        )
    options.add(
        "enable-bpf-masquerade",
        "bool",
        True,
        "Accepted for compatibility: masquerading is always done in BPF.",
        helm="bpf.masquerade",
    )
    options.add(
        "enable-ip-masq-agent",
        "bool",
        False,
        "Pods keep their address towards the networks that ip-masq-agent's file names.",
        helm="ipMasqAgent.enabled",
    )
    options.add(
        "ip-masq-agent-config-path",
        "string",
        "/etc/config/ip-masq-agent",
        "ip-masq-agent's file; a change counts at once.",
    )
    options.add(
        "enable-remote-node-masquerade",
        "bool",
        False,
        "Other nodes see the node's address instead of the pod's, as they do in a tunnel anyway.",
    )
    options.add(
        "only-masquerade-default-pool",
        "bool",
        False,
        "With multi-pool IPAM: pods of other pools than the default one keep their address.",
    )
    options.add(
        "egress-masquerade-interfaces",
        "strings",
        "",
        "Pods take the node's address on these devices only; eth+ matches eth0 and eth1.",
        helm="egressMasqueradeInterfaces",
    )
    options.add(
        "masquerade-port-range",
        "string",
        f"{DEFAULT_RANGE[0]}-{DEFAULT_RANGE[1]}",
        "Source ports on the node for pods' connections to the world, first and last.",
        validate=_range_problem,
    )
    options.add(
        "bpf-nat-global-max",
        "int",
        524288,
        "Entries of each family's NAT table; a connection takes two.",
        min=1024,
        max=1 << 24,
        helm="bpf.natMax",
    )


def check(config: Config) -> None:
    """Native routing needs to be told where pods' addresses are good, one way or another."""
    if config["routing-mode"] != "native":
        return
    settings = MasqueradeSettings.from_config(config)
    for family, on in ((4, settings.ipv4), (6, settings.ipv6)):
        if on and not any(n.version == family for n in settings.exempt):
            raise ConfigError(
                f"key ipv{family}-native-routing-cidr is empty but routing-mode is native and "
                f"enable-ipv{family}-masquerade is true",
                hint="name the network in which pods' addresses are routed",
            )
