"""Where a field of a manifest stands in its file: line and column by field path.

A decoder names fields by paths such as ``spec.ingress[0].toPorts[1].port``. The YAML node tree
keeps the place of every value, so a path leads to a line without the decoder's help. A path that
ends in what is not there leads to the nearest thing around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import yaml
from attrs import frozen

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # pragma: no cover - libyaml is part of the wheels of PyYAML
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

LOADER: Final = Loader
_INDEX: Final = re.compile(r"\[(\d{1,9})\]")
MAX_DEPTH: Final = 100


@frozen
class Place:
    """Line and column, both from 1."""

    line: int
    column: int


@frozen
class Duplicate:
    """A key that a mapping has twice: which of the two counts, nobody can tell."""

    path: str
    place: Place


@frozen(eq=False)
class Document:
    """One object of a text, as nodes; an item of a ``List`` is an object of its own."""

    root: yaml.Node

    @property
    def place(self) -> Place:
        """Where it begins."""
        return _place(self.root)

    def find(self, path: str) -> Place:
        """The place of the field ``path``: of its key, where it has one."""
        node, found, rest = self.root, self.root, path
        for _ in range(MAX_DEPTH):
            step = _step(node, rest)
            if step is None:
                break
            found, node, rest = step
        return _place(found)

    def duplicates(self) -> Iterator[Duplicate]:
        """Keys given twice in one mapping, at any depth."""
        yield from _duplicates(self.root, "", 0)


def documents(text: str) -> list[Document]:
    """The objects of a text, in the order in which a loader delivers them; empty ones left out.

    Raises :class:`yaml.YAMLError`, :class:`ValueError` or :class:`RecursionError` where a loader
    does.
    """
    found = []
    for root in yaml.compose_all(text, Loader=LOADER):
        if root is None or _is_null(root):
            continue
        items = _list_items(root)
        found += [Document(node) for node in ([root] if items is None else items)]
    return found


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _list_items(root: yaml.Node) -> list[yaml.Node] | None:
    if not isinstance(root, yaml.MappingNode):
        return None
    fields = {k.value: v for k, v in root.value if isinstance(k, yaml.ScalarNode)}
    kind, items = fields.get("kind"), fields.get("items")
    if not isinstance(kind, yaml.ScalarNode) or kind.value != "List":
        return None
    return list(items.value) if isinstance(items, yaml.SequenceNode) else None


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _step(node: yaml.Node, path: str) -> tuple[yaml.Node, yaml.Node, str] | None:
    """One step down ``path``: what to point at, where to go on, what is left."""
    if isinstance(node, yaml.SequenceNode):
        index = _INDEX.match(path)
        if index is None or int(index[1]) >= len(node.value):
            return None
        item = node.value[int(index[1])]
        return item, item, path[index.end() :].removeprefix(".")
    if not isinstance(node, yaml.MappingNode):
        return None
    # A label's key has dots of its own: the longest name wins, the last of equal ones.
    fitting = [
        (key, value)
        for key, value in node.value
        if isinstance(key, yaml.ScalarNode) and _begins(path, key.value)
    ]
    best = max(reversed(fitting), key=lambda pair: len(pair[0].value), default=None)
    if best is None:
        return None
    rest = path[len(best[0].value) :]
    return best[0], best[1], rest.removeprefix(".")


def _begins(path: str, name: str) -> bool:
    following = path[len(name) : len(name) + 1]
    return bool(name) and path.startswith(name) and following in ("", ".", "[")


def _duplicates(
    node: yaml.Node, path: str, depth: int, seen: set[int] | None = None
) -> Iterator[Duplicate]:
    seen = set() if seen is None else seen
    if depth > MAX_DEPTH or id(node) in seen:  # what aliases name often is looked at once
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _duplicates(item, f"{path}[{number}]", depth + 1, seen)
    elif isinstance(node, yaml.MappingNode):
        names = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            below = f"{path}.{name}" if path else name
            if name and name != "<<" and name in names:
                yield Duplicate(below, _place(key))
            names.add(name)
            yield from _duplicates(value, below, depth + 1, seen)
