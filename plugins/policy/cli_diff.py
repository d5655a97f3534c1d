"""``axoneme policy diff``: which flows and pairs would change if some policies were others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output

CHANGES: Final = 3
"""Exit code when a verdict changes; 1 and 2 mean what they always do."""
TIMEOUT: Final = 60.0
SHOWN: Final = 3
"""Names of one side in a line of the table."""


@click.command("diff")
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Manifest file or folder, - for standard input; may be repeated.",
)
@click.option("--delete", "gone", multiple=True, metavar="KIND/NS/NAME", help="As if it were gone.")
@output_option
@agent_options
def diff(
    files: tuple[Path, ...], gone: tuple[str, ...], *, agent: AgentHandle, output: Output
) -> None:
    """Show which flows and which pairs would get another verdict.

    Nothing is applied. Flows are those that the node remembers, also for some
    minutes after they ended. In a lab, without --node, all nodes are asked.
    Exit code 0: nothing changes; 3: something does.

    \b
    axoneme policy diff -f new.yaml
    axoneme policy diff --delete CiliumNetworkPolicy/shop/web -o json
    """
    if not files and not gone:
        raise click.UsageError("give -f or --delete")
    params = {"objects": _objects(files), "delete": list(gone)}
    answers = [a.call("policy.diff", params, timeout=TIMEOUT) for a in agents(agent)]
    answer = merge(answers)
    output.emit(answer, lambda: _show(answer, output))
    if answer["flows"] or answer["pairs"]:
        sys.stdout.flush()
        raise click.exceptions.Exit(CHANGES)


def agents(agent: AgentHandle) -> list[AgentHandle]:
    """Whom to ask: in a lab every node, unless the user named one."""
    from axoneme.core.cli.options import find_agent, lab_nodes

    nodes = [] if agent.chosen else lab_nodes()
    return [find_agent(node) for node in nodes] or [agent]


def _objects(files: tuple[Path, ...]) -> list[Any]:
    """The policies of the files; everything else in them is left out, with a note."""
    from axoneme.core.cli.options import Given
    from axoneme.core.errors import AxonemeError
    from axoneme.core.store.kinds import KindRegistry
    from axoneme.core.text import clean
    from axoneme.plugins.policy.validate import files_of, read

    if not files:
        return []
    _, plugins = Given(None, None, ()).boot()
    kinds = KindRegistry()
    plugins.all_hook.axoneme_register_kinds(kinds=kinds)
    found = []
    for source in [source for file in files_of(files) for source in read(file)]:
        body = source.body if isinstance(source.body, dict) else {}
        known = kinds.find(str(body.get("apiVersion")), str(body.get("kind")))
        if known is not None and known.policy:
            found.append(body)
        else:
            note = f"skipped: {source.file} {source.where}: {body.get('kind', 'no manifest')}"
            click.echo(clean(note), err=True)
    if not found:
        raise AxonemeError("no policy in what was given")
    return found


def merge(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The answers of several nodes as one; what both ends saw is told once."""
    flows: dict[Any, dict[str, Any]] = {}
    pairs: dict[Any, dict[str, Any]] = {}
    for answer in answers:
        for flow in answer["flows"]:
            ends = (flow["source"]["address"], flow["destination"]["address"])
            flows.setdefault((ends, flow["protocol"], flow["port"]), flow)
        for pair in answer["pairs"]:
            key = (pair["from"]["name"], pair["to"]["name"], pair["now"], pair["then"])
            old = pairs.setdefault(key, pair)
            old["ports"] = list(dict.fromkeys([*old["ports"], *pair["ports"]]))
    return {
        "nodes": [a["node"] for a in answers],
        "policies": answers[0]["policies"],
        "flows": list(flows.values()),
        "pairs": list(pairs.values()),
        "flows-judged": sum(a["flows-judged"] for a in answers),
        "truncated": any(a["truncated"] for a in answers),
        "seconds": max(a["seconds"] for a in answers),
    }


def _show(answer: dict[str, Any], output: Output) -> None:
    for policy in answer["policies"]:
        output.line(f"{policy['object']}: {policy['change']}, {policy['rules']} rules")
    if answer["flows"]:
        output.line()
        output.table(
            ["FLOW", "NOW", "THEN", "RULE"],
            [[_flow(f), f["now"], f["then"], _why(f)] for f in answer["flows"]],
        )
    if answer["pairs"]:
        output.line()
        output.table(
            ["FROM", "TO", "PORTS", "NOW", "THEN", "RULE"],
            [
                [_who(p["from"]), _who(p["to"]), p["ports"], p["now"], p["then"], _why(p)]
                for p in answer["pairs"]
            ],
        )
    if answer["flows"] or answer["pairs"]:
        output.line()
    nodes = ", ".join(answer["nodes"])
    output.line(
        f"{len(answer['flows'])} of {answer['flows-judged']} flows and {len(answer['pairs'])} "
        f"pairs change ({nodes}); nothing was applied"
    )
    if answer["truncated"]:
        output.line("there is more: the comparison was cut short", "yellow")


def _flow(flow: dict[str, Any]) -> list[str]:
    source, target = ((s["name"] or s["address"]) for s in (flow["source"], flow["destination"]))
    ago = f", {flow['seconds-ago']:.0f} s ago" if flow["seconds-ago"] else ""
    return [
        f"{source} →",
        f"{target} {flow['port']}/{flow['protocol']}",
        f"({flow['source']['address']}, {flow['state']}{ago})",
    ]


def _who(end: dict[str, Any]) -> list[str]:
    lines = [end["name"], *(f"  {pod}" for pod in end["pods"][:SHOWN])]
    more = len(end["pods"]) - SHOWN
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _why(row: dict[str, Any]) -> list[str]:
    said = row["reason-then"]
    return [row["rule"], said] if row["rule"] and row["rule"] not in said else [said]
