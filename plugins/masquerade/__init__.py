"""Pods reach the world with the address of their node: source NAT in BPF, both families."""
