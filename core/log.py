"""Logging at the edge: standard loggers inside, this module decides how a line looks.

Modules use ``logging.getLogger(__name__)``, an event sentence and ``extra=``. A terminal gets
coloured text, anything else one JSON object per line; ``log-format`` overrides. Fields that look
like secrets are redacted by name, values of :class:`axoneme.core.text.Secret` by type
(CVE-2023-29002), and control characters never reach a terminal.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from axoneme.core.text import Secret, clean

_RECORD_FIELDS: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None)).keys()) | {
    "message",
    "asctime",
    "taskName",
}

_SECRET_WORDS: Final = ("password", "secret", "token", "private_key", "psk", "authorization")

REDACTED: Final = "<redacted>"


def setup(level: int | str = logging.INFO, fmt: str = "auto", stream: TextIO | None = None) -> None:
    """Send the records of all loggers to ``stream`` (stderr). ``fmt``: auto, text or json."""
    stream = stream or sys.stderr
    pretty = fmt == "text" or (fmt == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_text_formatter(stream.isatty()) if pretty else JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # asyncio's debug lines are about itself, not about us.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One object per line, a tenth of what structlog takes: an ADD waits for its line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        event: MutableMapping[str, Any] = {"event": record.getMessage(), "_record": record}
        _add_extra(None, "", event)
        del event["_record"]
        event["level"] = record.levelname.lower()
        event["logger"] = record.name
        event["timestamp"] = _utc(record.created)
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(_strip(None, "", redact(None, "", event)), default=str)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _text_formatter(colors: bool) -> logging.Formatter:
    import structlog  # noqa: PLC0415  only where somebody looks on

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            _add_extra,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            redact,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _strip,
            structlog.dev.ConsoleRenderer(colors=colors),
        ],
    )


def _add_extra(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Lift what ``extra=`` added to the record into the event."""
    record = event.get("_record")
    if record is not None:
        for key, value in vars(record).items():
            if key not in _RECORD_FIELDS and not key.startswith("_"):
                event.setdefault(key, value)
    return event


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide values of type Secret anywhere, and of fields whose name speaks of a secret."""
    for key, value in event.items():
        if not key.startswith("_"):
            event[key] = _redacted(key, value)
    return event


def _redacted(key: str, value: Any) -> Any:
    if isinstance(value, Secret) or any(word in key.lower() for word in _SECRET_WORDS):
        return REDACTED
    if isinstance(value, dict):
        return {k: _redacted(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(key, v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _strip(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = clean(value, keep="\n\t" if key == "exception" else "")
    return event
