"""Kinds of cluster objects: names, groups, scope, and a first check of a manifest.

A kind that nobody declares is kept and handed out all the same; the registry derives a plural
for it and takes it as namespaced when its metadata names a namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen

from axoneme.core.errors import AxonemeError

Validate = Callable[[Mapping[str, Any]], None]


@frozen
class Kind:
    """One kind. ``group`` is ``""`` for the core API; ``policy`` marks sources of policy rules."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool
    policy: bool = False
    validate: Validate | None = None

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


BUILTIN = (
    Kind("Pod", "", "v1", "pods", namespaced=True),
    Kind("Namespace", "", "v1", "namespaces", namespaced=False),
    Kind("Node", "", "v1", "nodes", namespaced=False),
    Kind("Service", "", "v1", "services", namespaced=True),
    Kind("ConfigMap", "", "v1", "configmaps", namespaced=True),
    Kind("Secret", "", "v1", "secrets", namespaced=True),
    Kind("Event", "", "v1", "events", namespaced=True),
    Kind("ServiceAccount", "", "v1", "serviceaccounts", namespaced=True),
    Kind("Deployment", "apps", "v1", "deployments", namespaced=True),
    Kind("DaemonSet", "apps", "v1", "daemonsets", namespaced=True),
    Kind("ReplicaSet", "apps", "v1", "replicasets", namespaced=True),
    Kind("StatefulSet", "apps", "v1", "statefulsets", namespaced=True),
    Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices", namespaced=True),
    Kind("Lease", "coordination.k8s.io", "v1", "leases", namespaced=True),
    Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies", True, policy=True),
    Kind(
        "ClusterNetworkPolicy",
        "policy.networking.k8s.io",
        "v1alpha2",
        "clusternetworkpolicies",
        namespaced=False,
        policy=True,
    ),
    Kind("CiliumNode", "cilium.io", "v2", "ciliumnodes", namespaced=False),
    Kind("CiliumEndpoint", "cilium.io", "v2", "ciliumendpoints", namespaced=True),
    Kind("CiliumEndpointSlice", "cilium.io", "v2alpha1", "ciliumendpointslices", namespaced=False),
    Kind("CiliumIdentity", "cilium.io", "v2", "ciliumidentities", namespaced=False),
    Kind("CiliumPodIPPool", "cilium.io", "v2alpha1", "ciliumpodippools", namespaced=False),
    Kind(
        "CiliumLoadBalancerIPPool",
        "cilium.io",
        "v2",
        "ciliumloadbalancerippools",
        namespaced=False,
    ),
    Kind(
        "CiliumL2AnnouncementPolicy",
        "cilium.io",
        "v2alpha1",
        "ciliuml2announcementpolicies",
        namespaced=False,
    ),
    Kind(
        "CiliumLocalRedirectPolicy",
        "cilium.io",
        "v2",
        "ciliumlocalredirectpolicies",
        namespaced=True,
    ),
    Kind("CiliumNodeConfig", "cilium.io", "v2", "ciliumnodeconfigs", namespaced=True),
    Kind("CiliumCIDRGroup", "cilium.io", "v2", "ciliumcidrgroups", namespaced=False),
    Kind("CiliumNetworkPolicy", "cilium.io", "v2", "ciliumnetworkpolicies", True, policy=True),
    Kind(
        "CiliumClusterwideNetworkPolicy",
        "cilium.io",
        "v2",
        "ciliumclusterwidenetworkpolicies",
        namespaced=False,
        policy=True,
    ),
)


class KindRegistry:
    """Kinds by name; the built-in ones are there from the start."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        for kind in BUILTIN:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """Declare a kind. Declaring it again with another group is an error."""
        old = self._kinds.get(kind.kind)
        if old is not None and old.group != kind.group:
            raise AxonemeError(
                f"kind {kind.kind} is declared by groups {old.group!r} and {kind.group!r}"
            )
        self._kinds[kind.kind] = kind

    def get(self, kind: str) -> Kind:
        """The kind of that name; for an undeclared one a derived entry."""
        return self._kinds.get(kind) or Kind(kind, "unknown", "v1", f"{kind.lower()}s", True)

    def find(self, api_version: str, kind: str) -> Kind | None:
        """The declared kind of that name and group; any version of the group will do."""
        found = self._kinds.get(kind)
        group = api_version.rpartition("/")[0]
        return found if found is not None and found.group == group else None

    def __contains__(self, kind: object) -> bool:
        return kind in self._kinds

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def policies(self) -> list[Kind]:
        """The kinds that policy rules come from."""
        return [k for k in self if k.policy]
