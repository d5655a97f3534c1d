"""BPF links: attach, adopt, replace in one step, detach.

A link is pinned, so its program stays attached while no agent runs. A new agent opens the pin and
swaps the program with a compare-and-set: it never detaches first, and a second agent that
interferes is noticed. Hooks of a device are ``tc-ingress``, ``tc-egress`` (tcx) and ``xdp``;
``cgroup`` links hang on a folder, ``netns`` links (sk_lookup) on a network namespace.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Final

from attrs import frozen

from axoneme.core.datapath import syscalls as sc
from axoneme.core.datapath.kinds import TCX_EGRESS, TCX_INGRESS, XDP
from axoneme.core.datapath.loader import Program, program_info
from axoneme.core.errors import DatapathError

DEVICE_HOOKS: Final = {"tc-ingress": TCX_INGRESS, "tc-egress": TCX_EGRESS, "xdp": XDP}
_TYPE_XDP, _TYPE_TCX = 6, 11
_INFO_SIZE: Final = 64
UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, 524})


@frozen
class LinkInfo:
    """``target`` is the device's index for tcx and XDP (0: the device is gone), else 0."""

    id: int
    prog_id: int
    target: int


def read_info(fd: int) -> LinkInfo:
    """Ask the kernel (``struct bpf_link_info``)."""
    raw = sc.info_by_fd(fd, _INFO_SIZE)
    kind, number, prog = struct.unpack_from("=III", raw)
    target = struct.unpack_from("=I", raw, 16)[0] if kind in (_TYPE_XDP, _TYPE_TCX) else 0
    return LinkInfo(number, prog, target)


class Link:
    """One pinned link."""

    def __init__(self, fd: int, pin: Path) -> None:
        self.fd = fd
        self.pin = pin

    @classmethod
    def open(cls, pin: Path) -> Link | None:
        """Open the pinned link; ``None`` if there is none."""
        try:
            return cls(sc.obj_get(str(pin)), pin)
        except FileNotFoundError:
            return None

    @classmethod
    def create(
        cls,
        program: Program,
        target: int,
        attach_type: int,
        pin: Path,
        what: str = "",
        flags: int = 0,
    ) -> Link:
        """Attach and pin. ``OSError`` of the kernel becomes ``DatapathError`` with its errno."""
        try:
            fd = sc.link_create(program.fd, target, attach_type, flags)
        except OSError as exc:
            raise DatapathError(
                f"program {program.name} cannot be attached to {what or target}: {exc.strerror}",
                errno=exc.errno or 0,
            ) from exc
        pin.parent.mkdir(parents=True, exist_ok=True)
        try:
            sc.obj_pin(fd, str(pin))
        except OSError:
            os.close(fd)
            raise
        return cls(fd, pin)

    @property
    def info(self) -> LinkInfo:
        """As the kernel sees it now."""
        return read_info(self.fd)

    def update(self, program: Program) -> bool:
        """Swap the program in one step; ``False`` if it is the one already.

        The kernel compares with the program that was there a moment ago, so a second agent
        that swaps at the same time makes this fail instead of flapping.
        """
        present = self.info.prog_id
        if present == program.id:
            return False
        try:
            old_fd = sc.fd_by_id(sc.PROG_GET_FD_BY_ID, present)
        except OSError:
            raise DatapathError(f"link {self.pin}: program {present} is gone") from None
        try:
            sc.link_update(self.fd, program.fd, old_fd)
        except OSError as exc:
            who = "somebody else replaced its program" if exc.errno == errno.EPERM else exc.strerror
            raise DatapathError(
                f"link {self.pin} cannot take program {program.name}: {who}", errno=exc.errno or 0
            ) from exc
        finally:
            os.close(old_fd)
        return True

    def remove(self) -> None:
        """Unpin and close: the program is detached."""
        self.pin.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close the descriptor; the pin keeps the link."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def program_name(prog_id: int) -> str:
    """The kernel's name of a program; empty if it is gone."""
    try:
        fd = sc.fd_by_id(sc.PROG_GET_FD_BY_ID, prog_id)
    except OSError:
        return ""
    try:
        return program_info(fd)[3]
    finally:
        os.close(fd)
