"""An agent's configuration that changes: what is applied, what is reported, what is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from axoneme.core import options as core_options
from axoneme.core.api.server import ApiRouter
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.config_sources import RawValue
from axoneme.core.errors import ApiError, AxonemeError
from axoneme.core.events.service import EventService
from axoneme.core.live_options import LiveOption, LiveOptions
from axoneme.core.metrics import MetricRegistry
from axoneme.core.nodeconfig import folder, follow
from axoneme.core.nodeconfig.follow import ConfigFollower
from axoneme.core.state import TableRegistry
from axoneme.core.status import StatusReport
from axoneme.core.store.folder import FolderStore
from axoneme.core.tasks import TaskGroupRunner
from axoneme.core.testing.operators import eventually

PLUGIN = "stranger"


def registry() -> OptionRegistry:
    """The core's keys, and those of a plugin."""
    options = OptionRegistry()
    core_options.register(options)
    with options.owned_by(PLUGIN):
        options.add("stranger-word", "string", "hello", "a key that is applied")
        options.add("stranger-size", "int", 10, "a key that is not", max=100)
    return options


class Bench:
    """The parts of an agent that the follower uses, all real, over files or a store."""

    def __init__(self, config: Config, store: Any = None) -> None:
        self.config = config
        self.live_options = LiveOptions()
        self.tables = TableRegistry()
        self.tasks = TaskGroupRunner()
        self.metrics = MetricRegistry()
        self.api = ApiRouter()
        self.reflectors: list[Any] = []
        self.node_name = config.text("node-name")
        self.ready = asyncio.Event()
        self.events = EventService(self.tables)
        self.store = store or FolderStore(Path("/nonexistent"))
        self.words: list[str] = []
        self.mode = "default"
        self.follower = ConfigFollower(self)  # type: ignore[arg-type]
        self.follower.register()
        self.live_options.follow("stranger-word", self._take)

    def _take(self, word: str) -> None:
        if word == "bad":
            raise AxonemeError("the stranger does not like it")
        self.words.append(word)

    @property
    def drift(self) -> dict[str, str]:
        """Wanted values of keys that wait."""
        return {row.key: row.wanted for row in self.follower.rows}

    def health(self) -> dict[str, str]:
        """The component's message, if it has one."""
        report = StatusReport()
        self.follower.report(report)
        return {component.name: component.message for component in report.components}


def run(work: Callable[[], Any]) -> None:
    """On a loop."""
    asyncio.run(asyncio.wait_for(work(), 60))


def bench(path: Path, **flags: str) -> Bench:
    """Over a folder of files."""
    given = {key.replace("_", "-"): value for key, value in flags.items()}
    return Bench(Config.load(registry(), given, {"CILIUM_CLUSTER_NAME": "env"}, config_dir=path))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of keys."""
    for key, value in {"mtu": "1500", "stranger-word": "one", "stranger-size": "5"}.items():
        (tmp_path / key).write_text(value)
    return tmp_path


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def test_a_key_that_is_followed_is_applied_and_another_is_reported(files: Path) -> None:
    """Of the core and of a plugin alike; a removed key means its default."""

    async def work() -> None:
        made = bench(files)
        assert not await made.follower.look() and made.drift == {} and made.health() == {}
        (files / "stranger-word").write_text("two")
        (files / "stranger-size").write_text("6")
        (files / "mtu").unlink()
        await made.follower.look()
        assert made.words == ["two"] and made.config["stranger-word"] == "two"
        assert made.config.origin("stranger-word") == str(files / "stranger-word")
        assert [(r.key, r.running, r.wanted, r.source) for r in made.follower.rows] == [
            ("mtu", "1500", "0", "default"),
            ("stranger-size", "5", "6", str(files / "stranger-size")),
        ]
        assert "waits for a restart: mtu, stranger-size" in made.health()["configuration"]
        (sample,) = made.metrics.samples("drift_checker")
        assert (sample.name, sample.value) == ("cilium_drift_checker_config_delta", 2.0)
        (files / "stranger-size").write_text("5")
        (files / "mtu").write_text("1500")
        (files / "stranger-word").unlink()
        await made.follower.look()
        assert made.drift == {} and made.words == ["two", "hello"] and made.health() == {}

    run(work)


def test_listeners_are_told_of_each_change(files: Path) -> None:
    """What is applied, what waits, and that nothing waits any more: once each."""

    async def work() -> None:
        made = bench(files)
        with made.events.fanout.subscribe() as heard:
            await made.follower.look()
            (files / "stranger-word").write_text("two")
            (files / "mtu").write_text("1400")
            for _ in range(2):
                await made.follower.look()
            (files / "mtu").write_text("1500")
            await made.follower.look()
            said = [(event.kind, event.text) for event in await heard.next()]
        assert said == [
            ("agent", "configuration key applied: stranger-word=two"),
            ("agent", "configuration differs from what runs: mtu"),
            ("agent", "configuration is what runs"),
        ]

    run(work)


def test_flags_and_environment_hold_against_files(files: Path) -> None:
    """As at a start: who wins there wins here."""

    async def work() -> None:
        made = bench(files, mtu="1400")
        (files / "mtu").write_text("9000")
        (files / "cluster-name").write_text("file")
        await made.follower.look()
        assert made.drift == {}

    run(work)


def test_a_bad_value_hides_no_other_change(files: Path) -> None:
    """It is reported with what is expected; what runs stays; a key of the operator is not ours."""

    async def work() -> None:
        made = bench(files)
        (files / "stranger-size").write_text("1000")
        (files / "stranger-word").write_text("bad")
        (files / "mtu").write_text("1400")
        (files / "identity-gc-interval").write_text("1m")
        (files / "nodes-gc-interval").write_text("often")
        assert await made.follower.look()
        rows = {row.key: (row.wanted, row.problem) for row in made.follower.rows}
        assert rows == {
            "mtu": ("1400", ""),
            "stranger-size": ("1000", "expected at most 100"),
            "stranger-word": ("bad", "not applied: the stranger does not like it"),
        }
        assert made.config["stranger-word"] == "one" and made.config["stranger-size"] == 5
        text = "not taken: stranger-size, stranger-word; waits for a restart: mtu "
        assert made.health()["configuration"].startswith(text)

    run(work)


def test_what_cannot_be_read_changes_nothing_and_is_said(files: Path) -> None:
    """A folder that is gone is no reason to go back to defaults."""

    async def work() -> None:
        made = bench(files)
        (files / "mtu").write_text("1400")
        await made.follower.look()
        hidden = files.rename(files.with_name("hidden"))
        assert await made.follower.look()
        assert "cannot read configuration folder" in made.health()["configuration"]
        assert made.drift == {"mtu": "1400"} and made.words == []
        hidden.rename(files)
        assert not await made.follower.look()
        assert "waits for a restart: mtu" in made.health()["configuration"]

    run(work)


def test_unknown_keys_are_warned_of_once(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As at the start; and forgotten when they are gone."""

    async def work() -> None:
        made = bench(files)
        (files / "enable-ipv7").write_text("1400")
        await made.follower.look()
        await made.follower.look()
        text = f"unknown configuration key enable-ipv7 ({files / 'enable-ipv7'})"
        (warning,) = made.config.warnings
        assert text in warning and "did you mean enable-ipv6?" in warning
        assert [r.getMessage() for r in caplog.records].count(warning) == 1
        (files / "enable-ipv7").unlink()
        await made.follower.look()
        assert not made.config.warnings

    run(work)


def test_the_checker_is_a_switch_and_leaves_keys_out(files: Path) -> None:
    """Both keys count at once; keys that are followed are applied all the same."""

    async def work() -> None:
        made = bench(files)
        (files / "mtu").write_text("1400")
        (files / "stranger-size").write_text("6")
        (files / "ignore-flags-drift-checker").write_text("mtu other")
        await made.follower.look()
        await made.follower.look()
        assert made.drift == {"stranger-size": "6"}
        (files / "enable-drift-checker").write_text("false")
        (files / "stranger-word").write_text("two")
        await made.follower.look()
        assert made.drift == {} and made.words == ["two"]
        with pytest.raises(ApiError, match="enable-drift-checker is false"):
            await made.follower._view({})

    run(work)


def test_a_live_option_follows_its_key_alone(files: Path) -> None:
    """What was set by hand stays until the key itself changes."""

    async def work() -> None:
        made = bench(files)
        modes: list[str] = ["Disabled"]
        option = LiveOption(
            "Word",
            "",
            ("Disabled", "Enabled"),
            lambda _: modes[-1],
            lambda _, mode: modes.append(mode),
            key="enable-tcx",
        )
        made.live_options.add(option)
        await made.live_options.apply({"Word": "Enabled"})
        await made.follower.look()
        assert modes[-1] == "Enabled"
        (files / "enable-tcx").write_text("false")
        await made.follower.look()
        assert modes[-1] == "Disabled" and made.drift == {}
        with pytest.raises(ValueError, match="enable-tcx is followed twice"):
            made.live_options.follow("enable-tcx", lambda _: None)

    run(work)


def test_off_means_that_nobody_looks(files: Path) -> None:
    """No task, no metric; the command says why."""

    async def work() -> None:
        made = bench(files, enable_dynamic_config="false")
        assert made.tasks.states == {} and made.metrics.samples("drift") == []
        with pytest.raises(ApiError, match="enable-dynamic-config is false"):
            await made.follower._view({})

    run(work)


@pytest.mark.parametrize("form", ["files", "mounted", "yaml"])
def test_files_are_looked_at_again(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single files, a mounted ConfigMap whose link is replaced, and a YAML file."""
    monkeypatch.setattr(follow, "FILE_SECONDS", 0.02)
    monkeypatch.setattr(follow, "SETTLE_SECONDS", 0.0)
    place = tmp_path / "config"

    def write(mtu: str) -> None:
        if form == "mounted":
            folder.write(place, {"mtu": RawValue(mtu, "ConfigMap a/b", built=True)})
        elif form == "yaml":
            place.write_text(f"mtu: {mtu}\n")
        else:
            place.mkdir(exist_ok=True)
            (place / "mtu").write_text(mtu)

    async def work() -> None:
        write("1500")
        paths = (None, place) if form == "yaml" else (place, None)
        made = Bench(Config.load(registry(), {}, {}, *paths))
        made.tasks.start()
        made.ready.set()
        write("1400")
        await eventually(lambda: made.drift == {"mtu": "1400"})
        write("1500")
        await eventually(lambda: made.drift == {})
        await made.tasks.stop()

    run(work)


def test_the_debug_level_follows_its_key(files: Path) -> None:
    """By the core's own keys."""
    from axoneme.core.agent import live_keys

    async def work() -> None:
        made = bench(files)
        parts: Any = SimpleNamespace(
            live_options=made.live_options,
            plugins=SimpleNamespace(trace=False),
            refresher=SimpleNamespace(grace=5.0),
        )
        live_keys.register(parts)
        (files / "debug").write_text("true")
        (files / "plugin-trace").write_text("true")
        (files / "identity-change-grace-period").write_text("1m")
        await made.follower.look()
        assert logging.getLogger().level == logging.DEBUG
        assert parts.plugins.trace is True and parts.refresher.grace == 60.0
        assert made.drift == {}
        (files / "debug").unlink()
        await made.follower.look()
        assert logging.getLogger().level == logging.INFO

    run(work)
