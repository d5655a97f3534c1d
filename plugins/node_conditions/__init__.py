"""Taints and conditions of nodes by whether our agent runs there; see README.md."""
