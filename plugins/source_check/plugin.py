"""The source check plugin: what a pod sends must come from its own address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl

if TYPE_CHECKING:
    from axoneme.core.config import Config
    from axoneme.core.datapath.registry import DatapathRegistry

NAME = "source-check"
API_VERSION = 1
SUMMARY = "Drops what a pod sends from an address that is not its own"

KEY = "enable-source-ip-verification"
"""A key of Cilium's, declared by the core."""


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows its switch."""
    return bool(config[KEY]), f"{KEY}: {str(bool(config[KEY])).lower()}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """One stage, on the parsed packet, before anything trusts its source."""
    source = Path(__file__).with_name("source_check.bpf.c")
    datapath.stage("from_container_sender", "source_check_sender", source)
