"""Tables: what the agent knows, as frozen rows that are indexed, versioned and watchable."""

from axoneme.core.state.changes import Changes
from axoneme.core.state.registry import TableRegistry
from axoneme.core.state.table import Table, Watch

__all__ = ["Changes", "Table", "TableRegistry", "Watch"]
