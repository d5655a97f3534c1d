"""Reading manifests from files and folders: everything is checked before anything is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import frozen

from axoneme.core.errors import InvalidObjectError, LabError
from axoneme.core.lab import validation
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store import manifest
from axoneme.core.store.sync import BlockingStore

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # pragma: no cover - libyaml is part of the wheels of PyYAML
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

Check = Callable[[ClusterObject], None]

SUFFIXES: Final = (".yaml", ".yml", ".json")


@frozen
class Document:
    """One object of one file."""

    key: ObjectKey
    body: Mapping[str, Any]
    where: str
    """``FILE document N``, for messages."""
    known: bool


def read(
    paths: Iterable[Path],
    store: BlockingStore,
    nodes: Iterable[str],
    check: Check = lambda obj: None,
) -> list[Document]:
    """Every document of the given files and folders; the first bad one raises, naming it.

    ``check`` looks at each object of a known kind. Two documents for one object are an error: which
    of them is meant cannot be told.
    """
    documents: dict[ObjectKey, Document] = {}
    node_names = frozenset(nodes)
    for file in _files(paths):
        for where, body in _bodies(file):
            document = _check(where, body, store, node_names, check)
            other = documents.get(document.key)
            if other is not None:
                raise InvalidObjectError(
                    f"{where}: {document.key}", "metadata.name", f"already given in {other.where}"
                )
            documents[document.key] = document
    if not documents:
        raise LabError("no manifest in what was given")
    return list(documents.values())


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not found:
                raise LabError(f"{path}: no .yaml, .yml or .json file in this folder")
            yield from found
        elif path.exists():
            yield path
        else:
            raise LabError(f"{path}: no such file or folder")


def _bodies(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        if file.is_file() and file.stat().st_size > manifest.MAX_BYTES:
            raise LabError(f"{file}: larger than {manifest.MAX_BYTES} bytes")
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LabError(f"{file}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise LabError(f"{file}: {error.strerror}") from error
    try:
        for number, body in enumerate(yaml.load_all(text, Loader=Loader), 1):
            where = f"{file} document {number}"
            if body is None:
                continue
            if not isinstance(body, Mapping):
                raise InvalidObjectError(where, "", "not a mapping")
            if body.get("kind") == "List" and isinstance(body.get("items"), list):
                for index, item in enumerate(body["items"]):
                    if not isinstance(item, Mapping):
                        raise InvalidObjectError(where, f"items[{index}]", "not a mapping")
                    yield f"{where} items[{index}]", item
            else:
                yield where, body
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise LabError(f"{file}:{line}: bad YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LabError(f"{file}: bad YAML: {error}") from error


def _check(
    where: str, body: Mapping[str, Any], store: BlockingStore, nodes: frozenset[str], check: Check
) -> Document:
    """Check one document; every error begins with file and document."""
    key = store.key_of(body, where)
    known = store.kinds.find(str(body["apiVersion"]), str(body["kind"])) is not None
    try:
        obj = manifest.to_object(body, store.kinds, where)
        if known:
            validation.check(key, body, nodes)
            check(obj)
    except InvalidObjectError as error:
        if error.obj.startswith(where):
            raise
        raise InvalidObjectError(
            f"{where}: {error.obj}", error.field, error.detail, hint=error.hint
        ) from error
    metadata = dict(body["metadata"])
    if key.namespace:
        metadata["namespace"] = key.namespace
    for server_owned in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
        metadata.pop(server_owned, None)
    return Document(key, {**body, "metadata": metadata}, where, known)
