"""The folder of manifests, blocking: one YAML file an object, one folder a kind.

    <root>/<Kind>/<namespace>.<name>.yaml      (cluster-wide: <name>.yaml)

A namespace holds no dot, so the file's name tells namespace and name apart. A kind of a group
that nobody declared lives in ``<Kind>.<group>/`` and is never mistaken for a known one.

Writers take the folder's ``flock``, write a hidden file and rename it, so a reader sees the old
text or the new, and a writer killed at any instant leaves at most a hidden file, which the next
writer removes. The resource version is the file's modification time in nanoseconds, which
writers set, always later than the one before: an edit by hand changes it as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from axoneme.core.errors import ConflictError, InvalidObjectError, NotFoundError, StoreError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store import manifest
from axoneme.core.store.kinds import KindRegistry

SUFFIX: Final = ".yaml"
_STALE_SECONDS: Final = 60.0
_SMALL: Final = 65536
_REMEMBERED: Final = 256


class FolderEngine:
    """Blocking verbs over a folder. Safe among threads and processes."""

    def __init__(self, root: Path, kinds: KindRegistry | None = None) -> None:
        self.root = root
        self.kinds = kinds or KindRegistry()
        self._swept: dict[Path, float] = {}
        self._written: dict[ObjectKey, ClusterObject] = {}
        """What this process wrote last: a watcher reads it at once, and need not parse it."""

    # Names

    def folder(self, kind: str) -> Path:
        """The folder of a kind; ``kind`` is a known name or ``Kind.group``."""
        if "/" in kind or kind.startswith("."):
            raise StoreError(f"bad kind {kind!r}")
        return self.root / kind

    def path(self, key: ObjectKey) -> Path:
        """The file of an object."""
        stem = f"{key.namespace}.{key.name}" if key.namespace else key.name
        return self.folder(key.kind) / (stem + SUFFIX)

    def key_of_file(self, kind: str, file: str) -> ObjectKey:
        """The key that a file's name stands for."""
        stem = file.removesuffix(SUFFIX)
        known = self.kinds.get(kind) if kind in self.kinds else None
        if known is not None and not known.namespaced:
            return ObjectKey(kind, "", stem)
        namespace, dot, name = stem.partition(".")
        return ObjectKey(kind, namespace, name) if dot else ObjectKey(kind, "", stem)

    def key_of(self, body: Mapping[str, Any], where: str = "manifest") -> ObjectKey:
        """The key of a manifest; undeclared kinds carry their group in the key's kind."""
        key = manifest.key_of(body, self.kinds, where)
        if self.kinds.find(body["apiVersion"], key.kind) is None:
            group = str(body["apiVersion"]).rpartition("/")[0]
            if group and not all(c.isalnum() or c in ".-" for c in group):
                raise InvalidObjectError(str(key), "apiVersion", f"bad group {group!r}")
            kind = f"{key.kind}.{group}" if group else key.kind
            key = ObjectKey(kind, key.namespace, key.name)
        return key

    def kinds_present(self) -> list[str]:
        """Kinds that have a folder."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(p.name for p in self.root.iterdir() if p.is_dir())
        return []

    # Reading

    def files(self, kind: str) -> list[str]:
        """Names of the manifest files of a kind, sorted."""
        try:
            names = os.listdir(self.folder(kind))  # noqa: PTH208
        except FileNotFoundError:
            return []
        return sorted(n for n in names if n.endswith(SUFFIX) and not n.startswith("."))

    def read(self, key: ObjectKey) -> ClusterObject:
        """One object; ``NotFoundError``, or ``InvalidObjectError`` for text that is bad."""
        path = self.path(key)
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                written = self._written.get(key)
                if written is not None and written.resource_version == str(stat.st_mtime_ns):
                    return written
                if stat.st_size > manifest.MAX_BYTES:
                    raise InvalidObjectError(
                        str(key), "", f"larger than {manifest.MAX_BYTES} bytes"
                    )
                text = file.read().decode("utf-8")
        except FileNotFoundError:
            raise NotFoundError(f"{key} not found") from None
        except UnicodeDecodeError as error:
            raise InvalidObjectError(str(key), "", "not UTF-8") from error
        except OSError as error:
            raise StoreError(f"{key}: {error}") from error
        return self._parse(key, text, str(path), stat.st_mtime_ns)

    def _parse(self, key: ObjectKey, text: str, where: str, version: int) -> ClusterObject:
        documents = list(manifest.load_all(text, where))
        if len(documents) != 1:
            raise InvalidObjectError(
                str(key), "", f"{where} holds {len(documents)} objects, not one"
            )
        body = dict(documents[0])
        if self.key_of(body, where) != key:
            raise InvalidObjectError(
                str(key), "metadata.name", f"{where} holds {self.key_of(body)}"
            )
        body["metadata"] = {**body["metadata"], "resourceVersion": str(version)}
        obj = manifest.to_object(body, self.kinds, where)
        return obj if obj.key == key else _with_key(obj, key)

    def list(self, kind: str) -> list[ClusterObject]:
        """Every good object of a kind; bad files are left out (a watch reports them)."""
        found = []
        for file in self.files(kind):
            with contextlib.suppress(InvalidObjectError, NotFoundError):
                found.append(self.read(self.key_of_file(kind, file)))
        return found

    get = read

    # Writing

    def create(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create; ``ConflictError`` when it exists."""
        key = self.key_of(body)
        with self._locked(key.kind):
            if self.path(key).exists():
                raise ConflictError(f"{key} exists already")
            return self._write(key, _fresh(body), 0)

    def update(self, body: Mapping[str, Any]) -> ClusterObject:
        """Replace; ``ConflictError`` when the given resource version is not the present one."""
        key = self.key_of(body)
        with self._locked(key.kind):
            version = self._version(key)
            given = body["metadata"].get("resourceVersion")
            if given is not None and str(given) != str(version):
                raise ConflictError(f"{key} has changed since it was read")
            return self._write(key, body, version)

    def apply(self, body: Mapping[str, Any]) -> ClusterObject:
        """Create, or replace everything but the status, the uid and the creation time."""
        key = self.key_of(body)
        with self._locked(key.kind):
            try:
                old: ClusterObject | None = self.read(key)
            except (NotFoundError, InvalidObjectError):
                old = None
            if old is None:
                version = self.path(key).stat().st_mtime_ns if self.path(key).exists() else 0
                return self._write(key, _fresh(body), version)
            kept = {
                k: old.body["metadata"][k]
                for k in ("uid", "creationTimestamp")
                if k in old.body["metadata"]
            }
            merged = {**body, "metadata": {**body["metadata"], **kept}}
            if "status" in old.body:
                merged["status"] = old.body["status"]
            if _same(merged, old.body):
                return old
            return self._write(key, merged, int(old.resource_version))

    def update_status(
        self, key: ObjectKey, status: Mapping[str, Any], version: str = ""
    ) -> ClusterObject:
        """Replace the status; an equal one writes nothing.

        ``ConflictError`` if ``version`` is given and not the present one.
        """
        with self._locked(key.kind):
            old = self.read(key)
            if version and version != old.resource_version:
                raise ConflictError(f"{key} has changed since it was read")
            if old.body.get("status") == status:
                return old
            return self._write(key, {**old.body, "status": dict(status)}, int(old.resource_version))

    def patch(self, key: ObjectKey, changes: Mapping[str, Any], version: str = "") -> ClusterObject:
        """Change some fields (RFC 7396); what changes nothing writes nothing.

        ``ConflictError`` if ``version`` is given and not the present one.
        """
        manifest.check_patch(key, changes)
        with self._locked(key.kind):
            old = self.read(key)
            if version and version != old.resource_version:
                raise ConflictError(f"{key} has changed since it was read")
            body = manifest.merged(old.body, changes)
            if self.key_of(body) != key:
                raise InvalidObjectError(str(key), "metadata", "a patch cannot move an object")
            return (
                old if _same(body, old.body) else self._write(key, body, int(old.resource_version))
            )

    def delete(self, key: ObjectKey, version: str = "") -> None:
        """Delete; ``NotFoundError``, or ``ConflictError`` if ``version`` is not the present one."""
        with self._locked(key.kind):
            if version and version != str(self._version(key)):
                raise ConflictError(f"{key} has changed since it was read")
            try:
                self.path(key).unlink()
            except FileNotFoundError:
                raise NotFoundError(f"{key} not found") from None

    def acquire_lease(self, name: str, holder: str, duration: float) -> bool:
        """Take or renew ``Lease kube-system/<name>`` for ``duration`` seconds."""
        key = ObjectKey("Lease", "kube-system", name)
        with self._locked(key.kind):
            now = datetime.now(UTC)  # not before the lock is held: the holder may just renew
            version = 0
            try:
                old = self.read(key)
                version = int(old.resource_version)
                renewed = datetime.fromisoformat(str(old.spec.get("renewTime", "")))
                age = (now - renewed).total_seconds()
                limit = float(old.spec.get("leaseDurationSeconds", 0))
                if old.spec.get("holderIdentity") not in ("", None, holder) and abs(age) < limit:
                    return False
            except (NotFoundError, InvalidObjectError, ValueError):
                pass  # none, or one that nobody can read: it is free
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"namespace": key.namespace, "name": name},
                "spec": {
                    "holderIdentity": holder,
                    "leaseDurationSeconds": duration,
                    "renewTime": now.isoformat(),
                },
            }
            self._write(key, body, version)
            return True

    def _version(self, key: ObjectKey) -> int:
        try:
            return self.path(key).stat().st_mtime_ns
        except FileNotFoundError:
            raise NotFoundError(f"{key} not found") from None

    @contextmanager
    def _locked(self, kind: str) -> Iterator[None]:
        folder = self.folder(kind)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _write(self, key: ObjectKey, body: Mapping[str, Any], version: int) -> ClusterObject:
        metadata = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
        text = manifest.dump({**body, "metadata": metadata})
        path = self.path(key)
        mtime = max(time.time_ns(), version + 1)
        obj = self._as_read(key, {**body, "metadata": metadata}, text, mtime)
        hidden = path.with_name(f".{uuid.uuid4().hex}.tmp")
        self._sweep(path.parent)
        try:
            hidden.write_text(text, encoding="utf-8")
            os.utime(hidden, ns=(mtime, mtime))
            hidden.rename(path)
        except OSError as error:
            hidden.unlink(missing_ok=True)
            raise StoreError(f"{key}: {error.strerror}") from error
        self._remember(obj)
        return obj

    def _as_read(
        self, key: ObjectKey, body: Mapping[str, Any], text: str, version: int
    ) -> ClusterObject:
        """The object that a reader of ``text`` gets: never write what cannot be read.

        YAML takes milliseconds; of plain words and numbers it is known what comes back.
        """
        copy = manifest.plain(body)
        if copy is None or len(text) > _SMALL:
            return self._parse(key, text, str(self.path(key)), version)
        copy["metadata"]["resourceVersion"] = str(version)
        obj = manifest.to_object(copy, self.kinds, str(self.path(key)))
        return obj if obj.key == key else _with_key(obj, key)

    def _remember(self, obj: ClusterObject) -> None:
        self._written.pop(obj.key, None)
        self._written[obj.key] = obj
        while len(self._written) > _REMEMBERED:
            self._written.pop(next(iter(self._written)), None)

    def _sweep(self, folder: Path) -> None:
        """Remove what killed writers left; we hold the lock, so only age matters to editors.

        A folder may hold thousands of files: it is looked through once in a while, not each time.
        """
        limit = time.time() - _STALE_SECONDS
        if self._swept.get(folder, 0.0) > limit:
            return
        self._swept[folder] = time.time()
        for path in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < limit:
                    path.unlink()


def _with_key(obj: ClusterObject, key: ObjectKey) -> ClusterObject:
    return ClusterObject(
        key, obj.api_version, obj.uid, obj.resource_version, obj.labels, obj.annotations, obj.body
    )


def _fresh(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = dict(body["metadata"])
    metadata.setdefault("uid", str(uuid.uuid4()))
    metadata.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return {**body, "metadata": metadata}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def bare(body: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
        return {**body, "metadata": metadata}

    return bare(one) == bare(other)
