"""ip-masq-agent's file, and pods that keep their address."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from attrs import frozen

from axoneme.core.endpoints.pods import Pod
from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.node import NodePool
from axoneme.plugins.masquerade.ipmasq import DEFAULTS, LINK_LOCAL, ConfigFile, parse
from axoneme.plugins.masquerade.skip import ANNOTATION, kept, other_pools


def test_defaults_count_where_nothing_is_said() -> None:
    """Private networks, and link-local ones unless they are to be masqueraded."""
    assert set(parse("", "f")) == {*DEFAULTS, *LINK_LOCAL.values()}
    assert set(parse("masqLinkLocal: true\nmasqLinkLocalIPv6: true", "f")) == set(DEFAULTS)


def test_a_list_stands_for_itself() -> None:
    """YAML and JSON, both families."""
    text = '{"nonMasqueradeCIDRs": ["10.0.0.0/8", "2001:db8::/32"], "masqLinkLocal": true}'
    assert set(parse(text, "f")) == {
        ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"), LINK_LOCAL[6],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[", "neither YAML"),
        ("- a", "must be a mapping"),
        ("nonMasqueradeCIDRs: 10.0.0.0/8", "nonMasqueradeCIDRs"),
        ("nonMasqueradeCIDRs: [10.0.0.0/8, 10.0.0.1/8]", "nonMasqueradeCIDRs[1]"),
        ("nonMasqueradeCIDRs: [{}]", "nonMasqueradeCIDRs[0]"),
        ("masqLinkLocal: 1", "masqLinkLocal"),
    ],
)
def test_a_bad_file_names_its_field(text: str, path: str) -> None:
    """And itself."""
    with pytest.raises(InvalidObjectError, match="/some/file") as caught:
        parse(text, "/some/file")
    assert path in str(caught.value)


def test_a_change_is_seen_and_the_last_good_one_stays(tmp_path: Path) -> None:
    """Written, replaced by a link, broken, repaired, removed."""
    path = tmp_path / "config"
    file = ConfigFile(path)
    assert not file.look()
    path.write_text("nonMasqueradeCIDRs: [10.0.0.0/8]")
    assert file.look()
    good = file.networks
    assert not file.look()
    path.write_text("nonMasqueradeCIDRs: [10.0.0.0/99]")
    assert not file.look()
    assert file.networks == good
    assert "nonMasqueradeCIDRs[0]" in file.error
    other = tmp_path / "other"
    other.write_text("nonMasqueradeCIDRs: [10.1.0.0/16]")
    path.unlink()
    path.symlink_to(other)
    assert file.look()
    assert not file.error
    path.unlink()
    assert file.look()
    assert set(DEFAULTS) <= set(file.networks)


def test_a_pod_says_so_by_annotation() -> None:
    """Both its addresses; others are not concerned."""

    @frozen
    class Endpoint:
        pod: str
        namespace: str = "default"
        ipv4 = ip_address("10.0.0.1")
        ipv6 = ip_address("fd00::1")

    pods = [
        Pod("default", "a", "u", "n", annotations=((ANNOTATION, "true"),)),
        Pod("default", "b", "u", "n", annotations=((ANNOTATION, "false"),)),
    ]
    found = list(kept(pods, [Endpoint("a"), Endpoint("b"), Endpoint("c")]))  # type: ignore[list-item]
    assert {(str(k.address), k.pod) for k in found} == {
        ("10.0.0.1", "default/a"), ("fd00::1", "default/a"),
    }  # fmt: skip
    pools = [
        NodePool("default", (ip_network("10.0.0.0/24"),)),
        NodePool("blue", (ip_network("fd00::/64"), ip_network("10.9.0.0/24"))),
    ]
    found = list(kept((), [Endpoint("c")], other_pools(pools, "default")))  # type: ignore[list-item]
    assert [(str(k.address), k.pod) for k in found] == [("fd00::1", "default/c")]
