"""Multi-pool IPAM: pods choose a pool, nodes get blocks of it as they need; see README.md."""
