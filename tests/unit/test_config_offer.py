"""Values that plugins add to a key of the core."""

from __future__ import annotations

import pytest

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import AxonemeError, ConfigError


def registry() -> OptionRegistry:
    """One key of the core, one value offered by a plugin."""
    options = OptionRegistry()
    options.add("ipam", "string", "cluster-pool", "who hands out addresses")
    options.offer("ipam", "cluster-pool")
    options.offer("ipam", "my-pool")
    return options


def test_an_offered_value_is_taken() -> None:
    """A plugin's value is as good as the default."""
    config = Config.load(registry(), {"ipam": "my-pool"}, {}, None, None)
    assert config["ipam"] == "my-pool"


def test_a_value_that_nobody_offers_names_key_value_and_choices() -> None:
    """Nothing starts with an IPAM mode that no plugin answers to."""
    with pytest.raises(ConfigError) as caught:
        Config.load(registry(), {"ipam": "bogus"}, {}, None, None)
    text = str(caught.value)
    assert all(word in text for word in ("ipam", "bogus", "cluster-pool", "my-pool"))


def test_offering_for_an_unknown_key_is_an_error() -> None:
    """A plugin that misspells the key hears of it."""
    with pytest.raises(AxonemeError, match="ipom"):
        registry().offer("ipom", "x")
