"""Putting third-party plugins where agent and operator find them: pinned, checked, complete.

A cluster gets its plugins by the chart's value ``plugins``. An init container installs them by pip
into a folder that is on the path of agent and operator; each is pinned by the hash of its wheel or
archive, so what runs is what was reviewed (``pip install --require-hashes``).
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import frozen

from axoneme.core.errors import ConfigError

_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_REQUIREMENT: Final = re.compile(
    r"[A-Za-z0-9][-A-Za-z0-9._]*(\[[-A-Za-z0-9._,]+\])?==[-A-Za-z0-9.!+_]+"
)
_URL: Final = re.compile(r"https?://[^\s]+")


@frozen
class Wanted:
    """One plugin: ``requirement`` of an index, or ``wheel`` in a folder; pinned by ``hash``."""

    name: str
    hash: str
    requirement: str = ""
    index: str = ""
    wheel: str = ""


def read_list(text: str) -> list[Wanted]:
    """The chart's list; :class:`ConfigError` names the plugin and the field."""
    try:
        body = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"list of plugins: not YAML: {error}") from error
    entries = body.get("plugins") if isinstance(body, Mapping) else None
    if not isinstance(entries, list):
        raise ConfigError("list of plugins: plugins: expected a list")
    found = [_entry(index, entry) for index, entry in enumerate(entries)]
    names = [w.name for w in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"plugin {name}: named twice")
    return found


def _entry(index: int, entry: Any) -> Wanted:
    where = f"plugins[{index}]"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: expected a map")
    name = str(entry.get("name") or "")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}.name: {name!r} is not a name of a-z, 0-9 and '-'")
    where = f"plugin {name}"
    pinned = str(entry.get("hash") or "")
    if not _HASH.fullmatch(pinned):
        raise ConfigError(
            f"{where}: hash: {pinned!r} is not sha256: and 64 digits",
            hint="pip hash FILE, or sha256sum FILE, prints it",
        )
    pip, wheel = entry.get("pip"), entry.get("wheel")
    if bool(pip) == bool(wheel):
        raise ConfigError(f"{where}: one of pip and wheel is needed")
    if pip:
        if not _REQUIREMENT.fullmatch(str(pip)):
            raise ConfigError(f"{where}: pip: {str(pip)!r} is not package==version")
        url = str(entry.get("index") or "")
        if url and not _URL.fullmatch(url):
            raise ConfigError(f"{where}: index: {url!r} is not a URL")
        return Wanted(name, pinned, requirement=str(pip), index=url)
    key = str(wheel.get("key") or "") if isinstance(wheel, Mapping) else ""
    if not key.endswith(".whl") or "/" in key:
        raise ConfigError(f"{where}: wheel.key: {key!r} is not the name of a .whl file")
    return Wanted(name, pinned, wheel=key)


def fetch(wanted: Iterable[Wanted], target: Path, wheels: Path) -> list[str]:
    """Install all into ``target``; what was installed. Nothing is installed when one is bad.

    Dependencies are not followed: a plugin may use what the image has, or be listed with them.
    """
    wanted = list(wanted)
    with tempfile.TemporaryDirectory(prefix="axoneme-plugins-") as folder:
        staged = Path(folder) / "site"
        staged.mkdir()
        for each in wanted:
            _install(each, staged, wheels, Path(folder))
        target.mkdir(parents=True, exist_ok=True)
        for path in staged.iterdir():
            subprocess.run(["cp", "-r", str(path), str(target)], check=True)
    return [f"{w.name}: {w.requirement or w.wheel}" for w in wanted]


def _install(each: Wanted, target: Path, wheels: Path, scratch: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--no-compile", "--upgrade", "--target", str(target),
    ]  # fmt: skip
    if each.wheel:
        path = wheels / each.name / each.wheel
        if not path.is_file():
            raise ConfigError(f"plugin {each.name}: wheel.key: the ConfigMap has no {each.wheel}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if f"sha256:{found}" != each.hash:
            raise ConfigError(f"plugin {each.name}: hash: {each.wheel} has sha256:{found}")
        command += ["--no-index", str(path)]
    else:
        requirements = scratch / f"{each.name}.txt"
        requirements.write_text(f"{each.requirement} --hash={each.hash}\n")
        command += ["--require-hashes", "-r", str(requirements)]
        if each.index:
            command += ["--index-url", each.index]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
        raise ConfigError(f"plugin {each.name}: not installed: {tail[0]}")
