"""What of an object is read and kept: a hundred thousand pods stay small.

Kinds of which a cluster has many are decoded from the bytes of the stream straight into mappings
that hold the fields below and no others: the rest is skipped over, never made. What a user may
write in any form is ``Any``: to say what is wrong with it is its decoder's work. Whoever needs more
of an object asks the store for it (:meth:`axoneme.core.store.model.Store.get`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypedDict, TypeVar

import msgspec

from axoneme.core.errors import StoreError

B = TypeVar("B")

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class Meta(TypedDict, total=False):
    """metav1.ObjectMeta, without ``managedFields``, owners and finalizers."""

    name: str
    namespace: str
    uid: str
    resourceVersion: str
    creationTimestamp: Any
    deletionTimestamp: Any
    generation: Any
    labels: dict[str, str] | None
    annotations: dict[str, str] | None


class Said(TypedDict, total=False):
    """What each kind has, and the fields of a Status, which a watch ends with (metav1.Status)."""

    metadata: Meta
    message: Any
    code: Any


class Container(TypedDict, total=False):
    """Of a pod."""

    name: Any
    ports: Any
    restartPolicy: Any


class PodSpec(TypedDict, total=False):
    """Where it is, as whom, with which ports."""

    nodeName: Any
    hostNetwork: Any
    serviceAccountName: Any
    serviceAccount: Any
    restartPolicy: Any
    containers: list[Container] | None
    initContainers: list[Container] | None


class Condition(TypedDict, total=False):
    """Without times and words, which are most of it."""

    type: Any
    status: Any


class PodStatus(TypedDict, total=False):
    """Without containers, which change all the time."""

    phase: Any
    reason: Any
    podIP: Any
    podIPs: Any
    hostIP: Any
    hostIPs: Any
    conditions: list[Condition] | None


class Pod(Said, total=False):
    """``v1``."""

    spec: PodSpec | None
    status: PodStatus | None


class NodeSpec(TypedDict, total=False):
    """What balancers and addresses of nodes need."""

    podCIDR: Any
    podCIDRs: Any
    providerID: Any
    taints: Any
    unschedulable: Any


class NodeStatus(TypedDict, total=False):
    """Without images, which are most of it."""

    addresses: Any
    conditions: Any


class Node(Said, total=False):
    """``v1``."""

    spec: NodeSpec | None
    status: NodeStatus | None


class Namespace(Said, total=False):
    """``v1``."""


class Service(Said, total=False):
    """``v1``; its status is written back whole."""

    spec: Any
    status: Any


class EndpointSlice(Said, total=False):
    """``discovery.k8s.io/v1``."""

    addressType: Any
    endpoints: Any
    ports: Any


class CiliumNode(Said, total=False):
    """``cilium.io/v2``."""

    spec: Any


class Networking(TypedDict, total=False):
    addressing: Any
    node: Any


class Number(TypedDict, total=False):
    id: Any


EndpointStatus = TypedDict(
    "EndpointStatus",
    {"identity": Number | None, "networking": Networking | None, "named-ports": Any},
    total=False,
)


class NoLabels(TypedDict, total=False):
    """Metadata of what there is most of."""

    name: str
    namespace: str
    resourceVersion: str
    creationTimestamp: Any


class CiliumEndpoint(TypedDict, total=False):
    """``cilium.io/v2``: without its uid, labels and policies, which its identity stands for."""

    metadata: NoLabels
    message: Any
    code: Any
    status: EndpointStatus | None


_Labels = TypedDict("_Labels", {"security-labels": Any}, total=False)


class CiliumIdentity(Said, _Labels, total=False):
    """``cilium.io/v2``."""


KINDS: Final[Mapping[str, Any]] = {
    "Pod": Pod,
    "Node": Node,
    "Namespace": Namespace,
    "Service": Service,
    "EndpointSlice": EndpointSlice,
    "CiliumNode": CiliumNode,
    "CiliumEndpoint": CiliumEndpoint,
    "CiliumIdentity": CiliumIdentity,
}


class _Event(msgspec.Struct, Generic[B], gc=False):
    type: str
    object: B


_NAMES: Final = {"token": "continue", "version": "resourceVersion"}


class _ListMeta(msgspec.Struct, gc=False, rename=_NAMES):
    token: str = ""
    version: str = ""


class _Page(msgspec.Struct, Generic[B], gc=False):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[B] | None = None


class Decoder:
    """Events and pages of one kind, from JSON text. ``StoreError`` for what is none."""

    def __init__(self, kind: str) -> None:
        body: Any = KINDS.get(kind, dict[str, Any])
        event: Any = _Event  # of a type that is known only now
        page: Any = _Page
        self._event: msgspec.json.Decoder[_Event[dict[str, Any]]]
        self._page: msgspec.json.Decoder[_Page[dict[str, Any]]]
        self._event = msgspec.json.Decoder(event[body])
        self._page = msgspec.json.Decoder(page[body])
        self._any_event = msgspec.json.Decoder(_Event[dict[str, Any]])
        self._any_page = msgspec.json.Decoder(_Page[dict[str, Any]])

    def event(self, line: bytes) -> tuple[str, dict[str, Any]]:
        """Type and object of a watch's line."""
        try:
            found = self._event.decode(line)
        except msgspec.DecodeError:
            found = _read(self._any_event, line)
        return found.type, strip(found.object)

    def page(self, text: bytes) -> tuple[list[dict[str, Any]], str, str]:
        """Objects of a list, the token of what follows, the version."""
        try:
            found = self._page.decode(text)
        except msgspec.DecodeError:
            found = _read(self._any_page, text)
        items = [strip(body) for body in found.items or ()]
        return items, found.metadata.token, found.metadata.version


def _read(decoder: msgspec.json.Decoder[B], text: bytes) -> B:
    """Some field has a form of its own, or it is no JSON at all."""
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        said = text[:80].decode(errors="replace")
        raise StoreError(f"the API server's answer is no JSON of its kind: {said!r}") from error


def strip(body: dict[str, Any]) -> dict[str, Any]:
    """The body without what only its server or kubectl reads; changed in place."""
    meta = body.get("metadata")
    if isinstance(meta, dict):
        meta.pop("managedFields", None)
        annotations = meta.get("annotations")
        if isinstance(annotations, dict):
            annotations.pop(LAST_APPLIED, None)
    return body


encode: Final = msgspec.json.Encoder().encode
"""To the text that is kept."""
decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
"""And back."""
