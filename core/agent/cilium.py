"""What Cilium has left, or still has, on this node: named in log and status, and never touched.

Both may be on one node while a cluster moves from one to the other. Everything of ours has names
of its own (``axo_…``, alias ``axoneme…``), so nothing here needs more than looking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import frozen

CNI_FOLDERS: Final = (Path("/etc/cni/net.d"), Path("/host/etc/cni/net.d"))
"""Of the machine, and as an agent's pod mounts it."""
CNI_FILES: Final = ("05-cilium.conflist", "05-cilium.conf")
PINS: Final = ("tc/globals/cilium_*", "cilium")
"""Below the root of the BPF file system."""
SHOWN: Final = 4

_LINK: Final = re.compile(
    r"cilium_(host|net|vxlan|geneve|wg\d|ipip[46]|tunl|ip6tnl)|lxc(_health|[0-9a-f]{5,12})"
)


@frozen
class Traces:
    """What was found, by sort; each a list of names."""

    pins: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pins or self.links or self.files)

    def text(self) -> str:
        """One line."""
        parts = (
            _some("BPF pins", self.pins),
            _some("links", self.links),
            _some("CNI configuration", self.files),
        )
        return "; ".join(part for part in parts if part)


def _some(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what} {', '.join(names[:SHOWN])}{more}"


def look(bpf_root: Path, links: Iterable[str], folders: Iterable[Path] = CNI_FOLDERS) -> Traces:
    """Look at pins, names of links, and files; blocking."""
    pins = [str(path) for pattern in PINS for path in bpf_root.glob(pattern)]
    files = [str(f / name) for f in folders for name in CNI_FILES if (f / name).is_file()]
    return Traces(
        tuple(sorted(pins)),
        tuple(sorted(name for name in links if _LINK.fullmatch(name))),
        tuple(files),
    )
