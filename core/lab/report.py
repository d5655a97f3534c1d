"""What the lab's commands print: nodes, agents, plugins, pods, probes, the matrix."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from axoneme.core.errors import AxonemeError
from axoneme.core.lab import agents, matrix, probe, processes, settings
from axoneme.core.lab.matrix import Cell
from axoneme.core.lab.model import Lab
from axoneme.core.lab.output import Output, clean
from axoneme.core.lab.targets import Place
from axoneme.core.model.objects import ClusterObject
from axoneme.core.status import StatusReport
from axoneme.core.store.sync import BlockingStore

COLOURS = {"allowed": "green", "denied": "red", "error": "yellow"}
SETTLE_SECONDS: Final = 1.0
_PLACE = re.compile(r" \(/run/axoneme/[^ )]*\)")
"""The file that a key comes from: the lab wrote it, and it differs between nodes."""


def print_lab(lab: Lab, output: Output) -> None:
    """Nodes, agents and plugins of a lab that has just come up."""
    nodes = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NODE", "IPV4", "IPV6", "AGENT", "PID"):
        nodes.add_column(title)
    for node in lab.nodes:
        process = processes.from_pid_file(lab.paths.pid_file(node.name))
        ready, why = agents.is_ready(lab.paths, node.name)
        state = Text("ready", style="green") if ready else Text(clean(why), style="red")
        pid = str(process.pid) if process else "-"
        nodes.add_row(node.name, str(node.ipv4), str(node.ipv6), state, pid)
    output.print(nodes)
    output.print(plugin_line(lab))


def plugin_line(lab: Lab) -> str:
    """The enabled plugins, as the first node's agent names them."""
    try:
        rows = agents.ask(lab.paths, lab.nodes[0].name, "plugin.list")
    except AxonemeError as error:
        return f"plugins: {clean(error)}"
    names = [str(row["name"]) for row in rows if row.get("state") == "on"]
    failed = [str(row["name"]) for row in rows if row.get("state") == "failed"]
    line = f"[bold]plugins:[/] {clean(', '.join(names)) or 'none'}"
    return line + (f"; [red]failed:[/] {clean(', '.join(failed))}" if failed else "")


def print_problems(lab: Lab, names: Iterable[str], output: Output) -> None:
    """What the agents themselves complain about, those with the same complaint together.

    Things that are still being set up get a moment; who has nothing to say costs one call.
    """
    found: dict[str, list[str]] = {}
    deadline = time.monotonic() + SETTLE_SECONDS
    for name in names:
        while True:
            try:
                status = StatusReport.from_dict(agents.ask(lab.paths, name, "status.get"))
            except AxonemeError:
                break  # it has just been ready; whoever asks next hears that it is gone
            if not status.problems or time.monotonic() > deadline:
                texts = [f"{c.name}: {c.message}" for c in status.problems]
                odd = [t for t in status.details.get("Configuration", ()) if not _ours(lab, t)]
                for text in (*odd, *texts):
                    found.setdefault(_PLACE.sub("", text), []).append(name)
                break
            time.sleep(0.05)
    for text, nodes in found.items():
        output.warning(f"{', '.join(nodes)}: {text}")


def _ours(lab: Lab, warning: str) -> bool:
    """Whether it is about a key that the lab has set: its plugin is left out, nobody mistyped."""
    keys = settings.cluster_config(lab.config).keys() - lab.config.keys()
    return any(f" key {key} " in warning for key in keys)


def pod_rows(lab: Lab, store: BlockingStore, namespace: str = "") -> list[dict[str, Any]]:
    """One row per Pod object: the JSON of ``axoneme lab pods``.

    ``identity`` and ``state`` are the endpoint's, as its agent wrote them into CiliumEndpoint; for
    a pod without an endpoint the identity is 0 and the state its phase in small letters.
    """
    endpoints = {(o.key.namespace, o.key.name): o for o in store.list("CiliumEndpoint")}
    rows = []
    for pod in sorted(store.list("Pod"), key=lambda o: (o.key.namespace, o.key.name)):
        if namespace not in ("", pod.key.namespace):
            continue
        endpoint = endpoints.get((pod.key.namespace, pod.key.name))
        identity, state = _endpoint_facts(endpoint)
        rows.append(
            {
                "namespace": pod.key.namespace,
                "name": pod.key.name,
                "node": str(pod.spec.get("nodeName") or ""),
                "addresses": [str(p["ip"]) for p in pod.status.get("podIPs") or ()],
                "identity": identity,
                "state": state or _pod_state(pod),
            }
        )
    return rows


def _pod_state(pod: ClusterObject) -> str:
    phase = str(pod.status.get("phase", "Pending")).lower()
    message = pod.status.get("message")
    return f"{phase}: {message}" if message else phase


def _endpoint_facts(endpoint: ClusterObject | None) -> tuple[int, str]:
    if endpoint is None:
        return 0, ""
    identity = endpoint.status.get("identity")
    number = identity.get("id", 0) if isinstance(identity, Mapping) else 0
    return int(number), str(endpoint.status.get("state", ""))


def pod_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The pods for people."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("POD", "NODE", "ADDRESSES", "IDENTITY", "STATE"):
        table.add_column(title, overflow="fold")
    for row in rows:
        style = "green" if row["state"] == "ready" else "yellow"
        table.add_row(
            clean(f"{row['namespace']}/{row['name']}"),
            clean(row["node"]),
            clean("\n".join(row["addresses"])),
            str(row["identity"] or "-"),
            Text(str(row["state"]), style=style),
        )
    return table


def probe_line(order: probe.Order, result: probe.Result) -> str:
    """One line about one attempt."""
    what = f"{order.proto.upper()} {order.port}" if order.port else order.proto.upper()
    colour = COLOURS[result.verdict]
    more = ""
    if result.latency_ms is not None:
        more = f" in {result.latency_ms:.2f} ms"
    elif result.drop_reason or result.detail:
        more = f": {clean(result.drop_reason or result.detail)}"
        more += f" (on {clean(result.drop.node)})" if result.drop else ""
    return (
        f"{clean(order.source.name)} → {clean(order.target.name)} "
        f"({order.to_address}, {what}): [{colour}]{result.verdict}[/]{more}"
    )


def print_matrix(
    pods: Sequence[Place], cells: Sequence[Cell], output: Output, *, everything: bool = False
) -> None:
    """The table, its legend, the count and the reasons, a few of each or all of them."""
    if not pods:
        output.note("no pods: apply some with `axoneme lab apply -f FILE`")
        return
    output.print(matrix.table(pods, cells))
    output.print(f"[dim]{matrix.legend(cells)}[/]")
    counts = probe.summary(c.result for c in cells)
    output.print(", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    for line in matrix.reasons(cells, None if everything else matrix.SHOWN):
        output.print(clean(line))
