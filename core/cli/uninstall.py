"""``axoneme uninstall``; see :mod:`axoneme.core.cli.install`."""

from axoneme.core.cli.install import uninstall

__all__ = ["uninstall"]
