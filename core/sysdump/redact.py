"""What of an object goes into a dump; pure.

Two lines of defence. Here objects are rebuilt from fields that are known to be harmless wherever
they may hold what a user keeps secret; of a Secret only its name, its type and the names of its
keys. Then :class:`Scrubber` takes the values of all Secrets that were seen out of every file, in
case one has leaked into a log or an argument.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

REDACTED: Final = "<redacted>"

_META: Final = ("name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp",
                "resourceVersion", "generation", "ownerReferences", "finalizers")  # fmt: skip
_BARE_META: Final = ("name", "namespace", "uid", "creationTimestamp", "resourceVersion")
_ANNOTATIONS: Final = re.compile(r"([a-z0-9-]+\.)*(cilium\.io|io\.cilium|axoneme\.io|io\.axoneme)/")
_POD_SPEC: Final = ("nodeName", "hostNetwork", "hostPID", "dnsPolicy", "serviceAccountName",
                    "restartPolicy", "priorityClassName", "nodeSelector", "tolerations",
                    "terminationGracePeriodSeconds")  # fmt: skip
_CONTAINER: Final = ("name", "image", "imagePullPolicy", "ports", "resources", "volumeMounts",
                     "restartPolicy")  # fmt: skip
ENVIRONMENT: Final = frozenset(
    {
        "K8S_NODE_NAME", "K8S_NAMESPACE", "CILIUM_K8S_NAMESPACE", "AXONEME_K8S_NAMESPACE",
        "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "AXONEME_CONFIG_DIR",
        "AXONEME_CONFIG", "AXONEME_DEBUG", "AXONEME_TRACE_HOOKS", "AXONEME_LOG_FORMAT",
        "POD_NAME", "POD_NAMESPACE", "POD_IP", "POD_IPS", "HOST_IP", "NODE_NAME",
    }
)  # fmt: skip
"""Variables whose values are kept; of all others only the name is."""

OUR_CONFIG: Final = "axoneme-config"
_SECRET_WORDS: Final = ("password", "passwd", "secret", "token", "private", "psk", "credential",
                        "authorization", "apikey", "api-key", "seed")  # fmt: skip
_HEADERS: Final = frozenset({"headers", "headermatches", "addheaders"})
_VALUES: Final = frozenset({"value", "running", "wanted"})
"""In an entry whose ``key`` or ``name`` speaks of a secret."""
_REFERENCE: Final = frozenset({"name", "namespace", "key"})
_PEM: Final = "PRIVATE KEY"
DEPTH: Final = 40


def redacted(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an object of any kind as it may leave the cluster."""
    kind = str(body.get("kind"))
    made: dict[str, Any] = {"apiVersion": body.get("apiVersion"), "kind": kind}
    if kind in ("Secret", "ConfigMap"):
        return made | _bag(body, kind)
    made["metadata"] = _metadata(body.get("metadata"))
    if kind == "Pod":
        return made | {
            "spec": pod_spec(body.get("spec")),
            "status": scrub(body.get("status") or {}),
        }
    for name, value in body.items():
        if name not in ("apiVersion", "kind", "metadata"):
            made[name] = scrub(value)
    spec = made.get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("template"), Mapping):
        spec["template"] = _template(_original(body, "spec", "template"))
    return made


def _original(body: Mapping[str, Any], *path: str) -> Any:
    for name in path:
        body = body[name]
    return body


def _template(template: Mapping[str, Any]) -> dict[str, Any]:
    meta = _metadata(template.get("metadata"))
    return {"metadata": meta, "spec": pod_spec(template.get("spec"))}


def _bag(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Of what holds a user's texts: names, and the data of our own ConfigMap."""
    meta = _some(body.get("metadata"), _BARE_META)
    found: dict[str, Any] = {"metadata": meta}
    keys = [k for part in ("data", "binaryData", "stringData") for k in body.get(part) or ()]
    found["keys"] = sorted({str(key) for key in keys})
    if kind == "Secret":
        found["type"] = str(body.get("type") or "")
    elif meta.get("name") == OUR_CONFIG and isinstance(body.get("data"), Mapping):
        found["data"] = settings(body["data"])
    return found


def settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration keys and values; those whose name speaks of a secret without their value."""
    return {str(k): REDACTED if is_secret(str(k)) and v else v for k, v in data.items()}


def _metadata(meta: Any) -> dict[str, Any]:
    found = _some(meta, _META)
    annotations = meta.get("annotations") if isinstance(meta, Mapping) else None
    if isinstance(annotations, Mapping):
        kept = {k: v for k, v in annotations.items() if _ANNOTATIONS.match(str(k))}
        if kept:
            found["annotations"] = kept
    return found


def _some(value: Any, names: Iterable[str]) -> dict[str, Any]:
    return {n: value[n] for n in names if n in value} if isinstance(value, Mapping) else {}


def pod_spec(spec: Any) -> dict[str, Any]:
    """Where it runs and what it is made of: no commands, no values of variables."""
    found = _some(spec, _POD_SPEC)
    if not isinstance(spec, Mapping):
        return found
    for name in ("initContainers", "containers", "ephemeralContainers"):
        if isinstance(spec.get(name), list):
            found[name] = [_container(c) for c in spec[name] if isinstance(c, Mapping)]
    volumes = spec.get("volumes")
    if isinstance(volumes, list):
        found["volumes"] = [_volume(v) for v in volumes if isinstance(v, Mapping)]
    return found


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    found = _some(container, _CONTAINER)
    env = container.get("env")
    if isinstance(env, list):
        found["env"] = [_variable(v) for v in env if isinstance(v, Mapping)]
    for name in ("command", "args"):
        if container.get(name):
            found[name] = REDACTED
    return found


def _variable(variable: Mapping[str, Any]) -> dict[str, Any]:
    name = str(variable.get("name"))
    if "value" not in variable:
        return {"name": name, "valueFrom": sorted(variable.get("valueFrom") or {})}
    return {"name": name, "value": variable["value"] if name in ENVIRONMENT else REDACTED}


def _volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Its name and of which sort it is; a path of the host is worth to know."""
    found: dict[str, Any] = {"name": volume.get("name")}
    for sort, value in volume.items():
        if sort != "name":
            found[sort] = value if sort == "hostPath" else {}
    return found


def is_secret(name: str) -> bool:
    """Whether a name speaks of a secret."""
    return any(word in name.lower() for word in _SECRET_WORDS)


def scrub(value: Any, depth: int = 0) -> Any:
    """A copy without values whose name speaks of a secret, values of headers, private keys."""
    if depth > DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        named = any(is_secret(str(value.get(n))) for n in ("key", "name") if n in value)
        return {
            str(k): REDACTED if named and k in _VALUES and v else _entry(str(k), v, depth)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [scrub(item, depth + 1) for item in value]
    if isinstance(value, str) and _PEM in value:
        return REDACTED
    return value


def _entry(name: str, value: Any, depth: int) -> Any:
    if name.lower() in _HEADERS:
        return _headers(value)
    if name.lower().endswith("secretname"):
        return value
    if is_secret(name) and not isinstance(value, bool | int | float | type(None)):
        reference = isinstance(value, Mapping) and set(value) <= _REFERENCE
        return dict(value) if reference else REDACTED
    return scrub(value, depth + 1)


def _headers(value: Any) -> Any:
    """Their names: a value may be a token."""
    if isinstance(value, Mapping):
        return {str(k): v if k in ("name", "mismatch", "secret") else REDACTED
                for k, v in value.items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return [_headers(item) for item in value]
    name = str(value).replace(":", " ").split(" ", 1)[0]
    return f"{name} {REDACTED}" if name != str(value) else name


SHORTEST: Final = 6
"""Characters; a shorter value is in every other file by chance."""


class Scrubber:
    """Takes values of Secrets out of texts, as they are and in base64."""

    def __init__(self) -> None:
        self._values: set[bytes] = set()
        self._pattern: re.Pattern[bytes] | None = None

    def learn(self, body: Mapping[str, Any]) -> None:
        """The values of a Secret; of many lines each by itself, too."""
        for value in (body.get("data") or {}).values():
            raw = str(value).encode()
            self._add(raw)
            try:
                self._add(base64.b64decode(raw, validate=True))
            except (binascii.Error, ValueError):
                continue
        for value in (body.get("stringData") or {}).values():
            raw = str(value).encode()
            self._add(raw)
            self._add(base64.b64encode(raw))

    def _add(self, raw: bytes) -> None:
        for line in (raw, *raw.splitlines()):
            part = line.strip()
            if len(part) < SHORTEST:
                continue
            # In a JSON file it stands with JSON's escapes.
            text = part.decode(errors="surrogateescape")
            escaped = (json.dumps(text, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
            self._values |= {part, *(e.encode(errors="surrogateescape") for e in escaped)}
            self._pattern = None

    def __call__(self, data: bytes) -> bytes:
        """The text without them."""
        if self._pattern is None:
            longest_first: Callable[[bytes], int] = len
            words = sorted(self._values, key=longest_first, reverse=True)
            self._pattern = re.compile(b"|".join(map(re.escape, words)) or b"(?!)")
        return self._pattern.sub(REDACTED.encode(), data)
