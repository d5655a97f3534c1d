"""Addresses out of the pod CIDRs of this node's Kubernetes Node; see README.md."""
