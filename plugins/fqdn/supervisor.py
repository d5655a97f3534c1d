"""The process that holds the proxy's sockets and keeps a worker behind them.

It outlives the agent: a restarted agent finds it by its file and goes on with it. A worker that
dies is replaced within a moment, and what is asked meanwhile waits in the sockets.

    python -m axoneme.plugins.fqdn.supervisor ARGUMENTS (JSON)
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from axoneme.plugins.fqdn.sockets import listeners

MODULE: Final = "axoneme.plugins.fqdn.supervisor"
FILE: Final = "dns-proxy.json"
_DEATH_SIGNAL: Final = 1
"""``PR_SET_PDEATHSIG``."""


def main(arguments: dict[str, Any]) -> None:
    """As the supervisor, or (with ``fds``) as its worker."""
    if "fds" in arguments:
        _work(arguments)
        return
    folder = Path(arguments["folder"])
    sockets = listeners(tuple(arguments["families"]), int(arguments["port"]))
    worker: subprocess.Popen[bytes] | None = None

    def end(*_: object) -> None:
        if worker is not None:
            worker.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    _write(folder / FILE, {"pid": os.getpid(), "release": arguments["release"]})
    pause = 0.05
    while True:
        fds = [s.fileno() for s in sockets]
        command = [sys.executable, "-m", MODULE, json.dumps({**arguments, "fds": fds})]
        started = time.monotonic()
        worker = subprocess.Popen(command, pass_fds=fds)
        worker.wait()
        pause = 0.05 if time.monotonic() - started > 10 else min(5.0, pause * 2)
        time.sleep(pause)


def _work(arguments: dict[str, Any]) -> None:
    from axoneme.plugins.fqdn.proxy import run  # noqa: PLC0415  # the supervisor stays small

    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    sockets = [socket.socket(fileno=fd) for fd in arguments["fds"]]
    for sock in sockets:
        sock.setblocking(False)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            run(
                sockets,
                Path(arguments["folder"]),
                Path(arguments["pins"]),
                arguments["offsets"],
                arguments["release"],
            )
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".new")
    part.write_text(json.dumps(content))
    part.replace(path)


def running(folder: Path) -> dict[str, Any] | None:
    """What an earlier agent has left running, if it still does."""
    try:
        found: dict[str, Any] = json.loads((folder / FILE).read_text())
        command = Path(f"/proc/{int(found['pid'])}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ours = MODULE.encode() in command and str(folder).encode() in command
    return found if ours else None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
