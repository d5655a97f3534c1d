"""Errors of the CNI specification, and which of them a project error becomes.

Codes: https://www.cni.dev/docs/spec/#error. Up to 99 they are the specification's, from 100 ours.
"""

from __future__ import annotations

import errno
from typing import Final

from axoneme.core.errors import (
    ApiError,
    AxonemeError,
    InvalidObjectError,
    NetlinkError,
    NotFoundError,
    RetryableError,
)

INCOMPATIBLE_VERSION: Final = 1
UNSUPPORTED_FIELD: Final = 2
UNKNOWN_CONTAINER: Final = 3
BAD_ENVIRONMENT: Final = 4
IO_FAILURE: Final = 5
NOT_DECODED: Final = 6
BAD_CONFIG: Final = 7
TRY_AGAIN: Final = 11
NOT_AVAILABLE: Final = 50
FAILED: Final = 100
UNHEALTHY: Final = 101


class CniError(ApiError):
    """Answered to the executable, which prints it as an error object and exits with 1."""

    def __init__(self, code: int, message: str, *, details: str = "") -> None:
        super().__init__(message, code=f"cni-{code}", hint=details)
        self.number = code


def translate(error: AxonemeError) -> CniError:
    """A project error as one of the specification's."""
    if isinstance(error, CniError):
        return error
    code = FAILED
    if isinstance(error, RetryableError):
        code = TRY_AGAIN
    elif isinstance(error, NotFoundError):
        code = UNKNOWN_CONTAINER
    elif isinstance(error, InvalidObjectError):
        code = BAD_ENVIRONMENT
    elif isinstance(error, NetlinkError) and error.errno == errno.ENOENT:
        code = UNKNOWN_CONTAINER  # the namespace
    return CniError(code, error.message, details=error.hint)
