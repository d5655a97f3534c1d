"""The nodes of the cluster, and this one among them; see README.md."""
