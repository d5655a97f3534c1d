"""Kubernetes services in BPF."""
