"""Connection tracking as the agent sees it: garbage collection of the kernel's tables."""
