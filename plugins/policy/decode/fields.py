"""Reading a manifest strictly: every value has a path, and what is not understood is an error.

A field that a decoder does not know is refused, not skipped: a misspelt ``fromEndpoint`` must
never turn a rule for some peers into a rule for everybody. So is an explicit ``null`` in one of
Cilium's kinds, whose schemas have none; in its own kind Kubernetes reads it as absent.

Two classes of refusal: :class:`InvalidObjectError` for what is wrong, and
:class:`UnenforceableError` for what is right but cannot be enforced here yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.policy import CidrPeer, Rule

MAX_LIST = 10_000
"""Items in one list: a bound on what a single object can make the engine do."""

_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")


class UnenforceableError(InvalidObjectError):
    """A valid field that nothing enforces yet.

    ``lockdown`` are rules that deny by default whatever the object is about, for an object of
    which no enforceable version has ever been seen.
    """

    lockdown: tuple[Rule, ...] = ()


class Node:
    """A value in a manifest together with its path, ``spec.ingress[0].toPorts`` for example."""

    def __init__(self, obj: str, path: str, value: Any, *, nulls: bool = False) -> None:
        """With ``nulls`` a field that is ``null`` is absent, at any depth."""
        self.obj = obj
        self.path = path
        self.value = value
        self.nulls = nulls

    def error(self, message: str, *, hint: str = "") -> InvalidObjectError:
        """An error about this value."""
        return InvalidObjectError(self.obj, self.path, message, hint=hint)

    def unenforceable(self, what: str) -> UnenforceableError:
        """An error that says that nothing enforces this field here."""
        return UnenforceableError(self.obj, self.path, f"{what} cannot be enforced by this agent")

    # Shapes

    def mapping(self, *known: str) -> Mapping[str, Any]:
        """The value as a mapping that has no other keys than ``known`` (if any are given)."""
        if not isinstance(self.value, Mapping):
            raise self.error(f"must be a mapping, not {_kind(self.value)}")
        for key in self.value:
            if not isinstance(key, str):
                raise self.error(f"key {shown(key)} must be text")
            if known and key not in known:
                hint = f"known fields: {', '.join(known)}"
                raise InvalidObjectError(self.obj, self._below(key), "no such field", hint=hint)
        if known and self.nulls:
            return {k: v for k, v in self.value.items() if v is not None}
        return self.value

    def get(self, key: str) -> Node:
        """The value under ``key``; :attr:`present` tells whether it is there."""
        value = self.value.get(key, _ABSENT) if isinstance(self.value, Mapping) else _ABSENT
        if value is None and self.nulls:
            value = _ABSENT
        return Node(self.obj, self._below(key), value, nulls=self.nulls)

    @property
    def present(self) -> bool:
        """Whether the manifest has this value."""
        return self.value is not _ABSENT

    def items(self, *, most: int = MAX_LIST) -> Iterator[Node]:
        """The items of a list; nothing if it is absent."""
        if not self.present:
            return iter(())
        if not isinstance(self.value, list | tuple):
            raise self.error(f"must be a list, not {_kind(self.value)}")
        if len(self.value) > most:
            raise self.error(f"{len(self.value)} items, at most {most} are allowed")
        return iter(
            Node(self.obj, f"{self.path}[{i}]", v, nulls=self.nulls)
            for i, v in enumerate(self.value)
        )

    def text(self, *, most: int = 1024) -> str:
        """The value as text."""
        if not isinstance(self.value, str):
            raise self.error(f"must be text, not {_kind(self.value)}", hint="quote it")
        if len(self.value) > most:
            raise self.error(f"{len(self.value)} characters, at most {most} are allowed")
        return self.value

    def boolean(self) -> bool:
        """The value as a boolean."""
        if not isinstance(self.value, bool):
            raise self.error(f"must be true or false, not {shown(self.value)}")
        return self.value

    def choice(self, *allowed: str) -> str:
        """The value as one of a few words."""
        if self.value not in allowed or not isinstance(self.value, str):
            raise self.error(f"{shown(self.value)} is not one of {', '.join(allowed)}")
        return self.value

    def number(self, first: int, last: int) -> int:
        """The value as a whole number within bounds."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"must be a number, not {_kind(value)}")
        if not first <= value <= last:
            raise self.error(f"{value} is outside {first}-{last}")
        return value

    # Things

    def port_name(self) -> str:
        """A port name: lower case letters, digits, dashes, a letter among them, 15 at most.

        Source: RFC 6335 §5.1, and Kubernetes' IANA_SVC_NAME.
        """
        name = self.text().lower()
        if not _PORT_NAME.fullmatch(name) or "--" in name or not re.search("[a-z]", name):
            raise self.error(f"{shown(self.value)} is neither a port (0-65535) nor a port name")
        return name

    def prefix(self) -> IPv4Network | IPv6Network:
        """An address or prefix; bits behind its length are cut off, as Cilium does."""
        text = self.text(most=64)
        try:
            if "%" in text:
                raise ValueError
            found = ip_network(text, strict=False)
        except ValueError:
            raise self.error(f"{shown(text)} is not an IP prefix") from None
        if found.version == 6 and found.network_address.ipv4_mapped is not None:
            raise self.error(f"{shown(text)} is an IPv4-mapped prefix", hint="write it as IPv4")
        return found

    def _below(self, key: str) -> str:
        name = key if key.isprintable() and len(key) <= 80 else shown(key)
        return f"{self.path}.{name}" if self.path else name


def cidr_peer(cidr: Node, excepts: Node) -> CidrPeer:
    """A prefix without the prefixes in ``excepts``, each of which must lie inside it."""
    whole = cidr.prefix()
    cut: list[IPv4Network | IPv6Network] = []
    for item in excepts.items():
        part = item.prefix()
        if part.version != whole.version or not part.subnet_of(whole):  # type: ignore[arg-type]
            raise item.error(f"{part} is not inside {whole}")
        cut.append(part)
    return CidrPeer(whole, tuple(sorted(set(cut))))


def excepted(excepts: Node) -> tuple[IPv4Network | IPv6Network, ...]:
    """Prefixes that are cut out of others which are not known here."""
    return tuple(sorted({n.prefix() for n in excepts.items()}, key=lambda p: (p.version, p)))


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def shown(value: object) -> str:
    """A value for a message: quoted, short, without control characters."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a mapping" if isinstance(value, Mapping) else "this")
