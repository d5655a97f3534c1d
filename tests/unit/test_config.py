"""Configuration: types, sources and their order, origins, warnings, errors."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.config_sources import parse_flags
from axoneme.core.errors import AxonemeError, ConfigError
from axoneme.core.option_types import PARSERS, format_duration, format_value, parse_duration
from axoneme.core.place_options import split_address


@pytest.fixture
def registry() -> OptionRegistry:
    """The core's keys."""
    registry = OptionRegistry()
    core_options.register(registry)
    return registry


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m0s", 300), ("1h30m", 5400), ("300ms", 0.3), ("0", 0), ("1.5h", 5400), ("2h13m20s", 8000)],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    """Go's spelling of durations is understood, in seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "-5s", "5x", "5 s", "s", "1h-1m", "5s trailing"])
def test_other_durations_are_refused(text: str) -> None:
    """A number without unit, a sign or a stranger's unit is no duration."""
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**16))
def test_durations_survive_writing_and_reading(nanoseconds: int) -> None:
    """What is written reads back as the same value, to the precision of a float of seconds."""
    seconds = nanoseconds / 1e9
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9, abs=1e-9)


@given(st.sampled_from(sorted(PARSERS)), st.text(max_size=60))
def test_no_value_breaks_a_reader(kind: str, text: str) -> None:
    """Any text is either read, and can be written again, or refused with ValueError."""
    try:
        value = PARSERS[kind](text)
    except ValueError as error:
        assert str(error)
    else:
        assert isinstance(format_value(kind, value), str)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("bool", "True", True),
        ("bool", False, False),
        ("strings", "eth0 eth1,eth2", ("eth0", "eth1", "eth2")),
        ("strings", "[syn,fin,rst]", ("syn", "fin", "rst")),
        ("strings", ["a", 1], ("a", "1")),
        ("cidr4", "10.1.2.3/8", IPv4Network("10.0.0.0/8")),
        (
            "cidrs4",
            "10.0.0.0/8, 11.0.0.0/8",
            (IPv4Network("10.0.0.0/8"), IPv4Network("11.0.0.0/8")),
        ),
        ("map", "a=1,b=x=y", {"a": "1", "b": "x=y"}),
        ("map", '{"a": true}', {"a": "true"}),
        ("int", " 12 ", 12),
    ],
)
def test_values_in_the_spelling_of_cilium_are_read(kind: str, raw: Any, value: Any) -> None:
    """Every type takes the spellings that ConfigMaps and charts use."""
    assert PARSERS[kind](raw) == value


def test_sources_override_each_other_and_are_named(
    registry: OptionRegistry, tmp_path: Path
) -> None:
    """Flags beat the environment, it beats the folder, it beats YAML, that beats the default."""
    folder = tmp_path / "conf"
    folder.mkdir()
    for key in ("mtu", "cluster-name", "debug", "ipam"):
        (folder / key).write_text({"mtu": "1400\n", "debug": "true"}.get(key, "folder"))
    yaml_file = tmp_path / "c.yaml"
    yaml_file.write_text("mtu: 1300\ncluster-name: yaml\nipam: yaml\nroute-metric: 7\n")
    config = Config.load(
        registry,
        flags={"mtu": "1500"},
        env={"AXONEME_MTU": "1450", "CILIUM_CLUSTER_NAME": "env", "AXONEME_DEBUG": ""},
        config_dir=folder,
        yaml_file=yaml_file,
    )
    assert (config["mtu"], config.origin("mtu")) == (1500, "flag")
    assert (config["cluster-name"], config.origin("cluster-name")) == (
        "env",
        "environment CILIUM_CLUSTER_NAME",
    )
    assert (config["ipam"], config.origin("ipam")) == ("folder", str(folder / "ipam"))
    assert (config["route-metric"], config.origin("route-metric")) == (7, str(yaml_file))
    assert config.flag("debug") is True
    assert (config["enable-ipv4"], config.origin("enable-ipv4")) == (True, "default")


def test_a_mounted_configmap_is_read_through_its_links(
    registry: OptionRegistry, tmp_path: Path
) -> None:
    """``key -> ..data/key`` is followed; ``..data`` and other dot names are no keys."""
    data = tmp_path / "..2026_11_23"
    data.mkdir()
    (data / "mtu").write_text("1400")
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "mtu").symlink_to("..data/mtu")
    config = Config.load(registry, config_dir=tmp_path)
    assert config["mtu"] == 1400 and config.warnings == ()


def test_a_manifest_of_a_configmap_is_a_yaml_source(
    registry: OptionRegistry, tmp_path: Path
) -> None:
    """A YAML file may be the ConfigMap itself."""
    path = tmp_path / "cm.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\ndata:\n  mtu: '1400'\n")
    assert Config.load(registry, yaml_file=path)["mtu"] == 1400


def test_an_unknown_key_is_a_warning_with_the_nearest_name(registry: OptionRegistry) -> None:
    """Unknown keys are ignored, named with their source, and the likely one is offered."""
    config = Config.load(registry, {"enable-ipv7": "true", "zzz": "1"})
    assert config.warnings == (
        "unknown configuration key enable-ipv7 (flag) is ignored, did you mean enable-ipv6?",
        "unknown configuration key zzz (flag) is ignored",
    )


def test_every_bad_value_is_named_with_what_is_allowed(registry: OptionRegistry) -> None:
    """One error names each bad key, its value, its source and what is expected."""
    with pytest.raises(ConfigError) as caught:
        Config.load(
            registry,
            {"mtu": "70000", "routing-mode": "bridge", "debug": "maybe\x1b[2J"},
            {"AXONEME_CONNTRACK_GC_INTERVAL": "soon"},
        )
    text = caught.value.message
    assert "key mtu (flag): bad value '70000': expected 0 to 65535" in text
    assert "key routing-mode (flag): bad value 'bridge': expected one of tunnel, native" in text
    assert "expected true or false" in text and "\x1b" not in text
    assert "environment AXONEME_CONNTRACK_GC_INTERVAL" in text and "a duration such as" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mtu", "1279"),
        ("cluster-name", "Prod"),
        ("cluster-name", "x" * 33),
        ("devices", "eth0 a/b"),
        ("prometheus-serve-addr", "9962"),
        ("node-name", "../../etc"),
        ("monitor-aggregation-flags", "syn nul"),
        ("bpf-ct-timeout-regular-tcp", "0s"),
    ],
)
def test_validators_refuse_what_types_let_through(
    registry: OptionRegistry, key: str, value: str
) -> None:
    """Ranges, names and addresses are checked besides the type."""
    with pytest.raises(ConfigError, match=f"key {key}"):
        Config.load(registry, {key: value})


def test_an_empty_scalar_means_the_default(registry: OptionRegistry, tmp_path: Path) -> None:
    """A chart that renders an empty value asks for the default, for what cannot be empty."""
    (tmp_path / "mtu").write_text("")
    (tmp_path / "debug").write_text("\n")
    config = Config.load(registry, config_dir=tmp_path)
    assert config["mtu"] == 0 and config.origin("mtu") == "default"


def test_choices_do_not_mind_case(registry: OptionRegistry) -> None:
    """``None`` is upstream's own spelling of monitor-aggregation none."""
    assert Config.load(registry, {"monitor-aggregation": "None"})["monitor-aggregation"] == "none"


def test_the_node_name_comes_from_kubernetes_too(registry: OptionRegistry) -> None:
    """``K8S_NODE_NAME`` names the node, AXONEME_NODE_NAME more so."""
    assert Config.load(registry, env={"K8S_NODE_NAME": "n1"})["node-name"] == "n1"
    env = {"K8S_NODE_NAME": "n1", "AXONEME_NODE_NAME": "n2"}
    assert Config.load(registry, env=env)["node-name"] == "n2"


def test_a_default_may_follow_another_key(registry: OptionRegistry) -> None:
    """The socket lies in the state folder unless it is named."""
    config = Config.load(registry, {"state-dir": "/run/x"})
    assert config["socket-path"] == "/run/x/axoneme.sock"
    assert Config.load(registry, {"socket-path": "/s"})["socket-path"] == "/s"


def test_settings_mark_what_differs_from_the_default(registry: OptionRegistry) -> None:
    """A value that was given but equals the default is not marked as changed."""
    settings = {s.key: s for s in Config.load(registry, {"mtu": "0", "debug": "1"}).settings()}
    assert settings["mtu"].is_default and settings["mtu"].origin == "flag"
    assert not settings["debug"].is_default and settings["debug"].value == "true"
    assert settings["identity-gc-interval"].value == "15m0s"
    assert settings["identity-gc-interval"].owner == "operator"


def test_asking_for_an_undeclared_key_names_the_nearest(registry: OptionRegistry) -> None:
    """A misspelt key in code is an error that says which one was meant."""
    with pytest.raises(AxonemeError, match="did you mean mtu"):
        Config.load(registry)["mtuu"]


def test_a_key_is_declared_once(registry: OptionRegistry) -> None:
    """A second declaration is refused and names the first owner."""
    with pytest.raises(AxonemeError, match="declared already by agent"):
        registry.add("mtu", "int", 1, "again", component="x")


def test_bad_sources_are_errors_that_name_the_file(
    registry: OptionRegistry, tmp_path: Path
) -> None:
    """A missing folder, YAML that is none, and a list instead of a mapping name their path."""
    with pytest.raises(ConfigError, match="cannot read configuration folder"):
        Config.load(registry, config_dir=tmp_path / "none")
    bad = tmp_path / "bad.yaml"
    for content in ("a: [", "- a\n", "\x00"):
        bad.write_text(content)
        with pytest.raises(ConfigError, match=r"bad\.yaml"):
            Config.load(registry, yaml_file=bad)


def test_flags_are_parsed_like_cobra_does() -> None:
    """``--k=v``, ``--k v`` and a bare ``--k``, which means true."""
    assert parse_flags(["--mtu=1", "--debug", "--ipam", "x", "--labels=a=b", "--last"]) == {
        "mtu": "1",
        "debug": "true",
        "ipam": "x",
        "labels": "a=b",
        "last": "true",
    }
    with pytest.raises(ConfigError, match="unexpected argument"):
        parse_flags(["stray"])


def test_listen_addresses() -> None:
    """Host and port of ``:9962`` and ``[::1]:80``."""
    assert split_address(":9962") == ("", 9962)
    assert split_address("[::1]:80") == ("::1", 80)
    for bad in ("9962", ":x", "host:1", ":70000"):
        with pytest.raises(ValueError):
            split_address(bad)


def test_defaults_are_those_of_the_documented_flags(registry: OptionRegistry) -> None:
    """Keys shared with Cilium have its defaults (the chart's where the chart sets one)."""
    config = Config.load(registry)
    for key, value in {
        "bpf-ct-global-tcp-max": 524288,
        "bpf-ct-global-any-max": 262144,
        "bpf-fragments-map-max": 8192,
        "routing-mode": "tunnel",
        "ipam": "cluster-pool",
        "enable-tcx": True,
        "monitor-aggregation": "medium",
        "monitor-aggregation-interval": 5.0,
        "identity-gc-interval": 900.0,
        "identity-heartbeat-timeout": 1800.0,
        "identity-change-grace-period": 5.0,
        "agent-health-port": 9879,
    }.items():
        assert config[key] == value, key
