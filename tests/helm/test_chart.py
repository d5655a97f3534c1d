"""The chart: generated files, what it makes of sets of values, and the word of an API server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from axoneme.core.boot import boot
from axoneme.core.chart.__main__ import generated
from axoneme.core.cli.main import run as cli
from axoneme.core.lab.apiserver import ApiServer, executables
from axoneme.core.testing.apiserver import api_server

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHART = ROOT / "deploy" / "helm" / "axoneme"
SETS = sorted(path.stem for path in (HERE / "values").glob("*.yaml"))
pytestmark = pytest.mark.needs("kubernetes")


def helm(*arguments: str, server: ApiServer | None = None, check: bool = True) -> str:
    """The real command."""
    binaries = executables()
    assert binaries is not None
    command = [str(binaries / "helm"), *arguments]
    if server is not None:
        command += ["--kubeconfig", str(server.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout + ("" if check else done.stderr)


def template(name: str) -> str:
    """The objects of a set of values."""
    return helm(
        "template", "axoneme", str(CHART), "-n", "kube-system",
        "-f", str(HERE / "values" / f"{name}.yaml"),
    )  # fmt: skip


def objects(text: str) -> list[Any]:
    """Parsed."""
    return [body for body in yaml.safe_load_all(text) if body]


def one(found: list[Any], kind: str, name: str) -> Any:
    """An object by its kind and name."""
    return next(o for o in found if o["kind"] == kind and o["metadata"]["name"] == name)


def test_generated_files_are_those_of_the_options() -> None:
    """Keys and schema of the chart follow the declared options."""
    for path, text in generated(CHART).items():
        assert path.read_text() == text, f"{path}: run python -m axoneme.core.chart"


def test_lint() -> None:
    """Helm has nothing against it."""
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("name", SETS)
def test_snapshot(name: str) -> None:
    """What a set of values becomes; ``AXONEME_SNAPSHOTS=write`` accepts a change."""
    text, path = template(name), HERE / "snapshots" / f"{name}.yaml"
    if os.environ.get("AXONEME_SNAPSHOTS") == "write":
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("name", SETS)
def test_the_agent_accepts_every_key(name: str, tmp_path: Path) -> None:
    """No unknown key, no bad value; features are on that the values ask for."""
    data = one(objects(template(name)), "ConfigMap", "axoneme-config")["data"]
    assert all(isinstance(v, str) for v in data.values()), "a ConfigMap holds texts"
    for key, value in data.items():
        (tmp_path / key).write_text(value)
    config, _ = boot({}, {}, tmp_path, None, check=True)
    unknown = [w for w in config.warnings if "greeter" not in w]
    assert not unknown
    given = yaml.safe_load((HERE / "values" / f"{name}.yaml").read_text())
    if given.get("hostFirewall"):
        assert config.flag("enable-host-firewall") and config["policy-cidr-match-mode"] == (
            "nodes", "pods",
        )  # fmt: skip
    if given.get("plugins"):
        assert data["greeter-word"] == "hello" and data["greeter-count"] == "3"
    if given.get("extraConfig"):
        assert config.flag("policy-accounting") is False
        assert config.number("bpf-fragments-map-max") == 16384


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("routingmode=native", "routingmode"),
        ("routingMode=nativ", "/routingMode"),
        ("loadBalancer.mode=fast", "/loadBalancer/mode"),
        ("tunnelPort=70000", "/tunnelPort"),
        ("plugins[0].name=x", "/plugins/0"),
        ("plugins[0].name=x,plugins[0].pip=a==1,plugins[0].hash=sha256:12", "/plugins/0/hash"),
        ("policyEnforcementMode=sometimes", "/policyEnforcementMode"),
    ],
)
def test_bad_values_are_refused_by_name(setting: str, said: str) -> None:
    """Before anything is sent to a cluster."""
    out = helm("template", "x", str(CHART), "--set", setting, check=False)
    assert "Error: values don't meet the specifications" in out
    assert said in out


def test_plugins_come_before_the_agent() -> None:
    """Agent and operator have the installed packages on their path, pinned by hash."""
    found = objects(template("plugins"))
    for kind, name in (("DaemonSet", "axoneme"), ("Deployment", "axoneme-operator")):
        spec = one(found, kind, name)["spec"]["template"]["spec"]
        names = [c["name"] for c in spec["initContainers"]]
        assert [n for n in names if "plugin" in n] == ["plugin-heavy", "install-plugins"]
        env = {e["name"]: e.get("value") for e in spec["containers"][0]["env"]}
        assert env["PYTHONPATH"] == "/plugins"
        mounted = {m["name"] for c in spec["initContainers"] for m in c.get("volumeMounts", ())}
        assert mounted <= {v["name"] for v in spec["volumes"]}
    listed = yaml.safe_load(one(found, "ConfigMap", "axoneme-plugins")["data"]["plugins.yaml"])
    assert [p["name"] for p in listed["plugins"]] == ["greeter", "local"]


def test_the_cni_configuration_is_taken_away_where_it_was_put() -> None:
    """The hook has its folder mounted and reads the agent's own keys; without install, no hook."""
    for name, installs in (("defaults", True), ("elsewhere", False), ("extras", True)):
        found = objects(template(name))
        spec = one(found, "DaemonSet", "axoneme")["spec"]["template"]["spec"]
        agent = spec["containers"][0]
        assert ("lifecycle" in agent) is installs
        if not installs:
            continue
        *command, folder = agent["lifecycle"]["preStop"]["exec"]["command"]
        assert command == ["axoneme", "cni", "uninstall", "--config-dir"]
        assert f"--config-dir={folder}" in agent["args"]
        data = one(found, "ConfigMap", "axoneme-config")["data"]
        assert data["cni-uninstall"] == ("true" if name == "extras" else "false")
        where = str(Path(data["write-cni-conf-when-ready"]).parent)
        assert where in {mount["mountPath"] for mount in agent["volumeMounts"]}


def test_least_privilege() -> None:
    """No container but the one that mounts is privileged; nothing can gain more."""
    found = objects(template("defaults"))
    for kind, name in (("DaemonSet", "axoneme"), ("Deployment", "axoneme-operator")):
        spec = one(found, kind, name)["spec"]["template"]["spec"]
        for each in (*spec.get("initContainers", ()), *spec["containers"]):
            context = each["securityContext"]
            if each["name"] == "mount-bpf-fs":
                continue
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"]["drop"] == ["ALL"]
    for body in found:
        for rule in body.get("rules", ()):
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            assert "secrets" not in rule["resources"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One for all installs; each has a namespace of its own."""
    with api_server(tmp_path_factory.mktemp("helm")) as running:
        yield running


MONITOR = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: ServiceMonitor, plural: servicemonitors}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_taken_by_an_api_server(name: str, server: ApiServer) -> None:
    """Installed for real; the server checks each field of each object; then removed."""
    server.kubectl("apply", "-f", "-", text=MONITOR)
    server.kubectl(
        "wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com"
    )
    if name == "elsewhere":
        server.kubectl("create", "namespace", "networking")
    arguments = ("-n", "kube-system", "-f", str(HERE / "values" / f"{name}.yaml"))
    helm("install", "axoneme", str(CHART), *arguments, server=server)
    try:
        # What helm makes for its own test alone cannot be tried without its account.
        found = [
            o
            for o in objects(template(name))
            if not o["metadata"].get("annotations", {}).get("helm.sh/hook")
        ]
        text = yaml.safe_dump_all(found)
        server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
    finally:
        helm("uninstall", "axoneme", "-n", "kube-system", server=server)
    left = server.kubectl("get", "ds,deploy,cm,sa,clusterroles", "-A", "-o", "name")
    assert "axoneme" not in left


def test_upgrade_and_rollback(server: ApiServer) -> None:
    """Values change the ConfigMap; a rollback brings back what was."""

    def mode() -> str:
        return server.kubectl(
            "-n", "kube-system", "get", "cm", "axoneme-config", "-o",
            "jsonpath={.data.routing-mode}/{.data.enable-ipv6}",
        )  # fmt: skip

    base = ("axoneme", str(CHART), "-n", "kube-system")
    helm("install", *base, "--set", "routingMode=tunnel", server=server)
    try:
        assert mode() == "tunnel/false"
        helm(
            "upgrade", *base, "--reuse-values", "--set", "routingMode=native,ipv6.enabled=true",
            server=server,
        )  # fmt: skip
        assert mode() == "native/true"
        helm("rollback", "axoneme", "1", "-n", "kube-system", server=server)
        assert mode() == "tunnel/false"
    finally:
        helm("uninstall", "axoneme", "-n", "kube-system", server=server)


def test_the_command_line_installs_and_changes(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``axoneme install``, ``config``, ``status``, ``upgrade``, ``uninstall`` by a kubeconfig."""
    binaries = executables()
    assert binaries is not None
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    command = ("--helm", str(binaries / "helm"))

    def said(*arguments: str, code: int = 0) -> str:
        assert cli(arguments) == code
        caught = capsys.readouterr()
        return caught.out + caught.err

    said("install", *command, "--set", "routingMode=native")
    try:
        assert "routing-mode" in said("config", "view") and "native" in said("config", "view")
        assert "did you mean" in said("config", "set", "polcy-audit-mode", "true", code=1)
        assert "policy-audit-mode" in said("config", "set", "policy-audit-mode", "maybe", code=1)
        said("config", "set", "policy-audit-mode", "true")
        assert server.kubectl(
            "-n", "kube-system", "get", "cm", "axoneme-config", "-o",
            "jsonpath={.data.policy-audit-mode}",
        ) == "true"  # fmt: skip
        restarted = server.kubectl(
            "-n", "kube-system", "get", "ds", "axoneme", "-o",
            "jsonpath={.spec.template.metadata.annotations}",
        )  # fmt: skip
        assert "restartedAt" in restarted
        said("config", "delete", "policy-audit-mode")
        text = said("status", code=1)  # nobody runs pods here
        assert "2 pods of Deployment axoneme-operator are not ready" in text
        assert "Helm chart version:    0.1.0" in text
        said("upgrade", *command, "--set", "tunnelProtocol=vxlan,routingMode=tunnel")
        assert "tunnel" in said("config", "view")
    finally:
        said("uninstall", *command)
    assert "no DaemonSet axoneme" in said("status", code=1)


def test_a_plugin_is_installed_by_its_wheel(
    server: ApiServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The wheel lands in a ConfigMap, its hash in the list; a second one replaces the first."""
    binaries = executables()
    assert binaries is not None
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    command = ("--helm", str(binaries / "helm"))
    wheel = tmp_path / "greeter-1.0-py3-none-any.whl"
    wheel.write_bytes(b"not opened here")
    assert cli(("install", *command)) == 0
    try:
        for value in ("hello", "bye"):
            arguments = ("--wheel", str(wheel), "--set", f"greeter-word={value}", *command)
            assert cli(("plugin", "install", "greeter", *arguments)) == 0
        data = server.kubectl(
            "-n", "kube-system", "get", "cm", "axoneme-plugins", "-o",
            r"jsonpath={.data.plugins\.yaml}",
        )  # fmt: skip
        (entry,) = yaml.safe_load(data)["plugins"]
        assert entry["wheel"] == {"configMap": "axoneme-plugin-greeter", "key": wheel.name}
        assert "bye" in server.kubectl(
            "-n", "kube-system", "get", "cm", "axoneme-config", "-o", "yaml"
        )
        assert cli(("plugin", "install", "other", "--pip", "other==1", *command)) == 1
        assert "hash" in capsys.readouterr().err
    finally:
        assert cli(("uninstall", *command)) == 0
