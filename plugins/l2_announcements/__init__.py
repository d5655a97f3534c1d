"""Addresses of services, answered for on the link."""
