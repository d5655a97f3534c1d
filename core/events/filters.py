"""Which events a listener wants: types, and who sends, receives or has to do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import ApiError
from axoneme.core.events.model import EGRESS, INGRESS, Event, IPAddress
from axoneme.core.events.names import Names

MAX_VALUES: Final = 64


@frozen
class Subject:
    """An endpoint by id, a pod as ``namespace/name``, or an address."""

    text: str
    endpoint: int = 0
    address: IPAddress | None = None

    @classmethod
    def parse(cls, text: str) -> Subject:
        """``2615``, ``shop/web-1``, ``10.244.1.7``."""
        if text.isascii() and text.isdigit() and int(text) > 0:
            return cls(text, endpoint=int(text))
        if "/" in text:
            return cls(text)
        try:
            return cls(text, address=ip_address(text))
        except ValueError:
            raise ApiError(
                f"{text!r} is not an endpoint",
                code="bad-request",
                hint="an endpoint id, NAMESPACE/POD or an address",
            ) from None

    def is_side(self, names: Names, endpoint: int, address: IPAddress | None) -> bool:
        """Whether one side of an event is this."""
        if self.endpoint:
            return endpoint == self.endpoint
        if self.address is not None:
            return address == self.address
        return names.pod(endpoint, address) == self.text


@frozen
class EventFilter:
    """What the parameters of ``monitor.events`` say. Values of one field are alternatives."""

    types: frozenset[str] = frozenset()
    sources: tuple[Subject, ...] = ()
    destinations: tuple[Subject, ...] = ()
    related: tuple[Subject, ...] = ()

    @classmethod
    def parse(cls, params: Mapping[str, Any], known: Iterable[str]) -> EventFilter:
        """Read ``types``, ``from``, ``to``, ``related_to``: lists of texts."""
        names = set(known)
        types = frozenset(_texts(params, "types"))
        for unknown in sorted(types - names):
            raise ApiError(
                f"no event type {unknown!r}",
                code="bad-request",
                hint=f"types: {', '.join(sorted(names))}",
            )
        sources, destinations, related = (
            tuple(Subject.parse(x) for x in _texts(params, key))
            for key in ("from", "to", "related_to")
        )
        return cls(types, sources, destinations, related)

    def predicate(self, names: Names) -> Callable[[Event], bool] | None:
        """The test, or ``None`` when everything is wanted."""
        if not (self.types or self.sources or self.destinations or self.related):
            return None
        return lambda event: self.wants(event, names)

    def wants(self, event: Event, names: Names) -> bool:
        """Whether an event passes: each field that is given must agree."""
        if self.types and event.kind not in self.types:
            return False
        sender = event.source_endpoint or (event.endpoint if event.direction == EGRESS else 0)
        receiver = event.destination_endpoint or (
            event.endpoint if event.direction == INGRESS else 0
        )

        def is_sender(subject: Subject) -> bool:
            return subject.is_side(names, sender, event.source)

        def is_receiver(subject: Subject) -> bool:
            return subject.is_side(names, receiver, event.destination)

        return (
            (not self.sources or any(map(is_sender, self.sources)))
            and (not self.destinations or any(map(is_receiver, self.destinations)))
            and (not self.related or any(is_sender(x) or is_receiver(x) for x in self.related))
        )


def _texts(params: Mapping[str, Any], key: str) -> list[str]:
    value = params.get(key) or []
    if (
        not isinstance(value, list)
        or len(value) > MAX_VALUES
        or not all(isinstance(x, str) and len(x) <= 512 for x in value)
    ):
        raise ApiError(f"{key} is not a list of at most {MAX_VALUES} texts", code="bad-request")
    return value
