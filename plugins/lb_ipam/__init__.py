"""LB-IPAM: addresses out of pools for services of type LoadBalancer; see README.md."""
