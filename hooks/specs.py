"""All specification modules, in the order in which a start goes through them."""

from __future__ import annotations

from axoneme.hooks import cli, cluster, datapath, endpoint, lifecycle, observe, policy

MODULES = (lifecycle, cluster, endpoint, policy, datapath, observe, cli)
