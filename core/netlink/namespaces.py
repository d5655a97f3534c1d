"""Network namespaces by path, as ``ip netns`` names them: bind mounts in ``/run/netns``.

Entering a namespace changes the calling thread only. Code that has to work inside one runs in a
thread made for it, which then ends: no thread of a pool can be left behind in a foreign place.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from axoneme.core.errors import NetlinkError
from axoneme.core.netlink import links
from axoneme.core.netlink.wire import NetlinkSocket, failure

T = TypeVar("T")

NETNS_DIR: Final = Path("/run/netns")

CLONE_NEWNET: Final = 0x40000000
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SHARED: Final = 1 << 20
MNT_DETACH: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


def netns_path(name: str | Path) -> Path:
    """The path of a namespace; a bare name is one of ``/run/netns``."""
    return Path(name) if "/" in str(name) else NETNS_DIR / name


def create_netns(name: str) -> Path:
    """Make a named namespace with ``lo`` up; :class:`NetlinkError` with EEXIST if it is there."""
    path = NETNS_DIR / _checked(name)
    _prepare_directory()
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except OSError as error:
        raise failure(error.errno or 0, f"namespace {name}") from error
    try:
        _in_thread(lambda: _bind_new(path))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def delete_netns(name: str) -> bool:
    """Remove a named namespace, whatever state it is in; ``False`` if there was none.

    Its interfaces go when the last process or descriptor in it does.
    """
    path = NETNS_DIR / _checked(name)
    while _libc.umount2(os.fsencode(path), MNT_DETACH) == 0:
        pass  # mounted more than once, after a crash between two steps
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOENT):
        raise failure(code, f"namespace {name}")
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise failure(error.errno or 0, f"namespace {name}") from error
    return True


def list_netns(prefix: str = "") -> list[str]:
    """Names in ``/run/netns`` that start with ``prefix``, sorted."""
    with suppress(FileNotFoundError):
        return sorted(x.name for x in NETNS_DIR.iterdir() if x.name.startswith(prefix))
    return []


@contextmanager
def in_netns(path: str | Path) -> Iterator[None]:
    """Enter a namespace for a block; for threads of your own, never the loop's.

    If the way back fails the thread cannot be used any more, and the error says so.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(path)
        try:
            yield
        finally:
            if _libc.setns(home, CLONE_NEWNET) != 0:
                raise failure(ctypes.get_errno(), "way back from a namespace")
    finally:
        os.close(home)


def run_in_netns(path: str | Path, function: Callable[[], T]) -> T:
    """Run ``function`` in a new thread inside the namespace; its result or exception is ours."""

    def work() -> T:
        enter(path)
        return function()

    return _in_thread(work)


def open_socket(path: str | Path | None) -> NetlinkSocket:
    """A netlink socket that belongs to the namespace; ``None`` is the caller's own."""
    return NetlinkSocket() if path is None else run_in_netns(path, NetlinkSocket)


def enter(path: str | Path) -> None:
    """Move the calling thread, for good, into a namespace."""
    where = netns_path(path)
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise failure(error.errno or 0, f"namespace {where}") from error
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise failure(ctypes.get_errno(), f"namespace {where}")
    finally:
        os.close(descriptor)


def _checked(name: str) -> str:
    if not name or "/" in name or name in (".", "..") or len(name) > 255 or "\0" in name:
        raise NetlinkError(f"namespace {name!r}: not a name", errno=errno.EINVAL)
    return name


def _prepare_directory() -> None:
    """Make the folder a shared mount, so that other mount namespaces see new names."""
    NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = os.fsencode(NETNS_DIR)
    if _libc.mount(b"none", target, b"none", MS_SHARED | MS_REC, None) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:
        raise failure(ctypes.get_errno(), str(NETNS_DIR))
    for flags, source in ((MS_BIND | MS_REC, target), (MS_SHARED | MS_REC, b"none")):
        if _libc.mount(source, target, b"none", flags, None) != 0:
            raise failure(ctypes.get_errno(), str(NETNS_DIR))


def _bind_new(path: Path) -> None:
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise failure(ctypes.get_errno(), f"namespace {path.name}")
    source = b"/proc/thread-self/ns/net"
    if _libc.mount(source, os.fsencode(path), b"none", MS_BIND, None) != 0:
        raise failure(ctypes.get_errno(), f"namespace {path.name}")
    with NetlinkSocket() as netlink:
        netlink.request(links.change("lo", up=True))


def _in_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="axo-netns", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
