"""The chart, by the real helm: install, upgrade, uninstall, and what a release has."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import define

from axoneme.core.cluster.connect import Place
from axoneme.core.errors import AxonemeError, ConfigError

RELEASE: Final = "axoneme"


def chart_folder(given: Path | None = None) -> Path:
    """The chart that belongs to this version, or the one at ``given``."""
    if given is not None:
        if not (given / "Chart.yaml").is_file():
            raise ConfigError(f"--chart-directory {given}: there is no Chart.yaml")
        return given
    found = Path(str(importlib.resources.files("axoneme.deploy"))) / "helm" / "axoneme"
    if not found.is_dir():
        raise AxonemeError(f"the chart is missing: {found}", hint="name one: --chart-directory")
    return found


@define
class Helm:
    """The command ``helm`` for one place."""

    place: Place
    executable: str = "helm"

    def run(self, *arguments: str, show: bool = False) -> str:
        """Its output; with ``show`` it writes to the terminal itself."""
        path = shutil.which(self.executable)
        if path is None:
            raise AxonemeError(
                f"there is no {self.executable} command",
                hint="install Helm 3 (helm.sh), or name it with --helm",
            )
        command = [path, *arguments, "-n", self.place.namespace]
        if self.place.file:
            command += ["--kubeconfig", self.place.file]
        if self.place.context:
            command += ["--kube-context", self.place.context]
        done = subprocess.run(
            command, text=True, check=False, stderr=subprocess.PIPE,
            stdout=sys.stderr if show else subprocess.PIPE,
        )  # fmt: skip
        if done.returncode:
            text = done.stderr.strip().removeprefix("Error: ")
            raise AxonemeError(f"helm {arguments[0]}: {text}")
        return done.stdout or ""

    def values(self) -> dict[str, Any]:
        """What the release was given."""
        found = json.loads(self.run("get", "values", RELEASE, "-o", "json"))
        return found or {}

    def apply(
        self,
        command: str,
        chart: Path,
        *,
        values: Sequence[Path] = (),
        settings: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
    ) -> str:
        """Install or upgrade; ``extra`` are values that only those given beat."""
        arguments = [command, RELEASE, str(chart)]
        if extra:
            arguments += [f"--set-json={k}={json.dumps(v)}" for k, v in extra.items()]
        for file in values:
            arguments += ["-f", str(file)]
        for setting in settings:
            arguments += ["--set", setting]
        return self.run(*arguments, *flags)


def wanted(values: Sequence[Path], settings: Sequence[str]) -> dict[str, Any]:
    """The top-level values that a user gave, as far as they decide what is found out for him."""
    found: dict[str, Any] = {}
    for file in values:
        try:
            body = yaml.safe_load(file.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"--values {file}: {error}") from error
        if isinstance(body, dict):
            found |= body
    for setting in settings:
        for pair in setting.split(","):
            name, _, value = pair.partition("=")
            found[name] = value
    return found
