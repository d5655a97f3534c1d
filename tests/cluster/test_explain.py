"""Explanations in a real lab: a trace says what a probe meets, for every pair in both families."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.slow]

SHOP = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: x
        ports: [{containerPort: 8080, name: http}, {containerPort: 9090}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, labels: {app: other}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: http, protocol: TCP}]}]
  - icmps: [{fields: [{type: 128, family: IPv6}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEntities: [all]
  egressDeny:
  - toCIDR: [198.51.100.1/32]
"""


@pytest.fixture(scope="module")
def lab(cluster: Any) -> Iterator[Any]:
    """Two nodes and the shop."""
    cluster.down()
    cluster.up(nodes=2)
    cluster.apply(SHOP)
    yield cluster
    cluster.down()


def trace(lab: Any, *arguments: str, node: str = "node1", code: int = 0) -> dict[str, Any]:
    """``policy trace -o json``."""
    done = lab.run("policy", "trace", "--node", node, *arguments, "-o", "json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("node", ["node1", "node2"])
@pytest.mark.parametrize(
    ("source", "port", "verdicts"),
    [
        ("shop/client", "http/TCP", {4: "allowed", 6: "allowed"}),
        ("shop/client", "9090/TCP", {4: "denied", 6: "denied"}),
        ("shop/other", "8080/TCP", {4: "denied", 6: "denied"}),
        ("shop/other", "", {4: "denied", 6: "allowed"}),
    ],
)
def test_a_trace_says_what_a_probe_meets(
    lab: Any, node: str, source: str, port: str, verdicts: dict[int, str]
) -> None:
    """Allowed and denied, both families, whichever agent is asked; ``--live`` agrees."""
    what = ("--port", port) if port else ("--icmp", "EchoRequest")
    found = trace(lab, "--from", source, "--to", "shop/web", *what, "--live", node=node)
    answers = [found, *found["others"]]
    assert {f: a["verdict"] for a in answers for f in a["families"]} == verdicts
    assert {p["family"]: p["verdict"] for p in found["live"]} == verdicts
    assert all(p["agrees"] for p in found["live"])


def test_a_trace_names_rule_line_and_what_lost(lab: Any) -> None:
    """For an address outside: the deny decides, the allow of everything is named beside it."""
    found = trace(lab, "--from", "shop/client", "--to", "198.51.100.1", "--icmp", "8", "--live")
    egress = found["egress"]
    assert (found["verdict"], egress["deciding"]["path"]) == ("denied", "spec.egressDeny[0]")
    lines = Path(egress["deciding"]["file"]).read_text().splitlines()
    assert "toCIDR" in lines[egress["deciding"]["line"] - 1]
    lost = [m for m in egress["matching"] if m["standing"] == "a deny outranks it"]
    assert [m["path"] for m in lost] == ["spec.egress[0]"]


def test_expect_makes_the_exit_code_the_answer(lab: Any) -> None:
    """For scripts: 1 when it is not as expected."""
    what = ("--from", "shop/other", "--to", "shop/web", "--port", "80")
    trace(lab, *what, "--expect", "denied")
    trace(lab, *what, "--expect", "allowed", code=1)


CUT = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - toPorts: [{ports: [{port: "9090"}]}]
"""


def difference(lab: Any, tmp_path: Path, text: str, *options: str) -> tuple[int, dict[str, Any]]:
    """``policy diff -o json``: exit code and answer."""
    file = tmp_path / "new.yaml"
    file.write_text(text)
    done = lab.run("policy", "diff", "-f", str(file), "-o", "json", *options, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_policy_that_would_cut_a_flow_names_it(lab: Any, tmp_path: Path) -> None:
    """A flow of each family, seen a moment ago and over by now; nothing is applied."""
    for family in ("4", "6"):
        options = ("--port", "8080", "--family", family)
        assert lab.probe("shop/client", "shop/web", *options)["verdict"] == "allowed"
    code, found = difference(lab, tmp_path, CUT)
    assert code == 3
    cut = [
        (f["source"]["name"], f["destination"]["address"], f["port"], f["now"], f["then"])
        for f in found["flows"]
    ]
    web = lab.addresses(lab.pod("shop/web"))
    for family in (4, 6):
        assert ("shop/client", web[family], 8080, "allowed", "denied") in cut
    assert all("shop/web spec.ingress[0]" in f["rule"] for f in found["flows"])
    pairs = {(p["from"]["name"], p["to"]["name"], p["then"]) for p in found["pairs"]}
    assert ("shop: app=client", "shop: app=web", "denied") in pairs
    assert lab.probe("shop/client", "shop/web", "--port", "8080")["verdict"] == "allowed"


def test_what_is_in_force_already_changes_nothing(lab: Any, tmp_path: Path) -> None:
    """Exit code 0; also when one node alone is asked."""
    for options in ((), ("--node", "node1")):
        code, found = difference(lab, tmp_path, SHOP, *options)
        assert (code, found["flows"], found["pairs"]) == (0, [], [])


def test_a_bad_policy_is_refused_by_field(lab: Any, tmp_path: Path) -> None:
    """As it would be when it is applied."""
    file = tmp_path / "bad.yaml"
    file.write_text(CUT.replace("9090", "99999"))
    done = lab.run("policy", "diff", "--node", "node1", "-f", str(file), check=False)
    assert done.returncode == 1
    assert "spec.ingress[0].toPorts[0].ports[0].port" in done.stderr


def test_a_recorded_drop_is_explained(lab: Any) -> None:
    """Nobody listened; the rule that decided is told, also after it is gone."""
    addresses = lab.addresses(lab.pod("shop/other"))
    policy = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: other, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: other}}
  ingress: [{}]
  ingressDeny: [{fromEndpoints: [{matchLabels: {app: client}}]}]
"""
    lab.apply(policy)
    curl = ("curl", "-s", "-m1", f"http://[{addresses[6]}]:7/")
    lab.run("lab", "exec", "shop/client", "--", *curl, check=False)
    drops = []
    for node in ("node1", "node2"):
        done = lab.run("monitor", "--recent", "-t", "drop", "-o", "json", "--node", node)
        drops += [json.loads(line) for line in done.stdout.splitlines()]
    drop = next(d for d in reversed(drops) if d["destination"]["address"] == addresses[6])
    lab.delete(policy)
    done = lab.run("policy", "explain", drop["id"], "-o", "json")
    found = json.loads(done.stdout)
    assert found["event"]["id"] == drop["id"]
    assert found["then"]["rule"]["origin"].endswith("shop/other spec.ingressDeny[0]")
    assert (found["then"]["verdict"], found["now"]["verdict"]) == ("denied", "allowed")
    assert found["then"]["rule"]["until"] > 0


def test_selectors_name_their_policies_and_revisions_are_waited_for(lab: Any) -> None:
    """In the reference's columns; a revision that never comes is an error in time."""
    rows = lab.call("node1", "policy", "selectors")
    by_text = {row["selector"]: row for row in rows}
    web = next(row for text, row in by_text.items() if "app=web" in text)
    assert "CiliumNetworkPolicy shop/web" in web["labels"]
    subjects = lab.call("node1", "policy", "subject-selectors")
    assert {r["selector"] for r in subjects} < set(by_text)
    heading = lab.run("policy", "selectors", "--node", "node1").stdout.split("\n")[0].split()
    assert heading == ["SELECTOR", "LABELS", "USERS", "IDENTITIES"]
    revision = lab.call("node1", "policy", "get")["revision"]
    assert lab.call("node1", "policy", "wait", str(revision))["revision"] >= revision
    late = ("policy", "wait", str(revision + 99), "--max-wait-time", "0.3", "--node", "node1")
    done = lab.run(*late, check=False)
    assert done.returncode == 1
    assert "is not in force" in done.stderr


def counted(lab: Any, pod: str) -> dict[str, tuple[int, int]]:
    """Packets and bytes of each entry of a pod that names a peer, by port."""
    found = {}
    for node in ("node1", "node2"):
        done = lab.run("bpf", "policy", "get", "--node", node, "-o", "json")
        for subject in json.loads(done.stdout):
            if pod in subject["endpoints"]:
                named = [e for e in subject["entries"] if e["identity"]]
                found |= {e["port"]: (e["packets"], e["bytes"]) for e in named}
    return found


def test_entries_count_what_they_decided(lab: Any) -> None:
    """One packet of each connection, whatever it carries, under the entry that let it in."""
    before = counted(lab, "shop/client")
    pair = ("--from", "shop/client", "--to", "198.51.100.1", "--port", "80/TCP")
    assert trace(lab, *pair, "--live")["verdict"] == "denied"
    after = counted(lab, "shop/client")
    more = {port: after[port][0] - before.get(port, (0, 0))[0] for port in after}
    assert any(more.values()), (before, after)
    table = lab.run("bpf", "policy", "get", "--node", "node1").stdout
    assert "BYTES" in table and "PACKETS" in table
