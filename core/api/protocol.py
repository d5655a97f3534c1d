"""The wire of the local API: one JSON object per line over a unix socket.

Request ``{"method": "endpoint.list", "params": {…}}``; answer ``{"result": …}`` or
``{"error": {"code", "message", "hint"}}``. A streaming method answers ``{"event": …}`` lines and
ends with ``{"result": null}``. A connection carries any number of calls, one after the other.
Standard library only: the CNI executable speaks this too.
"""

from __future__ import annotations

import json
from typing import Any, Final

from axoneme.core.errors import (
    ApiError,
    AxonemeError,
    ConfigError,
    ConflictError,
    ExhaustedError,
    InvalidObjectError,
    NotFoundError,
    NotReadyError,
    RetryableError,
)

MAX_LINE: Final = 1 << 20
"""Bytes of a request, newline included."""

DEFAULT_SOCKET: Final = "/var/run/axoneme/axoneme.sock"

CODES: Final[tuple[tuple[type[AxonemeError], str], ...]] = (
    (NotFoundError, "not-found"),
    (NotReadyError, "not-ready"),
    (ConflictError, "conflict"),
    (ExhaustedError, "exhausted"),
    (InvalidObjectError, "invalid"),
    (ConfigError, "invalid"),
    (RetryableError, "retry"),
)
"""Error types and their words on the wire, the first match wins; anything else is ``failed``.

``bad-request``, ``unknown-method``, ``busy``, ``forbidden`` and ``internal`` come from the server.
"""


def encode(message: Any) -> bytes:
    """One line. ASCII, so that no terminal control character survives anywhere."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def error_message(error: Exception) -> dict[str, Any]:
    """The answer to a call that failed."""
    if isinstance(error, ApiError):
        code = error.code
    else:
        code = next((word for kind, word in CODES if isinstance(error, kind)), "failed")
    if isinstance(error, AxonemeError):
        return {"error": {"code": code, "message": error.message, "hint": error.hint}}
    text = f"internal error: {type(error).__name__}"
    return {"error": {"code": "internal", "message": text, "hint": "the agent's log says more"}}


def raise_error(error: Any) -> None:
    """Raise what an ``error`` object stands for, as the type that the server had."""
    if not isinstance(error, dict):
        raise ApiError("the agent sent an error that cannot be read", code="internal")
    code = str(error.get("code", "failed"))
    message, hint = str(error.get("message", "")), str(error.get("hint", ""))
    if code == "not-found":
        raise NotFoundError(message, hint=hint)
    if code == "not-ready":
        raise NotReadyError(message, hint=hint)
    if code == "conflict":
        raise ConflictError(message, hint=hint)
    if code == "exhausted":
        raise ExhaustedError(message, hint=hint)
    raise ApiError(message, code=code, hint=hint)
