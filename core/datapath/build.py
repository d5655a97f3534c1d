"""Compile C text in a child process, once per machine.

The result is cached on disk under a key made of the text, the flags, bcc's version and ours; a
lock file per key lets several processes that start together compile once. A damaged cache
entry is compiled again. The child may die of what it is given: that is a ``CompileError``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from attrs import frozen

from axoneme.core.datapath import objects
from axoneme.core.datapath.compiler import KERNEL_TREE, split_marks
from axoneme.core.datapath.objects import CompiledObject
from axoneme.core.errors import CompileError

log = logging.getLogger(__name__)

COMPILER_VERSION: Final = 2
"""Part of the cache key: raise it when the compiler process answers differently."""
_TIMEOUT_S: Final = 120
_ERROR: Final = re.compile(
    r"^(?P<file>[^\s:][^:\n]*):(?P<line>\d+):\d+: (?:fatal )?error: (?P<text>.*)$", re.M
)
_BACKEND: Final = re.compile(
    r"^(?:fatal )?error: (?:[^\s:<][^:\n]*:\d+:\d+: )?(?:<unknown>:0:0: )?(?P<text>.*)$",
    re.M,
)
_CRASH: Final = re.compile(r"^LLVM ERROR: (?P<text>[^\n]*)", re.M)
_IN_FUNCTION: Final = re.compile(r"[iI]n function:? (\w+)")
_MAP_FAILED: Final = re.compile(r"could not open bpf map: (?P<map>\w+), error: (?P<text>.*)")


@frozen
class Source:
    """A text to compile. ``name`` is for messages; ``structs`` asks for further layouts."""

    name: str
    text: str
    flags: tuple[str, ...] = ()
    structs: tuple[str, ...] = ()


@cache
def toolchain_key() -> str:
    """What, besides the text, decides the bytecode."""
    try:
        bcc = importlib.metadata.version("bcc")
    except importlib.metadata.PackageNotFoundError:
        bcc = "0.26.0"
    digest = hashlib.sha256()
    for header in sorted(KERNEL_TREE.rglob("*.h")):
        digest.update(header.read_bytes())
    digest.update((Path(__file__).parent / "compiler.py").read_bytes())
    return f"{COMPILER_VERSION}/{bcc}/{os.uname().machine}/{digest.hexdigest()}"


def cache_key(source: Source) -> str:
    """Name of the cache entry of a source."""
    parts = [toolchain_key(), source.text, *source.flags, "", *source.structs]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def compile_source(source: Source, cache_dir: Path | None = None) -> CompiledObject:
    """Compile, or take from the cache. Raises ``CompileError`` with the real file and line."""
    if cache_dir is None:
        return objects.load(_run_compiler(source))
    cache_dir.mkdir(parents=True, exist_ok=True)
    entry = cache_dir / f"{cache_key(source)}.json"
    if (found := _read(entry)) is not None:
        return found
    with _locked(entry.with_suffix(".lock")):
        if (found := _read(entry)) is not None:
            return found
        text = _run_compiler(source)
        compiled = objects.load(text)
        _write(entry, text)
    return compiled


def _read(entry: Path) -> CompiledObject | None:
    try:
        text = entry.read_text()
    except FileNotFoundError:
        return None
    try:
        compiled = objects.load(text)
    except (ValueError, KeyError, TypeError, IndexError):
        log.warning("compile cache entry is damaged, compiling again", extra={"path": str(entry)})
        entry.unlink(missing_ok=True)
        return None
    with contextlib.suppress(FileNotFoundError):  # another process may prune it right now
        os.utime(entry)
    return compiled


def _write(entry: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=entry.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(entry)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file. It stays on disk: removing it would let two holders in."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def prune(cache_dir: Path, keep: int = 200) -> int:
    """Remove the least recently used entries above ``keep``; returns how many."""
    entries = sorted(cache_dir.glob("*.json"), key=_last_used, reverse=True)
    for entry in entries[keep:]:
        entry.unlink(missing_ok=True)
    return len(entries[keep:])


def _last_used(entry: Path) -> float:
    """When an entry was used last; long ago if another process has removed it meanwhile."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _run_compiler(source: Source) -> str:
    with tempfile.NamedTemporaryFile(prefix="axoneme-cc-") as stderr:
        request = json.dumps(
            {
                "text": source.text,
                "flags": list(source.flags),
                "structs": list(source.structs),
                "log": stderr.name,
            }
        )
        try:
            done = subprocess.run(
                [sys.executable, "-m", "axoneme.core.datapath.compiler"],
                input=request.encode(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                timeout=_TIMEOUT_S,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired as exc:
            raise CompileError(f"{source.name}: compiling took over {_TIMEOUT_S} s") from exc
        said = Path(stderr.name).read_text(errors="replace")
    if done.returncode != 0:
        raise _error(source, said, done.returncode)  # its lines are of bcc's rewritten text
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise _error(source, answer["error"], 1)
    for warning in answer.pop("warnings", []):
        log.warning("compiler warning", extra={"program": source.name, "text": warning})
    return json.dumps(answer)


def _error(source: Source, said: str, status: int) -> CompileError:
    """The first error of the compiler's output; a crash of the back end has no position."""
    if found := _ERROR.search(said):
        return CompileError(found["text"], file=found["file"], line=int(found["line"]), log=said)
    if found := _MAP_FAILED.search(said):
        file, line = _find(source, rf"\b{re.escape(found['map'])}\b")
        return CompileError(f"map {found['map']}: {found['text']}", file=file, line=line, log=said)
    if found := _CRASH.search(said) or _BACKEND.search(said):
        function = _IN_FUNCTION.search(said)
        file, line = _find(source, rf"\b{function[1]}\s*\(") if function else ("", 0)
        text = _plain_words(found["text"])
        return CompileError(f"{source.name}: {text}", file=file, line=line, log=said)
    tail = " / ".join(said.strip().splitlines()[-3:]) or "it said nothing"
    if "No module named 'bcc'" in said:
        return CompileError(
            f"{source.name}: bcc is not installed for {sys.executable}: it is Debian's "
            "python3-bpfcc, outside pip",
            log=said,
        )
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return CompileError(f"{source.name}: the compiler ended with {how}: {tail}", log=said)


def _plain_words(text: str) -> str:
    """The back end speaks of its nodes; say what the C did."""
    if re.search(r"\b[su]div|\bs?rem", text) and "Cannot select" in text:
        return "signed division: BPF has none here, divide unsigned numbers"
    return text


def _find(source: Source, pattern: str) -> tuple[str, int]:
    """Where in the real files a pattern first occurs."""
    text, origins = split_marks(source.text)
    for line, origin in zip(text.split("\n"), origins, strict=True):
        if re.search(pattern, line):
            return origin
    return "", 0


def compile_all(
    sources: Sequence[Source], cache_dir: Path | None, *, workers: int = 2
) -> list[CompiledObject]:
    """Compile several sources, ``workers`` at a time; the first error stops the rest."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 # only a cold start pays

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(compile_source, s, cache_dir) for s in sources]
        try:
            return [f.result() for f in futures]
        finally:
            for future in futures:
                future.cancel()
