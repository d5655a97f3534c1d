"""Holds pods to their own source addresses."""
