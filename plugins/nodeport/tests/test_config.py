"""What the plugin's keys may say together."""

from __future__ import annotations

import pytest

from axoneme.core import options as core_options
from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import ConfigError
from axoneme.plugins.nodeport import config
from axoneme.plugins.services import config as services


def read(**settings: str) -> Config:
    """A configuration of services and node ports."""
    options = OptionRegistry()
    core_options.register(options)
    services.register(options)
    config.register(options)
    return Config.load(options, {k.replace("_", "-"): v for k, v in settings.items()})


def test_options_in_packets_are_the_only_dispatch() -> None:
    """Others are refused where they would count."""
    on = {"kube_proxy_replacement": "true"}
    config.check(read(**on, bpf_lb_mode="dsr"))
    config.check(read(**on, bpf_lb_dsr_dispatch="geneve"))
    with pytest.raises(ConfigError, match="bpf-lb-dsr-dispatch is geneve"):
        config.check(read(**on, bpf_lb_mode="dsr", bpf_lb_dsr_dispatch="geneve"))
    with pytest.raises(ConfigError, match="bpf-lb-mode"):
        read(bpf_lb_mode="fast")


def test_xdp_has_the_field_s_modes() -> None:
    """Another word is refused with the key's name."""
    for mode in ("disabled", "native", "best-effort", "testing-only"):
        config.check(read(kube_proxy_replacement="true", bpf_lb_acceleration=mode))
    with pytest.raises(ConfigError, match="bpf-lb-acceleration"):
        read(bpf_lb_acceleration="offloaded")
