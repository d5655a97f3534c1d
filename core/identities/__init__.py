"""Identities: numbers for label sets and for prefixes; see README.md."""
