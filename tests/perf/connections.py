"""P5: connections to a ClusterIP with few and many services, beside direct ones and kube-proxy's.

Ours: a pod asks a service whose backend is a pod of the same node; by its socket, and by its
packets (a client outside of the node's cgroup). Theirs: namespaces routed by the kernel, with rules
of the shape that kube-proxy writes, for iptables and for nftables, and directly to the backend.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from axoneme.core.store.sync import SyncStore
from tests.perf import cluster, topology
from tests.perf.measure import PORT, SECONDS, Result, Sample, alternate, build_netbench, server

Note = Callable[[str], None]

COUNTS: Final = (1, 1_000, 10_000)
VIP: Final = "10.96.255.1"
OTHERS: Final = int(ip_address("10.96.0.1"))


def bench(folder: Path, repetitions: int, note: Note, wanted: set[str]) -> Iterator[Result]:
    """P5."""
    if "P5" not in wanted:
        return
    tool = build_netbench()
    with topology.plain(), cluster.lab(folder) as pods:
        rules = {
            "iptables-legacy": partial(iptables, "legacy"),
            "iptables-nft": partial(iptables, "nft"),
            "nftables": nftables,
        }
        store = SyncStore(cluster.PATHS.store)
        have = 0
        for count in COUNTS:
            for number in range(have, count):
                for body in objects(number, pods["b"]):
                    store.apply(body)
            have = count
            _wait(count)
            for name, write in rules.items():
                write(count)
                sides = _sides(tool, pods)
                said = partial(lambda c, n, t: note(f"P5 {c} services, {n}: {t}"), count, name)
                samples = alternate(sides, repetitions, said)
                yield from _rows(count, name, samples)
            clear()


def objects(number: int, backend: str) -> list[dict[str, object]]:
    """A service without a selector and its slice; number 0 is the one that is asked."""
    name = f"p5-{number}"
    address = VIP if not number else str(ip_address(OTHERS + number))
    meta = {"name": name, "namespace": "bench"}
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": int(PORT)}]}
    ends = [{"addresses": [backend], "conditions": {"ready": True}}]
    labels = {"kubernetes.io/service-name": name}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "labels": labels},
            "addressType": "IPv4",
            "ports": [{"port": int(PORT)}],
            "endpoints": ends,
        },
    ]


def _wait(count: int) -> None:
    for _ in range(600):
        text = cluster.axoneme("metrics", "list", "--node", "node1", "services")
        numbers = [float(line.split()[-1]) for line in text.splitlines() if "ClusterIP" in line]
        if numbers and numbers[0] >= count:
            return
    raise RuntimeError("the agent has not taken in all services")


def _sides(tool: Path, pods: dict[str, str]) -> dict[str, Callable[[], float]]:
    prefix = cluster.PATHS.pod_netns_name("bench", "")
    joined = [cluster.AXONEME, "lab", "exec", "bench/a", "--"]
    alone = topology.inside(f"{prefix}a")
    plain = topology.inside(f"{topology.PREFIX}a")
    ours, theirs = f"{prefix}b", f"{topology.PREFIX}b"
    return {
        "socket": partial(crr, tool, joined, ours, VIP),
        "packets": partial(crr, tool, alone, ours, VIP),
        "ours direct": partial(crr, tool, alone, ours, pods["b"]),
        "rules": partial(crr, tool, plain, theirs, VIP),
        "plain direct": partial(crr, tool, plain, theirs, "198.18.1.11"),
    }


def crr(tool: Path, client: list[str], target: str, address: str) -> float:
    """Connections per second; both ends on one CPU."""
    with server(target, str(tool), "server", PORT, "1"):
        command = [*client, str(tool), "crr", address, PORT, str(SECONDS), "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return float(json.loads(done.stdout)["per_second"])


def _rows(count: int, rules: str, samples: dict[str, Sample]) -> Iterator[Result]:
    for side in ("socket", "packets"):
        ours = samples[side]
        direct = ours.median / samples["ours direct"].median
        words = f"{count:,} services, CRR by {side}"
        if rules == "iptables-legacy":
            yield Result(
                "P5", f"{words}, against direct", "1/s", ours, samples["ours direct"], "≥ 0.97",
                direct >= 0.97,
            )  # fmt: skip
        wanted = 1.5 if (count, rules) == (COUNTS[-1], "iptables-legacy") else None
        ratio = ours.median / samples["rules"].median
        yield Result(
            "P5", f"{words}, against {rules}", "1/s", ours, samples["rules"],
            f"≥ {wanted}" if wanted else "-", ratio >= wanted if wanted else None,
        )  # fmt: skip


# kube-proxy's rules, in the node's namespace


def iptables(kind: str, count: int) -> None:
    """A rule for each service, a chain for each service and backend.

    The one that is asked is in the middle of the list: half of it is walked, as on average.
    """
    clear()
    lines = ["*nat", ":KUBE-SERVICES - [0:0]", "-F"]
    for number in range(count):
        lines += [f":KUBE-SVC-{number} - [0:0]", f":KUBE-SEP-{number} - [0:0]"]
    lines += ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES"]
    order = [*range(1, count)]
    order.insert(len(order) // 2, 0)
    for number in order:
        address = VIP if not number else str(ip_address(OTHERS + number))
        lines += [
            f"-A KUBE-SERVICES -d {address}/32 -p tcp -m tcp --dport {PORT} -j KUBE-SVC-{number}",
            f"-A KUBE-SVC-{number} -j KUBE-SEP-{number}",
            f"-A KUBE-SEP-{number} -p tcp -m tcp -j DNAT --to-destination 198.18.1.11:{PORT}",
        ]
    _feed([f"iptables-{kind}-restore"], [*lines, "COMMIT"])


def nftables(count: int) -> None:
    """A verdict map of all services."""
    clear()
    lines = ["table ip kube-proxy {", "map service-ips {",
             "type ipv4_addr . inet_proto . inet_service : verdict;", "}"]  # fmt: skip
    for number in range(count):
        lines += [
            f"chain endpoint-{number} {{ meta l4proto tcp dnat to 198.18.1.11:{PORT}; }}",
            f"chain service-{number} {{ numgen random mod 1 vmap "
            f"{{ 0 : goto endpoint-{number} }}; }}",
        ]
    lines += [
        "chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }",
        "chain prerouting { type nat hook prerouting priority -100; jump services; }",
        "chain output { type nat hook output priority -100; jump services; }",
        "}",
    ]
    for number in range(count):
        address = VIP if not number else str(ip_address(OTHERS + number))
        lines.append(
            f"add element ip kube-proxy service-ips {{ {address} . tcp . {PORT} : "
            f"goto service-{number} }}"
        )
    _feed(["nft", "-f", "-"], lines)


def clear() -> None:
    """No rules."""
    for kind in ("legacy", "nft"):
        _feed([f"iptables-{kind}-restore"], ["*nat", "COMMIT"])
    subprocess.run(
        topology.inside(f"{topology.PREFIX}n1", "nft", "delete", "table", "ip", "kube-proxy"),
        capture_output=True, check=False,
    )  # fmt: skip


def _feed(command: list[str], lines: list[str]) -> None:
    done = subprocess.run(
        topology.inside(f"{topology.PREFIX}n1", *command),
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr[:500]}")
