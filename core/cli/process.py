"""What the long-running commands do before they start: logging, and the warnings so far."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axoneme.core.config import Config

log = logging.getLogger(__name__)


def prepare(config: Config) -> None:
    """Set up logging as configured and log the configuration's warnings."""
    from axoneme.core.log import setup

    setup(logging.DEBUG if config.flag("debug") else logging.INFO, config.text("log-format"))
    for warning in config.warnings:
        log.warning(warning)
