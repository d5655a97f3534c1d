"""Options of L2 announcements, under Cilium's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from axoneme.core.errors import ConfigError

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

KEY: Final = "enable-l2-announcements"


@frozen
class Timing:
    """Seconds. Who has not renewed for ``deadline`` stops to answer; others may take over after
    ``duration``."""

    duration: float
    deadline: float
    retry: float


def register(options: OptionRegistry) -> None:
    """Declare the keys."""
    add = options.add
    add(KEY, "bool", False, "Answer ARP and neighbour discovery for services' addresses.",
        helm="l2announcements.enabled")  # fmt: skip
    add("l2-announcements-lease-duration", "duration", "15s",
        "How long a node that is silent keeps a service.",
        helm="l2announcements.leaseDuration")  # fmt: skip
    add("l2-announcements-renew-deadline", "duration", "5s",
        "How long a node that cannot renew goes on answering.",
        helm="l2announcements.leaseRenewDeadline")  # fmt: skip
    add("l2-announcements-retry-period", "duration", "2s",
        "Time between two attempts to renew, or to take over.",
        helm="l2announcements.leaseRetryPeriod")  # fmt: skip


def timing(config: Config) -> Timing:
    """As configured."""
    prefix = "l2-announcements"
    return Timing(
        float(config[f"{prefix}-lease-duration"]),
        float(config[f"{prefix}-renew-deadline"]),
        float(config[f"{prefix}-retry-period"]),
    )


def check(config: Config) -> None:
    """A node must stop before another may begin, and try more than once before it stops."""
    if not config[KEY]:
        return
    times = timing(config)
    if not 0 < times.retry < times.deadline < times.duration:
        raise ConfigError(
            "keys l2-announcements-retry-period, -renew-deadline and -lease-duration are "
            f"{times.retry:g}s, {times.deadline:g}s and {times.duration:g}s",
            hint="each must be shorter than the next",
        )
