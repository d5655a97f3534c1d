"""Scenarios by theme; ``every`` has all of them."""
