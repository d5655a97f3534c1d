"""Addresses of one node and blocks of a cluster: what plugins that hand them out share."""
