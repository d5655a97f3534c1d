"""``axoneme migrate``: verdicts, sources, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.boot import declare
from axoneme.core.cli.main import run
from axoneme.core.config_sources import RawConfig
from axoneme.core.migrate.flags import Flag, flags
from axoneme.core.migrate.plan import Row, Verdict, plan
from axoneme.core.testing.apiserver import api_server

REGISTRY = declare(RawConfig())[0]
CLEAN = {
    "cluster-pool-ipv6-mask-size": "120",
    "dnsproxy-enable-transparent-mode": "true",
    "enable-bpf-masquerade": "true",
    "identity-allocation-mode": "crd",
    "monitor-aggregation": "medium",
}
"""Keys that make an otherwise empty cilium-config mean the same here."""


def rows(**values: Any) -> dict[str, Row]:
    """By key."""
    named = {key.replace("_", "-"): value for key, value in values.items()}
    return {row.key: row for row in plan(named, REGISTRY, flags())}


@pytest.mark.parametrize(
    ("key", "value", "verdict", "note"),
    [
        ("routing-mode", "native", Verdict.MAPS, ""),
        ("enable-ipv4", True, Verdict.MAPS, ""),
        ("mtu", "100", Verdict.DIFFERS, "1280 to 65535"),
        ("datapath-mode", "netkit", Verdict.DIFFERS, "one of veth"),
        ("ipam", "eni", Verdict.DIFFERS, "expected one of"),
        ("enable-ipsec", "true", Verdict.NONE, "'false'"),
        ("enable-ipsec", "false", Verdict.UNUSED, "default"),
        ("k8s-heartbeat-timeout", "30000ms", Verdict.UNUSED, "default"),
        ("enable-polcy", "x", Verdict.NONE, "did you mean enable-policy?"),
        ("state-dir", "/var/run/cilium", Verdict.DIFFERS, "Cilium's own"),
    ],
)
def test_each_key_has_a_verdict(key: str, value: Any, verdict: Verdict, note: str) -> None:
    """By name, range and default; values are compared, not their spelling."""
    row = plan({key: value}, REGISTRY, flags())
    found = next(r for r in row if r.key == key)
    assert found.verdict is verdict and note in found.note


def test_a_key_that_is_not_set_is_named_if_its_default_is_another() -> None:
    """With both; it is not when the cluster has set it, whatever to."""
    assert rows()["enable-bpf-masquerade"].verdict is Verdict.DIFFERS
    assert "'false', here 'true'" in rows()["enable-bpf-masquerade"].note
    assert rows(enable_bpf_masquerade="false")["enable-bpf-masquerade"].verdict is Verdict.MAPS
    assert rows(enable_bpf_masquerade="")["enable-bpf-masquerade"].verdict is Verdict.DIFFERS
    assert "enable-ipv4" not in rows()
    assert "state-dir" not in rows()


def test_every_known_default_can_be_read() -> None:
    """The table is whole: a default that its own type does not take is a slip in it."""
    for flag in flags().values():
        assert flag.has_default(flag.default), flag
        if flag.type in ("bool", "int", "float", "duration") and flag.default:
            assert Flag("k", (), flag.type, "").has_default(flag.default) is False
    assert len(flags()) > 500


def config_map(folder: Path, **data: str) -> Path:
    """As ``kubectl get -o yaml`` gives it."""
    keys = CLEAN | {key.replace("_", "-"): value for key, value in data.items()}
    metadata = {"name": "cilium-config", "namespace": "kube-system"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": keys}
    path = folder / "cilium-config.yaml"
    path.write_text(json.dumps(body))
    return path


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 when nothing wants a look, 1 when something does, 2 without --dry-run."""
    fine = config_map(tmp_path, routing_mode="native", ipv4_native_routing_cidr="10.0.0.0/8",
                      ipv6_native_routing_cidr="fd00::/8", enable_ipsec="false")  # fmt: skip
    assert run(["migrate", "--dry-run", "--from", str(fine)]) == 0
    assert run(["migrate", "--from", str(fine)]) == 2
    capsys.readouterr()
    odd = config_map(tmp_path, enable_wireguard="true", mtu="1")
    assert run(["migrate", "--dry-run", "--from", str(odd), "-o", "json", "--problems"]) == 1
    said = {r["key"]: r["verdict"] for r in json.loads(capsys.readouterr().out)}
    assert said["mtu"] == "differs" and "routing-mode" not in said


def test_keys_that_contradict_each_other_here_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each fine by itself."""
    path = config_map(tmp_path, enable_ipv4="false", underlay_protocol="ipv4")
    assert run(["migrate", "--dry-run", "--from", str(path)]) == 1
    assert "warning: plugin tunnel" in capsys.readouterr().err


def test_a_folder_and_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file per key; what is none of these is an error that names it."""
    (tmp_path / "keys").mkdir()
    for key, value in CLEAN.items():
        (tmp_path / "keys" / key).write_text(value)
    assert run(["migrate", "--dry-run", "--from", str(tmp_path / "keys")]) == 0
    (tmp_path / "bad").write_text("- a\n- b\n")
    assert run(["migrate", "--dry-run", "--from", str(tmp_path / "bad")]) == 1
    assert f"error: configuration {tmp_path / 'bad'}" in capsys.readouterr().err


@pytest.mark.needs("kubernetes")
def test_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its kubeconfig."""
    with api_server(tmp_path / "server") as server:
        server.kubectl("apply", "-f", str(config_map(tmp_path, mtu="1400")))
        place = ["--from", str(server.kubeconfig)]
        assert run(["migrate", "--dry-run", *place, "-o", "json"]) == 0
        said = {r["key"]: r["here"] for r in json.loads(capsys.readouterr().out)}
        assert said["mtu"] == "1400"
        assert run(["migrate", "--dry-run", *place, "--name", "other"]) == 1
        assert "ConfigMap kube-system/other not found" in capsys.readouterr().err
