"""The plugin's configuration key."""

from __future__ import annotations

from collections.abc import Iterable

from axoneme.core.config import Config, OptionRegistry
from axoneme_portguard.tables import PROTOCOLS, GuardedPort

KEY = "portguard-ports"


def register(options: OptionRegistry) -> None:
    """Declare the key."""
    options.add(
        KEY,
        "strings",
        "",
        "ports that pods may not send to, such as `23/TCP 445/TCP 19/UDP`; none: switched off",
        validate=complain,
    )


def complain(words: Iterable[str]) -> str | None:
    """What is expected instead of the given words, or None when they are fine."""
    try:
        parse(words)
    except ValueError:
        return "ports such as 23/TCP or 19/UDP, from 1 to 65535"
    return None


def parse(words: Iterable[str]) -> list[GuardedPort]:
    """``23/TCP`` and ``19/UDP`` as rows; a bare number means TCP."""
    rows = []
    for word in words:
        number, _, protocol = word.partition("/")
        name = protocol.upper() or "TCP"
        if name not in PROTOCOLS or not 1 <= int(number) <= 65535:
            raise ValueError(word)
        rows.append(GuardedPort(int(number), name))
    return rows


def guarded(config: Config) -> list[GuardedPort]:
    """The configured ports."""
    return parse(config[KEY])
