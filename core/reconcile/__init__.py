"""Reconcilers: they make the world hold what a table's rows say, and say how that went."""

from axoneme.core.reconcile.reconciler import Reconciler
from axoneme.core.reconcile.status import RowStatus
from axoneme.core.reconcile.target import Target

__all__ = ["Reconciler", "RowStatus", "Target"]
