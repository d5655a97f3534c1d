"""How fast slices are written: the key, the number of nodes, and turns among namespaces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import ConfigError
from axoneme.core.k8s.limits import TokenBucket
from axoneme.core.model.rate_limits import RateLimit, in_force, parse_rate_limits
from axoneme.core.operator.tests.slice_bench import (
    Keys,
    Running,
    clear,
    endpoint,
    key_of,
    node,
    told,
    until,
)
from axoneme.core.options import register as register_options
from axoneme.core.testing.operators import eventually

SLOW = '[{"nodes": 0, "limit": 0.001, "burst": 3}, {"nodes": 2, "limit": 50, "burst": 100}]'


def configured(value: Any) -> Config:
    """With the key set."""
    registry = OptionRegistry()
    register_options(registry)
    return Config.of(registry, ces_rate_limits=value)


def test_the_default_is_ciliums() -> None:
    """10 a second and 20 at once, whatever the size; the chart has more to say."""
    registry = OptionRegistry()
    register_options(registry)
    found = parse_rate_limits(Config.of(registry).text("ces-rate-limits"))
    assert found == (RateLimit(0, 10, 20),)


@pytest.mark.parametrize(
    ("nodes", "limit"), [(0, 1), (4, 1), (5, 1), (49, 1), (50, 2), (1999, 2), (2000, 3)]
)
def test_the_entry_with_the_most_nodes_that_are_there_counts(nodes: int, limit: float) -> None:
    """Whatever their order; a cluster smaller than the first entry has that one."""
    entries = [(2000, 3), (5, 1), (50, 2)]
    found = parse_rate_limits(str([{"nodes": n, "limit": m, "burst": 9} for n, m in entries])
                              .replace("'", '"'))  # fmt: skip
    assert in_force(found, nodes).limit == limit


def test_spellings_of_cilium_are_read() -> None:
    """A list from YAML, Go's capitals, no nodes, whole numbers as floats; too much is capped."""
    config = configured([{"Nodes": 0.0, "Limit": 500, "Burst": 500.0}])
    assert parse_rate_limits(config.text("ces-rate-limits")) == (RateLimit(0, 50, 100),)
    assert parse_rate_limits('[{"limit": 0.5, "burst": 1}]') == (RateLimit(0, 0.5, 1),)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ten", "a JSON list or object"),
        ("{}", "a JSON list such as"),
        ("[]", "a JSON list such as"),
        ("[3]", r"an object with nodes, limit, burst in \[0\]"),
        ('[{"limit": 1, "burst": 1, "qps": 1}]', r"in \[0\], not 'qps'"),
        ('[{"nodes": -1, "limit": 1, "burst": 1}]', r"in \[0\].nodes"),
        ('[{"nodes": 1.5, "limit": 1, "burst": 1}]', r"in \[0\].nodes"),
        ('[{"limit": 1, "burst": 1}, {"nodes": 9, "burst": 1}]', r"in \[1\].limit"),
        ('[{"limit": 0, "burst": 1}]', r"in \[0\].limit"),
        ('[{"limit": true, "burst": 1}]', r"in \[0\].limit"),
        ('[{"limit": NaN, "burst": 1}]', "a JSON list or object"),
        ('[{"limit": 1, "burst": 0}]', r"in \[0\].burst"),
        ('[{"limit": 1, "burst": "9"}]', r"in \[0\].burst"),
        ('[{"limit": 1, "burst": 1}, {"limit": 2, "burst": 1}]', r"in \[1\].nodes: 0 is there"),
    ],
)
def test_a_bad_value_names_entry_and_field(value: str, said: str) -> None:
    """And stops the start."""
    with pytest.raises(ConfigError, match=said) as caught:
        configured(value)
    assert "key ces-rate-limits" in str(caught.value)


def test_a_bucket_changes_its_rate() -> None:
    """What was saved up stays up to the new burst; what is to come comes at the new rate."""
    now = 0.0
    bucket = TokenBucket(1, 4, lambda: now)
    for _ in range(4):
        assert bucket.wait() == 0 and bucket.reserve() == 0
    assert bucket.wait() == 1
    now = 0.5
    bucket.change(10, 2)
    assert bucket.wait() == pytest.approx(0.05)
    now = 100
    assert [bucket.reserve() for _ in range(3)] == pytest.approx([0, 0, 0.1])
    bucket.change(1, 1)
    assert bucket.wait() == pytest.approx(2)


def test_writes_wait_for_their_turn_and_carry_the_last_state(running: Running, keys: Keys) -> None:
    """No more than the burst; then more nodes bring a higher rate, at once. A small namespace is
    not held up by a large one, and a slice that waited is written once, as it should be by then.
    """
    keys["ces-rate-limits"] = SLOW
    keys["ces-max-ciliumendpoints-per-ces"] = "1"

    async def story() -> None:
        async with running() as operator:
            store = operator.store
            for n in range(6):
                await store.create(endpoint(f"e{n}"))
            await store.create(endpoint("small", namespace="kube-system"))

            async def count(wanted: int) -> bool:
                return len(await told(store)) == wanted

            await until(lambda: count(3))
            await asyncio.sleep(0.3)
            assert await count(3)
            waiting = {f"e{n}" for n in range(6)} - {n for s in (await told(store)).values()
                                                     for n in s}  # fmt: skip
            gone, changed = sorted(waiting)[:2]
            await store.delete(key_of(gone))
            await store.update_status(key_of(changed), endpoint(changed, 301)["status"])
            find = operator.tables["slice_endpoints"].get
            await eventually(lambda: "301" in getattr(find(("default", changed)), "text", ""))
            for name in ("n1", "n2"):
                await store.create(node(name))
            await until(lambda: count(6))
            names = sorted(n for s in (await told(store)).values() for n in s)
            assert names == sorted({*(f"e{n}" for n in range(6)), "small"} - {gone})
            metrics = operator.metrics.render().decode()
            assert 'cilium_operator_ces_sync_total{outcome="success"} 6.0' in metrics
            assert "cilium_operator_ces_queueing_delay_seconds_count 6.0" in metrics
            await clear(store)

    asyncio.run(asyncio.wait_for(story(), 90))
