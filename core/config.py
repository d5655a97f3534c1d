"""Configuration: declared keys, and the values that one process runs with.

Keys and values are Cilium's where Cilium has one. Every key is declared in an
:class:`OptionRegistry`, by the core or by a plugin, before any value is looked at: so the keys of a
plugin that is off are known and checked too. An unknown key is a warning with the nearest known
name; a known key with a bad value stops the start, with all bad ones named at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from attrs import evolve, frozen

from axoneme.core.config_sources import RawConfig, RawValue, Sources, read_sources
from axoneme.core.errors import AxonemeError, ConfigError
from axoneme.core.option_types import EMPTY_IS_UNSET, PARSERS, format_value
from axoneme.core.text import clean, nearest

DEFAULT = "default"
"""The origin of a value that nobody gave."""


@frozen
class Option:
    """One declared key."""

    key: str
    type: str
    default: Any
    """Typed; or a function of the :class:`Config` for a default that follows another key."""
    help: str
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    validate: Callable[[Any], str | None] | None = None
    """Gets the typed value; returns what is expected instead, or ``None`` when it is fine."""
    owner: str = "both"
    """``agent``, ``operator``, ``both``, or the name of the plugin that declared it."""
    helm: str = ""
    env: tuple[str, ...] = ()
    """Further environment variables, after ``AXONEME_…`` and ``CILIUM_…``."""

    def read(self, raw: Any) -> Any:
        """The typed value of ``raw``; ``ValueError`` says what is allowed."""
        value = PARSERS[self.type](raw)
        if self.choices:
            words = value if isinstance(value, tuple) else (value,)
            # Upstream compares several of its enumerations without regard to case ("None").
            table = {choice.lower(): choice for choice in self.choices}
            if any(str(word).lower() not in table for word in words):
                raise ValueError(f"one of {', '.join(self.choices)}")
            chosen = tuple(table[str(word).lower()] for word in words)
            value = chosen if isinstance(value, tuple) else chosen[0]
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(value)
        complaint = self.validate(value) if self.validate else None
        if complaint:
            raise ValueError(complaint)
        return value

    def _check_range(self, value: float) -> None:
        low = None if self.min is None else format_value(self.type, self.min)
        high = None if self.max is None else format_value(self.type, self.max)
        if self.min is not None and value < self.min:
            raise ValueError(f"{low} to {high}" if high else f"at least {low}")
        if self.max is not None and value > self.max:
            raise ValueError(f"{low} to {high}" if low else f"at most {high}")

    def format(self, value: Any) -> str:
        """A typed value in the spelling of a ConfigMap."""
        return format_value(self.type, value)


class OptionRegistry:
    """All keys that this process knows. One per process start, never global."""

    def __init__(self) -> None:
        self._options: dict[str, Option] = {}
        self._owner = "both"

    def add(
        self,
        key: str,
        type: str,
        default: Any,
        help: str,
        *,
        choices: tuple[str, ...] | None = None,
        min: float | None = None,
        max: float | None = None,
        validate: Callable[[Any], str | None] | None = None,
        component: str = "",
        helm: str = "",
        env: tuple[str, ...] = (),
    ) -> Option:
        """Declare a key.

        ``type`` is one of bool, int, float, string, strings, duration (a float of seconds), cidr4,
        cidr6, cidrs4, cidrs6, map, json (a text of one form). ``default`` may be typed, in
        ConfigMap spelling, ``None`` for "not set", or a function of the finished Config.
        ``component`` is found out for plugins.
        """
        owner = component or self._owner
        if type not in PARSERS:
            raise AxonemeError(
                f"option {key}: unknown type {type!r}", hint=f"types: {', '.join(PARSERS)}"
            )
        if key in self._options:
            raise AxonemeError(
                f"option {key} of {owner} is declared already by {self._options[key].owner}"
            )
        option = Option(
            key, type, None, help, tuple(choices or ()), min, max, validate, owner, helm, env
        )
        if not (default is None or callable(default)):
            unset = default == "" and type in EMPTY_IS_UNSET
            try:
                default = None if unset else PARSERS[type](default)
            except ValueError as error:
                raise AxonemeError(f"option {key}: bad default {default!r}: {error}") from None
        option = Option(
            key, type, default, help, option.choices, min, max, validate, owner, helm, env
        )
        self._options[key] = option
        return option

    def offer(self, key: str, choice: str) -> None:
        """Add a value to those that a key of the core allows: what a plugin answers to."""
        option = self._options.get(key)
        if option is None:
            raise AxonemeError(f"option {key} is not declared, so {choice!r} cannot be offered")
        if choice not in option.choices:
            self._options[key] = evolve(option, choices=(*option.choices, choice))

    @contextmanager
    def owned_by(self, owner: str) -> Iterator[OptionRegistry]:
        """Declare keys on behalf of ``owner`` inside the block."""
        before, self._owner = self._owner, owner
        try:
            yield self
        finally:
            self._owner = before

    def discard(self, owner: str) -> None:
        """Forget the keys of an owner, whose declaration failed half way."""
        self._options = {k: o for k, o in self._options.items() if o.owner != owner}

    def get(self, key: str) -> Option | None:
        """The option of that key."""
        return self._options.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._options

    def __iter__(self) -> Iterator[Option]:
        return iter(sorted(self._options.values(), key=lambda option: option.key))

    def __len__(self) -> int:
        return len(self._options)


@frozen
class BadValue:
    """A value that its option refuses."""

    key: str
    text: str
    origin: str
    expected: str

    def __str__(self) -> str:
        return f"key {self.key} ({self.origin}): bad value {self.text!r}: expected {self.expected}"


@frozen
class Setting:
    """One effective value, as ``axoneme config`` shows it."""

    key: str
    value: str
    origin: str
    owner: str
    is_default: bool
    help: str


class Config:
    """The values of every declared key as :meth:`load` found them; :meth:`adopt` changes one."""

    def __init__(
        self,
        registry: OptionRegistry,
        values: Mapping[str, Any],
        origins: Mapping[str, str],
        warnings: tuple[str, ...] = (),
        sources: Sources | None = None,
    ) -> None:
        self.registry = registry
        self.warnings = warnings
        """What is odd, unknown keys above all."""
        self.sources = sources or Sources()
        self._values = dict(values)
        self._origins = dict(origins)

    @classmethod
    def load(
        cls,
        registry: OptionRegistry,
        flags: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        config_dir: Path | None = None,
        yaml_file: Path | None = None,
    ) -> Config:
        """Read the sources and check them; :class:`ConfigError` names every bad value."""
        return cls.resolve(registry, read_sources(flags or {}, env or {}, config_dir, yaml_file))

    @classmethod
    def of(cls, registry: OptionRegistry, **values: Any) -> Config:
        """A configuration from keyword arguments (``enable_ipv4=False``), for tests."""
        return cls.load(registry, {key.replace("_", "-"): v for key, v in values.items()})

    @classmethod
    def resolve(cls, registry: OptionRegistry, raw: RawConfig) -> Config:
        """Check what the sources hold; :class:`ConfigError` names every bad value."""
        config, bad = cls.judge(registry, raw)
        if bad:
            text = "; ".join(map(str, bad))
            raise ConfigError(text, hint="axoneme config --describe lists the keys")
        return config

    @classmethod
    def judge(
        cls, registry: OptionRegistry, raw: RawConfig, instead: Config | None = None
    ) -> tuple[Config, list[BadValue]]:
        """The same, with bad values listed; their keys have what they have in ``instead``."""
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        bad: list[BadValue] = []
        for option in registry:
            key = option.key
            values[key], origins[key] = option.default, DEFAULT
            found = _find(option, raw)
            if found is None:
                continue
            try:
                values[key], origins[key] = option.read(found.value), found.origin
            except ValueError as error:
                shown = clean(str(found.value))[:80]
                bad.append(BadValue(key, shown, found.origin, str(error)))
                if instead is not None:
                    values[key], origins[key] = instead[key], instead.origin(key)
        config = cls(registry, values, origins, _unknown(registry, raw), raw.sources)
        for key, value in list(config._values.items()):
            if callable(value):
                config._values[key] = value(config)
        return config, bad

    def adopt(self, key: str, value: Any, origin: str) -> None:
        """Take over another typed value of a declared key, for who reads it from now on.

        What has been made of the old value is the caller's to change (``core/live_options.py``).
        """
        self[key]
        self._values[key], self._origins[key] = value, origin

    def __getitem__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            near = nearest(key, self._values)
            hint = f"did you mean {near}?" if near else "declare it in axoneme_register_options"
            raise AxonemeError(f"no configuration key {key!r}", hint=hint) from None

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or ``default`` when no such key is declared."""
        return self._values.get(key, default)

    def flag(self, key: str) -> bool:
        """The value of a bool key."""
        return cast("bool", self[key])

    def number(self, key: str) -> int:
        """The value of an int key."""
        return cast("int", self[key])

    def seconds(self, key: str) -> float:
        """The value of a duration key, in seconds."""
        return cast("float", self[key])

    def text(self, key: str) -> str:
        """The value of a string key; ``""`` when it is not set."""
        value = self[key]
        return "" if value is None else str(value)

    def words(self, key: str) -> tuple[str, ...]:
        """The value of a strings key."""
        return cast("tuple[str, ...]", self[key] or ())

    def path(self, key: str) -> Path:
        """The value of a string key as a path."""
        return Path(self.text(key))

    def origin(self, key: str) -> str:
        """Where the value comes from: ``default``, ``flag``, a variable's or a file's name."""
        return self._origins[key]

    def items(self) -> list[tuple[str, Any]]:
        """Keys and typed values, sorted by key."""
        return sorted(self._values.items())

    def settings(self) -> list[Setting]:
        """Everything as text, sorted by key."""
        return [
            Setting(
                option.key,
                option.format(self._values[option.key]),
                self._origins[option.key],
                option.owner,
                self._origins[option.key] == DEFAULT
                or (not callable(option.default) and self._values[option.key] == option.default),
                option.help,
            )
            for option in self.registry
            if option.key in self._values
        ]

    def __repr__(self) -> str:
        given = sum(origin != DEFAULT for origin in self._origins.values())
        return f"<Config {len(self._values)} keys, {given} given>"


def _find(option: Option, raw: RawConfig) -> RawValue | None:
    """The winning value: flag, environment, files; empty text of a scalar counts as not given."""
    for found in raw.candidates(option.key, option.env):
        empty = found.value is None or str(found.value).strip() == ""
        if not (empty and (found.value is None or option.type in EMPTY_IS_UNSET)):
            return found
    return None


def _unknown(registry: OptionRegistry, raw: RawConfig) -> tuple[str, ...]:
    known = [option.key for option in registry]
    warnings = []
    for key in sorted(raw.values):
        if key in registry:
            continue
        near = nearest(key, known, cutoff=0.75)
        hint = f", did you mean {near}?" if near else ""
        warnings.append(
            f"unknown configuration key {clean(key)} ({raw.values[key].origin}) is ignored{hint}"
        )
    return tuple(warnings)
