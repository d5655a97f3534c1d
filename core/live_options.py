"""Options that change while the agent runs, of the node or of one endpoint.

Plugins add theirs to ``agent.live_options`` in ``axoneme_setup_agent``. What is set here holds
until the agent starts again, unless the option's owner keeps it: the configuration is not written.
A configuration key that changes is applied without a restart where somebody here follows it.
Names are Cilium's (``cilium-dbg config``, ``cilium-dbg endpoint config``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import ApiError
from axoneme.core.text import nearest

ENABLED: Final = "Enabled"
DISABLED: Final = "Disabled"
SWITCH: Final = (DISABLED, ENABLED)
_WORDS: Final = {
    **dict.fromkeys(("true", "on", "enable", "1"), ENABLED),
    **dict.fromkeys(("false", "off", "disable", "0"), DISABLED),
}
NODE: Final = 0
"""Stands for the node, and all on it, where an option is asked for an endpoint's id."""
HOST: Final = 0xFFFFFFFF
"""Stands for what the node itself sends and gets: an endpoint without an id."""


@frozen
class LiveOption:
    """One option. ``get`` and ``set`` take an endpoint's id, :data:`NODE` or :data:`HOST`."""

    name: str
    help: str
    choices: tuple[str, ...]
    get: Callable[[int], str]
    set: Callable[[int, str], None]
    per_endpoint: bool = False
    applied: Callable[[], Awaitable[object]] | None = None
    """Returns once what was set is in the kernel."""
    key: str = ""
    """The configuration key that says what it is at the start, and whose changes it follows."""

    def choice(self, text: str) -> str:
        """The choice that a text stands for, in any case; switches understand true and false.

        Raises :class:`ApiError`.
        """
        words = {c.lower(): c for c in self.choices}
        if self.choices == SWITCH:
            words |= _WORDS
        found = words.get(text.lower())
        if found is None:
            allowed = ", ".join(self.choices)
            raise ApiError(f"{self.name}: {text!r} is not one of {allowed}", code="bad-request")
        return found


Apply = Callable[[Any], Awaitable[object] | None]
"""Makes a typed value of a key count; what it returns is waited for."""


class LiveOptions:
    """Every option of this agent, and the configuration keys whose changes need no restart."""

    def __init__(self) -> None:
        self._options: dict[str, LiveOption] = {}
        self._keys: dict[str, Apply] = {}

    def add(self, option: LiveOption) -> None:
        """Declare an option; a second one of that name is an error of the plugin."""
        if self._options.setdefault(option.name.lower(), option) is not option:
            raise ValueError(f"live option {option.name} is declared twice")
        if option.key:
            self.follow(option.key, partial(self._adopt_option, option))

    # Configuration keys

    def follow(self, key: str, apply: Apply) -> None:
        """Let a key change while the agent runs: ``apply`` gets each new value, on the loop.

        ``config[key]`` has the new value by then. What ``apply`` raises is reported, with the key,
        and the value is tried again. A second one of that key is an error of the plugin.
        """
        if self._keys.setdefault(key, apply) is not apply:
            raise ValueError(f"key {key} is followed twice")

    def follows(self, key: str) -> bool:
        """Whether changes of that key need no restart."""
        return key in self._keys

    async def adopt(self, key: str, value: Any) -> None:
        """Make a typed value of a followed key count."""
        done = self._keys[key](value)
        if done is not None:
            await done

    async def _adopt_option(self, option: LiveOption, value: Any) -> None:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        await self.apply({option.name: text})

    # Options

    def __iter__(self) -> Iterator[LiveOption]:
        return iter(self._options.values())

    def find(self, name: str, endpoint: int = NODE) -> LiveOption:
        """An option by name, in any case. Raises :class:`ApiError` that lists what there is."""
        usable = {n: o for n, o in self._options.items() if not endpoint or o.per_endpoint}
        found = usable.get(name.lower())
        if found is None:
            near = nearest(name.lower(), list(usable))
            names = ", ".join(o.name for o in usable.values()) or "none"
            hint = f"did you mean {usable[near].name}?" if near else f"there are: {names}"
            what = "endpoints have" if endpoint else "there is"
            raise ApiError(f"{what} no option {name!r}", code="not-found", hint=hint)
        return found

    async def apply(self, values: Mapping[str, str], endpoint: int = NODE) -> list[str]:
        """Set options, all or none; the names of those that changed, once they count."""
        options = {self.find(name, endpoint): text for name, text in values.items()}
        for option, text in options.items():
            option.choice(text)
        changed = [o for o, text in options.items() if self.change(o.name, text, endpoint)]
        for option in changed:
            if option.applied is not None:
                await option.applied()
        return [option.name for option in changed]

    def change(self, name: str, text: str, endpoint: int = NODE) -> bool:
        """Set an option; whether that was a change."""
        option = self.find(name, endpoint)
        wanted = option.choice(text)
        if option.get(endpoint) == wanted:
            return False
        option.set(endpoint, wanted)
        return True

    def view(self, endpoint: int = NODE) -> list[dict[str, Any]]:
        """Name, value, choices and meaning of each option."""
        return [
            {"name": o.name, "value": o.get(endpoint), "choices": list(o.choices), "help": o.help}
            for o in self._options.values()
            if not endpoint or o.per_endpoint
        ]
