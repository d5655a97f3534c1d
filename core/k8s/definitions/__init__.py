"""Definitions of our kinds for the API server (CustomResourceDefinition)."""
