"""What the agent itself has to say in ``axoneme status``: nodes, bad objects, own node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.core.status import Health, StatusReport

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent

FULL = 0.9
"""Share of a table from which on it is said to be full."""
SHOWN = 5
"""Bad objects that are named; the rest is counted."""


def report(status: StatusReport, agent: Agent) -> None:
    """Add components and details."""
    for name, reason in sorted(agent.nodes.errors.items()):
        status.component(f"node {name}", Health.WARNING, f"ignored: {reason}")
    if agent.node.error:
        status.component("own node", Health.WARNING, agent.node.error)
    _objects(status, agent)
    _identities(status, agent)
    if agent.cilium:
        status.line("Cilium", f"left alone on this node: {agent.cilium.text()}")
    agent.configuration.report(status)
    status.detail("Configuration", agent.config.warnings)
    failed = agent.publisher.errors
    if failed:
        pod, reason = next(iter(failed.items()))
        text = f"{len(failed)} not written, such as {'/'.join(pod)}: {reason}"
        status.component("CiliumEndpoint objects", Health.WARNING, text)
    devices = agent.node.devices.devices
    status.detail(
        "Devices",
        [f"{d.name}: {' '.join(map(str, d.addresses))} mtu {d.mtu}" for d in devices],
    )
    if agent.ready.is_set() and not devices:
        status.component("devices", Health.WARNING, "no device faces the network")
    if agent.conntrack is not None and agent.conntrack.runs:
        seen = sum(agent.conntrack.scanned.values())
        status.detail(
            "Conntrack",
            [f"{seen} entries at the last scan, {agent.conntrack.removed} removed since the start"],
        )
        _full_tables(status, agent)


def _identities(status: StatusReport, agent: Agent) -> None:
    """Label sets for which the operator has made no identity, if that is its work."""
    if waiting := agent.identities.numbers.waiting:
        labels = " ".join(next(iter(waiting)).texts())
        text = f"{len(waiting)} label sets wait for the operator, such as {labels}"
        status.component("identities", Health.WARNING, text)


def _full_tables(status: StatusReport, agent: Agent) -> None:
    """A full table forgets its coldest flows; say which key gives it more room."""
    assert agent.conntrack is not None
    for name, count in agent.conntrack.scanned.items():
        key = "bpf-ct-global-any-max" if "any" in name else "bpf-ct-global-tcp-max"
        room = int(agent.config[key])
        if count > FULL * room:
            text = f"{name} holds {count} of {room} entries"
            status.component(f"conntrack {name}", Health.WARNING, f"{text}: raise {key}")


def _objects(status: StatusReport, agent: Agent) -> None:
    """Objects whose present text is bad; their last good version is in force."""
    bad = [(key, text) for r in agent.reflectors for key, text in r.errors.items()]
    for key, text in bad[:SHOWN]:
        status.component(str(key), Health.WARNING, text)
    if len(bad) > SHOWN:
        status.component("objects", Health.WARNING, f"{len(bad)} objects are bad")
