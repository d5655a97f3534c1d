"""What counts as Cilium's on a node."""

from __future__ import annotations

from pathlib import Path

from axoneme.core.agent.cilium import Traces, look


def test_pins_links_and_files_are_found_by_their_names(tmp_path: Path) -> None:
    """Ours, LXC's and a kernel's own names are none of them."""
    for path in ("tc/globals/cilium_ipcache_v2", "tc/globals/other", "cilium/devices", "axoneme"):
        (tmp_path / path).mkdir(parents=True)
    cni = tmp_path / "net.d"
    cni.mkdir()
    for name in ("05-cilium.conflist", "05-axoneme.conflist", "10-flannel.conflist"):
        (cni / name).write_text("{}")
    links = ("cilium_host", "cilium_net", "cilium_vxlan", "lxc0a1b2c3d4e5f", "lxc_health", "lxcbr0",
             "eth0", "axo0123456789", "cilium", "lxc", "vxlan0")  # fmt: skip
    found = look(tmp_path, links, [cni, tmp_path / "none"])
    assert found == Traces(
        (str(tmp_path / "cilium"), str(tmp_path / "tc/globals/cilium_ipcache_v2")),
        ("cilium_host", "cilium_net", "cilium_vxlan", "lxc0a1b2c3d4e5f", "lxc_health"),
        (str(cni / "05-cilium.conflist"),),
    )
    assert "links cilium_host, cilium_net, cilium_vxlan, lxc0a1b2c3d4e5f and 1 more" in found.text()


def test_a_node_without_any_has_nothing_to_say(tmp_path: Path) -> None:
    """No folder has to be there."""
    found = look(tmp_path / "none", ["eth0"], [tmp_path])
    assert not found and found.text() == ""
