"""The plugin manager: judging, ordering, enabling, calling, failing, tracing."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from axoneme.core import options as core_options
from axoneme.core import plugin_loading
from axoneme.core.boot import boot
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import AxonemeError, ConfigError, PluginError
from axoneme.core.plugin_loading import find_implementing, hook_names
from axoneme.core.plugins import PluginManager
from axoneme.hooks import API_VERSION, hookimpl


def plugin(name: str, *, requires: tuple[str, ...] = (), **members: Any) -> ModuleType:
    """A plugin module made of functions."""
    module = ModuleType(name.replace("-", "_"))
    module.NAME = name  # type: ignore[attr-defined]
    module.API_VERSION = API_VERSION  # type: ignore[attr-defined]
    module.REQUIRES = requires  # type: ignore[attr-defined]
    module.SUMMARY = f"the {name} plugin"  # type: ignore[attr-defined]
    for key, value in members.items():
        setattr(module, key, value)
    return module


def start(*modules: ModuleType, **values: Any) -> PluginManager:
    """A manager with these plugins, enabled with these configuration values."""
    manager = PluginManager()
    for module in modules:
        manager.add(module)
    registry = OptionRegistry()
    core_options.register(registry)
    manager.register_options(registry)
    manager.enable(Config.of(registry, **values))
    return manager


def off(why: str) -> Any:
    """A hook that leaves its plugin off."""

    @hookimpl
    def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
        return False, why

    return axoneme_is_enabled


def recorder(name: str, seen: list[str]) -> Any:
    """A set-up hook that notes its plugin's name."""

    @hookimpl
    def axoneme_setup_agent(agent: Any) -> None:
        seen.append(name)

    return axoneme_setup_agent


def test_hooks_run_in_the_order_of_requires() -> None:
    """A plugin's hooks run after those of what it requires, through the relay and through call."""
    seen: list[str] = []
    manager = start(
        plugin("a", requires=("c",), axoneme_setup_agent=recorder("a", seen)),
        plugin("b", requires=("a",), axoneme_setup_agent=recorder("b", seen)),
        plugin("c", axoneme_setup_agent=recorder("c", seen)),
    )
    assert manager.order == ("c", "a", "b")
    manager.hook.axoneme_setup_agent(agent=None)
    manager.call("axoneme_setup_agent", agent=None)
    manager.call("axoneme_setup_agent", reverse=True, agent=None)
    assert seen == ["c", "a", "b", "c", "a", "b", "b", "a", "c"]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([plugin("a", requires=("ghost",))], "plugin a: requires ghost, which is not installed"),
        (
            [plugin("a", requires=("b",)), plugin("b", axoneme_is_enabled=off("no tunnel"))],
            "plugin a: requires b, which is off (no tunnel)",
        ),
        (
            [plugin("a", requires=("b",)), plugin("b", requires=("a",))],
            "plugin a: requires itself: a -> b -> a",
        ),
        ([plugin("a", API_VERSION=99)], "plugin a: written for hook API version 99, this is 1"),
        ([plugin("a", axoneme_setup_agnet=lambda agent: None)], "did you mean axoneme_setup_agent"),
        ([plugin("a", axoneme_setup_agent=lambda agent: None)], "is not marked with @hookimpl"),
        ([plugin("a", REQUIRES="b")], "plugin a: REQUIRES must be a tuple"),
        ([plugin("Bad_Name")], "is not [a-z]"),
    ],
)
def test_a_bad_plugin_stops_the_start_by_name(modules: list[ModuleType], message: str) -> None:
    """Missing, disabled and circular requirements, versions and misspelt hooks name the plugin."""
    with pytest.raises(PluginError) as caught:
        start(*modules)
    assert message in str(caught.value)


def test_an_unknown_hook_argument_is_refused() -> None:
    """A hook that asks for an argument that its specification does not have is an error."""

    @hookimpl
    def axoneme_setup_agent(agnet: Any) -> None: ...

    with pytest.raises(PluginError, match="agnet"):
        start(plugin("a", axoneme_setup_agent=axoneme_setup_agent))


def test_policy_disable_goes_on_without_the_plugin_and_its_dependents() -> None:
    """Under ``disable`` a failed plugin and what requires it are reported, all others run."""
    seen: list[str] = []
    manager = start(
        plugin("bad", axoneme_setup_agnet=lambda agent: None),
        plugin("child", requires=("bad",), axoneme_setup_agent=recorder("child", seen)),
        plugin("good", axoneme_setup_agent=recorder("good", seen)),
        plugin_failure_policy="disable",
    )
    manager.call("axoneme_setup_agent", agent=None)
    assert seen == ["good"]
    states = {info.name: (info.state, info.why) for info in manager.infos}
    assert states["good"] == ("on", "always on")
    assert states["bad"][0] == "failed" and "did you mean" in states["bad"][1]
    assert states["child"][0] == "failed" and states["child"][1].startswith("requires bad")


def test_a_failure_while_setting_up_follows_the_policy() -> None:
    """An exception in a start hook disables the plugin and its dependents, or stops the start."""
    seen: list[str] = []

    @hookimpl
    def axoneme_setup_agent(agent: Any) -> None:
        raise ZeroDivisionError("oops")

    modules = (
        plugin("bad", axoneme_setup_agent=axoneme_setup_agent),
        plugin("child", requires=("bad",), axoneme_setup_agent=recorder("child", seen)),
        plugin("good", axoneme_setup_agent=recorder("good", seen)),
    )
    manager = start(*modules, plugin_failure_policy="disable")
    manager.call("axoneme_setup_agent", agent=None)
    assert seen == ["good"] and manager.order == ("good",)
    info = manager.info("bad")
    assert info is not None and info.state == "failed"
    assert "ZeroDivisionError: oops" in info.why and "test_plugins.py" in info.why
    with pytest.raises(PluginError, match=r"plugin bad: .*ZeroDivisionError: oops"):
        start(*modules).call("axoneme_setup_agent", agent=None)


def test_a_configuration_error_always_stops() -> None:
    """A contradiction between keys stops the start even when bad plugins would be disabled."""

    @hookimpl
    def axoneme_check_config(config: Config) -> None:
        raise ConfigError("x needs y")

    manager = start(
        plugin("a", axoneme_check_config=axoneme_check_config), plugin_failure_policy="disable"
    )
    with pytest.raises(ConfigError, match="x needs y"):
        manager.call("axoneme_check_config", config=None)


def test_errors_of_our_tree_are_answers_and_others_name_the_plugin() -> None:
    """Through the relay our own errors pass unchanged, foreign ones carry plugin, file and line."""

    @hookimpl
    def axoneme_register_kinds(kinds: Any) -> None:
        raise AxonemeError("answer") if kinds == "ours" else KeyError("foreign")

    manager = start(plugin("a", axoneme_register_kinds=axoneme_register_kinds))
    with pytest.raises(AxonemeError, match=r"^answer$"):
        manager.hook.axoneme_register_kinds(kinds="ours")
    with pytest.raises(PluginError, match=r"plugin a: axoneme_register_kinds: KeyError: .*py:"):
        manager.hook.axoneme_register_kinds(kinds="theirs")


def test_managers_share_nothing() -> None:
    """Two managers of one process enable the same plugin independently."""
    module = plugin("a", axoneme_is_enabled=off("never"))
    other = plugin("a")
    assert start(module).order == ()
    assert start(other).order == ("a",)
    assert start(module).order == ()


def test_trace_prints_each_call(capsys: pytest.CaptureFixture[str]) -> None:
    """With the trace switch every call shows hook, plugin, arguments, result and milliseconds."""
    manager = start(plugin("a", axoneme_is_enabled=off("never")), plugin_trace="true")
    manager.call("axoneme_setup_agent", agent="x")
    manager.all_hook.axoneme_is_enabled(config="the config")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("hook axoneme_is_enabled plugin=a ('the config') -> (False, 'never') ")
    assert line.endswith(" ms")


def test_keys_of_a_disabled_plugin_are_known() -> None:
    """A plugin that is off still declares its keys, under its own name as owner."""

    @hookimpl
    def axoneme_register_options(options: OptionRegistry) -> None:
        options.add("a-size", "int", 3, "size")

    manager = PluginManager()
    manager.add(
        plugin("a", axoneme_register_options=axoneme_register_options, axoneme_is_enabled=off("no"))
    )
    registry = OptionRegistry()
    manager.register_options(registry)
    option = registry.get("a-size")
    assert option is not None and option.owner == "a"
    assert manager.hooks_of("a") == ["axoneme_register_options", "axoneme_is_enabled"]


def test_two_plugins_with_one_key_are_an_error_that_names_both() -> None:
    """A key can have one owner; the second plugin fails, the first keeps it."""

    @hookimpl
    def axoneme_register_options(options: OptionRegistry) -> None:
        options.add("shared", "int", 3, "size")

    one = plugin("one", axoneme_register_options=axoneme_register_options)
    two = plugin("two", axoneme_register_options=axoneme_register_options)
    with pytest.raises(PluginError, match=r"plugin two: option shared of two .* by one"):
        start(one, two)


def test_the_key_plugins_loads_modules_and_leaves_plugins_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``plugins`` takes module names, and -NAME for an installed one; a bad module is named."""
    monkeypatch.setitem(sys.modules, "my_extra", plugin("extra"))
    config, manager = boot({"plugins": "my_extra"}, policy="disable", check=False)
    assert "extra" in manager.order
    info = manager.info("extra")
    assert info is not None and info.origin == "my_extra"
    assert config.words("plugins") == ("my_extra",)
    with pytest.raises(PluginError, match=r"no_such_module.*ModuleNotFoundError"):
        boot({"plugins": "no_such_module"})
    installed = [info.name for info in manager.infos if info.name != "extra"]
    if installed:
        _, without = boot({"plugins": f"-{installed[0]}"}, policy="disable", check=False)
        left_out = without.info(installed[0])
        assert left_out is not None and left_out.state == "off" and "plugins" in left_out.why


def test_every_specified_hook_is_listed_once() -> None:
    """The list of hooks comes from the specification modules and holds no duplicate."""
    names = hook_names()
    assert len(names) == len(set(names)) and "axoneme_register_options" in names


def test_only_plugins_that_name_a_hook_are_loaded_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line imports no plugin without commands, and reports one that it cannot read."""
    (tmp_path / "quiet_plugin.py").write_text("raise RuntimeError('must not be imported')")
    (tmp_path / "loud_plugin.py").write_text(
        "from axoneme.hooks import hookimpl\nNAME = 'loud'\nAPI_VERSION = 1\n"
        "@hookimpl\ndef axoneme_register_commands(root): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = [
        EntryPoint(name, module, plugin_loading.GROUP)
        for name, module in (
            ("quiet", "quiet_plugin"),
            ("loud", "loud_plugin"),
            ("gone", "no_such_plugin"),
        )
    ]
    monkeypatch.setattr(plugin_loading, "entry_points", lambda group: entries)
    found = {c.name: c.error for c in find_implementing("axoneme_register_commands")}
    assert found.keys() == {"loud", "gone"} and found["loud"] == ""
    assert "ModuleNotFoundError" in found["gone"]
