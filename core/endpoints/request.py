"""What the container runtime asks for, checked before anything is touched."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.endpoint import AddressPair

CONTAINER_ID: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}")
"""CNI specification 1.1, parameter ``CNI_CONTAINERID``."""
IFNAME: Final = re.compile(r"[^\s/:%\x00-\x1f]{1,15}")
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""RFC 1123 names, as Kubernetes has them."""


@frozen
class EndpointRequest:
    """One CNI ADD. ``pod`` and ``namespace`` are empty for a container without Kubernetes."""

    container_id: str
    ifname: str
    netns: str
    """Path of the pod's network namespace."""
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    mtu: int = 0
    """0: the node's."""
    addresses: AddressPair | None = None
    """Given by a delegated IPAM plugin of the runtime; else ours gives them."""

    @property
    def attachment_id(self) -> str:
        """``<containerID>:<ifname>``."""
        return f"{self.container_id}:{self.ifname}"

    @property
    def owner(self) -> str:
        """``namespace/pod``, or the attachment id: how errors name it."""
        return f"{self.namespace}/{self.pod}" if self.pod else self.attachment_id

    def check(self) -> None:
        """Raise :class:`InvalidObjectError` for the first field that is bad."""
        what = f"endpoint {self.container_id[:64]!r}"
        if not CONTAINER_ID.fullmatch(self.container_id):
            raise InvalidObjectError(what, "container_id", "is not a CNI container id")
        if not IFNAME.fullmatch(self.ifname) or self.ifname in (".", "..", "lo"):
            raise InvalidObjectError(what, "ifname", f"{self.ifname[:32]!r} cannot name a link")
        path = PurePosixPath(self.netns)
        if not path.is_absolute() or ".." in path.parts or len(self.netns) > 4096:
            raise InvalidObjectError(what, "netns", "must be an absolute path")
        for field, value in (("namespace", self.namespace), ("pod", self.pod)):
            if value and not NAME.fullmatch(value):
                raise InvalidObjectError(what, field, f"{value[:64]!r} is not a name")
        if bool(self.namespace) != bool(self.pod):
            raise InvalidObjectError(what, "pod", "namespace and pod go together")
        if self.mtu and not 576 <= self.mtu <= 65535:
            raise InvalidObjectError(what, "mtu", f"{self.mtu} is not within 576 to 65535")
