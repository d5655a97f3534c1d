"""Local redirect policies: a service's clients get a pod of their own node."""
