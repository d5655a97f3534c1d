"""Contract tests: promises between parts of the repository that no single part can keep."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
