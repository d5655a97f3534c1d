"""Every program passes the verifier with each plugin on or off.

The plugins are those of the tree, found by their folder; a new one is in the matrix by being there.
A program whose plugins are few is tried with all their combinations; with more it is every
single one and all but one, and of a few every pair. Texts that come out equal are tried once.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from inspect import signature
from itertools import chain, combinations
from pathlib import Path
from types import ModuleType

import pytest

from axoneme.bpf import registration
from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.datapath import compose
from axoneme.core.datapath.loader import load_text, verified_insns
from axoneme.core.datapath.registry import DatapathRegistry

pytestmark = [pytest.mark.root, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXHAUSTIVE = 3
"""Up to so many plugins in one program, all combinations are tried."""
PAIRS = 4
"""Up to so many, all pairs."""
BUDGET = 500_000
"""Instructions the verifier may walk; the kernel's limit is a million."""

ON: dict[str, str] = {"bpf-lb-acceleration": "native"}
"""Switched on everywhere: programs that are there only then."""

VARIANTS: dict[str, dict[str, str]] = {
    "defaults": {},
    "geneve": {"tunnel-protocol": "geneve"},
    "no fragments": {
        "enable-ipv4-fragment-tracking": "false",
        "enable-ipv6-fragment-tracking": "false",
    },
    "no events": {
        "bpf-events-drop-enabled": "false",
        "bpf-events-trace-enabled": "false",
        "bpf-events-policy-verdict-enabled": "false",
    },
    "CIDR rules for nodes and pods": {"policy-cidr-match-mode": "nodes,pods"},
    "refusals are answered": {"policy-deny-response": "icmp"},
    "path MTU by rules": {"allow-icmp-frag-needed": "false"},
    "policy not counted": {"policy-accounting": "false"},
    "extended protocols": {"enable-extended-ip-protocols": "true"},
    "all events": {"monitor-aggregation": "none", "monitor-aggregation-flags": "all"},
}


def tree_plugins() -> dict[str, ModuleType]:
    """The plugins of the tree that take part in the packet path, by folder."""
    found = {}
    for path in sorted((ROOT / "plugins").glob("*/plugin.py")):
        module = importlib.import_module(f"axoneme.plugins.{path.parent.name}.plugin")
        if hasattr(module, "axoneme_register_datapath"):
            found[path.parent.name] = module
    return found


PLUGINS = tree_plugins()


def make_config(settings: dict[str, str]) -> Config:
    """A configuration with the options of the core and of every plugin."""
    options = OptionRegistry()
    core_options.register(options)
    for path in sorted((ROOT / "plugins").glob("*/plugin.py")):
        module = importlib.import_module(f"axoneme.plugins.{path.parent.name}.plugin")
        if hasattr(module, "axoneme_register_options"):
            module.axoneme_register_options(options)
    return Config.load(options, {**ON, **settings})


def _name(folder: str) -> str:
    return str(getattr(PLUGINS[folder], "NAME", folder))


def registry_of(names: tuple[str, ...], settings: dict[str, str]) -> DatapathRegistry:
    """The core's programs and what these plugins add; one that lacks what it requires is off."""
    config = make_config(settings)
    there = {_name(n) for n in names}
    with_c = {_name(n) for n in PLUGINS}
    names = tuple(n for n in names if set(getattr(PLUGINS[n], "REQUIRES", ())) & with_c <= there)
    registry = DatapathRegistry()
    registration.register(registry, config)
    for name in names:
        register = PLUGINS[name].axoneme_register_datapath
        given = {"datapath": registry, "config": config}
        register(**{k: v for k, v in given.items() if k in signature(register).parameters})
    return registry


def contributors(unit: str) -> list[str]:
    """The plugins whose stages or sources end up in a unit."""
    everything = registry_of(tuple(PLUGINS), {})
    chosen = next(u for u in compose.units(everything) if u.name == unit)
    files = {s.source for s in compose.compose(everything, chosen).stages}
    return [n for n in PLUGINS if any((ROOT / "plugins" / n) in f.parents for f in files)]


def choose(names: list[str]) -> Iterator[tuple[str, ...]]:
    """The combinations worth a try."""
    if len(names) <= EXHAUSTIVE:
        sizes: Iterator[int] = iter(range(len(names) + 1))
        yield from chain.from_iterable(combinations(names, size) for size in sizes)
        return
    wanted = {0, 1, len(names) - 1, len(names)} | ({2} if len(names) <= PAIRS else set())
    yield from chain.from_iterable(combinations(names, size) for size in sorted(wanted))


def units() -> list[str]:
    """All programs' units, with every plugin on."""
    return [u.name for u in compose.units(registry_of(tuple(PLUGINS), {}))]


def check(registry: DatapathRegistry, unit: str, cache: Path) -> dict[str, int]:
    """Load the unit's programs; instructions walked by the verifier, by program."""
    chosen = next((u for u in compose.units(registry) if u.name == unit), None)
    if chosen is None:
        return {}
    text = compose.compose(registry, chosen).text
    small = dict.fromkeys(("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6"), 64)
    kinds = {p.entry: p.kind for p in chosen.programs}
    with load_text(
        text, kind=chosen.kind, kinds=kinds, sizes=small, cache_dir=cache, name=unit
    ) as loaded:
        return {p.name: verified_insns(p.fd) for p in loaded.programs.values()}


@pytest.mark.parametrize("unit", units())
@pytest.mark.timeout(900)
def test_every_choice_of_plugins_passes_the_verifier(
    unit: str, compile_cache: Path, record_property: pytest.RecordProperty
) -> None:
    """Whatever is switched on or off, the programs load, well within the verifier's limit."""
    names = contributors(unit)
    walked: dict[str, int] = {}
    for number, some in enumerate(choose(names)):
        walked = check(registry_of(some, {}), unit, compile_cache)
        assert all(n < BUDGET for n in walked.values()), (some, walked)
        record_property(f"combination {number}", f"{'+'.join(some) or 'none'}: {walked}")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("unit", units())
def test_every_variant_of_the_options_passes_the_verifier(
    unit: str, variant: str, compile_cache: Path
) -> None:
    """Constants that the configuration sets do not change that."""
    walked = check(registry_of(tuple(PLUGINS), VARIANTS[variant]), unit, compile_cache)
    assert walked
    assert all(n < BUDGET for n in walked.values()), walked


def test_the_matrix_knows_the_plugins_of_the_packet_path() -> None:
    """Every ``.bpf.c`` of a plugin belongs to a plugin of the matrix."""
    with_c = {path.parent.name for path in (ROOT / "plugins").glob("*/*.bpf.c")}
    assert with_c <= set(PLUGINS)
