"""A cluster as its administrator sees it, by a kubeconfig: install, status, configuration."""
