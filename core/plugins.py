"""The plugin manager: discover, validate, order, enable, call, trace.

Everything that Axoneme does beyond its core goes through here, built-in features too. Each agent
or operator makes a manager of its own, so two of them in one process share nothing. pluggy calls
the implementations; each is wrapped, so that a failure carries its plugin's name and the trace
switch shows every call.

A plugin fails in one of two ways. In a hook of the start (options, set-up, datapath) the user's
``plugin-failure-policy`` decides: stop, or go on without it and what requires it. Later an error of
our own tree is an answer to the caller, and anything else becomes a :class:`PluginError`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy
from attrs import frozen

from axoneme.core import plugin_loading
from axoneme.core.errors import AxonemeError, FatalError, PluginError
from axoneme.core.plugin_loading import Candidate, describe_failure, new_manager
from axoneme.core.plugin_order import order_plugins

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry

log = logging.getLogger(__name__)

T = TypeVar("T")


@frozen
class PluginInfo:
    """What ``axoneme plugin list`` shows; ``state`` is ``on``, ``off`` or ``failed``."""

    name: str
    version: str
    origin: str
    state: str
    why: str
    requires: tuple[str, ...]
    summary: str


class PluginManager:
    """Plugins of one process: ``discover()``, ``register_options()``, ``enable(config)``, hooks."""

    def __init__(self, trace: bool = False) -> None:
        self.trace = trace
        self.policy = "stop"
        self.order: tuple[str, ...] = ()
        """Names of the enabled plugins, each after what it requires."""
        self._found: dict[str, Candidate] = {}
        self._all = new_manager()
        self._enabled = new_manager()

    # Finding

    def discover(self, extra: Iterable[str] = ()) -> None:
        """Load every installed plugin, and what the key ``plugins`` names."""
        for candidate in plugin_loading.find(extra):
            self._accept(candidate)

    def add(self, module: Any, *, origin: str = "test", version: str = "") -> None:
        """Take one plugin that is loaded already: a module or an object like one."""
        name = str(getattr(module, "NAME", "?"))
        self._accept(plugin_loading.inspect(Candidate(name, module, origin, version)))

    def _accept(self, candidate: Candidate) -> None:
        self._found[candidate.name] = candidate
        if candidate.error:
            candidate.state, candidate.why = "failed", candidate.error
        elif candidate.module is not None:
            self._register(self._all, candidate)

    def _register(self, manager: pluggy.PluginManager, candidate: Candidate) -> None:
        manager.register(candidate.module, name=candidate.name)
        for caller in manager.get_hookcallers(candidate.module) or []:
            for implementation in caller.get_hookimpls():
                if implementation.plugin_name == candidate.name:
                    function = implementation.function
                    wrapped = self._wrap(candidate.name, caller.name, function)
                    implementation.function = wrapped  # type: ignore[misc]  # Final, but the only door

    # Configuring

    @property
    def all_hook(self) -> pluggy.HookRelay:
        """Hooks of every usable plugin, enabled or not; for options and commands."""
        return self._all.hook

    @property
    def hook(self) -> pluggy.HookRelay:
        """Hooks of the enabled plugins, called in the order of ``requires``."""
        return self._enabled.hook

    def register_options(self, options: OptionRegistry) -> None:
        """Let every usable plugin declare its keys; a failure is settled in :meth:`enable`."""
        for name, candidate in sorted(self._found.items()):
            function = self._implementation(self._all, name, "axoneme_register_options")
            if function is None or candidate.error:
                continue
            try:
                with options.owned_by(name):
                    function(options=options)
            except AxonemeError as error:
                options.discard(name)
                candidate.error, candidate.cause = str(error), error
                candidate.state, candidate.why = "failed", str(error)

    def enable(self, config: Config, *, policy: str = "") -> None:
        """Switch on what the configuration asks for, in the order of ``requires``.

        ``policy`` overrides ``plugin-failure-policy``; the views use ``disable`` to show all.
        """
        self.policy = policy or config.text("plugin-failure-policy")
        self.trace = self.trace or config.flag("plugin-trace")
        wanted: dict[str, Candidate] = {}
        for name, candidate in sorted(self._found.items()):
            if candidate.error:
                self._settle(candidate, candidate.error, candidate.cause)
            elif candidate.module is not None:
                on, why = self._asked(candidate, config)
                if candidate.state != "failed":
                    candidate.state, candidate.why = "on" if on else "off", why
                if on:
                    wanted[name] = candidate
        self._drop_unmet(wanted)
        self.order = self._ordered(wanted)
        self._enabled = new_manager()
        # pluggy calls the last registered first.
        for name in reversed(self.order):
            self._register(self._enabled, self._found[name])

    def _asked(self, candidate: Candidate, config: Config) -> tuple[bool, str]:
        function = self._implementation(self._all, candidate.name, "axoneme_is_enabled")
        if function is None:
            return True, "always on"
        try:
            answer = function(config=config)
            on, why = answer if answer is not None else (True, "always on")
            return bool(on), str(why)
        except Exception as error:
            self._settle(candidate, describe(error), error)
            return False, candidate.why

    def _drop_unmet(self, wanted: dict[str, Candidate]) -> None:
        """Settle plugins whose requirements are missing, off or failed, until none is left."""
        again = True
        while again:
            again = False
            for name, candidate in list(wanted.items()):
                unmet = next((r for r in candidate.requires if r not in wanted), None)
                if unmet is None:
                    continue
                other = self._found.get(unmet)
                if other is None:
                    reason = f"requires {unmet}, which is not installed"
                else:
                    word = "is off" if other.state == "off" else "failed"
                    reason = f"requires {unmet}, which {word} ({other.why})"
                del wanted[name]
                again = True
                self._settle(candidate, reason)

    def _ordered(self, wanted: dict[str, Candidate]) -> tuple[str, ...]:
        while True:
            try:
                return tuple(order_plugins({n: c.requires for n, c in wanted.items()}))
            except PluginError as error:
                candidate = wanted.pop(error.plugin)
                self._settle(candidate, error.message.removeprefix(f"plugin {error.plugin}: "))
                self._drop_unmet(wanted)

    # Failing

    def _settle(
        self, candidate: Candidate, reason: str, cause: BaseException | None = None
    ) -> None:
        candidate.state, candidate.why = "failed", reason
        if self.policy == "stop":
            raise PluginError(
                candidate.name,
                reason,
                hint="repair it, leave it out with the key plugins: -NAME,"
                " or set plugin-failure-policy: disable",
            ) from cause
        log.error("plugin failed", extra={"plugin": candidate.name, "error": reason})

    def fail(self, name: str, error: BaseException | str) -> None:
        """Record that a plugin failed, say because its C does not compile, and apply the policy.

        Under ``stop`` this raises; else the plugin and what requires it are off from now on.
        """
        cause = error if isinstance(error, BaseException) else None
        reason = error if isinstance(error, str) else describe(error)
        self._settle(self._found[name], reason, cause)
        self._retire(name)
        for other in list(self.order):
            if name in self._found[other].requires:
                self.fail(other, f"requires {name}, which failed ({reason})")

    def _retire(self, name: str) -> None:
        if name in self.order:
            self.order = tuple(n for n in self.order if n != name)
            self._enabled.unregister(name=name)

    def guard(self, plugin: str, function: Callable[[], T]) -> T | None:
        """Run what belongs to a plugin; a failure goes to :meth:`fail`.

        :class:`FatalError`, so also a contradiction in the configuration, always passes through.
        """
        try:
            return function()
        except FatalError:
            raise
        except Exception as error:
            self.fail(plugin, error)
            return None

    # Calling

    def call(self, hook: str, *, reverse: bool = False, **arguments: Any) -> list[tuple[str, Any]]:
        """Call a hook of the start or the end, each plugin guarded; names with what they return."""
        results: list[tuple[str, Any]] = []
        for name in reversed(self.order) if reverse else self.order:
            if name not in self.order:
                continue  # retired by a failure of one that it requires
            function = self._implementation(self._enabled, name, hook)
            if function is not None:
                results.append((name, self.guard(name, partial(function, **arguments))))
        return [(name, result) for name, result in results if name in self.order]

    def each(self, hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The enabled implementations one by one, for a pipeline; called with keywords."""
        for name in self.order:
            function = self._implementation(self._enabled, name, hook)
            if function is not None:
                yield name, function

    def each_found(self, hook: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The same for every usable plugin, enabled or not."""
        for name in sorted(self._found):
            function = self._implementation(self._all, name, hook)
            if function is not None:
                yield name, function

    def _implementation(
        self, manager: pluggy.PluginManager, name: str, hook: str
    ) -> Callable[..., Any] | None:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == name:
                return partial(_call, implementation)
        return None

    def _wrap(self, plugin: str, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            if not self.trace:
                return attempt(*arguments)
            start = time.perf_counter()
            outcome = "raised"
            try:
                result = attempt(*arguments)
                outcome = f"-> {shorten(result)}"
                return result
            finally:
                spent = (time.perf_counter() - start) * 1000
                shown = ", ".join(shorten(a) for a in arguments)
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(
                        f"hook {hook} plugin={plugin} ({shown}) {outcome} {spent:.3f} ms\n"
                    )

        def attempt(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except AxonemeError:
                raise
            except Exception as error:
                raise PluginError(plugin, f"{hook}: {describe_failure(error)}") from error

        return run

    # Showing

    @property
    def infos(self) -> list[PluginInfo]:
        """Every plugin that was found, by name."""
        return [
            PluginInfo(c.name, c.version, c.origin, c.state, c.why, c.requires, c.summary)
            for _, c in sorted(self._found.items())
        ]

    def info(self, name: str) -> PluginInfo | None:
        """One of :attr:`infos`."""
        return next((info for info in self.infos if info.name == name), None)

    def module(self, name: str) -> Any:
        """The plugin's module; ``None`` when it could not be loaded."""
        return self._found[name].module

    def hooks_of(self, name: str) -> list[str]:
        """Names of the hooks that a usable plugin implements, in the order of the specs."""
        return [
            hook
            for hook in plugin_loading.hook_names()
            if self._implementation(self._all, name, hook) is not None
        ]


def _call(implementation: pluggy.HookImpl, **arguments: Any) -> Any:
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def describe(error: BaseException) -> str:
    """Our own errors by their message, others with type, file and line."""
    if isinstance(error, PluginError):
        return error.message.removeprefix(f"plugin {error.plugin}: ")
    return str(error) if isinstance(error, AxonemeError) else describe_failure(error)


def shorten(value: Any, limit: int = 80) -> str:
    """A value for one line of trace."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"<{type(value).__name__}: repr failed: {error}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"
