"""From Cilium's configuration to ours: what maps, what differs, what has no equivalent."""
