"""Cluster-pool IPAM: each node gets a block of the cluster's pools; see README.md."""
