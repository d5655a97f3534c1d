"""Finding plugins and judging each one on its own, before any of its hooks is called.

A plugin is reached through the entry-point group ``axoneme.plugins`` or named as a module in the
key ``plugins``. Nothing here raises for a bad plugin: it comes back with what is wrong with it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

import pluggy
from attrs import define

from axoneme.core.text import nearest
from axoneme.hooks import API_VERSION, PROJECT
from axoneme.hooks.specs import MODULES

GROUP: Final = "axoneme.plugins"
PREFIX: Final = "axoneme_"

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")


@define
class Candidate:
    """A plugin that was found. ``error`` is empty when it can be used."""

    name: str
    module: Any = None
    origin: str = ""
    """The distribution it came with, or the module it was named by."""
    version: str = ""
    requires: tuple[str, ...] = ()
    summary: str = ""
    error: str = ""
    state: str = "off"  # on | off | failed
    why: str = ""
    cause: BaseException | None = None


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows our hooks and nothing else."""
    manager = pluggy.PluginManager(PROJECT)
    for specs in MODULES:
        manager.add_hookspecs(specs)
    return manager


def hook_names() -> list[str]:
    """Every hook there is, in the order of the specification modules."""
    return [
        name
        for specs in MODULES
        for name, value in vars(specs).items()
        if name.startswith(PREFIX) and callable(value)
    ]


def find(extra: Iterable[str] = ()) -> list[Candidate]:
    """Load what is installed and what ``extra`` names; ``-name`` leaves an installed one out."""
    words = list(extra)
    without = {word[1:] for word in words if word.startswith("-")}
    found: dict[str, Candidate] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        if entry.name in found:
            other = found[entry.name]
            other.error = f"two distributions name it: {other.origin} and {_dist(entry)[0]}"
        elif entry.name in without:
            origin, version = _dist(entry)
            found[entry.name] = Candidate(
                entry.name, origin=origin, version=version, why="left out by key plugins"
            )
        else:
            found[entry.name] = _load_entry(entry)
    for word in words:
        if word.startswith("-"):
            continue
        candidate = _load_module(word)
        if candidate.name in found:
            candidate.error = f"its name is taken by the one of {found[candidate.name].origin}"
            candidate.name = word
        found[candidate.name] = candidate
    return list(found.values())


def find_implementing(hook: str) -> list[Candidate]:
    """Load only those installed plugins whose source names ``hook``.

    For the command line, where loading a plugin that has no command would be felt.
    """
    entries = sorted(entry_points(group=GROUP), key=lambda e: e.name)
    return [_load_entry(entry) for entry in entries if _may_implement(entry, hook)]


def _may_implement(entry: EntryPoint, hook: str) -> bool:
    """Whether the module's text names the hook; yes, when that cannot be told without loading."""
    try:
        spec = importlib.util.find_spec(entry.module)
    except Exception:
        return True
    if entry.attr or spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return True
    try:
        text = Path(spec.origin).read_text(errors="replace")
    except OSError:
        return True
    return hook in text or "import *" in text


def inspect(candidate: Candidate) -> Candidate:
    """Read the module's attributes and check name, API version and hooks; sets ``error``."""
    module = candidate.module
    requires = getattr(module, "REQUIRES", ())
    candidate.summary = str(getattr(module, "SUMMARY", ""))
    candidate.version = candidate.version or str(getattr(module, "VERSION", ""))
    if not isinstance(requires, tuple | list) or not all(isinstance(n, str) for n in requires):
        candidate.error = "REQUIRES must be a tuple of plugin names"
        return candidate
    candidate.requires = tuple(requires)
    candidate.error = _wrong_name(candidate) or _wrong_version(module) or wrong_hooks(module)
    return candidate


def _load_entry(entry: EntryPoint) -> Candidate:
    origin, version = _dist(entry)
    candidate = Candidate(entry.name, origin=origin, version=version)
    try:
        candidate.module = entry.load()
    except Exception as error:
        candidate.error, candidate.cause = describe_failure(error), error
        return candidate
    return inspect(candidate)


def _load_module(path: str) -> Candidate:
    candidate = Candidate(path, origin=path)
    try:
        candidate.module = importlib.import_module(path)
    except Exception as error:
        candidate.error, candidate.cause = describe_failure(error), error
        return candidate
    candidate.name = str(getattr(candidate.module, "NAME", path))
    return inspect(candidate)


def _dist(entry: EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else ("?", "")


def _wrong_name(candidate: Candidate) -> str:
    name = getattr(candidate.module, "NAME", None)
    if name is None:
        return "has no NAME"
    if name != candidate.name:
        return f"its NAME is {name!r}, its entry point is {candidate.name!r}"
    return "" if _NAME.fullmatch(name) else f"its NAME {name!r} is not [a-z][a-z0-9-]*"


def _wrong_version(module: Any) -> str:
    version = getattr(module, "API_VERSION", None)
    if version is None:
        return f"has no API_VERSION (this is {API_VERSION})"
    if version != API_VERSION:
        return f"written for hook API version {version}, this is {API_VERSION}"
    return ""


def wrong_hooks(module: Any) -> str:
    """What is wrong with the module's hooks: unknown, unmarked, or with unknown arguments."""
    known = hook_names()
    marker = f"{PROJECT}_impl"
    for name in sorted(n for n in dir(module) if n.startswith(PREFIX)):
        function = getattr(module, name)
        if not callable(function):
            continue
        if name not in known:
            near = nearest(name, known)
            return f"unknown hook {name}" + (f", did you mean {near}?" if near else "")
        if not hasattr(function, marker):
            return f"{name} is not marked with @hookimpl"
    try:
        new_manager().register(module)
    except pluggy.PluginValidationError as error:
        return " ".join(str(error).split())
    return ""


def describe_failure(error: BaseException) -> str:
    """An exception in one line: type, message, and the innermost file and line."""
    trace = error.__traceback__
    where = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith("<"):
            where = f" at {code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        where = f" at {error.filename}:{error.lineno}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{where}"
