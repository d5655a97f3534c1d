"""The matrix of modes: whom a backend sees, for each way in, mode, routing and family.

Run ``python -m tests.services.modes``: it starts a lab of three nodes for each mode and routing,
asks by every kind of address from a pod, a node and a client outside, and prints what backends have
seen.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen

MANIFEST: Final = Path(__file__).parents[1] / "cluster" / "manifests" / "services.yaml"
CLI: Final = (sys.executable, "-m", "axoneme.core.cli")
MODES: Final = ("snat", "dsr", "hybrid")
ROUTING: Final = ("tunnel", "native")
FAMILIES: Final = (4, 6)
TRIES: Final = 12
ADDRESSES: Final = {
    "ClusterIP": {4: "10.96.100.1", 6: "fd00:10:96::100:1"},
    "NodePort": {4: "172.18.0.2", 6: "fd00:18::2"},
    "ExternalIP": {4: "203.0.113.7", 6: "2001:db8:7::7"},
    "LoadBalancer": {4: "203.0.113.8", 6: "2001:db8:7::8"},
    "Local": {4: "172.18.0.2", 6: "fd00:18::2"},
}
PORTS: Final = {"NodePort": 30080, "Local": 30081}
CLIENT: Final = {4: "172.18.0.210", 6: "fd00:18::d2"}


@frozen
class Seen:
    """One way: what its answers said."""

    mode: str
    routing: str
    family: int
    source: str
    target: str
    answers: int
    nodes: tuple[str, ...]
    peers: tuple[str, ...]
    """Kinds of addresses that backends on the node that was asked, and on others, have seen."""


class LabRun:
    """One lab, removed at the end."""

    def __init__(
        self,
        name: str,
        mode: str,
        routing: str,
        nodes: int = 3,
        config: Mapping[str, str] | None = None,
        manifest: str = "",
    ) -> None:
        self.mode, self.routing, self.nodes = mode, routing, nodes
        self._config, self._manifest = dict(config or {}), manifest
        self.name = name
        self._environment = {**os.environ, "AXONEME_LAB": name, "NO_COLOR": "1"}

    def run(self, *arguments: str, check: bool = True) -> str:
        """A command."""
        done = subprocess.run(
            [*CLI, *arguments], env=self._environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on, its input and output in pipes."""
        return subprocess.Popen(
            [*CLI, *arguments], env=self._environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def apply(self, text: str) -> None:
        """Manifests."""
        self._with_file("apply", text)

    def remove(self, text: str) -> None:
        """The reverse."""
        self._with_file("delete", text)

    def _with_file(self, verb: str, text: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            self.run("lab", verb, "-f", file.name)

    def __enter__(self) -> LabRun:
        settings = [f"bpf-lb-mode={self.mode}", f"routing-mode={self.routing}"]
        settings += [f"{key}={value}" for key, value in self._config.items()]
        config = [f"--config={s}" for s in settings]
        try:
            self.run("lab", "up", "--nodes", str(self.nodes), *config)
            self.apply(self._manifest or MANIFEST.read_text())
            for network in ("203.0.113.0/24", "2001:db8:7::/64"):
                self.run("lab", "client", "ann", "--route", f"{network}=node1")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.run("lab", "down", check=False)

    def ask(self, source: str, target: str, family: int) -> list[dict[str, Any]]:
        """HTTP by curl, several connections."""
        host = ADDRESSES[target][family]
        url = f"http://{f'[{host}]' if family == 6 else host}:{PORTS.get(target, 80)}/"
        # the answer ends the connection: each URL is a connection of its own
        curl = ["curl", "-s", "-g", "--connect-timeout", "2", "-H", "Connection: close"]
        place = {
            "pod": ["lab", "exec", "client"],
            "node": ["lab", "node", "node1"],
            "client": ["lab", "client", "ann"],
        }[source]
        unserved = target == ("ClusterIP" if source == "client" else "ExternalIP")
        tries = 1 if unserved else TRIES
        text = self.run(*place, "--", *curl, *([url] * tries), check=False)
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def kind_of(address: str, family: int) -> str:
    """Who an address is."""
    if address == CLIENT[family]:
        return "client"
    node = "172.18.0." if family == 4 else "fd00:18::"
    if address.startswith(node):
        return "node"
    router = address.endswith(".1") if family == 4 else address.endswith("::1")
    if router and address.startswith(("10.244.", "fd00:10:244")):
        return "router"
    return "pod"


def look(lab: LabRun, sources: tuple[str, ...] = ("pod", "node", "client")) -> Iterator[Seen]:
    """All ways of one lab."""
    for family in FAMILIES:
        for source in sources:
            for target in ADDRESSES:
                answers = lab.ask(source, target, family)
                peers = {
                    f"{'here' if a['node'] == 'node1' else 'away'}:{kind_of(a['peer'], family)}"
                    for a in answers
                }
                yield Seen(
                    lab.mode, lab.routing, family, source, target, len(answers),
                    tuple(sorted({a["node"] for a in answers})), tuple(sorted(peers)),
                )  # fmt: skip


def promised(seen: Seen) -> set[str]:
    """What backends may have seen, by the documents."""
    if seen.source == "client":
        if seen.target == "ClusterIP":
            return set()
        if seen.target == "Local":
            return {"here:client"}
        away = "client"
        if seen.mode == "snat":
            away = "router" if seen.routing == "tunnel" else "node"
        return {"here:client", f"away:{away}"}
    if seen.target == "ExternalIP":  # CVE-2020-8554
        return set()
    if seen.source == "pod":
        return {"here:pod", "away:pod"}
    return {"here:node", "here:router", "away:node", "away:router"}


def problem(seen: Seen) -> str:
    """What is wrong with it; empty if nothing is."""
    wanted = promised(seen)
    if not wanted:
        return f"{seen.answers} answers" if seen.answers else ""
    if seen.answers != TRIES:
        return f"{TRIES - seen.answers} of {TRIES} not answered"
    strange = set(seen.peers) - wanted
    return f"seen {', '.join(sorted(strange))}" if strange else ""


def main() -> int:
    """Print the matrix; 1 if something is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=MODES, action="append")
    parser.add_argument("--routing", choices=ROUTING, action="append")
    parser.add_argument("--acceleration", default="disabled", help="as bpf-lb-acceleration")
    chosen = parser.parse_args()
    config = {"bpf-lb-acceleration": chosen.acceleration}
    bad = 0
    print(f"{'MODE':7}{'ROUTING':9}{'IP':4}{'FROM':8}{'TO':14}{'ANSWERS':9}{'BACKENDS SAW':28}")
    for mode in chosen.mode or MODES:
        for routing in chosen.routing or ROUTING:
            with LabRun(f"m{os.getpid() % 100000}", mode, routing, config=config) as lab:
                for seen in look(lab):
                    wrong = problem(seen)
                    bad += bool(wrong)
                    print(
                        f"{mode:7}{routing:9}{seen.family:<4}{seen.source:8}{seen.target:14}"
                        f"{seen.answers:<9}{' '.join(seen.peers) or '-':28}{wrong}",
                        flush=True,
                    )
    print(f"{bad} ways are not as promised" if bad else "every way is as promised")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
