"""Options of services, under Cilium's names, and what they come to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from axoneme.core.errors import ConfigError

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

KEY: Final = "kube-proxy-replacement"
TABLE_SIZES: Final = (251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)
"""Primes that ``bpf-lb-maglev-table-size`` may be."""
SEED_BYTES: Final = 12
DEFAULT_SEED: Final = "JLfvgnHc2kaSUFaI"
MAP_KEYS: Final = {
    "axo_lb_frontends": "bpf-lb-service-map-max",
    "axo_lb_backends": "bpf-lb-service-backend-map-max",
    "axo_lb_names": "bpf-lb-rev-nat-map-max",
    "axo_lb_affinity": "bpf-lb-affinity-map-max",
    "axo_lb_ranges": "bpf-lb-source-range-map-max",
    "axo_lb_maglev": "bpf-lb-maglev-map-max",
}
"""The option that sets the size of a map; 0 stands for ``bpf-lb-map-max``."""
SLOTS_EACH: Final = 8
"""Slots for each entry that ``bpf-lb-map-max`` allows."""


@frozen
class ServiceSettings:
    """Load balancing as configured."""

    ipv4: bool
    ipv6: bool
    algorithm: str
    algorithm_annotation: bool
    mode: str
    mode_annotation: bool
    external_cluster_ip: bool
    external_guard: bool
    """Pods and the node do not reach external addresses through services (CVE-2020-8554)."""
    ranges_for_all: bool
    topology: bool
    reject: bool
    proxy_name: str
    node_ports: tuple[int, int]
    table_size: int
    seed: bytes

    @classmethod
    def from_config(cls, config: Config) -> ServiceSettings:
        """Read the keys."""
        first, last = (int(x) for x in config["node-port-range"])
        return cls(
            ipv4=bool(config["enable-ipv4"]),
            ipv6=bool(config["enable-ipv6"]),
            algorithm=str(config["bpf-lb-algorithm"]),
            algorithm_annotation=bool(config["bpf-lb-algorithm-annotation"]),
            mode=str(config["bpf-lb-mode"]),
            mode_annotation=bool(config["bpf-lb-mode-annotation"]),
            external_cluster_ip=bool(config["bpf-lb-external-clusterip"]),
            external_guard=not config["disable-external-ip-mitigation"],
            ranges_for_all=bool(config["bpf-lb-source-range-all-types"]),
            topology=bool(config["enable-service-topology"]),
            reject=config["service-no-backend-response"] == "reject",
            proxy_name=str(config["k8s-service-proxy-name"]),
            node_ports=(first, last),
            table_size=int(config["bpf-lb-maglev-table-size"]),
            seed=base64.b64decode(str(config["bpf-lb-maglev-hash-seed"])),
        )


def map_sizes(config: Config) -> dict[str, int]:
    """Entries of each map."""
    common = int(config["bpf-lb-map-max"])
    sizes = {name: int(config[key]) or common for name, key in MAP_KEYS.items()}
    sizes["axo_lb_slots"] = SLOTS_EACH * sizes["axo_lb_frontends"]
    return sizes


def constants(config: Config) -> dict[str, int]:
    """The ``#define``s of the C."""
    settings = ServiceSettings.from_config(config)
    loop4 = IPv4Address(config["ipv4-service-loopback-address"])
    loop6 = int(IPv6Address(config["ipv6-service-loopback-address"]))
    found = {
        "AXO_LB_LOOPBACK4": int(loop4),
        "AXO_LB_REJECT": int(settings.reject),
        "AXO_LB_MAGLEV_SIZE": settings.table_size,
        "AXO_LB_SEED": int.from_bytes(settings.seed[:4], "big"),
        "AXO_LB_TIMEOUT_TCP": max(1, round(config["bpf-ct-timeout-service-tcp"])),
        "AXO_LB_TIMEOUT_ANY": max(1, round(config["bpf-ct-timeout-service-any"])),
        "AXO_LB_TIMEOUT_GRACE": max(1, round(config["bpf-ct-timeout-service-tcp-grace"])),
    }
    for word in range(4):
        found[f"AXO_LB_LOOPBACK6{word}"] = (loop6 >> (96 - 32 * word)) & 0xFFFFFFFF
    return found


def _range_problem(value: Any) -> str | None:
    items = list(value)
    if len(items) != 2 or not all(str(x).isdigit() for x in items):
        return "two ports, first and last, such as 30000,32767"
    if not 1 <= int(items[0]) < int(items[1]) <= 65535:
        return "the first port below the last, both within 1 to 65535"
    return None


def _seed_problem(value: Any) -> str | None:
    try:
        raw = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    return None if len(raw) == SEED_BYTES else f"{SEED_BYTES} bytes in base64"


def _address_problem(kind: type[Any]) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        try:
            kind(str(value))
        except ValueError:
            return f"an IPv{4 if kind is IPv4Address else 6} address"
        return None

    return check


def _size_problem(value: Any) -> str | None:
    if int(value) in TABLE_SIZES:
        return None
    return "one of " + ", ".join(map(str, TABLE_SIZES))


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    _register_switches(options)
    _register_balancing(options)
    _register_sizes(options)


def _register_switches(options: OptionRegistry) -> None:
    add = options.add
    add(KEY, "bool", False, "Serve Kubernetes services in BPF: no kube-proxy is needed.",
        helm="kubeProxyReplacement")  # fmt: skip
    add("lb-state-file", "string", "",
        "A file of Service and EndpointSlice objects, where there is no Kubernetes.")  # fmt: skip
    add("lb-state-file-interval", "duration", "1s",
        "How often that file is looked at.", min=0.01)  # fmt: skip
    add("k8s-service-proxy-name", "string", "",
        "Serve only services with this label service.kubernetes.io/service-proxy-name.",
        helm="k8s.serviceProxyName")  # fmt: skip
    add("bpf-lb-external-clusterip", "bool", False,
        "Let who is outside the cluster reach ClusterIPs.",
        helm="bpf.lbExternalClusterIP")  # fmt: skip
    add("disable-external-ip-mitigation", "bool", False,
        "Let pods and the node reach external addresses through services (CVE-2020-8554).",
        helm="bpf.disableExternalIPMitigation")  # fmt: skip
    add("bpf-lb-source-range-all-types", "bool", False,
        "Apply loadBalancerSourceRanges to node ports and external addresses too.",
        helm="bpf.lbSourceRangeAllTypes")  # fmt: skip
    add("enable-service-topology", "bool", False,
        "Prefer backends of the node's zone where a service asks for it.",
        helm="loadBalancer.serviceTopology")  # fmt: skip
    add("service-no-backend-response", "string", "reject",
        "What who asks a service without backends gets: an ICMP error or nothing.",
        choices=("reject", "drop"), helm="serviceNoBackendResponse")  # fmt: skip
    add("node-port-range", "strings", ("30000", "32767"), "First and last port of node ports.",
        validate=_range_problem, helm="nodePort.range")  # fmt: skip
    add("nodeport-addresses", "strings", (),
        "Networks: node ports are served on the node's addresses in them. None: on all.",
        helm="nodePort.addresses")  # fmt: skip
    add("enable-health-check-nodeport", "bool", True,
        "Answer on healthCheckNodePort of services with externalTrafficPolicy Local.",
        helm="nodePort.enableHealthCheck")  # fmt: skip
    add("kube-proxy-replacement-healthz-bind-address", "string", "",
        "Address and port of a /healthz like kube-proxy's; empty: none.",
        helm="kubeProxyReplacementHealthzBindAddr")  # fmt: skip
    add("ipv4-service-loopback-address", "string", "169.254.42.1",
        "Source of a pod's packets to itself by way of a service.",
        validate=_address_problem(IPv4Address))  # fmt: skip
    add("ipv6-service-loopback-address", "string", "fe80::1", "The same for IPv6.",
        validate=_address_problem(IPv6Address))  # fmt: skip


def _register_balancing(options: OptionRegistry) -> None:
    add = options.add
    add("bpf-lb-algorithm", "string", "random",
        "How a backend is chosen for who comes from outside: random, maglev or a plugin's.",
        helm="loadBalancer.algorithm")  # fmt: skip
    add("bpf-lb-algorithm-annotation", "bool", False,
        "Let services choose by annotation service.cilium.io/lb-algorithm.",
        helm="bpf.lbAlgorithmAnnotation")  # fmt: skip
    add("bpf-lb-maglev-table-size", "int", 16381, "Rows of a Maglev table, a prime.",
        validate=_size_problem, helm="maglev.tableSize")  # fmt: skip
    add("bpf-lb-maglev-hash-seed", "string", DEFAULT_SEED,
        "12 bytes in base64, the same on all nodes.", validate=_seed_problem,
        helm="maglev.hashSeed")  # fmt: skip
    add("bpf-lb-mode", "string", "snat",
        "How outsiders' packets reach backends on other nodes: snat, dsr, or hybrid (TCP by dsr).",
        choices=("snat", "dsr", "hybrid"), helm="loadBalancer.mode")  # fmt: skip
    add("bpf-lb-mode-annotation", "bool", False,
        "Let services choose by annotation service.cilium.io/forwarding-mode.",
        helm="bpf.lbModeAnnotation")  # fmt: skip


def _register_sizes(options: OptionRegistry) -> None:
    add = options.add
    add("bpf-lb-map-max", "int", 65536,
        "Entries of each table of load balancing, unless it has a key of its own.",
        min=256, max=1 << 22, helm="bpf.lbMapMax")  # fmt: skip
    for key in MAP_KEYS.values():
        add(key, "int", 0, "Entries of this one table; 0: as bpf-lb-map-max.", min=0, max=1 << 22)
    for key, default, what in (
        ("bpf-ct-timeout-service-tcp", "8000s", "TCP connections to services"),
        ("bpf-ct-timeout-service-any", "60s", "other flows to services"),
        ("bpf-ct-timeout-service-tcp-grace", "60s", "TCP connections that the client has closed"),
    ):
        add(key, "duration", default, f"How long the backend of {what} is remembered when idle.")


def check(config: Config) -> None:
    """Networks of node ports can be read."""
    for text in config["nodeport-addresses"]:
        try:
            ip_network(text)
        except ValueError:
            raise ConfigError(f"key nodeport-addresses: {text!r} is no network") from None
