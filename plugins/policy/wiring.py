"""Puts the parts together in an agent, and the validator in the operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve

from axoneme.core.endpoints.objects import PolicyStatus
from axoneme.core.endpoints.policy import PolicyGate
from axoneme.core.errors import InvalidObjectError
from axoneme.core.identities.prefixes import PrefixLabels
from axoneme.core.live_options import LiveOption
from axoneme.core.model.l7 import L7Registry
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.policy import Rule
from axoneme.core.reconcile import Reconciler
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.policy import audit as audits
from axoneme.plugins.policy import cidr_match
from axoneme.plugins.policy import config as options_of
from axoneme.plugins.policy.apiserver import ApiServers
from axoneme.plugins.policy.audit import AuditMode, audit_table
from axoneme.plugins.policy.cidrs import PrefixIdentities
from axoneme.plugins.policy.datapath import OUTER, PolicyMaps
from axoneme.plugins.policy.enforce import Abilities, require
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.l7 import ProxyTables, follow_registry, with_protocols
from axoneme.plugins.policy.lastgood import LastGood
from axoneme.plugins.policy.manager import PolicyManager
from axoneme.plugins.policy.notices import PolicyNotices
from axoneme.plugins.policy.references import References
from axoneme.plugins.policy.referents import (
    decode_group,
    decode_service,
    decode_slice,
    referent_tables,
)
from axoneme.plugins.policy.sources import PolicySources
from axoneme.plugins.policy.status import EnforcementStatus
from axoneme.plugins.policy.tables import PolicyTables
from axoneme.plugins.policy.validator import PolicyValidator

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config
    from axoneme.core.datapath.layouts import Layout
    from axoneme.core.operator import Operator
    from axoneme.core.services import Services


def decode_by_hook(plugins: Any, able: Abilities) -> Callable[[ClusterObject], Sequence[Rule]]:
    """Rules of an object from every plugin that knows its kind, if they can be enforced."""

    def decode(obj: ClusterObject) -> Sequence[Rule]:
        answers = plugins.hook.axoneme_decode_policy(obj=obj)
        found = [list(rules) for rules in answers if rules is not None]
        if not found:
            raise InvalidObjectError(str(obj.key), "kind", "no enabled plugin reads this kind")
        return require([rule for rules in found for rule in rules], able)

    return decode


def setup_agent(agent: Agent) -> None:
    """Tables, engine, reconciler, gate, tasks."""
    config = agent.config
    limit = int(config["bpf-policy-map-max"])

    def layouts() -> tuple[Layout, Layout]:
        return agent.datapath.layout("axo_policy_key"), agent.datapath.layout("axo_policy_value")

    tables = PolicyTables.create(agent.tables)
    sources = PolicySources(
        decode_by_hook(agent.plugins, abilities(agent.config, agent.services)),
        LastGood(agent.state_dir / "policies"),
    )
    maps = PolicyMaps(
        lambda: agent.datapath.map(OUTER),
        layouts,
        agent.policy_generation.bump,
        limit,
        looks=cidr_match.LOOKS if options_of.match_mode(config) else 2,
    )
    registry = agent.services.get(L7Registry)
    engine = PolicyEngine(with_protocols(options_of.settings(config), registry))
    families = [v for v, on in ((4, agent.ipv4), (6, agent.ipv6)) if on]
    manager = PolicyManager(
        engine,
        tables,
        sources,
        maps,
        max_entries=limit,
        proxies=ProxyTables(agent.tables),
        families=families,
    )
    PolicyNotices(tables, agent.events.notify)
    registry.on_change(partial(_proxies_changed, manager, registry))
    manager.objects.cidrs = _prefix_identities(agent, manager)
    agent.services.provide(PrefixLabels, manager.objects.cidrs)  # type: ignore[type-abstract]
    agent.services.provide(PolicyManager, manager)
    agent.services.provide(PolicyGate, manager)  # type: ignore[type-abstract]
    audit = _audit_mode(agent)
    agent.services.provide(AuditMode, audit)
    status = EnforcementStatus(engine, audit)
    agent.services.provide(PolicyStatus, status)  # type: ignore[type-abstract]
    agent.live_options.add(_mode_option(manager))
    agent.live_options.follow(options_of.LOCALHOST, partial(_allow_localhost, manager))
    agent.reconcilers["policy"] = manager.reconciler
    agent.required.append(tables.policies)
    _follow_referents(agent, manager)
    manager.follow_identities(agent.identities.table)
    manager.follow_endpoints(agent.tables["endpoints"])
    manager.follow_peers(agent.tables["cluster_endpoints"])
    kinds = [k.kind for k in agent.store.kinds.policies() if options_of.wanted(config, k.kind)]
    manager.objects.expect(kinds)
    for kind in kinds:
        agent.tasks.spawn(f"policy {kind}", partial(manager.objects.follow, agent.store, kind))
    agent.tasks.spawn("policy", partial(_run, agent, manager))
    agent.tasks.spawn("policy prefixes", manager.objects.cidrs.run)
    agent.tasks.spawn("policy of new programs", partial(_ask_again, agent))


def _audit_mode(agent: Agent) -> AuditMode:
    """Audit mode of the node and of endpoints, with the map that tells the packet path."""
    table = audit_table(agent.tables)
    typed = partial(agent.datapath.typed, audits.MAP, audits.AuditKey, audits.AuditValue)
    target = audits.AuditTarget(typed, agent.policy_generation.bump)
    reconciler = Reconciler("policy_audit", table, target)
    agent.add_reconciler(reconciler)
    path = agent.state_dir / "audited-endpoints.json"
    default = agent.config.flag(options_of.AUDIT)
    audit = AuditMode(table, agent.tables["endpoints"], path, default=default)
    agent.live_options.add(audit.option(reconciler.sync))
    agent.tasks.spawn("audited endpoints", partial(_prune, agent, audit))
    return audit


async def _prune(agent: Agent, audit: AuditMode) -> None:
    await agent.maps_ready.wait()
    audit.prune()


def _mode_option(manager: PolicyManager) -> LiveOption:
    """``PolicyEnforcement``: what ``enable-policy`` says at the start."""

    def change(_: int, mode: str) -> None:
        manager.engine.set_settings(evolve(manager.engine.settings, mode=mode))
        manager.changed()

    return LiveOption(
        "PolicyEnforcement",
        "When a direction of an endpoint is default-deny",
        options_of.MODES,
        lambda _: manager.engine.settings.mode,
        change,
        applied=manager.realised,
        key="enable-policy",
    )


async def _allow_localhost(manager: PolicyManager, word: str) -> None:
    """``allow-localhost`` has changed."""
    allow = options_of.allows_localhost(word)
    manager.engine.set_settings(evolve(manager.engine.settings, allow_localhost=allow))
    manager.changed()
    await manager.realised()


def _follow_referents(agent: Agent, manager: PolicyManager) -> None:
    """Read what rules may refer to; the start waits for it, as for the policies."""
    groups, services, slices = referent_tables(agent.tables)
    manager.objects.references = References(groups, services, slices, manager.objects.refresh)
    reflectors: list[Reflector[Any, Any]] = [
        Reflector(
            agent.store,
            "CiliumCIDRGroup",
            groups,
            decode_group,
            versions=LastGood(agent.state_dir / "cidr-groups"),
        ),
        Reflector(agent.store, "Service", services, decode_service),
        Reflector(agent.store, "EndpointSlice", slices, decode_slice),
    ]
    ApiServers(
        slices,
        agent.tables["nodes"],
        agent.node_identities,
        agent.services.get(PrefixLabels),  # type: ignore[type-abstract]
        [v for v, on in ((4, agent.ipv4), (6, agent.ipv6)) if on],
    )
    agent.required += [groups, services, slices]
    agent.reflectors += reflectors
    for reflector in reflectors:
        agent.tasks.spawn(f"policy {reflector.kind}", reflector.run)


def abilities(config: Config, services: Services) -> Abilities:
    """What this process can enforce."""
    return Abilities(
        services.get(L7Registry),
        nodes=bool(config.get("enable-node-selector-labels")),
        host=bool(config.get("enable-host-firewall")),
        passes=not options_of.match_mode(config),
        icmp=bool(config[options_of.ICMP_RULES]),
        non_default_deny=bool(config["enable-non-default-deny-policies"]),
    )


def _prefix_identities(agent: Agent, manager: PolicyManager) -> PrefixIdentities:
    """Identities of prefixes; with ``policy-cidr-match-mode`` those beside nodes' and pods' too."""
    beside = None
    if options_of.match_mode(agent.config):
        table = cidr_match.match_table(agent.tables)
        typed = partial(
            agent.datapath.typed, cidr_match.MAP, cidr_match.CidrKey, cidr_match.CidrValue
        )
        target = cidr_match.CidrMatchTarget(typed, agent.policy_generation.bump)
        reconciler = Reconciler("policy_cidrs", table, target)
        agent.add_reconciler(reconciler)
        beside = PrefixIdentities(
            agent.identities,
            cidr_match.CidrMatches(table),
            manager.realised,
            told=reconciler.sync,
            world=False,
        )
        agent.tasks.spawn("policy prefixes beside", beside.run)
    return PrefixIdentities(
        agent.identities,
        agent.ipcache,
        manager.realised,
        told=partial(_ipcache_told, agent),
        dual_stack=agent.dual_stack,
        beside=beside,
    )


def _proxies_changed(manager: PolicyManager, registry: L7Registry) -> None:
    if follow_registry(manager.engine, registry):
        manager.changed()


async def _ipcache_told(agent: Agent) -> None:
    """Return once the kernel's ipcache is as the table is now."""
    await agent.reconcilers["ipcache"].sync()


async def _run(agent: Agent, manager: PolicyManager) -> None:
    """Follow with the kernel once everything is known: see ``Startup`` of the agent."""
    await agent.synced.wait()
    await agent.maps_ready.wait()
    await manager.go_live()
    await manager.reconciler.run()


async def _ask_again(agent: Agent) -> None:
    """Have live flows judged by this agent's programs.

    Its predecessor's may have let through what is refused now (``policy-audit-mode``), and noted it
    for the generation of the maps until the last of them was replaced.
    """
    await agent.ready.wait()
    agent.policy_generation.bump()


def setup_operator(operator: Operator) -> None:
    """The leader writes the condition ``Valid``."""
    able = abilities(operator.config, operator.services)
    validator = PolicyValidator(operator.store, decode_by_hook(operator.plugins, able))
    for kind in operator.store.kinds.policies():
        if options_of.wanted(operator.config, kind.kind):
            operator.add_task(f"validate {kind.kind}", partial(validator.follow, kind.kind))
    operator.add_task("policy conditions", validator.write)
