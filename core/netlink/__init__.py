"""Links, addresses, routes, neighbours and namespaces of the kernel; see README.md."""
