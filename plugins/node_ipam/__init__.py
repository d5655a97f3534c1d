"""Node IPAM: nodes' own addresses for services of type LoadBalancer; see README.md."""
