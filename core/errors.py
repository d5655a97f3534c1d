"""The project's errors, in one tree.

A message is lower case, has no full stop, and names the object and the value; ``hint`` says
what to do. Adapters translate foreign exceptions into these and keep errno or the verifier's
log. Whether trying again helps is a type, :class:`RetryableError`, not a flag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class AxonemeError(Exception):
    """Root of the tree. ``hint`` tells the user what to do, in one line."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RetryableError(AxonemeError):
    """The same call may succeed later; callers back off and try again."""


class FatalError(AxonemeError):
    """The process cannot go on; it exits with 1 and this message."""


class ConfigError(FatalError):
    """A configuration key has a bad value, or keys contradict each other."""


class PluginError(AxonemeError):
    """A plugin cannot be loaded, ordered or run; ``plugin`` names it."""

    def __init__(self, plugin: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"plugin {plugin}: {message}", hint=hint)
        self.plugin = plugin


class InvalidObjectError(AxonemeError):
    """A cluster object is bad: ``obj`` is ``Kind namespace/name``, ``field`` a path in it."""

    def __init__(self, obj: str, field: str, message: str, *, hint: str = "") -> None:
        where = f"{obj}: {field}: " if field else f"{obj}: "
        super().__init__(where + message, hint=hint)
        self.obj = obj
        self.field = field
        self.detail = message


class NotFoundError(AxonemeError):
    """The named object does not exist."""


class ConflictError(RetryableError):
    """An object changed, or came into being, since it was read."""


class ExhaustedError(RetryableError):
    """A pool, a number range or a map is full; the message says which key to raise."""


class NotReadyError(RetryableError):
    """The agent, or a part of it, is not there yet."""


class PendingError(NotReadyError):
    """What is missing was asked for and may come at any moment: ``arrival()`` waits for news."""

    def __init__(
        self, message: str, arrival: Callable[[], Awaitable[object]], *, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.arrival = arrival


class StoreError(RetryableError):
    """The store could not be read or written."""


class DatapathError(AxonemeError):
    """Compiling, loading or programming the kernel failed; ``errno`` is 0 if unknown."""

    def __init__(self, message: str, *, errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class CompileError(DatapathError):
    """C did not compile; ``file`` and ``line`` are the plugin's own."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, log: str = "") -> None:
        where = f"{file}:{line}: " if file else ""
        super().__init__(where + message)
        self.file = file
        self.line = line
        self.log = log


class VerifierError(CompileError):
    """The kernel refused a program; ``log`` holds the verifier's last lines."""


class NetlinkError(AxonemeError):
    """A netlink request failed; ``errno`` is the kernel's."""

    def __init__(self, message: str, *, errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class ApiError(AxonemeError):
    """The local API refused a call; ``code`` is a short word such as ``not-found``."""

    def __init__(self, message: str, *, code: str = "failed", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class LabError(AxonemeError):
    """A lab command cannot be carried out."""
