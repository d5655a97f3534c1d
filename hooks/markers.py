"""The pluggy markers of the project and the version of the hook API."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT: Final = "axoneme"

API_VERSION: Final = 1
"""Major version of the hook API; a plugin that names another one is refused at load."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
