"""Events of the packet path: from the ring to whoever listens; see README.md."""
