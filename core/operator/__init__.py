"""The operator: work that is done once per cluster, by whoever holds the lease."""

from axoneme.core.operator.operator import Operator

__all__ = ["Operator"]
