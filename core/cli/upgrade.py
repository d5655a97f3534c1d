"""``axoneme upgrade``; see :mod:`axoneme.core.cli.install`."""

from axoneme.core.cli.install import upgrade

__all__ = ["upgrade"]
