"""The rule of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, field by field."""

from __future__ import annotations

from axoneme.core.k8s.definitions.schema import (
    NUMBER,
    NUMBER_OR_TEXT,
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
    ruled,
    said,
    selector,
)

PROTOCOLS = one_of(
    "TCP", "UDP", "SCTP", "VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH", "ANY", "ICMP",
    "ICMPv6",
)  # fmt: skip
MOST_PORTS = 40


def _secret() -> Schema:
    return fields({"name*": TEXT, "namespace": TEXT})


def _tls() -> Schema:
    return fields(
        {"certificate": TEXT, "privateKey": TEXT, "trustedCA": TEXT, "secret*": _secret()}
    )


def _ports(*, layer7: bool) -> Schema:
    port = fields({"port": TEXT, "endPort": between(0, 65535), "protocol": PROTOCOLS})
    tree: dict[str, Schema] = {"ports": many(port, most=MOST_PORTS)}
    if layer7:
        header = fields(
            {
                "name*": TEXT,
                "value": TEXT,
                "mismatch": one_of("LOG", "ADD", "DELETE", "REPLACE"),
                "secret": _secret(),
            }
        )
        http = fields(
            {
                "path": TEXT,
                "method": TEXT,
                "host": TEXT,
                "headers": many(TEXT),
                "headerMatches": many(header),
            }
        )
        name = fields({"matchName": TEXT, "matchPattern": TEXT})
        config = fields(
            {"kind": one_of("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"), "name*": TEXT}
        )
        tree |= {
            "rules": fields({"http": many(http), "dns": many(name)}),
            "listener": fields({"envoyConfig*": config, "name*": TEXT, "priority": NUMBER}),
            "serverNames": many(TEXT),
            "originatingTLS": _tls(),
            "terminatingTLS": _tls(),
        }
    return many(fields(tree), "Ports, and what may be said at them.")


def _icmps() -> Schema:
    field = fields({"family": default(one_of("IPv4", "IPv6"), "IPv4"), "type*": NUMBER_OR_TEXT})
    return many(fields({"fields": many(field, most=MOST_PORTS)}), "Types of ICMP.")


def _cidr_set() -> Schema:
    return many(
        fields(
            {
                "cidr": TEXT,
                "except": many(TEXT),
                "cidrGroupRef": TEXT,
                "cidrGroupSelector": selector(),
            }
        )
    )


def _groups() -> Schema:
    aws = fields(
        {
            "labels": WORDS,
            "region": TEXT,
            "securityGroupsIds": many(TEXT),
            "securityGroupsNames": many(TEXT),
        }
    )
    return many(fields({"aws": aws}))


def _services() -> Schema:
    named = fields({"serviceName": TEXT, "namespace": TEXT})
    chosen = fields({"selector*": selector(), "namespace": TEXT})
    return many(fields({"k8sService": named, "k8sServiceSelector": chosen}))


def _peers(word: str) -> dict[str, Schema]:
    return {
        f"{word}Endpoints": many(selector(), "Endpoints with these labels."),
        f"{word}Requires": many(selector()),
        f"{word}Entities": many(TEXT, "world, cluster, host, remote-node, kube-apiserver …"),
        f"{word}CIDR": many(TEXT, "Networks outside the cluster."),
        f"{word}CIDRSet": _cidr_set(),
        f"{word}Nodes": many(selector(), "Nodes with these labels."),
        f"{word}Groups": _groups(),
        "icmps": _icmps(),
    }


def _rule(direction: str, *, deny: bool) -> Schema:
    word = "from" if direction == "ingress" else "to"
    tree = {**_peers(word), "toPorts": _ports(layer7=not deny)}
    if direction == "egress":
        tree["toServices"] = _services()
        if not deny:
            names = fields({"matchName": TEXT, "matchPattern": TEXT})
            tree["toFQDNs"] = many(names, "Addresses that these names have had.")
    if not deny:
        modes = one_of("disabled", "required", "test-always-fail")
        tree["authentication"] = fields({"mode*": modes})
    return many(fields(tree))


def rule() -> Schema:
    """A rule: ``spec``, and each of ``specs``."""
    label = fields({"key*": TEXT, "source": TEXT, "value": TEXT})
    return fields(
        {
            "description": said(TEXT, "For people."),
            "endpointSelector": said(selector(), "Whose traffic this is about."),
            "nodeSelector": said(selector(), "Nodes whose traffic this is about."),
            "ingress": said(_rule("ingress", deny=False), "What may come."),
            "ingressDeny": said(_rule("ingress", deny=True), "What may not, whatever else does."),
            "egress": said(_rule("egress", deny=False), "What may go."),
            "egressDeny": said(_rule("egress", deny=True), "What may not, whatever else does."),
            "enableDefaultDeny": said(
                fields({"ingress": TRUTH, "egress": TRUTH}),
                "Whether what no rule allows is refused, for each direction.",
            ),
            "labels": many(label),
            "log": fields({"value": TEXT}),
        },
        "A rule of network policy.",
    )


def network_policy() -> Schema:
    """The whole object."""
    tree = {
        "spec": rule(),
        "specs": many(rule(), "Several rules."),
        "status": fields({"conditions": conditions(), "derivativePolicies": WORDS}),
    }
    return ruled(
        fields(tree), "has(self.spec) || has(self.specs)", "either spec or specs must be there"
    )
