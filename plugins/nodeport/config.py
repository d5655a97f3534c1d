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
        "How a packet that keeps its source tells the backend's node the service: opt.",
        choices=("opt", "ipip", "geneve"),
        helm="loadBalancer.dsrDispatch",
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
    if config[KEY] and config["bpf-lb-mode"] != "snat" and dispatch != "opt":
        raise ConfigError(
            f"key bpf-lb-dsr-dispatch is {dispatch}, which is not there yet", hint="use opt"
        )
