"""Shares of a service's connections by node."""
