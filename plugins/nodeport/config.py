"""Options of services for outsiders, under Cilium's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from axoneme.core.errors import ConfigError

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

KEY: Final = "kube-proxy-replacement"
ACCELERATION: Final = "bpf-lb-acceleration"


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    options.add(
        "bpf-lb-dsr-dispatch",
        "string",
        "opt",
        "How a backend is told the service by DSR: opt, in an option; ipip, as it is in a packet.",
        choices=("opt", "ipip", "geneve"),
        helm="loadBalancer.dsrDispatch",
    )
    for family in (4, 6):
        options.add(
            f"bpf-lb-rss-ipv{family}-src-cidr",
            f"cidr{family}",
            None,
            f"IPv{family} network from which outer sources are taken with ipip, one for each flow.",
        )
    options.add(
        ACCELERATION,
        "string",
        "disabled",
        "Serve outsiders by XDP: native on every device, best-effort where the driver can, "
        "testing-only behind the driver.",
        choices=("disabled", "native", "best-effort", "testing-only"),
        helm="loadBalancer.acceleration",
    )


def check(config: Config) -> None:
    """What this release cannot do is refused by name."""
    dispatch = config["bpf-lb-dsr-dispatch"]
    if config[KEY] and config["bpf-lb-mode"] != "snat" and dispatch == "geneve":
        raise ConfigError(
            f"key bpf-lb-dsr-dispatch is {dispatch}, which is not there yet", hint="use opt or ipip"
        )


def constants(config: Config) -> dict[str, int | str]:
    """The ``#define``s of ``ipip.h``."""
    if config["bpf-lb-dsr-dispatch"] != "ipip":
        return {}
    found: dict[str, int | str] = {"NODEPORT_IPIP": 1}
    if four := config["bpf-lb-rss-ipv4-src-cidr"]:
        found["NODEPORT_RSS4_NET"] = f"{int(four.network_address):#x}u"
        found["NODEPORT_RSS4_MASK"] = f"{int(four.netmask):#x}u"
    if six := config["bpf-lb-rss-ipv6-src-cidr"]:
        network = int(six.network_address)
        for word in range(4):
            value = network >> 32 * (3 - word) & 0xFFFFFFFF
            found[f"NODEPORT_RSS6_NET{word}"] = f"{value:#x}u"
        found["NODEPORT_RSS6_MASK"] = f"{int(six.netmask) & 0xFFFFFFFF:#x}u"
    return found
