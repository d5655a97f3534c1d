"""Two nodes with real kubelets, from our chart and image to pods; ``make test-node``.

The tests share one cluster and run in the order of the file: the later ones upgrade and remove it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from axoneme.core.lab.netns import run_in
from tests.node import images, rbac
from tests.node.cluster import BASE, Cluster
from tests.node.control import OUTSIDE, OUTSIDE6, WORLD
from tests.node.probes import Stream, execute
from tests.node.shell import CommandError, run, until
from tests.node.workloads import JOB, ONLY_FRIENDS, WEB, tools_pod

pytestmark = [pytest.mark.root, pytest.mark.serial, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """With the chart installed and the workloads running."""
    made = Cluster(nodes=2)
    try:
        made.up()
        made.install()
        for each in made.machines:
            made.control.kubectl("wait", "--for=condition=Ready", f"node/{each.name}",
                                 "--timeout=120s", timeout=130)  # fmt: skip
        made.step("nodes are Ready")
        for text in (
            WEB,
            tools_pod("client", "node1", role="friend"),
            tools_pod("other", "node2", role="other"),
            tools_pod("host", "node1", host=True),
        ):
            made.control.kubectl("apply", "-f", "-", text=text)
        made.control.kubectl("rollout", "status", "deploy/web", "--timeout=120s", timeout=130)
        made.control.kubectl(
            "wait", "--for=condition=Ready", "pod/client", "pod/other", "pod/host",
            "--timeout=60s",
        )  # fmt: skip
        made.step("workloads are running")
        yield made
    except BaseException:
        tell(made)
        raise
    finally:
        made.down()


def tell(cluster: Cluster) -> None:
    """What one looks at first when something fails."""
    for words in (
        ("get", "nodes,pods", "-A", "-o", "wide"),
        ("-n", "kube-system", "logs", "ds/axoneme", "--all-containers", "--tail=40"),
        ("get", "events", "-A", "--sort-by=.lastTimestamp"),
    ):
        try:
            print(cluster.control.kubectl(*words)[-6000:])
        except Exception as error:
            print(error)


def value(cluster: Cluster, what: str, path: str) -> str:
    """A field of an object."""
    return cluster.control.kubectl("get", *what.split(), "-o", f"jsonpath={{{path}}}")


def fetch(cluster: Cluster, pod: str, address: str, port: int = 80) -> str:
    """A page, three seconds at most."""
    host = f"[{address}]" if ":" in address else address
    return execute(cluster, pod, "timeout", "3", "wget", "-qO-", f"http://{host}:{port}/").strip()


def service(cluster: Cluster) -> list[str]:
    """The cluster IPs of both families."""
    return value(cluster, "svc web", ".spec.clusterIPs[*]").split()


def web_pods(cluster: Cluster) -> list[str]:
    """Names of the pods behind the service."""
    return value(cluster, "pods -l app=web", ".items[*].metadata.name").split()


def test_pods_have_addresses_of_their_node(cluster: Cluster) -> None:
    """Both families; CiliumEndpoints say the same as the kubelet; the agents are content."""
    pods = json.loads(cluster.control.kubectl("get", "pods", "-l", "app=web", "-o", "json"))
    assert {p["spec"]["nodeName"] for p in pods["items"]} == {"node1", "node2"}
    for pod in pods["items"]:
        own = {a["ip"] for a in pod["status"]["podIPs"]}
        assert {ip_address(a).version for a in own} == {4, 6}
        name = pod["metadata"]["name"]
        written = value(cluster, f"cep {name}", ".status.networking.addressing[0]")
        assert set(json.loads(written).values()) == own
    for pod in agents(cluster):
        said = cluster.control.kubectl(
            "-n", "kube-system", "exec", pod, "-c", "axoneme-agent", "--", "axoneme", "status"
        )
        assert "Axoneme:                 Ok" in said, said


def test_services_and_nodes(cluster: Cluster) -> None:
    """ClusterIPs from pods and from the host's network, node ports from outside, both families."""
    for address in service(cluster):
        for pod in ("client", "other", "host"):
            seen = {fetch(cluster, pod, address) for _ in range(8)}
            assert seen <= set(web_pods(cluster)) and len(seen) > 1, (address, pod)
    for node in cluster.machines:
        for address in (node.address, node.address6):
            host = f"[{address}]" if ":" in address else address
            page = run("nsenter", f"--net=/run/netns/{WORLD}", "curl", "-s", "-m", "5", "-g",
                       f"http://{host}:30080/")  # fmt: skip
            assert page.strip() in web_pods(cluster)
    kubernetes = value(cluster, "svc kubernetes", ".spec.clusterIP")
    execute(cluster, "client", "sh", "-c", f"nc -w 3 {kubernetes} 443 </dev/null")


def test_logs_exec_and_probes(cluster: Cluster) -> None:
    """What the kubelet serves by the network that we made."""
    pod = web_pods(cluster)[0]
    assert cluster.control.kubectl("logs", pod).startswith("started")
    assert execute(cluster, pod, "hostname").strip() == pod
    restarts = value(
        cluster, "pods -l app=web", ".items[*].status.containerStatuses[0].restartCount"
    )
    assert set(restarts.split()) == {"0"}, "liveness probes fail"


def test_policy(cluster: Cluster) -> None:
    """A CiliumNetworkPolicy by kubectl; probes of the kubelet go on, another pod's do not."""
    cluster.control.kubectl("apply", "-f", "-", text=ONLY_FRIENDS)
    try:
        address = service(cluster)[0]

        def refused() -> bool:
            try:
                fetch(cluster, "other", address)
            except CommandError:
                return True
            return False

        until("refusal", refused, 20)
        assert fetch(cluster, "client", address) in web_pods(cluster)
        cluster.control.kubectl("label", "pod", "other", "role=friend", "--overwrite")
        until("a friend by label", lambda: fetch(cluster, "other", address), 30)
    finally:
        cluster.control.kubectl("label", "pod", "other", "role=other", "--overwrite")
        cluster.control.kubectl("delete", "cnp", "web")


def test_a_job_of_fifty_pods(cluster: Cluster) -> None:
    """All of them come up, reach a service, go; their addresses are free again."""
    began = time.monotonic()
    text = JOB.replace("WEB", service(cluster)[0])
    cluster.control.kubectl("apply", "-f", "-", text=text)
    cluster.control.kubectl(
        "wait", "--for=condition=Complete", "job/fifty", "--timeout=240s", timeout=250
    )
    cluster.step(f"a job of 50 pods took {time.monotonic() - began:.0f} s")
    assert value(cluster, "job fifty", ".status.failed") in ("", "0")
    cluster.control.kubectl("delete", "job", "fifty", "--wait")
    names = lambda: value(cluster, "cep", ".items[*].metadata.name")  # noqa: E731
    until("their endpoints are gone", lambda: "fifty" not in names(), 60)


def axoneme(cluster: Cluster, *arguments: object, check: bool = True, timeout: float = 300) -> str:
    """Our command line, from the world, by the kubeconfig."""
    command = (sys.executable, "-m", "axoneme.core.cli", *arguments)
    place = ("--kubeconfig", cluster.control.kubeconfig)
    enter = ("nsenter", f"--net=/run/netns/{WORLD}")
    return run(*enter, *command, *place, check=check, timeout=timeout)


def test_connectivity(cluster: Cluster, tmp_path: Path) -> None:
    """Every scenario that a cluster can try passes, through the API server and real pods."""
    path = tmp_path / "junit.xml"
    said = axoneme(
        cluster, "connectivity", "test", "--external", OUTSIDE, "--external", OUTSIDE6,
        "--junit", path, "-o", "json",
    )  # fmt: skip
    rows = json.loads(said)
    bad = [r for r in rows if r["state"] == "failed"]
    skipped = [r for r in rows if r["state"] == "skipped"]
    assert not bad
    assert len(rows) - len(skipped) >= 50
    assert {r["problems"][0] for r in skipped} <= {"nobody outside can be asked to connect"}
    assert f'tests="{len(rows)}"' in path.read_text()
    cluster.step(f"connectivity test: {len(rows) - len(skipped)} of {len(rows)} tried, all passed")


def test_a_strangers_plugin(cluster: Cluster, tmp_path: Path) -> None:
    """A wheel with a C stage, brought in by one command; then every agent runs it."""
    source = images.ROOT / "tests/downstream/axoneme-portguard"
    shutil.copytree(source, tmp_path / "source")
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
        "--wheel-dir", tmp_path, tmp_path / "source",
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    helm = cluster.control.binaries / "helm"
    axoneme(
        cluster, "plugin", "install", "portguard", "--wheel", wheel, "--helm", helm,
        "--set", "portguard-ports=7000/TCP",
    )  # fmt: skip
    axoneme(cluster, "status", "--wait", "--wait-duration", "3m")
    try:
        for pod in agents(cluster):
            listed = json.loads(
                cluster.control.kubectl(
                    "-n",
                    "kube-system",
                    "exec",
                    pod,
                    "-c",
                    "axoneme-agent",
                    "--",
                    "axoneme",
                    "plugin",
                    "list",
                    "-o",
                    "json",
                )
            )
            found = {p["name"]: p["state"] for p in listed}
            assert found["portguard"] == "on", found
    finally:
        cluster.control.helm("rollback", "axoneme", "-n", "kube-system", "--wait")
        axoneme(cluster, "status", "--wait", "--wait-duration", "3m")
    cluster.step("a third party's plugin was installed, ran, and was taken out")


def agents(cluster: Cluster) -> list[str]:
    """Names of the agents' pods."""
    path = ".items[*].metadata.name"
    return value(cluster, "pods -n kube-system -l k8s-app=axoneme", path).split()


def test_drain(cluster: Cluster) -> None:
    """Pods leave a node that is drained; the service never stops."""
    address = service(cluster)[0]
    cluster.control.kubectl(
        "drain", "node2", "--ignore-daemonsets", "--force", "--delete-emptydir-data",
        "--timeout=120s", "--pod-selector=app=web", timeout=130,
    )  # fmt: skip
    try:
        cluster.control.kubectl("rollout", "status", "deploy/web", "--timeout=120s", timeout=130)
        nodes = value(cluster, "pods -l app=web", ".items[*].spec.nodeName").split()
        assert set(nodes) == {"node1"}
        assert fetch(cluster, "other", address) in web_pods(cluster)
    finally:
        cluster.control.kubectl("uncordon", "node2")
    cluster.step("drained and uncordoned")


def test_upgrade_under_traffic_and_rollback(cluster: Cluster) -> None:
    """``helm upgrade`` to another image and mode: no connection breaks, no request fails.

    The operator makes identities meanwhile. No pod is new until all agents know: else the way
    would be by mode ``both``.
    """
    newer = images.retag(cluster.archive, BASE, "0.1.1")
    for each in cluster.machines:
        each.ctr("images", "import", newer)
    address = service(cluster)[0]
    stream = Stream(cluster, "other", address)
    execute(cluster, "client", "sh", "-c",
            f"(while sleep 0.05; do timeout 3 wget -qO- http://{address}/ >/dev/null && echo ok"
            " || echo failed; done > /tmp/requests 2>&1) > /dev/null 2>&1 &")  # fmt: skip
    image = {"image": {"repository": images.OURS, "tag": "0.1.1", "pullPolicy": "Never"}}
    cluster.install(image | {"identityManagementMode": "operator"}, "upgrade")
    cluster.control.kubectl(
        "-n", "kube-system", "rollout", "status", "ds/axoneme", "--timeout=180s", timeout=190
    )
    running = value(cluster, "pods -n kube-system -l k8s-app=axoneme",
                    ".items[*].spec.containers[0].image")  # fmt: skip
    assert set(running.split()) == {f"{images.OURS}:0.1.1"}
    stream.check()
    cluster.control.kubectl("apply", "-f", "-", text=tools_pod("fresh"))
    cluster.control.kubectl("wait", "--for=condition=Ready", "pod/fresh", "--timeout=60s")
    created = rbac.Right("axoneme-operator", "cilium.io", "ciliumidentities", "create")
    assert created in rbac.used(cluster.control.audit)[0]
    cluster.control.kubectl("delete", "pod", "fresh", "--now")
    cluster.control.helm("rollback", "axoneme", "-n", "kube-system", "--wait")
    cluster.control.kubectl(
        "-n", "kube-system", "rollout", "status", "ds/axoneme", "--timeout=180s", timeout=190
    )
    stream.check()
    results = execute(cluster, "client", "sort", "/tmp/requests").split()
    cluster.step(
        f"upgraded and rolled back: {len(results)} requests, {results.count('failed')} failed"
    )
    assert results.count("failed") == 0 and len(results) > 50


def test_helm_test(cluster: Cluster) -> None:
    """The chart's own test pod is content."""
    said = cluster.control.helm("test", "axoneme", "-n", "kube-system", "--timeout", "3m")
    assert "Phase:          Succeeded" in said


def test_the_api_server_goes_away(cluster: Cluster) -> None:
    """Traffic goes on, the agents say so, and all is caught up with when it is back."""
    stream = Stream(cluster, "host", service(cluster)[0])
    before = time.monotonic()
    process = cluster.control._processes["kube-apiserver"]
    process.kill()
    process.wait()
    node = cluster.machines[0]
    pids = subprocess.run(
        ["pgrep", "-f", "axoneme agent"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert pids
    socket = node.base / "run/axoneme/axoneme.sock"

    def said() -> str:
        return run(".venv/bin/axoneme", "--socket", socket, "status", check=False)

    until("the agent says so", lambda: "Store:                   Warning" in said() or
          "Store:                   Failure" in said(), 60)  # fmt: skip
    time.sleep(max(0.0, 20 - (time.monotonic() - before)))

    run_in(Path("/run/netns") / WORLD, cluster.control.start_api)
    stream.check()
    until("the agent has it again", lambda: "Store:                   Ok" in said(), 90)
    cluster.control.kubectl("apply", "-f", "-", text=tools_pod("late", "node1"))
    cluster.control.kubectl("wait", "--for=condition=Ready", "pod/late", "--timeout=90s",
                            timeout=100)  # fmt: skip
    assert fetch(cluster, "late", service(cluster)[0])


def test_a_key_that_waits_is_an_event_of_each_node(cluster: Cluster) -> None:
    """By the rights that the chart gives an agent; where ``kubectl describe node`` shows it."""
    patch = ("-n", "kube-system", "patch", "cm", "axoneme-config", "--type=merge", "-p")
    cluster.control.kubectl(*patch, '{"data": {"route-metric": "7"}}')
    try:
        for each in cluster.machines:
            until("it is an event", lambda e=each: "route-metric" in cluster.control.kubectl(
                "describe", "node", e.name), 60)  # fmt: skip
    finally:
        cluster.control.kubectl(*patch, '{"data": {"route-metric": null}}')
    text = cluster.control.kubectl(
        "get", "events", "--field-selector=reason=ConfigDrift", "-o=json"
    )
    # An upgrade before this has changed keys while its agents were yet to be replaced.
    events = [e for e in json.loads(text)["items"] if "route-metric" in e["message"]]
    assert sorted(e["source"]["host"] for e in events) == ["node1", "node2"]


def test_rights_are_what_is_needed(cluster: Cluster) -> None:
    """By the audit log of all of the above: nothing was refused, and nothing is allowed in vain.

    Conditions that did not come up here (a repaired object, a deleted identity) are listed.
    """
    granted, refused = rbac.used(cluster.control.audit)
    # An API server that has just started knows no roles for a moment.
    assert not refused - granted
    text = cluster.control.helm("get", "manifest", "axoneme", "-n", "kube-system")
    spare = rbac.unused(rbac.allowed(text), granted)
    unexpected = {
        r
        for r in spare
        if (r.role, r.resource, r.verb) not in rbac.SELDOM
        and r.role != "axoneme-test"  # helm's own
    }
    assert not unexpected, "\n".join(map(str, sorted(unexpected)))


def test_uninstall_leaves_pods_connected(cluster: Cluster) -> None:
    """``helm uninstall``: the programs stay, so running pods keep their network. The CNI
    configuration goes, since the agents were rolled out for that; not by that roll-out itself.
    """
    address, conf = service(cluster)[0], "/etc/cni/net.d/05-axoneme.conflist"
    cluster.install({"cni": {"uninstall": True}, "rollOutCiliumPods": True}, "upgrade")
    cluster.control.kubectl(
        "-n", "kube-system", "rollout", "status", "ds/axoneme", "--timeout=180s", timeout=190
    )
    for each in cluster.machines:
        until("the agent has written it", lambda e=each: e.run("cat", conf), 60)
    cluster.control.helm("uninstall", "axoneme", "-n", "kube-system", "--wait")
    for each in cluster.machines:
        until("it is gone", lambda e=each: "axoneme" not in e.run("ls", "/etc/cni/net.d"), 60)
        assert "axoneme-cni" in each.run("ls", "/opt/cni/bin")
    assert fetch(cluster, "client", address)
    cluster.step("uninstalled")
