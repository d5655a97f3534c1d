"""The store over a Kubernetes API server."""
