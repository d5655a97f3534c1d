"""Manifests: text to objects and back, with errors that name object, field and line.

Files may be written by people, so everything about them is checked here: that they are YAML, one
mapping with apiVersion, kind and a name fit for a file, bounded in size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store.kinds import KindRegistry

try:
    from yaml import CSafeDumper as Dumper
    from yaml import CSafeLoader as Loader
except ImportError:  # pragma: no cover - libyaml is part of the wheels of PyYAML
    from yaml import SafeDumper as Dumper  # type: ignore[assignment]
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

MAX_BYTES: Final = 3 * 1024 * 1024
"""Twice etcd's limit for one object; a larger file is refused unread."""

_PLAIN_DEPTH: Final = 20
_NAME = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9_.:]{0,251}[a-zA-Z0-9])?")


def load_all(text: str, where: str) -> Iterator[Mapping[str, Any]]:
    """The mappings of a multi-document text; ``where`` names the file in errors."""
    try:
        for number, document in enumerate(yaml.load_all(text, Loader=Loader), 1):
            if document is None:
                continue
            if not isinstance(document, Mapping):
                raise InvalidObjectError(f"{where} document {number}", "", "not a mapping")
            if document.get("kind") == "List" and isinstance(document.get("items"), list):
                yield from document["items"]
            else:
                yield document
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InvalidObjectError(f"{where}:{line}", "", f"bad YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidObjectError(where, "", f"bad YAML: {error}") from error


def dump(body: Mapping[str, Any]) -> str:
    """YAML text of one manifest, keys in their order."""
    text: str = yaml.dump(dict(body), Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return text


def plain(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """A copy of a body, if YAML is sure to give it back as it is: printable words, whole numbers,
    nothing deep. ``None`` if somebody has to look.
    """
    try:
        copy: dict[str, Any] = _copied(body, 0)
    except ValueError:
        return None
    return copy


def _copied(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        if value.isprintable():
            return value
    elif value is None or kind is int or kind is bool:
        return value
    elif depth < _PLAIN_DEPTH:
        if kind is dict:
            return {_name(k): _copied(v, depth + 1) for k, v in value.items()}
        if kind is list:
            return [_copied(v, depth + 1) for v in value]
    raise ValueError


def _name(key: Any) -> str:
    if type(key) is str and key.isprintable():
        return key
    raise ValueError


def _string_map(where: str, field: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidObjectError(where, field, f"must be a mapping, not {type(value).__name__}")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise InvalidObjectError(where, f"{field}.{key}", f"must be a string, not {text!r}")
    return dict(value)


def merged(target: Any, patch: Any) -> Any:
    """``target`` with a JSON merge patch applied (RFC 7396); neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def check_patch(key: ObjectKey, changes: Mapping[str, Any]) -> None:
    """A status lives apart: whoever changes both has to say so twice."""
    if "status" in changes and len(changes) > 1:
        others = ", ".join(sorted(set(changes) - {"status"}))
        raise InvalidObjectError(str(key), "status", f"cannot be patched together with {others}")


def key_of(body: Mapping[str, Any], kinds: KindRegistry, where: str = "manifest") -> ObjectKey:
    """The key of a manifest, after checking apiVersion, kind, name and namespace."""
    kind = body.get("kind")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,62}", kind):
        raise InvalidObjectError(where, "kind", f"must be a kind such as Pod, not {kind!r}")
    if not isinstance(body.get("apiVersion"), str):
        raise InvalidObjectError(f"{where}: {kind}", "apiVersion", "is missing")
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping):
        raise InvalidObjectError(f"{where}: {kind}", "metadata", "is missing")
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise InvalidObjectError(f"{where}: {kind}", "metadata.name", f"bad name {name!r}")
    namespace = metadata.get("namespace") or ""
    known = kinds.find(body["apiVersion"], kind)
    if known is not None:
        namespace = (namespace or "default") if known.namespaced else ""
    if namespace and (not isinstance(namespace, str) or not _NAME.fullmatch(namespace)):
        raise InvalidObjectError(
            f"{where}: {kind} {name}", "metadata.namespace", f"bad namespace {namespace!r}"
        )
    return ObjectKey(kind, namespace, name)


def to_object(
    body: Mapping[str, Any], kinds: KindRegistry, where: str = "manifest"
) -> ClusterObject:
    """Check a manifest and make an object of it; ``InvalidObjectError`` names what is wrong."""
    key = key_of(body, kinds, where)
    metadata = body["metadata"]
    labels = _string_map(str(key), "metadata.labels", metadata.get("labels"))
    annotations = _string_map(str(key), "metadata.annotations", metadata.get("annotations"))
    for field in ("spec", "status"):
        if body.get(field) is not None and not isinstance(body[field], Mapping):
            raise InvalidObjectError(str(key), field, "must be a mapping")
    known = kinds.find(body["apiVersion"], key.kind)
    if known is not None and known.validate is not None:
        known.validate(body)
    return ClusterObject(
        key=key,
        api_version=body["apiVersion"],
        uid=str(metadata.get("uid") or ""),
        resource_version=str(metadata.get("resourceVersion") or ""),
        labels=labels,
        annotations=annotations,
        body=body,
    )
