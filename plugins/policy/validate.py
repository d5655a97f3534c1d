"""Reading policy files for mistakes, without an agent: what ``axoneme policy validate`` does.

Every document of a kind that is a policy goes through the decoders of the enabled plugins, as in an
agent. A decoder stops at its first mistake; so that one run names more, the rule item with the
mistake is blanked and the object read again.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from attrs import Factory, asdict, define, frozen

from axoneme.core.errors import AxonemeError, InvalidObjectError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.core.store import lines, manifest
from axoneme.core.store.kinds import KindRegistry
from axoneme.plugins.policy.decode.fields import UnenforceableError

Decode = Callable[[ClusterObject], Sequence[Rule]]

SUFFIXES: Final = (".yaml", ".yml", ".json")
STDIN: Final = Path("-")
MAX_FINDINGS: Final = 50
"""Of one object."""

ERROR: Final = "error"
WARNING: Final = "warning"

GROUP: Final = "CiliumCIDRGroup"
"""No policy, and a part of those that refer to it."""

_ITEM: Final = re.compile(r"(specs?(?:\[\d+\])?)\.([A-Za-z]+)\[(\d+)\]")
"""A rule item: an element of a list in a spec."""


@frozen
class Finding:
    """Something that is wrong, or right but not enforced. Line and column 0: not known."""

    file: str
    line: int
    column: int
    severity: str
    object: str
    field: str
    message: str
    hint: str = ""


@define
class Report:
    """What came of some files."""

    files: int = 0
    policies: int = 0
    rules: int = 0
    findings: list[Finding] = Factory(list)
    skipped: list[str] = Factory(list)
    """Documents that are no policies, with the reason."""

    def failed(self, *, strict: bool = False) -> bool:
        """Whether something is wrong; with ``strict`` also what is only not enforced."""
        return any(strict or f.severity == ERROR for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The JSON of ``policy validate``."""
        counts = {word: sum(f.severity == word for f in self.findings) for word in (ERROR, WARNING)}
        return {
            "files": self.files,
            "policies": self.policies,
            "rules": self.rules,
            "errors": counts[ERROR],
            "warnings": counts[WARNING],
            "findings": [asdict(f) for f in self.findings],
            "skipped": self.skipped,
        }


@frozen
class Source:
    """One object of a file."""

    file: str
    number: int
    body: Any
    nodes: lines.Document

    @property
    def where(self) -> str:
        """For messages about what has no name yet."""
        return f"document {self.number}"


def check(paths: Iterable[Path], kinds: KindRegistry, decode: Decode) -> Report:
    """Check every document of the given files and folders; ``-`` is standard input."""
    report = Report()
    seen: dict[ObjectKey, Finding] = {}
    for file in files_of(paths):
        report.files += 1
        try:
            sources = read(file)
        except _UnreadableError as error:
            report.findings.append(error.finding)
            continue
        for source in sources:
            _check(source, kinds, decode, report, seen)
    return report


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that are meant; a folder stands for every manifest below it."""
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            if not found:
                raise AxonemeError(f"{path}: no .yaml, .yml or .json file in this folder")
            yield from found
        elif path == STDIN or path.exists():
            yield path
        else:
            raise AxonemeError(f"{path}: no such file or folder")


class _UnreadableError(AxonemeError):
    """A file that is no YAML at all."""

    def __init__(self, file: str, line: int, column: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.finding = Finding(file, line, column, ERROR, "", "", message)


def read(file: Path) -> list[Source]:
    """The objects of a file, each with its nodes. Raises an error that names file and line."""
    name = "standard input" if file == STDIN else str(file)
    text = _text(file, name)
    try:
        nodes = lines.documents(text)
        bodies: list[Any] = []
        for body in yaml.load_all(text, Loader=lines.LOADER):
            is_list = isinstance(body, Mapping) and body.get("kind") == "List"
            if is_list and isinstance(body.get("items"), list):
                bodies += body["items"]
            elif body is not None:
                bodies.append(body)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _UnreadableError(name, line, column, f"bad YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = " ".join(str(error).split())[:200]
        raise _UnreadableError(name, 0, 0, f"bad YAML: {message}") from error
    return [Source(name, n, b, d) for n, (b, d) in enumerate(zip(bodies, nodes, strict=True), 1)]


def _text(file: Path, name: str) -> str:
    limit = manifest.MAX_BYTES
    try:
        if file == STDIN:
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with file.open("rb") as stream:
                raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise _UnreadableError(name, 0, 0, f"larger than {limit} bytes")
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _UnreadableError(name, line, 0, f"not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise _UnreadableError(name, 0, 0, str(error.strerror)) from error


def _check(
    source: Source,
    kinds: KindRegistry,
    decode: Decode,
    report: Report,
    seen: dict[ObjectKey, Finding],
) -> None:
    body = source.body
    if isinstance(body, Mapping) and "kind" not in body and "apiVersion" not in body:
        report.skipped.append(f"{source.file} {source.where}: no manifest")
        return
    try:
        if not isinstance(body, Mapping):
            raise InvalidObjectError(source.where, "", "not a mapping")
        key = manifest.key_of(body, kinds, source.where)
        known = kinds.find(body["apiVersion"], key.kind)
        if known is None or not (known.policy or key.kind == GROUP):
            report.skipped.append(f"{source.file} {source.where}: {body['apiVersion']} {key}")
            return
        obj = manifest.to_object(body, kinds, source.where)
    except InvalidObjectError as error:
        report.findings.append(_finding(source, error))
        return
    report.policies += 1
    findings = [*_twice(source, obj, seen), *_doubled(source, obj)]
    rules, wrong = _decoded(source, obj, decode)
    report.rules += rules
    report.findings += [*findings, *wrong]


def _twice(source: Source, obj: ClusterObject, seen: dict[ObjectKey, Finding]) -> Iterator[Finding]:
    """Another document for the same object: which of them is meant cannot be told."""
    place = source.nodes.find("metadata.name")
    finding = Finding(
        source.file, place.line, place.column, ERROR, str(obj.key), "metadata.name", ""
    )
    other = seen.setdefault(obj.key, finding)
    if other is not finding:
        yield Finding(
            *(finding.file, finding.line, finding.column, ERROR, finding.object, finding.field),
            f"given already in {other.file}:{other.line}",
        )


def _doubled(source: Source, obj: ClusterObject) -> Iterator[Finding]:
    for double in source.nodes.duplicates():
        place = double.place
        yield Finding(
            *(source.file, place.line, place.column, ERROR, str(obj.key), double.path),
            "stands twice in one mapping",
        )


def _decoded(source: Source, obj: ClusterObject, decode: Decode) -> tuple[int, list[Finding]]:
    """The number of rules, and everything that decoders find."""
    findings: list[Finding] = []
    body = obj.body
    while True:
        try:
            rules = decode(_with_body(obj, body))
            return 0 if findings else len(rules), findings
        except InvalidObjectError as error:
            findings.append(_finding(source, error))
            blanked = _blank(body, error.field)
        except Exception as error:  # a decoder of a plugin: others' policies are still checked
            findings.append(
                _finding(source, InvalidObjectError(str(obj.key), "", f"cannot be read: {error!r}"))
            )
            blanked = None
        if blanked is None or len(findings) >= MAX_FINDINGS:
            return 0, findings
        body = blanked


def _with_body(obj: ClusterObject, body: Mapping[str, Any]) -> ClusterObject:
    return ClusterObject(obj.key, obj.api_version, body=body)


def _blank(body: Mapping[str, Any], field: str) -> dict[str, Any] | None:
    """A copy without what is in the rule item around ``field``; ``None`` if there is nothing."""
    found = _ITEM.match(field)
    if found is None:
        return None
    fresh: dict[str, Any] = copy.deepcopy(dict(body))
    spec: Any = fresh.get("specs" if found[1].startswith("specs") else "spec")
    try:
        if found[1].startswith("specs["):
            spec = spec[int(found[1][6:-1])]
        if spec[found[2]][int(found[3])] == {}:
            return None
        spec[found[2]][int(found[3])] = {}
    except (LookupError, TypeError):
        return None
    return fresh


def _finding(source: Source, error: InvalidObjectError) -> Finding:
    place = source.nodes.find(error.field)
    severity = WARNING if isinstance(error, UnenforceableError) else ERROR
    return Finding(
        *(source.file, place.line, place.column, severity),
        *(error.obj, error.field, error.detail, error.hint),
    )
