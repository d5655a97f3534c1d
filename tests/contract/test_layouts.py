"""The C structs of shared maps have no hidden padding, in any plugin.

A hole that the compiler pads is filled with whatever the stack held: two equal keys would differ,
and the verifier refuses the program. Declared ``pad`` fields are fine.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from axoneme.bpf import registration
from axoneme.core.boot import boot
from axoneme.core.datapath.build import Source, compile_all
from axoneme.core.datapath.compose import compose, compose_structs, units
from axoneme.core.datapath.objects import MapDef
from axoneme.core.datapath.registry import DatapathRegistry


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MapDef]:
    """Every map of every built-in plugin's C, compiled together."""
    config, plugins = boot({"auto-direct-node-routes": "true"}, policy="disable", check=False)
    registry = DatapathRegistry()
    registration.register(registry, config)
    for _, function in plugins.each_found("axoneme_register_datapath"):
        function(datapath=registry, config=config)
    flags = tuple(f"-I{path}" for path in registry.include_dirs)
    texts = {unit.name: compose(registry, unit).text for unit in units(registry)}
    sources = [
        Source(name, text, flags, compose_structs(text, registry.structs))
        for name, text in texts.items()
    ]
    cache = Path("/var/lib/axoneme/cache")
    folder = cache if cache.is_dir() else tmp_path_factory.mktemp("cache")
    return {m.name: m for result in compile_all(sources, folder) for m in result.maps.values()}


def test_no_struct_of_a_shared_map_has_a_hole(maps: dict[str, MapDef]) -> None:
    """Keys and values of ``axo_*`` maps consist of named fields only."""
    assert "axo_ipcache" in maps and "axo_policy" in maps
    bad = []
    for name, definition in maps.items():
        if not name.startswith("axo_") or definition.key_desc is None:
            continue
        for layout in (definition.key, definition.value):
            hidden = [field.name for field in layout.fields if field.hidden]
            if hidden or list(layout.holes()):
                bad.append(f"{layout.name}: {hidden or list(layout.holes())}")
    assert bad == []
