"""Services: how plugins meet without importing each other.

One plugin provides an object under a type (usually a Protocol), another asks for that type.
There is one provider per type; a second one is an error that names both.
"""

from __future__ import annotations

from typing import Any, TypeVar

from axoneme.core.errors import AxonemeError, NotFoundError

T = TypeVar("T")


class Services:
    """Objects by type, for one agent or operator."""

    def __init__(self) -> None:
        self._provided: dict[type[Any], Any] = {}

    def provide(self, service: type[T], provider: T) -> None:
        """Offer ``provider`` under ``service``; taken already is an error."""
        if service in self._provided:
            old = type(self._provided[service]).__name__
            raise AxonemeError(
                f"service {service.__name__} is provided by both {old} and "
                f"{type(provider).__name__}"
            )
        self._provided[service] = provider

    def get(self, service: type[T]) -> T:
        """The provider of ``service``; ``NotFoundError`` when nobody provides it."""
        found = self.find(service)
        if found is None:
            raise NotFoundError(f"no enabled plugin provides {service.__name__}")
        return found

    def find(self, service: type[T]) -> T | None:
        """The provider of ``service`` or ``None``."""
        return self._provided.get(service)
