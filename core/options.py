"""The keys of the core, with Cilium's names, defaults and Helm paths where Cilium has them.

Keys that belong to one feature are declared by its plugin. Where Cilium's own flag default and
what its chart renders differ, the chart's value is the default here: that is what clusters run.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final

from axoneme.core import drift_options, packet_path_options, place_options, store_options
from axoneme.core.config import OptionRegistry
from axoneme.core.model.rate_limits import rate_limits_complaint
from axoneme.core.place_options import listen_address

if TYPE_CHECKING:
    from axoneme.core.config import Config

_CLUSTER_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
_DEVICE: Final = re.compile(r"!?[^\s/:!]{1,15}\+?")


def register(options: OptionRegistry) -> None:
    """Declare every key of the core."""
    _identity_of_the_node(options)
    _paths(options)
    _network(options)
    _attachment(options)
    _identities(options)
    packet_path_options.register(options)
    store_options.register(options)
    place_options.register(options)
    drift_options.register(options)
    _process(options)


def _identity_of_the_node(options: OptionRegistry) -> None:
    add = options.add
    add(
        "node-name",
        "string",
        lambda _: socket.gethostname(),
        "Name of this node; the host name when not given",
        env=("K8S_NODE_NAME",),
        component="agent",
        validate=_node_name,
    )
    add(
        "cluster-name",
        "string",
        "default",
        "Name of the cluster: at most 32 of a-z, 0-9 and '-'",
        validate=_cluster_name,
        helm="cluster.name",
    )
    add(
        "cluster-id", "int", 0, "Number of the cluster in a mesh", min=0, max=511, helm="cluster.id"
    )
    add("enable-ipv4", "bool", True, "Give endpoints IPv4 addresses", helm="ipv4.enabled")
    add("enable-ipv6", "bool", True, "Give endpoints IPv6 addresses", helm="ipv6.enabled")
    add(
        "plugins",
        "strings",
        "",
        "Modules to load as plugins beside the installed ones; -NAME leaves an installed one out",
    )
    add(
        "plugin-failure-policy",
        "string",
        "stop",
        "What a plugin that fails to load or start does: stop the process, or be disabled",
        choices=("stop", "disable"),
    )
    add("plugin-trace", "bool", False, "Print every hook call: plugin, arguments, duration")


def _paths(options: OptionRegistry) -> None:
    add = options.add
    add("bpf-root", "string", "/sys/fs/bpf", "Mount of the bpf file system", helm="bpf.root")
    add(
        "state-dir",
        "string",
        "/var/run/axoneme",
        "Folder of this node's run-time state: endpoints, sockets, locks",
        component="agent",
    )
    add("lib-dir", "string", "/var/lib/axoneme", "Folder of what may be shared: the compile cache")
    add(
        "socket-path",
        "string",
        _default_socket,
        "Socket of the local API; <state-dir>/axoneme.sock when not given",
        component="agent",
    )


def _network(options: OptionRegistry) -> None:
    add = options.add
    add(
        "ipam",
        "string",
        "cluster-pool",
        "Who hands out addresses; a plugin answers to its name",
        helm="ipam.mode",
    )
    add(
        "default-lb-service-ipam",
        "string",
        "lbipam",
        "Who gives addresses to LoadBalancer services without a class",
        choices=("lbipam", "nodeipam", "none"),
        helm="defaultLBServiceIPAM",
    )
    add(
        "routing-mode",
        "string",
        "tunnel",
        "How packets reach other nodes",
        choices=("tunnel", "native"),
        helm="routingMode",
    )
    add(
        "devices",
        "strings",
        "",
        "Devices that face the network; eth+ matches eth0 and eth1, !eth1 leaves one out;"
        " found by the default route and the node's address when not given",
        component="agent",
        validate=_devices,
        helm="devices",
    )
    add(
        "direct-routing-device",
        "string",
        "",
        "Device between the nodes; the one with the node's address when not given",
        component="agent",
        helm="nodePort.directRoutingDevice",
    )
    add(
        "mtu",
        "int",
        0,
        "MTU of the underlay in bytes; 0 takes it from the devices",
        min=0,
        max=65535,
        component="agent",
        validate=_mtu,
        helm="MTU",
    )
    add("route-metric", "int", 0, "Metric of routes to pods of other nodes", min=0, max=2**32 - 1)


def _attachment(options: OptionRegistry) -> None:
    add = options.add
    add(
        "enable-tcx",
        "bool",
        True,
        "Attach with tcx links where the kernel has them, else to clsact",
        component="agent",
        helm="bpf.enableTCX",
    )
    add(
        "enable-source-ip-verification",
        "bool",
        True,
        "Drop what an endpoint sends from an address that is not its own",
        component="agent",
        helm="daemon.enableSourceIPVerification",
    )
    add(
        "datapath-mode",
        "string",
        "veth",
        "Kind of an endpoint's device",
        choices=("veth",),
        component="agent",
        helm="bpf.datapathMode",
    )


def _identities(options: OptionRegistry) -> None:
    add = options.add
    add(
        "labels",
        "strings",
        "",
        "Label prefixes that make up an identity; ! leaves matching labels out",
        helm="labels",
    )
    add(
        "enable-node-selector-labels",
        "bool",
        False,
        "Give each set of nodes' labels an identity, which fromNodes and toNodes need",
        helm="nodeSelectorLabels",
    )
    add(
        "node-labels",
        "strings",
        "",
        "Label prefixes of nodes that make up their identity; ! leaves matching labels out",
        component="agent",
        helm="nodeLabels",
    )
    add(
        "identity-allocation-mode",
        "string",
        "crd",
        "Where identities are allocated",
        choices=("crd",),
        helm="identityAllocationMode",
    )
    add(
        "identity-management-mode",
        "string",
        "agent",
        "Who makes CiliumIdentities: each agent, the operator, or both of them",
        choices=("agent", "operator", "both"),
        helm="identityManagementMode",
    )
    add(
        "enable-cilium-endpoint-slice",
        "bool",
        False,
        "Agents follow CiliumEndpointSlices, which the operator writes, not CiliumEndpoints",
        helm="ciliumEndpointSlice.enabled",
    )
    add(
        "ces-max-ciliumendpoints-per-ces",
        "int",
        100,
        "Endpoints in one CiliumEndpointSlice at most",
        min=1,
        max=1000,
        component="operator",
    )
    add(
        "ces-rate-limits",
        "json",
        [{"nodes": 0, "limit": 10, "burst": 20}],
        "Writes of CiliumEndpointSlices per second, by the number of nodes: a JSON list of"
        " nodes, limit and burst; the entry with the most nodes that the cluster has counts",
        component="operator",
        validate=rate_limits_complaint,
        helm="ciliumEndpointSlice.rateLimits",
    )
    add(
        "identity-change-grace-period",
        "duration",
        "5s",
        "How long a changed endpoint keeps its old identity while the new one spreads",
        component="agent",
        helm="identityChangeGracePeriod",
    )


def _process(options: OptionRegistry) -> None:
    add = options.add
    add("debug", "bool", False, "Log at level debug", helm="debug.enabled")
    add(
        "log-format",
        "string",
        "auto",
        "Log as coloured text on a terminal and JSON elsewhere (auto), or always as one of them",
        choices=("auto", "text", "json"),
    )
    add(
        "prometheus-serve-addr",
        "string",
        "",
        "Address of the agent's metrics, IP:PORT or :PORT; none when not given",
        component="agent",
        validate=listen_address,
        helm="prometheus.port",
    )
    add(
        "metrics",
        "strings",
        "",
        "Metrics to add to or take from the default ones: +NAME, -NAME",
        validate=_metric_toggles,
        helm="prometheus.metrics",
    )
    add(
        "agent-health-port",
        "int",
        9879,
        "Port of /healthz on loopback; 0 turns it off",
        min=0,
        max=65535,
        component="agent",
        helm="healthPort",
    )


def _default_socket(config: Config) -> str:
    return f"{config.text('state-dir')}/axoneme.sock"


def _node_name(name: str) -> str | None:
    # An RFC 1123 subdomain, as Kubernetes wants it; it also becomes a file's name.
    if re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", name):
        return None
    return "a DNS name of a-z, 0-9, '-' and '.'"


def _cluster_name(name: str) -> str | None:
    if _CLUSTER_NAME.fullmatch(name):
        return None
    return "at most 32 of a-z, 0-9 and '-', not starting or ending with '-'"


def _devices(names: tuple[str, ...]) -> str | None:
    bad = [name for name in names if not _DEVICE.fullmatch(name)]
    return f"device names such as eth0, eth+ or !eth1, not {bad[0]!r}" if bad else None


def _mtu(value: int) -> str | None:
    # 1280 is the least that IPv6 works with (RFC 8200, section 5).
    return None if value == 0 or value >= 1280 else "0, or 1280 to 65535"


def _metric_toggles(names: tuple[str, ...]) -> str | None:
    bad = [name for name in names if name[:1] not in ("+", "-")]
    return f"names with + or - in front, not {bad[0]!r}" if bad else None
