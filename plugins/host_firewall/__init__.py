"""The node's own traffic under policy; see README.md."""
