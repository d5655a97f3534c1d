"""Installing the executable and its configuration."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from axoneme.core.cni.cli import cni
from axoneme.core.cni.install import (
    install,
    install_loopback,
    remove_configuration,
    write_configuration,
)
from axoneme.core.config_sources import RawValue
from axoneme.core.errors import AxonemeError
from axoneme.core.nodeconfig import folder


@pytest.fixture(autouse=True)
def _without_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether the CNI project's executables are installed here is no matter."""
    monkeypatch.setattr("axoneme.core.cni.install.CNI_PROJECT", tmp_path / "nowhere")


def test_install_writes_both(tmp_path: Path) -> None:
    """The executable runs where it was put; the configuration names it and the socket."""
    written = install(tmp_path / "bin", tmp_path / "conf", socket="/run/x.sock")
    assert [x.name for x in written] == ["axoneme-cni", "05-axoneme.conflist"]
    config = json.loads(written[1].read_text())
    assert config["plugins"] == [{"type": "axoneme-cni", "socket-path": "/run/x.sock"}]
    assert "1.1.0" in config["cniVersions"]
    done = subprocess.run(
        [str(written[0])],
        input=b'{"cniVersion": "1.0.0"}',
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["cniVersion"] == "1.0.0"


def test_install_takes_the_script_when_asked_or_without_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--python`` asks for it, and a machine that cannot compile gets it."""
    written = install(tmp_path / "bin", tmp_path / "conf", python="/usr/bin/python3")
    assert written[0].read_bytes().startswith(b"#!/usr/bin/python3 -ISE\n")
    monkeypatch.setenv("PATH", "")
    written = install(tmp_path / "bin", tmp_path / "conf", cache=tmp_path / "cache")
    assert written[0].read_bytes().startswith(b"#!")


def test_install_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Repeated, it replaces in one step: same names, right modes, no temporary file."""
    for _ in range(2):
        install(tmp_path, tmp_path)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["05-axoneme.conflist", "axoneme-cni"]
    assert (tmp_path / "axoneme-cni").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "05-axoneme.conflist").stat().st_mode & 0o777 == 0o644


def test_command(tmp_path: Path) -> None:
    """``axoneme cni install`` prints what it wrote."""
    arguments = ["install", "--bin-dir", str(tmp_path / "b"), "--conf-dir", str(tmp_path / "c")]
    result = CliRunner().invoke(cni, arguments)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        str(tmp_path / "b" / "axoneme-cni"),
        str(tmp_path / "c" / "05-axoneme.conflist"),
    ]


def test_an_agent_writes_its_configuration_and_sets_others_aside(tmp_path: Path) -> None:
    """Only configurations are renamed, ours never; a second time there is nothing to do."""
    for name in ("10-flannel.conflist", "00-other.conf", "README", "87-podman.json"):
        (tmp_path / name).write_text("{}")
    own = tmp_path / "05-axoneme.conflist"
    renamed = write_configuration(own, socket="/run/x.sock", exclusive=True)
    assert [p.name for p in renamed] == ["00-other.conf", "10-flannel.conflist", "87-podman.json"]
    assert json.loads(own.read_text())["plugins"][0]["socket-path"] == "/run/x.sock"
    assert (tmp_path / "10-flannel.conflist.axoneme_bak").exists() and (
        tmp_path / "README"
    ).exists()
    assert write_configuration(own, exclusive=True) == []
    (tmp_path / "10-flannel.conflist").write_text("{}")
    assert write_configuration(own) == []
    assert (tmp_path / "10-flannel.conflist").exists()


def test_loopback_is_brought_along_where_it_is_missing(tmp_path: Path) -> None:
    """What a host has stays as it is."""
    cache, folder = tmp_path / "cache", tmp_path / "bin"
    cache.mkdir()
    folder.mkdir()
    (cache / "loopback").write_bytes(b"ours")
    assert install_loopback(folder, cache) == [folder / "loopback"]
    assert (folder / "loopback").stat().st_mode & 0o777 == 0o755
    (folder / "loopback").write_bytes(b"theirs")
    assert install_loopback(folder, cache) == []
    assert (folder / "loopback").read_bytes() == b"theirs"


def test_executable_alone(tmp_path: Path) -> None:
    """An agent that writes the configuration itself wants no other."""
    written = install(tmp_path / "bin", tmp_path / "conf", config=False)
    assert written[0] == tmp_path / "bin" / "axoneme-cni"
    assert not (tmp_path / "conf").exists()


def uninstall(*arguments: str | Path) -> tuple[int, str]:
    """Exit code, and what was said."""
    result = CliRunner().invoke(cni, ["uninstall", *map(str, arguments)])
    return result.exit_code, result.output or str(result.exception)


def test_uninstall_takes_our_configuration_alone(tmp_path: Path) -> None:
    """The executable and all that is others' stay; a second time there is nothing to do."""
    install(tmp_path / "bin", tmp_path / "conf")
    others = {"10-flannel.conflist": "{}", "00-other.conf.axoneme_bak": "{}"}
    for name, text in others.items():
        (tmp_path / "conf" / name).write_text(text)
    own = tmp_path / "conf" / "05-axoneme.conflist"
    assert uninstall("--conf-dir", own.parent) == (0, f"{own} removed\n")
    assert sorted(p.name for p in own.parent.iterdir()) == sorted(others)
    assert (tmp_path / "bin" / "axoneme-cni").exists()
    assert uninstall("--conf-dir", own.parent) == (0, f"{own} is not there\n")


@pytest.mark.parametrize(
    "text", ["", "[]", "not json", "{}", '{"plugins": 3}', '{"plugins": ["x", {"type": "other"}]}']
)
def test_a_file_of_our_name_that_is_not_ours_stays(text: str, tmp_path: Path) -> None:
    """Somebody else has written it."""
    path = tmp_path / "05-axoneme.conflist"
    path.write_text(text)
    with pytest.raises(AxonemeError, match="does not name axoneme-cni"):
        remove_configuration(path)
    assert path.read_text() == text


@pytest.mark.parametrize("value", ["true", "false", "", None])
def test_a_hook_does_as_the_agents_keys_say(value: str | None, tmp_path: Path) -> None:
    """It is removed when the key is true, from where the agent wrote it, and else stays."""
    own, keys = tmp_path / "net.d" / "07-mine.conflist", tmp_path / "config"
    write_configuration(own)
    given = {"write-cni-conf-when-ready": str(own), "mtu": "1500"}
    values = given if value is None else {**given, "cni-uninstall": value}
    folder.write(keys, {key: RawValue(text, "ConfigMap x/y") for key, text in values.items()})
    code, said = uninstall("--config-dir", keys)
    assert code == 0
    assert own.exists() is (value != "true")
    assert ("removed" in said) is (value == "true")
    if value != "true":
        assert "stays, by key cni-uninstall" in said


def test_a_hook_needs_a_key_that_can_be_read(tmp_path: Path) -> None:
    """What is bad is named, and nothing goes; an agent that writes no file has none to remove."""
    own = tmp_path / "05-axoneme.conflist"
    write_configuration(own)
    (tmp_path / "cni-uninstall").write_text("perhaps")
    code, said = uninstall("--config-dir", tmp_path)
    assert code == 1 and "cni-uninstall" in said and own.exists()
    (tmp_path / "cni-uninstall").write_text("true")
    code, said = uninstall("--config-dir", tmp_path)
    assert code == 0 and own.exists()
