"""The policy plugin: who may talk to whom, by identity."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.policy import config as options_of

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.model.objects import ClusterObject
    from axoneme.core.model.policy import Rule
    from axoneme.core.operator import Operator
    from axoneme.core.status import StatusReport
    from axoneme.core.sysdump.node import NodeDump

NAME = "policy"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Network policy of Kubernetes and Cilium, by identity"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-policy`` and its relatives."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Always on: mode ``never`` is enforced too, as a policy that allows everything."""
    return True, f"enable-policy={config['enable-policy']}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """The verdict, on both sides of a connection."""
    source = Path(__file__).with_name("policy.bpf.c")
    datapath.stage("egress_policy", "policy_egress", source)
    datapath.stage("ingress_policy", "policy_ingress", source)
    if config[options_of.RESPONSE] == "icmp":
        denied = Path(__file__).with_name("deny_response.bpf.c")
        datapath.stage("egress_refused", "policy_egress_refused", denied)
    for name, value in options_of.constants(config).items():
        datapath.define(name, value)
    if config.flag(options_of.ACCOUNTING):
        datapath.map_size("axo_policystats", int(config[options_of.STATS_MAX]))


@hookimpl
def axoneme_decode_policy(obj: ClusterObject) -> Iterable[Rule] | None:
    """The three built-in kinds."""
    from axoneme.plugins.policy.decode.kinds import decode_object

    return decode_object(obj)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Tables, engine, reconciler; the gate that endpoints wait at."""
    from axoneme.plugins.policy.wiring import setup_agent

    setup_agent(agent)


@hookimpl
def axoneme_setup_operator(operator: Operator) -> None:
    """The condition ``Valid`` of policy objects."""
    from axoneme.plugins.policy.wiring import setup_operator

    setup_operator(operator)


@hookimpl
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """``policy.*`` and ``bpf.policy``."""
    from axoneme.plugins.policy.counters import counters_of
    from axoneme.plugins.policy.history import RuleHistory
    from axoneme.plugins.policy.manager import PolicyManager
    from axoneme.plugins.policy.recorded import Recorded
    from axoneme.plugins.policy.trace import Tracer
    from axoneme.plugins.policy.views import PolicyViews
    from axoneme.plugins.policy.whatif import WhatIf
    from axoneme.plugins.policy.wiring import abilities, decode_by_hook

    manager = agent.services.get(PolicyManager)
    decode = decode_by_hook(agent.plugins, abilities(agent.config, agent.services))
    views = PolicyViews(manager, agent.tables["endpoints"], counters_of(agent))
    tracer = Tracer(agent, manager)
    recorded = Recorded(agent, tracer, RuleHistory(manager.tables.rules))
    api.add("policy.trace", tracer.trace)
    api.add("policy.explain", recorded.explain)
    api.add("policy.diff", WhatIf(agent, manager, decode).diff)
    api.add("policy.get", views.get)
    api.add("policy.rule", views.rule)
    api.add("policy.selectors", views.selectors)
    api.add("policy.wait", views.wait)
    api.add("bpf.policy", views.entries)


@hookimpl
def axoneme_register_commands(root: click.Group) -> None:
    """``axoneme policy``, ``axoneme bpf policy``."""
    from axoneme.plugins.policy.cli import register

    register(root)


@hookimpl
def axoneme_collect_sysdump(dump: NodeDump) -> None:
    """The selectors of a node, and whom they choose."""
    dump.ask("policy-selectors.json", "policy.selectors")


@hookimpl
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """Cilium's, and some of our own."""
    from axoneme.plugins.policy.audit import AuditMode
    from axoneme.plugins.policy.manager import PolicyManager
    from axoneme.plugins.policy.metrics import register_metrics

    register_metrics(metrics, agent.services.get(PolicyManager), agent.services.get(AuditMode))


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Policy``, component ``policy``."""
    from axoneme.plugins.policy.audit import AuditMode
    from axoneme.plugins.policy.manager import PolicyManager
    from axoneme.plugins.policy.observe import report_status

    report_status(report, agent.services.get(PolicyManager), agent.services.get(AuditMode))
