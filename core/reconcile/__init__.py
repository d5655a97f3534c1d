"""The reconcile package of the core; see README.md beside it or in core/."""
