"""Options of the plugin, under Cilium's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from axoneme.core.config import OptionRegistry

SWITCH: Final = "enable-l7-proxy"
TRANSPARENT: Final = "dnsproxy-enable-transparent-mode"


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    options.add(
        SWITCH, "bool", True, "Enforce rules above L4: DNS rules and policies by name.",
        component="fqdn", helm="l7Proxy",
    )  # fmt: skip
    options.add(
        "tofqdns-proxy-port", "int", 0, "Port of the DNS proxy; 0 takes any that is free.",
        min=0, max=65535, component="fqdn", helm="dnsProxy.proxyPort",
    )  # fmt: skip
    options.add(
        "tofqdns-min-ttl", "int", 0, "Seconds for which a name is kept at least.",
        min=0, max=86400 * 30, component="fqdn", helm="dnsProxy.minTtl",
    )  # fmt: skip
    options.add(
        "tofqdns-endpoint-max-ip-per-hostname", "int", 1000,
        "Addresses that are kept for one name of one endpoint.",
        min=1, max=100000, component="fqdn", helm="dnsProxy.endpointMaxIpPerHostname",
    )  # fmt: skip
    options.add(
        "tofqdns-max-deferred-connection-deletes", "int", 10000,
        "Expired addresses that stay because a connection uses them.",
        min=0, max=10**6, component="fqdn", helm="dnsProxy.maxDeferredConnectionDeletes",
    )  # fmt: skip
    options.add(
        "tofqdns-proxy-response-max-delay", "duration", "100ms",
        "How long an answer is held until its addresses are programmed.",
        min=0, max=10, component="fqdn", helm="dnsProxy.proxyResponseMaxDelay",
    )  # fmt: skip
    options.add(
        "tofqdns-dns-reject-response-code", "string", "refused",
        "The answer to a query that no rule allows.",
        choices=("refused", "nameError"), component="fqdn",
        helm="dnsProxy.dnsRejectResponseCode",
    )  # fmt: skip
    options.add(
        "dnsproxy-concurrency-limit", "int", 0,
        "Queries in flight; more are dropped. 0: as many as the proxy stands.",
        min=0, max=100000, component="fqdn",
    )  # fmt: skip
    options.add(
        TRANSPARENT, "bool", True, "Ask servers with the address of the pod that asks.",
        component="fqdn", helm="dnsProxy.enableTransparentMode",
    )  # fmt: skip
