"""Programs on devices: rows of the ``attachments`` table, and the target that makes them true.

A row says which program runs at which hook of which device. Pinned links under ``links/`` are
what is ours in the kernel: a full pass adopts those that are wanted (swapping their program in
one step), makes the missing ones, and only then removes those that no row wants.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field, frozen

from axoneme.core.datapath import links, syscalls, tc
from axoneme.core.datapath.kinds import KINDS, TCX_INGRESS
from axoneme.core.datapath.links import DEVICE_HOOKS, Link
from axoneme.core.datapath.loader import Program
from axoneme.core.errors import AxonemeError, DatapathError

log = logging.getLogger(__name__)

Key = tuple[int, str]
XDP_GENERIC: Final = 2
"""``XDP_FLAGS_SKB_MODE``: behind the driver, for every device."""
XDP_NATIVE: Final = 4
"""``XDP_FLAGS_DRV_MODE``: in the driver, or not at all."""
_CLASSIC: Final = {"tc-ingress": tc.INGRESS, "tc-egress": tc.EGRESS}


@frozen
class Attachment:
    """``program`` runs at ``hook`` of the device ``ifindex`` (whose name is for people).

    Hooks: ``tc-ingress``, ``tc-egress``, ``xdp``; ``cgroup:<kind>`` on the folder ``path``
    (``ifindex`` 0), with a kind such as ``inet4_connect``; ``netns`` (sk_lookup) on the
    network namespace ``path``.
    """

    ifindex: int
    ifname: str
    hook: str
    program: str
    path: str = ""
    classic: bool = False
    """Through clsact even where tcx is there. For each tcx link the kernel waits, under its
    network lock, for an RCU grace period (10 ms and more); a filter is attached in 1 ms."""
    flags: int = 0
    """Of a new link: ``XDP_NATIVE`` or ``XDP_GENERIC``."""
    optional: bool = False
    """A device whose driver cannot do it goes without."""

    @property
    def key(self) -> Key:
        """One program for each hook of a device."""
        return self.ifindex, self.hook

    @property
    def pin_name(self) -> str:
        """Name of the link's pin; a pin's name may hold no dot."""
        if self.hook == "xdp":  # a link keeps the mode that it was made with
            return f"xdp-{self.flags}-{self.ifindex}"
        return f"{self.hook.replace(':', '-')}-{self.ifindex}"


def attachment_key(row: Attachment) -> Key:
    """The key of the table."""
    return row.key


@frozen
class Attached:
    """What is in the kernel: a pinned link (or classic filter) of ours."""

    pin: str
    prog_id: int
    program: str
    ifindex: int


class Source(Protocol):
    """Where programs come from: the datapath manager."""

    @property
    def programs(self) -> Mapping[str, Program]: ...


@define
class AttachmentTarget:
    """Attach, replace, detach. ``on_pass`` runs after each full pass."""

    source: Source
    folder: Path
    tcx: bool = True
    on_pass: Callable[[], object] | None = None
    name: str = "attachments"
    declined: dict[Key, str] = field(factory=dict)
    """Optional rows that their device cannot take, with the kernel's word for it."""
    _classic: set[Key] = field(factory=set)
    _scanned: bool = False

    def apply(
        self, upserts: Mapping[Key, Attachment], deletes: Mapping[Key, Attachment]
    ) -> Mapping[Key, Exception]:
        """Attach or swap, then detach; returns what failed."""
        failed: dict[Key, Exception] = {}
        for key, row in upserts.items():
            self._guarded(failed, key, lambda row=row: self._attach(row))  # type: ignore[misc]
        for key, row in deletes.items():
            self._guarded(failed, key, lambda row=row: self._detach(row))  # type: ignore[misc]
        return failed

    def resync(self, desired: Mapping[Key, Attachment]) -> Mapping[Key, Exception]:
        """Attach or adopt all, then remove links that no row wants."""
        self._classic_found()
        failed = dict(self.apply(desired, {}))
        wanted = {row.pin_name for row in desired.values()}
        swept = 0
        for pin in self._pins():
            if pin.name not in wanted:
                swept += self._remove(pin)
        for key in self._classic_found() - set(desired):
            self._detach_classic(key)
        log.info(
            "attachments compared",
            extra={"wanted": len(desired), "failed": len(failed), "swept": swept},
        )
        if self.on_pass is not None:
            self.on_pass()
        return failed

    def attached(self) -> list[Attached]:
        """Everything of ours, read from the kernel."""
        rows = []
        for pin in self._pins():
            link = Link.open(pin)
            if link is None:
                continue
            info = link.info
            link.close()
            name = links.program_name(info.prog_id)
            rows.append(Attached(pin.name, info.prog_id, name, info.target))
        for ifindex, hook in sorted(self._classic):
            if found := tc.current(ifindex, _CLASSIC[hook]):
                rows.append(Attached(f"clsact {hook}", found.prog_id, found.name, ifindex))
        return rows

    def _classic_found(self) -> set[Key]:
        """Classic filters of ours; all devices are looked at once, for those of an older agent."""
        if not self._scanned:
            for ifindex, _ in socket.if_nameindex():
                for hook, parent in _CLASSIC.items():
                    if tc.current(ifindex, parent):
                        self._classic.add((ifindex, hook))
            self._scanned = True
        return self._classic

    def _pins(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    @staticmethod
    def _guarded(failed: dict[Key, Exception], key: Key, work: Callable[[], None]) -> None:
        try:
            work()
        except (AxonemeError, OSError) as exc:
            failed[key] = exc

    @staticmethod
    def _remove(pin: Path) -> int:
        link = Link.open(pin)
        if link is None:
            return 0
        link.remove()
        return 1

    def _attach(self, row: Attachment) -> None:
        program = self.source.programs.get(row.program)
        if program is None:
            raise DatapathError(
                f"{row.hook} of {row.ifname or row.path}: there is no program {row.program}"
            )
        if row.hook in _CLASSIC and (row.classic or not self.tcx):
            self._attach_classic(row, program)
            return
        self._attach_link(row, program)
        if row.key in self._classic:
            self._detach_classic(row.key)

    def _attach_classic(self, row: Attachment, program: Program) -> None:
        parent = _CLASSIC[row.hook]
        if row.key in self._classic:
            present = tc.current(row.ifindex, parent)
            if present is not None and present.prog_id == program.id:
                return
        tc.attach(row.ifindex, parent, program.fd, program.name)
        self._classic.add(row.key)
        self._remove(self.folder / row.pin_name)

    def _attach_link(self, row: Attachment, program: Program) -> None:
        pin = self.folder / row.pin_name
        link = Link.open(pin)
        if link is not None and row.hook in DEVICE_HOOKS and link.info.target != row.ifindex:
            link.remove()  # its device went away; an index can come back with a new one
            link = None
        if link is not None:
            try:
                link.update(program)
            finally:
                link.close()
            return
        what = f"{row.hook} of {row.ifname or row.path}"
        target, attach_type, opened = self._target(row)
        self.declined.pop(row.key, None)
        if row.hook == "xdp":
            for other in self.folder.glob(f"xdp-*-{row.ifindex}"):
                self._remove(other)
        try:
            Link.create(program, target, attach_type, pin, what, row.flags).close()
        except DatapathError as exc:
            if not row.optional or exc.errno not in links.UNSUPPORTED:
                raise
            self.declined[row.key] = str(exc)
        finally:
            if opened:
                os.close(target)

    @staticmethod
    def _target(row: Attachment) -> tuple[int, int, bool]:
        """What a link hangs on: ``(index or descriptor, attach type, descriptor is ours)``."""
        if row.hook in DEVICE_HOOKS:
            return row.ifindex, DEVICE_HOOKS[row.hook], False
        name = "sk_lookup" if row.hook == "netns" else row.hook.replace("cgroup:", "cgroup_")
        if name not in KINDS:
            raise DatapathError(f"unknown hook {row.hook!r}")
        fd = os.open(row.path, os.O_RDONLY | os.O_CLOEXEC)
        return fd, KINDS[name].attach_type, True

    def _detach(self, row: Attachment) -> None:
        self.declined.pop(row.key, None)
        self._remove(self.folder / row.pin_name)
        if row.key in self._classic:
            self._detach_classic(row.key)

    def _detach_classic(self, key: Key) -> None:
        tc.detach(key[0], _CLASSIC[key[1]])
        self._classic.discard(key)


def supports_tcx(program: Program) -> bool:
    """Whether this kernel has tcx links, asked with a device that does not exist."""
    try:
        os.close(syscalls.link_create(program.fd, 0x7FFFFFFF, TCX_INGRESS))
    except OSError as exc:
        return exc.errno not in links.UNSUPPORTED
    return True
