"""What the keys of the policy plugin say to its program."""

from __future__ import annotations

import pytest

from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.plugins.policy import plugin

DEFAULTS = {"AXO_POLICY_ALLOW_FRAG_NEEDED": "1", "AXO_POLICY_ACCOUNTING": "1"}


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({}, {}),
        ({"policy-audit-mode": "true"}, {}),
        ({"allow-icmp-frag-needed": "false"}, {"AXO_POLICY_ALLOW_FRAG_NEEDED": "0"}),
        ({"policy-cidr-match-mode": "nodes,pods"}, {"AXO_POLICY_CIDR_MATCH": "3"}),
    ],
)
def test_keys_become_constants(settings: dict[str, str], changed: dict[str, str]) -> None:
    """Nothing but what the key is about differs from the defaults."""
    assert registry_of(settings).defines == DEFAULTS | changed


def registry_of(settings: dict[str, str]) -> DatapathRegistry:
    """What the plugin registers with a configuration."""
    options = OptionRegistry()
    core_options.register(options)
    plugin.axoneme_register_options(options)
    registry = DatapathRegistry()
    plugin.axoneme_register_datapath(registry, Config.load(options, settings))
    return registry


def test_without_accounting_there_is_no_map() -> None:
    """Nor anything else of it in the program."""
    assert registry_of({"bpf-policy-stats-map-max": "512"}).map_sizes == {"axo_policystats": 512}
    off = registry_of({"policy-accounting": "false"})
    assert "AXO_POLICY_ACCOUNTING" not in off.defines
    assert not off.map_sizes
