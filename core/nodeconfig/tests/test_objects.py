"""How objects become a node's values, and the folder that they are written to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.config_sources import RawValue, read_sources
from axoneme.core.errors import ConfigError, InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodeconfig import folder
from axoneme.core.nodeconfig.objects import Layer, decode_config_map, decode_node_config, lay


def config_map(**data: Any) -> ClusterObject:
    """A ConfigMap; ``_`` in keys stands for ``-``."""
    values = {key.replace("_", "-"): value for key, value in data.items()}
    key = ObjectKey("ConfigMap", "kube-system", "axoneme-config")
    return ClusterObject(key, "v1", body={"data": values})


def node_config(name: str, selector: Any, **defaults: Any) -> ClusterObject:
    """A CiliumNodeConfig."""
    values = {key.replace("_", "-"): value for key, value in defaults.items()}
    spec = {"nodeSelector": selector, "defaults": values}
    key = ObjectKey("CiliumNodeConfig", "kube-system", name)
    return ClusterObject(key, "cilium.io/v2", body={"spec": spec})


def values(
    base: ClusterObject | None, configs: list[ClusterObject], **labels: str
) -> dict[str, str]:
    """The values of a node with these labels."""
    layers = [decode_node_config(each) for each in configs]
    found = lay(decode_config_map(base) if base else None, layers, labels)
    return {key: str(each.value) for key, each in found.items()}


def test_node_configs_win_over_the_config_map_in_the_order_of_their_names() -> None:
    """Given in whatever order; one that does not match is as if it were not there."""
    base = config_map(mtu="1500", debug="false", ipam="kubernetes")
    configs = [
        node_config("b", {"matchLabels": {"gpu": "yes"}}, mtu="9000"),
        node_config("a", {}, mtu="1400", debug="true"),
        node_config("c", {"matchLabels": {"gpu": "no"}}, mtu="1280"),
    ]
    assert values(base, configs, gpu="yes") == {
        "mtu": "9000",
        "debug": "true",
        "ipam": "kubernetes",
    }
    assert values(base, configs)["mtu"] == "1400"
    assert values(None, configs[2:], gpu="no") == {"mtu": "1280"}


def test_a_value_knows_the_object_that_it_comes_from() -> None:
    """Which is what errors and the configuration's view name."""
    found = lay(
        decode_config_map(config_map(mtu="1500", debug="true")),
        [decode_node_config(node_config("gpu", {}, mtu="9000"))],
        {},
    )
    assert found["mtu"].origin == "CiliumNodeConfig kube-system/gpu"
    assert found["debug"].origin == "ConfigMap kube-system/axoneme-config"


@pytest.mark.parametrize("key", ["../etc/passwd", ".hidden", "a/b", "", "a b", "x" * 254, "a\n"])
def test_keys_that_are_no_file_names_are_refused(key: str) -> None:
    """A CiliumNodeConfig's keys are checked by no server; they become names of files."""
    spec = {"nodeSelector": {}, "defaults": {key: "x"}}
    name = ObjectKey("CiliumNodeConfig", "kube-system", "bad")
    with pytest.raises(InvalidObjectError, match=r"CiliumNodeConfig kube-system/bad: .*bad key"):
        decode_node_config(ClusterObject(name, "cilium.io/v2", body={"spec": spec}))


def test_values_must_be_strings_and_a_selector_must_be_there() -> None:
    """The error names object and key; without a selector nobody knows whom it is for."""
    with pytest.raises(InvalidObjectError, match=r"kube-system/a: spec\.defaults\.mtu.*9000"):
        decode_node_config(node_config("a", {}, mtu=9000))
    with pytest.raises(InvalidObjectError, match=r"kube-system/a: spec\.nodeSelector.*must be"):
        decode_node_config(node_config("a", None, mtu="9000"))
    with pytest.raises(InvalidObjectError, match=r"axoneme-config: data\.debug.*True"):
        decode_config_map(config_map(debug=True))


def raw(**given: str) -> dict[str, RawValue]:
    """Values of one object."""
    return {k.replace("_", "-"): RawValue(v, "ConfigMap x/y", built=True) for k, v in given.items()}


def test_the_folder_is_what_a_mounted_config_map_looks_like(tmp_path: Path) -> None:
    """An agent reads it, and knows the objects; keys that are no more go, others' files too."""
    registry = OptionRegistry()
    registry.add("mtu", "int", 0, "MTU")
    registry.add("labels", "string", "", "Labels")
    (tmp_path / "left-over").write_text("1")
    folder.write(tmp_path, raw(mtu="1500", gone="x"))
    folder.write(tmp_path, raw(mtu="1400", labels="two\nlines"))
    config = Config.load(registry, config_dir=tmp_path)
    assert config["mtu"] == 1400 and config["labels"] == "two\nlines"
    assert config.origin("mtu") == "ConfigMap x/y" and config.warnings == ()
    assert (tmp_path / "mtu").read_text() == "1400"
    links = {path.name for path in tmp_path.iterdir()}
    assert links == {"mtu", "labels", "..data", os.readlink(tmp_path / "..data")}  # noqa: PTH115


def test_keys_without_their_link_are_read_and_files_put_beside_them_too(tmp_path: Path) -> None:
    """A writer was killed between the two steps; somebody added a key by hand."""
    folder.write(tmp_path, raw(mtu="1400", debug="true"))
    (tmp_path / "mtu").unlink()
    (tmp_path / "mine").write_text("1")
    found = read_sources({}, {}, tmp_path).values
    assert {key: value.value for key, value in found.items()} == {
        "mtu": "1400",
        "debug": "true",
        "mine": "1",
    }
    assert found["mine"] == RawValue("1", str(tmp_path / "mine"))


WRITER = """
import sys
from itertools import count
from pathlib import Path
from axoneme.core.config_sources import RawValue
from axoneme.core.nodeconfig import folder
for number in count():
    values = {f"key{n}": RawValue(str(number), "x") for n in range(20)}
    folder.write(Path(sys.argv[1]), values)
    if not number:
        print("ready", flush=True)
"""


def test_a_reader_sees_one_moment_and_a_killed_writer_leaves_it_whole(tmp_path: Path) -> None:
    """All keys have the same number, while the folder is written again and again and after."""
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            seen = {moment(tmp_path) for _ in range(200)}
        finally:
            writer.kill()
            writer.communicate()
        assert len(seen) > 1
        assert folder.is_complete(tmp_path)
        moment(tmp_path)


def moment(path: Path) -> Any:
    """The number that all keys have."""
    try:
        found = read_sources({}, {}, path).values
    except ConfigError as error:  # of a writer that never stops: an error, not a mixture
        assert "changes while it is read" in str(error) or "cannot read" in str(error)
        return None
    assert len(found) == 20
    (number,) = {value.value for value in found.values()}
    return number


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """By the path that failed."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=f"cannot write configuration {tmp_path}/file"):
        folder.write(tmp_path / "file", raw(mtu="1"))
    assert not folder.is_complete(tmp_path / "file")


def test_a_layer_without_a_selector_is_for_every_node() -> None:
    """The ConfigMap's."""
    assert Layer(ObjectKey("ConfigMap", "a", "b"), {}).selector.matches({"any": "label"})
