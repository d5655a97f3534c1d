"""Where configuration values come from, read as they are, not yet checked against options.

Later sources win: YAML file, folder with one file per key, environment, flags. Each value keeps
the place it was read from, so that errors and ``axoneme config`` can name it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import Factory, define, frozen

from axoneme.core.errors import ConfigError

MAX_FILE: Final = 1 << 20
"""Bytes; a ConfigMap cannot hold more than 1 MiB altogether."""

DATA: Final = "..data"
"""Link to the folder that holds a mounted ConfigMap's files; replaced as a whole."""
ORIGINS: Final = ".origins.json"
"""In a folder that ``axoneme build-config`` has written: the object that each key comes from."""

ATTEMPTS: Final = 20
"""Of reading a folder that is replaced meanwhile."""

FLAG: Final = "flag"
"""The origin of what the command line says: it wins over all else."""

ENV_PREFIXES: Final = ("CILIUM_", "AXONEME_")
"""The later one wins when both are set."""


@frozen
class RawValue:
    """A value as found; ``origin`` says where, in words."""

    value: Any
    origin: str
    built: bool = False
    """Of a folder that ``axoneme build-config`` has written: ``origin`` is an object."""


@frozen
class Sources:
    """Where one process takes its configuration from; may be read again."""

    flags: Mapping[str, Any] = Factory(dict)
    env: Mapping[str, str] = Factory(dict)
    config_dir: Path | None = None
    yaml_file: Path | None = None

    def read(self) -> RawConfig:
        """What they hold now. :class:`ConfigError` names what cannot be read."""
        return read_sources(self.flags, self.env, self.config_dir, self.yaml_file)


@define
class RawConfig:
    """What the sources hold together: the winning value of each key."""

    values: dict[str, RawValue] = Factory(dict)
    env: Mapping[str, str] = Factory(dict)
    sources: Sources = Factory(Sources)

    def candidates(self, key: str, extra_env: tuple[str, ...] = ()) -> list[RawValue]:
        """Every value given for ``key`` by flag, environment or file, the winner first."""
        given = self.values.get(key)
        names = [env_name(key, prefix) for prefix in reversed(ENV_PREFIXES)]
        found = [
            RawValue(self.env[name], f"environment {name}")
            for name in (*names, *extra_env)
            if self.env.get(name)
        ]
        if given is not None:
            found.insert(0 if given.origin == FLAG else len(found), given)
        return found


def env_name(key: str, prefix: str = "AXONEME_") -> str:
    """``enable-ipv4`` -> ``AXONEME_ENABLE_IPV4``."""
    return prefix + key.upper().replace("-", "_").replace(".", "_")


def read_sources(
    flags: Mapping[str, Any],
    env: Mapping[str, str],
    config_dir: Path | None = None,
    yaml_file: Path | None = None,
) -> RawConfig:
    """Read files and flags; the environment is kept whole: only known keys are looked up in it."""
    raw = RawConfig(env=dict(env), sources=Sources(flags, env, config_dir, yaml_file))
    if yaml_file is not None:
        for key, value in _read_yaml(yaml_file).items():
            raw.values[key] = RawValue(value, str(yaml_file))
    if config_dir is not None:
        raw.values.update(_read_folder(config_dir))
    for key, value in flags.items():
        raw.values[key] = RawValue(value, FLAG)
    return raw


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ConfigError(f"configuration {path} is larger than 1 MiB")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration {path} is not UTF-8 text") from error


def _read_folder(folder: Path) -> dict[str, RawValue]:
    """Keys and values of a mounted ConfigMap, or of a plain folder.

    Kubernetes mounts ``key -> ..data/key`` and ``..data -> ..2026_…/``, and replaces that link
    when the ConfigMap changes: it is followed once, so that all values are of one moment. A name
    with a leading dot is never a key.
    """
    for _ in range(ATTEMPTS):
        try:
            names = {path.name for path in folder.iterdir()}
            data = (folder / DATA).resolve() if (folder / DATA).is_dir() else None
            names |= {path.name for path in data.iterdir()} if data is not None else set()
            found = _read_files(folder, data, {name for name in names if name[0] != "."})
        except OSError as error:
            problem = ConfigError(
                f"cannot read configuration folder {folder}: {error.strerror}",
                hint="--config-dir wants a folder with one file per key",
            )
            if not folder.is_dir():
                break
            continue
        # The old folder goes, file by file, once the link is another.
        if data is None or (folder / DATA).resolve() == data:
            return found
        problem = ConfigError(f"configuration folder {folder} changes while it is read")
    raise problem


def _read_files(folder: Path, data: Path | None, names: set[str]) -> dict[str, RawValue]:
    origins = _origins(data) if data is not None else {}
    found = {}
    for name in sorted(names):
        path, built = folder / name, False
        if data is not None and (path.is_symlink() or not path.exists()):
            path, built = data / name, name in origins
        if path.is_file():
            origin = origins[name] if built else str(folder / name)
            found[name] = RawValue(_read_text(path), origin, built)
    return found


def _origins(data: Path) -> dict[str, str]:
    try:
        found = json.loads((data / ORIGINS).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): str(origin) for key, origin in found.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415  most starts have no YAML file, and it is slow to import

    try:
        data = yaml.safe_load(_read_text(path))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"configuration {path} is not YAML: {reason}") from error
    if data is None:
        return {}
    if isinstance(data, dict) and data.get("kind") == "ConfigMap":
        data = data.get("data") or {}
    if not isinstance(data, dict):
        raise ConfigError(f"configuration {path}: expected a mapping of keys to values")
    return {str(key): value for key, value in data.items()}


def parse_flags(arguments: Iterable[str]) -> dict[str, str]:
    """Turn ``--key=value``, ``--key value`` and ``--key`` (true) into a mapping.

    Keys are not looked up here: an unknown one becomes a warning like any other source's.
    """
    flags: dict[str, str] = {}
    pending = ""
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            if pending:
                flags[pending] = "true"
            pending, equals, value = argument[2:].partition("=")
            if equals:
                flags[pending] = value
                pending = ""
        elif pending:
            flags[pending] = argument
            pending = ""
        else:
            raise ConfigError(
                f"unexpected argument {argument!r}", hint="configuration flags are --key=value"
            )
    if pending:
        flags[pending] = "true"
    return flags
