"""Options that commands share: which agent, which form of output, which configuration.

``@agent_options`` gives a command an :class:`AgentHandle`, ``@output_option`` an
:class:`~axoneme.core.cli.output.Output`; plugins use them for their own commands too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from axoneme.core.errors import NotFoundError, NotReadyError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SOCKET: Final = Path("/var/run/axoneme/axoneme.sock")
LABS: Final = Path("/run/axoneme")
"""``<name>/nodes/<node>/axoneme.sock`` below it, as core.lab.paths lays it out; not imported from
there, to keep the start short. A test holds the two together."""


class AgentHandle:
    """The agent that a command talks to."""

    def __init__(self, socket: Path, node: str = "", *, chosen: bool = False) -> None:
        self.socket = socket
        self.node = node
        self.chosen = chosen
        """Whether the user named it, rather than taking the default."""

    def call(
        self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30.0
    ) -> Any:
        """Call a method of the agent's API."""
        from axoneme.core.api import client

        try:
            return client.call(self.socket, method, params, timeout)
        except NotReadyError as error:
            raise self._explained(error) from None

    def stream(self, method: str, params: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """Yield the events of a streaming method."""
        from axoneme.core.api import client

        try:
            yield from client.stream(self.socket, method, params)
        except NotReadyError as error:
            raise self._explained(error) from None

    def _explained(self, error: NotReadyError) -> NotReadyError:
        nodes = lab_nodes()
        if nodes and not self.chosen:
            return NotReadyError(error.message, hint=f"in the lab, name a node: --node {nodes[0]}")
        if self.node:
            start = f"axoneme lab agent {self.node} start"
            return NotReadyError(error.message, hint=f"start it with {start}")
        return error


def lab_folder() -> Path:
    """Run-time folder of the lab that this process works on: ``AXONEME_LAB``, or ``lab``."""
    return LABS / Path(os.environ.get("AXONEME_LAB") or "lab").name


def lab_nodes() -> list[str]:
    """Names of the running lab's nodes, for hints and completion."""
    try:
        found = sorted(path.name for path in (lab_folder() / "nodes").iterdir())
    except OSError:
        return []
    return [name for name in found if name != "operator"]


def find_agent(node: str = "", socket: str = "") -> AgentHandle:
    """The agent by ``--socket``, ``--node``, ``AXONEME_SOCKET``, ``AXONEME_NODE`` or default."""
    if socket:
        return AgentHandle(Path(socket), chosen=True)
    if node:
        return _lab_agent(node)
    if os.environ.get("AXONEME_SOCKET"):
        return AgentHandle(Path(os.environ["AXONEME_SOCKET"]), chosen=True)
    if os.environ.get("AXONEME_NODE"):
        return _lab_agent(os.environ["AXONEME_NODE"])
    return AgentHandle(DEFAULT_SOCKET)


def _lab_agent(node: str) -> AgentHandle:
    nodes = lab_nodes()
    if node not in nodes:
        known = f"nodes: {', '.join(nodes)}" if nodes else "start one with axoneme lab up"
        raise NotFoundError(f"the lab has no node {node!r}", hint=known)
    return AgentHandle(lab_folder() / "nodes" / node / "axoneme.sock", node, chosen=True)


def agent_options(function: F) -> F:
    """Add ``--node`` and ``--socket``; the command gets ``agent: AgentHandle``."""

    @click.option("--node", default="", help="Node of the lab.", metavar="NODE")
    @click.option("--socket", default="", help="Socket of the agent.", metavar="PATH")
    @wraps(function)
    def run(*args: Any, node: str, socket: str, **kwargs: Any) -> Any:
        return function(*args, agent=find_agent(node, socket), **kwargs)

    return run  # type: ignore[return-value]  # wraps keeps what click looks at


def output_option(function: F) -> F:
    """Add ``-o``; the command gets ``output: Output``."""

    @click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        envvar="AXONEME_OUTPUT",
        help="Form of the output.",
    )
    @wraps(function)
    def run(*args: Any, form: str, **kwargs: Any) -> Any:
        from axoneme.core.cli.output import Output

        return function(*args, output=Output(form), **kwargs)

    return run  # type: ignore[return-value]


def config_options(function: F) -> F:
    """Add ``--config-dir``, ``--config`` and ``--set``; the command gets ``given: Given``."""

    @click.option(
        "--config-dir",
        type=click.Path(path_type=Path),
        envvar="AXONEME_CONFIG_DIR",
        help="Folder with one file per key, as a ConfigMap is mounted.",
    )
    @click.option(
        "--config",
        "yaml_file",
        type=click.Path(path_type=Path),
        envvar="AXONEME_CONFIG",
        help="YAML file of keys and values.",
    )
    @click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="One key.")
    @wraps(function)
    def run(
        *args: Any,
        config_dir: Path | None,
        yaml_file: Path | None,
        pairs: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        return function(*args, given=Given(config_dir, yaml_file, pairs), **kwargs)

    return run  # type: ignore[return-value]


class Given:
    """Configuration that the user gave to a command."""

    def __init__(
        self, config_dir: Path | None, yaml_file: Path | None, pairs: tuple[str, ...]
    ) -> None:
        self.config_dir = config_dir
        self.yaml_file = yaml_file
        self.flags: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or not key:
                raise click.UsageError(f"--set wants KEY=VALUE, not {pair!r}")
            self.flags[key] = value

    def __bool__(self) -> bool:
        return bool(self.config_dir or self.yaml_file or self.flags)

    def boot(self) -> Any:
        """``(Config, PluginManager)`` as an agent with this configuration would have them."""
        from axoneme.core.boot import boot

        return boot(
            self.flags,
            os.environ,
            self.config_dir,
            self.yaml_file,
            policy="disable",
            check=False,
        )
