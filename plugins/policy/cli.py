"""``axoneme policy`` and ``axoneme bpf policy``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.nouns import noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option
from axoneme.plugins.policy.cli_diff import diff
from axoneme.plugins.policy.cli_explain import explain
from axoneme.plugins.policy.cli_trace import trace
from axoneme.plugins.policy.cli_validate import validate

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


def register(root: click.Group) -> None:
    """Add the verbs."""
    policy = noun(root, "policy", "Show policies, rules and selectors.")
    policy.add_command(get_policy)
    policy.add_command(get_rule)
    policy.add_command(list_selectors)
    policy.add_command(list_subject_selectors)
    policy.add_command(wait)
    policy.add_command(validate)
    policy.add_command(trace)
    policy.add_command(diff)
    policy.add_command(explain)
    noun(noun(root, "bpf"), "policy", "Show the policy maps.").add_command(get_entries)


@click.command("get")
@click.argument("name", required=False, default="")
@output_option
@agent_options
def get_policy(name: str, *, agent: AgentHandle, output: Output) -> None:
    """Policies of the node and whether they are in force; with NAME its rules.

    \b
    axoneme policy get
    axoneme policy get default/web -o yaml
    """
    data = agent.call("policy.get", {"name": name})
    output.emit(data, lambda: _show_policies(data, output, rules=bool(name)))


@click.command("rule")
@click.argument("cookie", type=click.IntRange(0, 0xFFFFFFFF))
@output_option
@agent_options
def get_rule(cookie: int, *, agent: AgentHandle, output: Output) -> None:
    """The rule behind the cookie of a policy entry or of a verdict event.

    \b
    axoneme policy rule 2868471352
    """
    row = agent.call("policy.rule", {"cookie": cookie})
    output.emit(row, lambda: output.pairs([(k, str(v)) for k, v in row.items()]))


@click.command("selectors")
@output_option
@agent_options
def list_selectors(*, agent: AgentHandle, output: Output) -> None:
    """Selectors of all rules and the identities that they match.

    \b
    axoneme policy selectors
    """
    _show_selectors(agent.call("policy.selectors"), output)


@click.command("subject-selectors")
@output_option
@agent_options
def list_subject_selectors(*, agent: AgentHandle, output: Output) -> None:
    """Selectors of whom rules are about, and the identities that they match.

    \b
    axoneme policy subject-selectors
    """
    _show_selectors(agent.call("policy.selectors", {"subjects": True}), output)


@click.command("wait")
@click.argument("revision", type=click.IntRange(min=1))
@click.option(
    "--max-wait-time", "seconds", type=click.FloatRange(0.1, 600), default=60.0, metavar="SECONDS",
    show_default=True, help="Fail when it takes longer.",
)  # fmt: skip
@output_option
@agent_options
def wait(revision: int, seconds: float, *, agent: AgentHandle, output: Output) -> None:
    """Wait until a revision of the policy is in the kernel.

    axoneme policy get shows the revision.

    \b
    axoneme policy wait 12
    """
    params = {"revision": revision, "seconds": seconds}
    answer = agent.call("policy.wait", params, timeout=seconds + 10.0)
    output.emit(answer, lambda: output.line(f"Revision: {answer['revision']}"))


def _show_selectors(rows: list[dict[str, Any]], output: Output) -> None:
    output.emit(
        rows,
        lambda: output.table(
            ["SELECTOR", "LABELS", "USERS", "IDENTITIES"],
            [
                [r["selector"], r["labels"], r["users"], [str(i) for i in r["identities"]]]
                for r in rows
            ],
            empty="no rule is in force",
        ),
    )


@click.command("get")
@click.argument("endpoint", required=False, default="")
@click.option("-n", "--numeric", is_flag=True, help="Identities instead of labels.")
@click.option("--all", "_all", is_flag=True, help="Every endpoint; so it is without ENDPOINT.")
@output_option
@agent_options
def get_entries(
    endpoint: str, numeric: bool, _all: bool, *, agent: AgentHandle, output: Output
) -> None:
    """Policy entries in the kernel, of one endpoint (id or NS/POD) or of all.

    \b
    axoneme bpf policy get 42
    axoneme bpf policy get default/web-0 -n
    """
    data = agent.call("bpf.policy", {"endpoint": "" if _all else endpoint})
    output.emit(data, lambda: _show_entries(data, output, numeric=numeric))


def _show_policies(data: dict[str, Any], output: Output, *, rules: bool) -> None:
    output.table(
        ["KIND", "POLICY", "VALID", "IN FORCE", "RULES", "MESSAGE"],
        [
            [
                p["kind"],
                f"{p['namespace']}/{p['name']}" if p["namespace"] else p["name"],
                p["valid"],
                p["in_force"],
                len(p["rules"]),
                p["message"],
            ]
            for p in data["policies"]
        ],
        empty="no policies",
    )
    for policy in data["policies"] if rules else ():
        output.line()
        output.table(
            ["DIRECTION", "VERDICT", "PEERS", "PORTS", "COOKIE", "RULE"],
            [
                [r["direction"], r["verdict"], r["peers"], r["ports"], r["cookie"], r["origin"]]
                for r in policy["rules"]
            ],
        )
    output.line(f"Revision: {data['revision']}")


def _show_entries(data: list[dict[str, Any]], output: Output, *, numeric: bool) -> None:
    for subject in data:
        names = ", ".join(subject["endpoints"]) or "no endpoint"
        output.line(f"Identity {subject['identity']} ({names})")
        if not subject["loaded"]:
            output.line("no policy is loaded: everything is dropped")
            continue
        output.table(
            [
                "POLICY",
                "DIRECTION",
                "IDENTITY" if numeric else "LABELS (source:key[=value])",
                "PORT/PROTO",
                "PROXY PORT",
                "AUTH TYPE",
                "BYTES",
                "PACKETS",
                "PREFIX",
                "COOKIE",
            ],
            [
                [
                    e["policy"],
                    e["direction"],
                    str(e["identity"]) if numeric else e["labels"],
                    e["port"],
                    str(e["proxy_port"] or "NONE"),
                    "disabled",
                    "-" if e["bytes"] is None else e["bytes"],
                    "-" if e["packets"] is None else e["packets"],
                    e["prefix"],
                    e["cookie"],
                ]
                for e in subject["entries"]
            ],
            empty="no entries: everything is dropped",
        )
        output.line()
