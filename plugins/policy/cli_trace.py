"""``axoneme policy trace``: what policy says of a packet, and which rules say it."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

import click

from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output

DIRECTIONS: Final = ("egress", "ingress")
_PASSES: Final = ("allowed", "redirected", "audit")


@click.command("trace")
@click.option("--from", "source", required=True, metavar="WHO", help="Who sends.")
@click.option("--to", "target", required=True, metavar="WHO", help="Who receives.")
@click.option("--port", metavar="P/PROTO", help="80/TCP, 53/UDP, or a port's name: http/TCP.")
@click.option("--icmp", metavar="TYPE", help="An ICMP type, by number or name.")
@click.option("--family", type=click.Choice(["4", "6"]), help="IPv4 or IPv6; default: both.")
@click.option(
    "--expect", type=click.Choice(["allowed", "denied"]), help="Exit with 1 if it is not so."
)
@click.option("--live", is_flag=True, help="In a lab: also send one, and compare.")
@output_option
@agent_options
def trace(
    source: str,
    target: str,
    port: str | None,
    icmp: str | None,
    family: str | None,
    expect: str | None,
    live: bool,
    *,
    agent: AgentHandle,
    output: Output,
) -> None:
    """Say whether a packet may pass, which rule decides, and what else matches.

    WHO is a pod (NS/NAME), a node, an address, an entity such as world, a DNS
    name, or identity:NUMBER. Both ends are judged by the agent that is asked.
    Exit code 0 whatever the verdict, except with --expect or --live.

    \b
    axoneme policy trace --from shop/web --to shop/db --port 5432/TCP
    axoneme policy trace --from shop/web --to example.org --port 443/TCP
    axoneme policy trace --from world --to shop/web --icmp EchoRequest
    """
    params = {
        "from": source,
        "to": target,
        "port": port,
        "icmp": icmp,
        "family": int(family) if family else None,
    }
    answer = agent.call("policy.trace", {k: v for k, v in params.items() if v is not None})
    probes = _probe(answer, source, target) if live else []
    if live:
        answer["live"] = probes
    output.emit(answer, lambda: _show(answer, output))
    wrong = any(not probe["agrees"] for probe in probes)
    verdicts = [one["verdict"] for one in (answer, *answer["others"])]
    wrong |= expect is not None and any((v in _PASSES) != (expect == "allowed") for v in verdicts)
    if wrong:
        sys.stdout.flush()
        raise click.exceptions.Exit(1)


def _probe(answer: dict[str, Any], source: str, target: str) -> list[dict[str, Any]]:
    """One attempt for each family, by the lab's own probes."""
    from axoneme.core.errors import LabError
    from axoneme.core.lab import probe, targets
    from axoneme.core.lab.model import Lab
    from axoneme.core.lab.paths import LabPaths
    from axoneme.core.store.sync import SyncStore

    protocol = answer["protocol"].lower()
    proto = "icmp" if protocol.startswith("icmp") else protocol
    if proto not in probe.PROTOCOLS or (proto == "icmp" and answer["port"] not in (8, 128)):
        raise LabError(f"a lab cannot probe {answer['port']}/{answer['protocol']}")
    lab = Lab.load(LabPaths.current())
    store = SyncStore(lab.paths.store)
    ends = targets.source(lab, store, source), targets.target(lab, store, target)
    wanted = {f: one for one in (answer, *answer["others"]) for f in one["families"]}
    port = 0 if proto == "icmp" else answer["port"]
    orders = [probe.order(*ends, family=f, proto=proto, port=port) for f in wanted]
    found = []
    for order, result in zip(orders, probe.run(lab, orders), strict=True):
        traced = wanted[order.family]["verdict"]
        agrees = (result.verdict == "allowed") == (traced in _PASSES)
        found.append(
            {"family": order.family, **result.as_dict(), "traced": traced, "agrees": agrees}
        )
    return found


def _show(answer: dict[str, Any], output: Output) -> None:
    for number, one in enumerate((answer, *answer["others"])):
        if number:
            output.line()
        show_answer(one, output)
    for probe in answer.get("live", ()):
        reason = f" ({probe['drop_reason']})" if probe["drop_reason"] else ""
        said = "as traced" if probe["agrees"] else f"but traced as {probe['traced']}"
        output.labelled(f"Live IPv{probe['family']}", f"{probe['verdict']}{reason}, {said}", 12)


def show_answer(answer: dict[str, Any], output: Output) -> None:
    """One verdict with its reasons."""
    families = " and ".join(f"IPv{f}" for f in answer["families"])
    output.labelled("From", _end(answer["from"]), 12)
    output.labelled("To", _end(answer["to"]), 12)
    output.labelled("Packet", f"{answer['port']}/{answer['protocol']}, {families}", 12)
    for direction in DIRECTIONS:
        show_side(direction.capitalize(), answer[direction], output)
    output.labelled("Verdict", answer["verdict"], 12)


def _end(end: dict[str, Any]) -> str:
    node = f", {end['node']}" if end["node"] and end["kind"] == "pod" else ""
    return f"{end['name']} (identity {end['identity']}{node})"


def show_side(label: str, side: dict[str, Any], output: Output) -> None:
    """The verdict of one direction, the rule that decided, and what else matched."""
    output.labelled(label, f"{side['verdict']}: {side['reason']}", 12)
    deciding = side["deciding"]
    if deciding is not None:
        _rule(deciding, output, detail=True)
    for rule in side["matching"]:
        if rule is not deciding and rule["standing"] != "decides":
            note = f"also {rule['verdict']} by {rule['object']} {rule['path']}: {rule['standing']}"
            _wrapped(note, output)
    for rule in side["enforced_by"]:
        _wrapped(f"closed by {rule['object']} {rule['path']}{_line(rule)}", output)
    realised = side["realised"] or {}
    if realised.get("message"):
        _wrapped(f"kernel: {realised['verdict']}: {realised['message']}", output, "yellow")
    if not side["consistent"]:
        _wrapped("the engine's entries and the order of rules disagree: report this", output, "red")


def _rule(rule: dict[str, Any], output: Output, *, detail: bool) -> None:
    if rule["line"]:
        _wrapped(f"line {rule['line']} of {rule['file']}", output)
    if detail:
        _wrapped(f"peers {rule['peers']}; ports {rule['ports']}; cookie {rule['cookie']}", output)
    if rule["log"]:
        _wrapped(f"log {rule['log']}", output)


def _line(rule: dict[str, Any]) -> str:
    return f", line {rule['line']}" if rule["line"] else ""


def _wrapped(text: str, output: Output, colour: str | None = None) -> None:
    indent = " " * 13
    width = min(output.width, 79) - len(indent)
    lines = textwrap.wrap(text, width, break_on_hyphens=False) if output.terminal else [text]
    for line in lines:
        output.line(indent + line, colour)
