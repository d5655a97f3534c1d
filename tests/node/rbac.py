"""What components asked of the API server, by its audit log, against what the chart allows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

ACCOUNTS = {"axoneme": "axoneme-agent", "axoneme-operator": "axoneme-operator"}


SELDOM = {
    # An identity whose number two nodes chose at a time, or that is used again before it goes.
    ("axoneme-agent", "ciliumidentities", "get"),
    ("axoneme-agent", "ciliumidentities", "update"),
    # The same keys wait for a restart again.
    ("axoneme-agent", "events", "patch"),
    # Slices were on before, and not all agents have restarted since.
    ("axoneme-agent", "ciliumendpointslices", "list"),
    ("axoneme-agent", "ciliumendpointslices", "watch"),
    ("axoneme-operator", "ciliumendpointslices", "create"),
    ("axoneme-operator", "ciliumendpointslices", "delete"),
    ("axoneme-operator", "ciliumendpointslices", "get"),
    ("axoneme-operator", "ciliumendpointslices", "update"),
    ("axoneme-operator", "ciliumendpointslices", "watch"),
    # An apply that creates is logged as a patch.
    ("axoneme-operator", "customresourcedefinitions", "create"),
    # Collections after minutes, a node's error, taints, stray pods, balancers: not in this run.
    ("axoneme-operator", "ciliumclusterwidenetworkpolicies/status", "patch"),
    ("axoneme-operator", "ciliumendpoints", "delete"),
    ("axoneme-operator", "ciliumendpoints", "get"),
    ("axoneme-operator", "ciliumidentities", "delete"),
    ("axoneme-operator", "ciliumidentities", "update"),
    ("axoneme-operator", "ciliumloadbalancerippools/status", "patch"),
    ("axoneme-operator", "ciliumnodes", "delete"),
    ("axoneme-operator", "ciliumnodes/status", "patch"),
    ("axoneme-operator", "nodes", "patch"),
    ("axoneme-operator", "pods", "delete"),
    ("axoneme-operator", "pods", "get"),
    ("axoneme-operator", "services/status", "patch"),
}
"""Rights that are needed when something happens that did not here: role, resource, verb."""


@frozen(order=True)
class Right:
    """One verb on one resource (``pods``, ``pods/log``); ``namespace`` of a Role's, else empty."""

    role: str
    group: str
    resource: str
    verb: str
    namespace: str = ""


def used(log: Path) -> tuple[set[Right], set[Right]]:
    """What was asked with success, and what was refused by RBAC (403)."""
    granted: set[Right] = set()
    refused: set[Right] = set()
    for line in log.read_text().splitlines():
        event = json.loads(line)
        account = event["user"]["username"].rpartition(":")[2]
        what = event.get("objectRef") or {}
        if account not in ACCOUNTS or not what.get("resource"):
            continue
        resource = what["resource"] + (f"/{what['subresource']}" if "subresource" in what else "")
        right = Right(
            ACCOUNTS[account], what.get("apiGroup", ""), resource, event["verb"],
            what.get("namespace", ""),
        )  # fmt: skip
        code = (event.get("responseStatus") or {}).get("code", 0)
        (refused if code == 403 else granted).add(right)
    return granted, refused


def _account(role: str) -> str:
    """Whose role it is: an account may have several."""
    return next((a for a in ACCOUNTS.values() if role in (a, f"{a}-events")), role)


def allowed(manifests: str) -> set[Right]:
    """What the chart's roles allow."""
    return set(_rights(yaml.safe_load_all(manifests)))


def _rights(objects: Iterable[Any]) -> Iterator[Right]:
    for body in objects:
        if not body or body["kind"] not in ("ClusterRole", "Role"):
            continue
        meta = body["metadata"]
        role = _account(meta["name"])
        for rule in body["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield Right(role, group, resource, verb, meta.get("namespace", ""))


def unused(rights: set[Right], requests: set[Right]) -> set[Right]:
    """Rights that no request needed; a Role's is compared with its namespace."""
    seen = {(r.role, r.group, r.resource, r.verb) for r in requests}
    return {r for r in rights if (r.role, r.group, r.resource, r.verb) not in seen}
