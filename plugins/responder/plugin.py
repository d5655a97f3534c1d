"""The responder plugin: ARP and IPv6 neighbour solicitations of pods, answered by the program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry

NAME = "responder"
API_VERSION = 1
SUMMARY = "Answers pods' ARP and neighbour solicitations in the packet path"

KEY = "enable-responder"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """One switch."""
    options.add(
        KEY,
        "bool",
        True,
        "Answer the ARP and neighbour solicitations of pods without the node's stack",
        component=NAME,
    )


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows its switch."""
    return bool(config[KEY]), f"{KEY}: {str(bool(config[KEY])).lower()}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """One stage, on the raw frame."""
    source = Path(__file__).with_name("responder.bpf.c")
    datapath.stage("from_container_frame", "responder_frame", source)
