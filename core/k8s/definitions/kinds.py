"""Our kinds as the API server knows them: short names, columns, schemas."""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from axoneme.core.k8s.definitions.policy import network_policy
from axoneme.core.k8s.definitions.schema import (
    ANY,
    NUMBER,
    TEXT,
    TRUTH,
    WORDS,
    Schema,
    between,
    conditions,
    default,
    fields,
    many,
    one_of,
    said,
    selector,
)
from axoneme.core.store.kinds import Kind

SCHEMA_VERSION: Final = "1.1.0"
"""Of the label that says which of two operators' definitions is newer."""
VERSION_LABEL: Final = "io.axoneme.k8s.crd.schema.version"


@frozen
class Definition:
    """What a kind has beyond its name. ``columns``: heading, JSON path, type."""

    schema: Schema
    short: tuple[str, ...] = ()
    columns: tuple[tuple[str, str, str], ...] = ()
    status: bool = True
    """The status has an address of its own."""
    older: tuple[str, ...] = ()
    """Further versions that are served, with the same schema."""


AGE: Final = ("Age", ".metadata.creationTimestamp", "date")
_VALID: Final = ("Valid", '.status.conditions[?(@.type=="Valid")].status', "string")


def _condition(heading: str, kind: str, part: str = "status") -> tuple[str, str, str]:
    return heading, f'.status.conditions[?(@.type=="{kind}")].{part}', "string"


def _endpoint() -> Schema:
    ip = fields({"ipv4": TEXT, "ipv6": TEXT})
    entry = fields(
        {"dest-port": NUMBER, "identity": NUMBER, "identity-labels": WORDS, "protocol": NUMBER}
    )
    direction = fields(
        {
            "enforcing*": TRUTH,
            "state": TEXT,
            **{name: many(entry) for name in ("allowed", "denied", "adding", "removing")},
        }
    )
    outside = ("cni-attachment-id", "container-id", "container-name", "docker-endpoint-id",
               "docker-network-id", "k8s-namespace", "k8s-pod-name", "pod-name")  # fmt: skip
    entry_log = fields(dict.fromkeys(("code", "message", "state", "timestamp"), TEXT))
    health = {"bpf": TEXT, "policy": TEXT, "overallHealth": TEXT, "connected": TRUTH}
    status = {
        "id": said(NUMBER, "Of the endpoint, on its node."),
        "identity": fields({"id": NUMBER, "labels": many(TEXT)}, "Number and labels."),
        "networking": fields({"addressing*": many(ip), "node": TEXT}, "Addresses and node."),
        "external-identifiers": fields(dict.fromkeys(outside, TEXT)),
        "encryption": fields({"key": NUMBER}),
        "named-ports": many(fields({"name": TEXT, "port": NUMBER, "protocol": TEXT})),
        "policy": fields({"ingress": direction, "egress": direction}),
        "health": fields(health),
        "controllers": many(ANY),
        "log": many(entry_log),
        "service-account": TEXT,
        "state": one_of("creating", "waiting-for-identity", "not-ready", "waiting-to-regenerate",
                        "regenerating", "restoring", "ready", "disconnecting", "disconnected",
                        "invalid"),
    }  # fmt: skip
    return fields({"status": fields(status)}, "An endpoint: mostly a pod.")


def _slice() -> Schema:
    ip = fields({"ipv4": TEXT, "ipv6": TEXT})
    entry = {
        "name": TEXT,
        "id": said(NUMBER, "The endpoint's identity."),
        "networking": fields({"addressing*": many(ip), "node": TEXT}, "Addresses and node."),
        "named-ports": many(fields({"name": TEXT, "port": NUMBER, "protocol": TEXT})),
        "encryption": fields({"key": NUMBER}),
        "service-account": TEXT,
        "pod-uid": TEXT,
    }
    tree = {"namespace": said(TEXT, "Of all its endpoints."), "endpoints*": many(fields(entry))}
    return fields(tree, "Endpoints of one namespace, for agents to follow in bulk.")


_IPAM: Final = ("used", "ipv6-used", "pod-cidrs", "release-ips", "release-ipv6s")


def _node() -> Schema:
    ip = fields({"ipv4": TEXT, "ipv6": TEXT})
    pool = fields(
        {
            "pool*": TEXT,
            "cidrs": many(TEXT),
            "allowFirstIP": TRUTH,
            "allowLastIP": TRUTH,
        }
    )
    needed = fields({"ipv4-addrs": NUMBER, "ipv6-addrs": NUMBER})
    asked = fields({"pool*": TEXT, "needed": needed})
    ipam = fields(
        {
            "podCIDRs": many(TEXT, "Networks of this node's pods."),
            "pool": ANY,
            "ipv6-pool": ANY,
            "pools": fields({"requested": many(asked), "allocated": many(pool)}),
            **{f"{word}-allocate": NUMBER for word in ("min", "max", "pre")},
            "max-above-watermark": NUMBER,
            "static-ip-tags": WORDS,
        }
    )
    spec = {
        "addresses": many(fields({"type": TEXT, "ip": TEXT}), "InternalIP, CiliumInternalIP …"),
        "health": ip,
        "ingress": ip,
        "encryption": fields({"key": NUMBER}),
        "bootid": TEXT,
        "instance-id": TEXT,
        "ipam": ipam,
        "eni": ANY,
        "azure": ANY,
        "alibaba-cloud": ANY,
    }
    status = {
        "ipam": fields(
            {
                "operator-status": fields({"error": TEXT}),
                **dict.fromkeys(_IPAM, ANY),
                "assigned-static-ip": TEXT,
            }
        ),
        "eni": ANY,
        "azure": ANY,
        "alibaba-cloud": ANY,
    }  # fmt: skip
    return fields({"spec*": fields(spec), "status": fields(status)}, "A node as agents see it.")


def _pool() -> Schema:
    block = fields({"cidr": TEXT, "start": TEXT, "stop": TEXT})
    spec = {
        "blocks": many(block, "Networks, or addresses from start to stop."),
        "serviceSelector": said(selector(), "Services that get addresses of this pool."),
        "allowFirstLastIPs": one_of("Yes", "No"),
        "disabled": default(TRUTH, False),
    }
    return fields({"spec*": fields(spec), "status": fields({"conditions": conditions()})})


def _pod_pool() -> Schema:
    def family(most: int) -> Schema:
        return fields(
            {
                "cidrs*": many(TEXT, "Networks that blocks are taken from."),
                "maskSize*": said(between(1, most), "Prefix length of a node's block."),
            }
        )

    spec = {
        "ipv4": family(32),
        "ipv6": family(128),
        "allowFirstIP": default(TRUTH, False),
        "allowLastIP": default(TRUTH, False),
        "podSelector": said(selector(), "Pods that get addresses of this pool."),
        "namespaceSelector": said(selector(), "Namespaces whose pods do."),
    }
    return fields({"spec*": fields(spec)}, "Networks that nodes' pods get addresses of.")


def _l2_policy() -> Schema:
    spec = {
        "serviceSelector": selector(),
        "nodeSelector": selector(),
        "interfaces": many(TEXT, "Regular expressions of devices' names."),
        "externalIPs": TRUTH,
        "loadBalancerIPs": TRUTH,
    }
    return fields({"spec": fields(spec), "status": fields({"conditions": conditions()})})


def _redirect() -> Schema:
    ports = many(fields({"name": TEXT, "port*": TEXT, "protocol*": one_of("TCP", "UDP")}))
    frontend = fields(
        {
            "addressMatcher": fields({"ip*": TEXT, "toPorts*": ports}),
            "serviceMatcher": fields({"serviceName*": TEXT, "namespace*": TEXT, "toPorts": ports}),
        }
    )
    backend = fields({"localEndpointSelector*": selector(), "toPorts*": ports})
    spec = {
        "redirectFrontend*": frontend,
        "redirectBackend*": backend,
        "skipRedirectFromBackend": default(TRUTH, False),
        "description": TEXT,
    }
    return fields({"spec": fields(spec), "status": fields({"ok": TRUTH})})


def _cidr_group() -> Schema:
    return fields({"spec*": fields({"externalCIDRs*": many(TEXT)})}, "Networks with a name.")


def _node_config() -> Schema:
    spec = {
        "nodeSelector*": said(selector(), "Nodes that this is about, by their labels."),
        "defaults*": said(WORDS, "Keys and values in place of those of the ConfigMap."),
    }
    return fields({"spec*": fields(spec)}, "Configuration of some nodes.")


DEFINITIONS: Final[dict[str, Definition]] = {
    "CiliumNetworkPolicy": Definition(network_policy(), ("cnp", "ciliumnp"), (AGE, _VALID)),
    "CiliumClusterwideNetworkPolicy": Definition(network_policy(), ("ccnp",), (_VALID, AGE)),
    "CiliumEndpoint": Definition(
        _endpoint(),
        ("cep", "ciliumep"),
        (
            ("Security Identity", ".status.identity.id", "integer"),
            ("Ingress Enforcement", ".status.policy.ingress.state", "string"),
            ("Egress Enforcement", ".status.policy.egress.state", "string"),
            ("Endpoint State", ".status.state", "string"),
            ("IPv4", ".status.networking.addressing[0].ipv4", "string"),
            ("IPv6", ".status.networking.addressing[0].ipv6", "string"),
        ),
        status=False,
    ),
    "CiliumEndpointSlice": Definition(
        _slice(), ("ces",), (("Namespace", ".namespace", "string"), AGE), status=False
    ),
    "CiliumIdentity": Definition(
        fields({"security-labels*": WORDS}, "Labels that share a number."),
        ("ciliumid",),
        (("Namespace", ".metadata.labels.io\\.kubernetes\\.pod\\.namespace", "string"), AGE),
    ),
    "CiliumNode": Definition(
        _node(),
        ("cn", "ciliumn"),
        (
            (
                "CiliumInternalIP",
                '.spec.addresses[?(@.type=="CiliumInternalIP")].ip',
                "string",
            ),
            ("InternalIP", '.spec.addresses[?(@.type=="InternalIP")].ip', "string"),
            AGE,
        ),
    ),
    "CiliumLoadBalancerIPPool": Definition(
        _pool(),
        ("ippools", "ippool", "lbippool", "lbippools"),
        (
            ("Disabled", ".spec.disabled", "boolean"),
            _condition("Conflicting", "cilium.io/PoolConflict"),
            _condition("IPs Available", "cilium.io/IPsAvailable", "message"),
            AGE,
        ),
        older=("v2alpha1",),
    ),
    "CiliumPodIPPool": Definition(_pod_pool(), ("cpip",), (AGE,), status=False),
    "CiliumL2AnnouncementPolicy": Definition(_l2_policy(), ("l2announcement",), (AGE,)),
    "CiliumLocalRedirectPolicy": Definition(_redirect(), ("clrp",), (AGE,), status=False),
    "CiliumNodeConfig": Definition(_node_config(), status=False),
    "CiliumCIDRGroup": Definition(_cidr_group(), ("ccg",), status=False, older=("v2alpha1",)),
}


def manifest(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition; a kind without a schema of ours keeps whatever it holds."""
    known = DEFINITIONS.get(kind.kind) or Definition({"type": "object", **ANY}, (), (AGE,))
    versions = [
        {
            "name": name,
            "served": True,
            "storage": name == kind.version,
            "schema": {"openAPIV3Schema": _whole(known.schema)},
            "subresources": {"status": {}} if known.status else {},
            "additionalPrinterColumns": [
                {"name": heading, "jsonPath": path, "type": sort}
                for heading, path, sort in known.columns
            ],
        }
        for name in (kind.version, *known.older)
    ]
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        "shortNames": list(known.short),
        "categories": ["cilium"] + (["ciliumpolicy"] if kind.policy else []),
    }
    metadata: dict[str, Any] = {
        "name": f"{kind.plural}.{kind.group}",
        "labels": {VERSION_LABEL: SCHEMA_VERSION},
    }
    if kind.group.endswith(".k8s.io"):  # which the server guards; only a lab defines such a kind
        metadata["annotations"] = {"api-approved.kubernetes.io": "unapproved, for a lab"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": names,
            "versions": versions,
        },
    }


def _whole(schema: Schema) -> Schema:
    head = {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object"}}
    return {**schema, "properties": {**head, **schema.get("properties", {})}}
